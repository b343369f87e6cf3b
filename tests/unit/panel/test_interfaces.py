"""What this machine's interfaces are, and what names resolve to."""

import asyncio
import ipaddress
import threading
from collections.abc import Iterator

import pytest

from vmwatch.panel.interfaces import addresses_of, interfaces, resolved

LIMIT_S = 30.0


@pytest.fixture
def dead_dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Names get no answer until the event is set."""
    answers = threading.Event()

    def wait(*args: object, **options: object) -> None:
        answers.wait(LIMIT_S)
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", wait)
    yield answers
    answers.set()


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


def test_many_names_that_dns_does_not_answer_for_take_one_limit_together_and_addresses_are_told_all_the_same(
    dead_dns: threading.Event,
) -> None:
    names = [f"kvm-{number}.invalid" for number in range(50)]

    async def work() -> None:
        async with asyncio.timeout(LIMIT_S / 2):
            known = await resolved([*names, "192.0.2.7", ""], 0.5)
        assert known == {**dict.fromkeys([*names, ""], ()), "192.0.2.7": ("192.0.2.7",)}

    asyncio.run(work())


def test_no_names_resolve_to_nothing() -> None:
    assert asyncio.run(resolved([])) == {}
