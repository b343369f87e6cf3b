"""What this machine's interfaces are, and what names resolve to."""

import ipaddress

from vmwatch.panel.interfaces import addresses_of, interfaces


def test_the_loopback_interface_is_up_and_has_its_address() -> None:
    loopback = [interface for interface in interfaces() if "127.0.0.1" in interface.addresses]
    assert [interface.is_up for interface in loopback] == [True]


def test_all_that_is_told_are_ip_addresses() -> None:
    for interface in interfaces():
        for address in interface.addresses:
            ipaddress.ip_address(address.partition("%")[0])


def test_an_address_is_itself_and_a_name_what_it_resolves_to() -> None:
    assert addresses_of("192.0.2.7") == ("192.0.2.7",)
    assert addresses_of("2001:DB8::7") == ("2001:db8::7",)
    assert set(addresses_of("localhost")) & {"127.0.0.1", "::1"}
    assert addresses_of("nobody.invalid") == addresses_of("") == ()
