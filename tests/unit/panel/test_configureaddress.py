"""Where vmwatch-master listens: the three ways in their order, and what is passed over."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.configureaddress import Interface, Place, find_address

LO = Interface("lo", True, ("127.0.0.1", "::1"))
ETH0 = Interface("eth0", True, ("192.0.2.10", "fe80::1%eth0"))
ETH1 = Interface("eth1", True, ("198.51.100.7", "2001:db8::7"))
HERE = Place("kvm-01", True, ("198.51.100.7",))
ELSEWHERE = Place("kvm-02", False, ("203.0.113.9",))


def listens(configured: str, places: list[Place], interfaces: list[Interface], present: str = "") -> str:
    return find_address(configured, places, interfaces, present).listen


def test_what_is_configured_goes_before_everything() -> None:
    assert listens("192.0.2.10", [HERE], [LO, ETH0, ETH1]) == "192.0.2.10"
    assert listens("2001:db8::7", [HERE], [LO, ETH0, ETH1]) == "2001:db8::7"


def test_a_configured_address_that_the_machine_has_not_is_taken_with_a_warning() -> None:
    found = find_address("192.0.2.99", [], [LO, ETH0])
    assert (found.listen, found.connect) == ("192.0.2.99", "192.0.2.99")
    assert "no address of this machine" in found.warnings[0]


def test_an_unspecified_address_is_listened_on_and_nodes_are_told_the_one_that_is_found() -> None:
    for unspecified in ("0.0.0.0", "::"):
        found = find_address(unspecified, [HERE], [LO, ETH0, ETH1])
        assert (found.listen, found.connect) == (unspecified, "198.51.100.7")


def test_the_node_on_which_the_panel_runs_goes_before_the_interfaces() -> None:
    assert listens("", [ELSEWHERE, HERE], [LO, ETH0, ETH1]) == "198.51.100.7"


def test_a_node_whose_address_is_this_machines_is_the_panels_whatever_it_is_called() -> None:
    assert listens("", [ELSEWHERE, Place("kvm-03", False, ("198.51.100.7",))], [LO, ETH0, ETH1]) == "198.51.100.7"


def test_a_local_node_without_an_address_leaves_it_to_the_interfaces() -> None:
    assert listens("", [Place("kvm-01", True)], [LO, ETH0]) == "192.0.2.10"


def test_of_a_name_with_several_addresses_the_machines_own_is_taken() -> None:
    here = Place("kvm-01", True, ("127.0.1.1", "203.0.113.1", "198.51.100.7"))
    assert listens("", [here], [LO, ETH1]) == "198.51.100.7"


def test_the_first_address_that_is_not_local_is_taken_in_the_interfaces_order() -> None:
    assert listens("", [ELSEWHERE], [LO, ETH0, ETH1]) == "192.0.2.10"
    assert listens("", [ELSEWHERE], [LO, ETH1, ETH0]) == "198.51.100.7"


def test_an_interface_that_is_down_and_link_local_addresses_are_passed_over() -> None:
    down = Interface("eth0", False, ("192.0.2.10",))
    link_local = Interface("eth1", True, ("169.254.3.4", "fe80::2%eth1", "2001:db8::7"))
    assert listens("", [ELSEWHERE], [LO, down, link_local]) == "2001:db8::7"


def test_a_machine_with_nothing_but_loopback_serves_itself_and_says_so_where_others_need_it() -> None:
    assert find_address("", [HERE], [LO]).warnings == ()
    found = find_address("", [ELSEWHERE], [LO])
    assert found.listen == "127.0.0.1"
    assert "set VmwatchListenIp" in found.warnings[0]


def test_a_loopback_address_of_the_panels_node_serves_only_while_all_nodes_are_here() -> None:
    here = Place("kvm-01", True, ("127.0.0.1",))
    assert listens("", [here], [LO, ETH0]) == "127.0.0.1"
    assert listens("", [here, ELSEWHERE], [LO, ETH0]) == "192.0.2.10"


UNRESOLVED = Place("kvm-01", True)


def test_the_present_address_stays_while_the_name_of_the_panels_node_does_not_resolve() -> None:
    assert listens("", [UNRESOLVED, ELSEWHERE], [LO, ETH0, ETH1], "198.51.100.7") == "198.51.100.7"
    assert "in its file" in find_address("", [UNRESOLVED, ELSEWHERE], [LO, ETH0, ETH1], "198.51.100.7").why


def test_the_present_address_stays_while_its_interface_or_one_before_it_is_down() -> None:
    down = Interface("eth0", False, ("192.0.2.10",))
    assert listens("", [ELSEWHERE], [LO, down, ETH1], "192.0.2.10") == "192.0.2.10"
    assert listens("", [ELSEWHERE], [LO, ETH0, ETH1], "198.51.100.7") == "198.51.100.7"


def test_the_present_address_yields_to_what_is_configured_and_to_the_one_of_the_panels_node() -> None:
    assert listens("192.0.2.10", [HERE], [LO, ETH0, ETH1], "198.51.100.7") == "192.0.2.10"
    assert listens("", [HERE, ELSEWHERE], [LO, ETH0, ETH1], "192.0.2.10") == "198.51.100.7"


def test_a_present_address_that_is_none_of_this_machine_does_not_stay() -> None:
    for gone in ("192.0.2.99", "0.0.0.0", "::", "nobody.invalid"):
        assert listens("", [UNRESOLVED], [LO, ETH0, ETH1], gone) == "192.0.2.10"


def test_a_present_loopback_address_stays_only_while_all_nodes_are_here() -> None:
    assert listens("", [UNRESOLVED], [LO, ETH0], "127.0.0.1") == "127.0.0.1"
    assert listens("", [UNRESOLVED, ELSEWHERE], [LO, ETH0], "127.0.0.1") == "192.0.2.10"


def test_of_a_name_with_several_addresses_of_the_machine_the_present_one_is_taken_in_whatever_order_they_come() -> None:
    both = ("192.0.2.10", "198.51.100.7")
    for addresses in (both, both[::-1]):
        assert listens("", [Place("kvm-01", True, addresses)], [LO, ETH0, ETH1], "198.51.100.7") == "198.51.100.7"


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
interfaces = st.lists(st.builds(Interface, st.sampled_from("abc"), st.booleans(), st.lists(addresses).map(tuple)))
places = st.lists(st.builds(Place, st.sampled_from("kmn"), st.booleans(), st.lists(addresses, max_size=2).map(tuple)))


@given(st.one_of(st.just(""), addresses), places, interfaces, st.one_of(st.just(""), addresses))
def test_there_is_always_an_address_to_connect_to_and_a_second_run_finds_the_same(
    configured: str, places: list[Place], interfaces: list[Interface], present: str
) -> None:
    found = find_address(configured, places, interfaces, present)
    assert found == find_address(configured, places, interfaces, present)
    again = find_address(configured, places, interfaces, found.listen)
    assert (again.listen, again.connect) == (found.listen, found.connect)
    connect = ipaddress.ip_address(found.connect)
    if not configured:
        assert not connect.is_unspecified
        assert not connect.is_link_local
        # what other machines could not reach is only told where there is nothing better
        usable = [ipaddress.ip_address(a) for i in interfaces if i.is_up for a in i.addresses]
        if any(not (a.is_loopback or a.is_link_local or a.is_unspecified or a.is_multicast) for a in usable):
            assert not connect.is_loopback or all(place.is_local for place in places)
    elif not ipaddress.ip_address(configured).is_unspecified:
        assert ipaddress.ip_address(configured) == connect
