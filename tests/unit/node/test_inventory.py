"""When an inventory is due, and which listings count."""

from typing import Any

import libvirt
import pytest

from vmwatch.node.inventory import SOON_S, TOKEN_AGAIN_S, Inventories, list_domains
from vmwatch.shared.messages import Event, Inventory, ListedDomain, Vm
from vmwatch.shared.states import State

INTERVAL_S = 300.0
EPOCH = 7
VM = "f3b06a7f-2622-5b08-85b2-d36d70f5040b"


def listed(persistent: bool = True) -> ListedDomain:
    return ListedDomain(VM, "vm1", State.RUNNING, 0, persistent)


def event(name: str, detail: str = "") -> Event:
    return Event(seq=0, time=0.0, vm=Vm(VM, "vm1"), event=name, detail=detail)


def list_at(inventories: Inventories, now: float, *domains: ListedDomain) -> Inventory | None:
    inventories.begin(now, EPOCH, 5)
    return inventories.finished(now, 0.0, EPOCH, list(domains))


@pytest.fixture
def inventories() -> Inventories:
    """After the first listing, of one persistent domain."""
    made = Inventories(INTERVAL_S, 0.0)
    assert made.due_at == 0.0
    list_at(made, 0.0, listed())
    return made


class TestDue:
    def test_at_the_start_and_every_interval(self, inventories: Inventories) -> None:
        assert inventories.due_at == INTERVAL_S
        list_at(inventories, INTERVAL_S)
        assert inventories.due_at == 2 * INTERVAL_S

    def test_not_while_one_is_running(self, inventories: Inventories) -> None:
        inventories.begin(10.0, EPOCH, 5)
        assert inventories.due_at == float("inf")

    def test_a_persistent_domain_that_stops_changes_nothing(self, inventories: Inventories) -> None:
        inventories.observe(10.0, event("stopped", "destroyed"))
        assert inventories.due_at == INTERVAL_S

    def test_one_that_is_not_known_to_be_persistent_is_looked_for_soon(self) -> None:
        for known in ([listed(persistent=False)], []):
            inventories = Inventories(INTERVAL_S, 0.0)
            list_at(inventories, 0.0, *known)
            inventories.observe(10.0, event("stopped", "destroyed"))
            assert inventories.due_at == 10.0 + SOON_S <= 11.0

    def test_events_tell_of_persistence_too(self, inventories: Inventories) -> None:
        inventories.observe(10.0, event("undefined", "removed"))
        inventories.observe(11.0, event("stopped", "destroyed"))
        assert inventories.due_at == 11.0 + SOON_S
        list_at(inventories, 12.0)
        inventories.observe(13.0, event("defined", "added"))
        inventories.observe(14.0, event("stopped", "destroyed"))
        assert inventories.due_at == 12.0 + INTERVAL_S

    def test_an_undefinition_that_a_listing_may_have_missed_needs_another_one(self, inventories: Inventories) -> None:
        inventories.begin(10.0, EPOCH, 5)
        inventories.observe(10.5, event("undefined", "removed"))
        inventories.finished(10.6, 0.0, EPOCH, [listed()])
        assert inventories.due_at == 10.5 + SOON_S
        list_at(inventories, 11.0)
        inventories.observe(11.5, event("undefined", "removed"))
        assert inventories.due_at == 11.5 + SOON_S
        list_at(inventories, 12.0)
        inventories.observe(20.0, event("undefined", "removed"))
        assert inventories.due_at == 12.0 + INTERVAL_S

    def test_an_event_during_a_listing_counts_more_than_the_listing(self, inventories: Inventories) -> None:
        inventories.begin(10.0, EPOCH, 5)
        inventories.observe(10.5, event("defined", "added"))
        inventories.finished(11.0, 0.0, EPOCH, [listed(persistent=False)])
        inventories.observe(12.0, event("stopped", "destroyed"))
        assert inventories.due_at == 10.0 + INTERVAL_S

    def test_a_stop_during_a_listing_needs_another_one(self, inventories: Inventories) -> None:
        inventories.observe(9.0, event("undefined", "removed"))
        inventories.begin(10.0, EPOCH, 5)
        inventories.observe(10.5, event("stopped", "destroyed"))
        inventories.finished(11.0, 0.0, EPOCH, [listed()])
        assert inventories.due_at == 10.5 + SOON_S


class TestListing:
    def test_as_of_is_what_was_assigned_before_it_began(self, inventories: Inventories) -> None:
        inventories.begin(10.0, EPOCH, 42)
        made = inventories.finished(11.0, 99.0, EPOCH, [listed()])
        assert made == Inventory(seq=0, time=99.0, as_of=42, domains=[listed()])

    def test_one_begun_in_an_earlier_epoch_is_thrown_away_and_repeated(self, inventories: Inventories) -> None:
        inventories.ask(9.0, "t1")
        inventories.begin(10.0, EPOCH, 42)
        assert inventories.finished(11.0, 0.0, EPOCH + 1, [listed()]) is None
        assert inventories.due_at == 11.0
        inventories.begin(11.0, EPOCH + 1, 0)
        made = inventories.finished(12.0, 0.0, EPOCH + 1, [listed()])
        assert made is not None
        assert (made.as_of, made.token) == (0, "t1")

    def test_one_that_fails_is_no_data_and_is_tried_again_later_and_later(self, inventories: Inventories) -> None:
        inventories.ask(9.0, "t1")
        waits = []
        for now in (10.0, 20.0, 30.0):
            inventories.begin(now, EPOCH, 5)
            waits.append(inventories.failed(now, "no"))
            assert inventories.due_at == now + waits[-1]
        assert waits == sorted(waits)
        assert inventories.last_error == "no"
        made = list_at(inventories, 40.0, listed())
        assert made is not None
        assert made.token == "t1"
        assert inventories.last_error == ""


class TestTokens:
    def test_one_listing_per_token(self, inventories: Inventories) -> None:
        inventories.ask(10.0, "t1")
        assert inventories.due_at == 10.0
        inventories.begin(10.0, EPOCH, 5)
        inventories.ask(10.5, "t1")
        assert inventories.due_at == float("inf")
        made = inventories.finished(11.0, 0.0, EPOCH, [])
        assert made is not None
        assert made.token == "t1"
        inventories.ask(11.5, "t1")
        assert inventories.due_at == 10.0 + INTERVAL_S

    def test_again_when_its_inventory_is_not_held_any_more(self, inventories: Inventories) -> None:
        inventories.ask(10.0, "t1")
        list_at(inventories, 10.0)
        inventories.ask(10.0 + TOKEN_AGAIN_S, "t1")
        assert inventories.due_at == 10.0 + TOKEN_AGAIN_S

    def test_another_token_during_a_listing_gets_its_own(self, inventories: Inventories) -> None:
        inventories.ask(10.0, "t1")
        inventories.begin(10.0, EPOCH, 5)
        inventories.ask(10.5, "t2")
        inventories.finished(11.0, 0.0, EPOCH, [])
        assert inventories.due_at == 10.5
        made = list_at(inventories, 11.0)
        assert made is not None
        assert made.token == "t2"

    def test_an_inventory_without_a_token_does_not_count_as_one_with(self, inventories: Inventories) -> None:
        inventories.ask(10.0, "t1")
        list_at(inventories, 10.0)
        list_at(inventories, 11.0)
        inventories.ask(12.0, "t1")
        assert inventories.due_at > 12.0


class Domain:
    """A domain that has `vanishes` more questions to live when it is asked for its state."""

    def __init__(self, vanishes: list[int], code: int) -> None:
        self.vanishes = vanishes
        self.code = code

    def state(self) -> tuple[int, int]:
        if self.vanishes[0] > 0:
            self.vanishes[0] -= 1
            error = libvirt.libvirtError("gone")
            error.err = (self.code, 0, "gone", 2, None, None, None, 0, 0)
            raise error
        return 1, 1

    def UUIDString(self) -> str:
        return VM.upper()

    def name(self) -> str:
        return "vm1"

    def isPersistent(self) -> int:
        return 1


class Connection:
    """What `list_domains` asks of libvirt; a domain that vanishes in between cannot be had on demand."""

    def __init__(self, failures: int, code: int) -> None:
        self.domain = Domain([failures], code)
        self.listings = 0

    def listAllDomains(self, flags: int) -> list[Any]:
        self.listings += 1
        return [self.domain]


class TestListDomains:
    def test_a_domain_that_vanishes_meanwhile_repeats_the_listing(self) -> None:
        connection = Connection(2, libvirt.VIR_ERR_NO_DOMAIN)
        assert list_domains(connection) == [ListedDomain(VM, "vm1", State.RUNNING, 1, True)]
        assert connection.listings == 3

    def test_but_not_for_ever(self) -> None:
        with pytest.raises(libvirt.libvirtError):
            list_domains(Connection(1000, libvirt.VIR_ERR_NO_DOMAIN))

    def test_any_other_failure_is_no_data(self) -> None:
        connection = Connection(1, libvirt.VIR_ERR_INTERNAL_ERROR)
        with pytest.raises(libvirt.libvirtError):
            list_domains(connection)
        assert connection.listings == 1
