"""Definitions are read once each, and again after what may have changed one: in any order of events and listings."""

from typing import Any

import libvirt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vmwatch.node import definitions as module
from vmwatch.node.definitions import Definitions, Listing
from vmwatch.node.places import Places
from vmwatch.shared.clock import Clock
from vmwatch.shared.messages import Disk, Event, Inventory, ListedDomain, Vm, encode_payload
from vmwatch.shared.states import State

PLACES = Places("machine:1", None)
UUIDS = [f"f3b06a7f-2622-5b08-85b2-d36d70f5040{number}" for number in range(6)]
BROKEN = "<domain><devices>"


def event(uuid: str, name: str, detail: str = "") -> Event:
    return Event(seq=0, time=0.0, vm=Vm(uuid, "vm"), event=name, detail=detail)


def refused(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("no")
    error.err = (code, 0, "no", 2, None, None, None, 0, 0)
    return error


class SteppingClock(Clock):
    """Time passes by reading definitions alone, a second each."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Domain:
    """A domain whose disk's path is the number of its definition."""

    def __init__(self, clock: SteppingClock, uuid: str, running: bool = False) -> None:
        self.clock = clock
        self.uuid = uuid
        self.running = running
        self.version = 0
        self.reads = 0
        self.fails: int | None = None
        self.broken = False

    def state(self) -> tuple[int, int]:
        return (1 if self.running else 5), 0

    def UUIDString(self) -> str:
        return self.uuid.upper()

    def name(self) -> str:
        return "vm"

    def isPersistent(self) -> int:
        return 1

    def XMLDesc(self, flags: int) -> str:
        assert flags == 0
        self.clock.now += 1.0
        self.reads += 1
        if self.fails is not None:
            raise refused(self.fails)
        if self.broken:
            return BROKEN
        disk = f"<disk><source file='/{self.version}'/></disk>"
        card = f"<interface><mac address='52:54:00:00:00:0{self.uuid[-1]}'/></interface>"
        return f"<domain><devices>{disk}{card}</devices></domain>"


class Connection:
    """A connection that has these domains; a read that fails at the right moment cannot be had on demand."""

    def __init__(self, count: int = 0) -> None:
        self.clock = SteppingClock()
        self.domains = {uuid: Domain(self.clock, uuid) for uuid in UUIDS[:count]}

    def listAllDomains(self, flags: int) -> list[Any]:
        return list(self.domains.values())

    @property
    def reads(self) -> int:
        return sum(domain.reads for domain in self.domains.values())


def listing_of(definitions: Definitions, connection: Connection, limit_s: float = 100.0) -> Listing:
    listing = definitions.begin(lambda: PLACES, connection.clock, limit_s).list(connection)
    definitions.finished(listing)
    return listing


def told(listing: Listing) -> dict[str, list[str] | None]:
    return {d.uuid: None if d.disks is None else [disk.path for disk in d.disks] for d in listing.domains}


class TestReading:
    def test_once_per_definition(self) -> None:
        definitions, connection = Definitions(), Connection(3)
        for _ in range(3):
            listing = listing_of(definitions, connection)
            assert told(listing) == {uuid: ["/0"] for uuid in UUIDS[:3]}
            assert listing.domains[1].macs == ["52:54:00:00:00:01"]
        assert connection.reads == 3

    def test_not_even_the_mounts_are_read_when_nothing_is(self) -> None:
        definitions, connection = Definitions(), Connection(1)
        listing_of(definitions, connection)

        def forbidden() -> Places:
            raise AssertionError("the mounts were read")

        definitions.begin(forbidden, connection.clock).list(connection)

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("defined", "added"),
            ("defined", "updated"),
            ("defined", "renamed"),
            ("started", "booted"),
            ("started", "migrated"),
            ("started", "restored"),
        ],
    )
    def test_again_after_an_event_that_may_have_changed_it(self, name: str, detail: str) -> None:
        definitions, connection = Definitions(), Connection(3)
        listing_of(definitions, connection)
        connection.domains[UUIDS[1]].version = 1
        definitions.observe(event(UUIDS[1], name, detail))
        assert told(listing_of(definitions, connection))[UUIDS[1]] == ["/1"]
        assert connection.reads == 4

    @pytest.mark.parametrize("name", ["stopped", "suspended", "resumed", "undefined", "reboot", "io_error"])
    def test_not_again_after_any_other(self, name: str) -> None:
        definitions, connection = Definitions(), Connection(1)
        listing_of(definitions, connection)
        definitions.observe(event(UUIDS[0], name))
        listing_of(definitions, connection)
        assert connection.reads == 1

    def test_a_domain_that_came_back_is_read_again(self) -> None:
        definitions, connection = Definitions(), Connection(1)
        listing_of(definitions, connection)
        domain = connection.domains.pop(UUIDS[0])
        listing_of(definitions, connection)
        assert definitions.known == 0
        connection.domains[UUIDS[0]] = domain
        listing_of(definitions, connection)
        assert domain.reads == 2

    def test_what_changed_while_it_was_listed_is_not_told_and_read_again(self) -> None:
        definitions, connection = Definitions(), Connection(1)
        listing = definitions.begin(lambda: PLACES, connection.clock).list(connection)
        definitions.changed(UUIDS[0])
        definitions.finished(listing)
        assert told(listing) == {UUIDS[0]: None}
        assert told(listing_of(definitions, connection)) == {UUIDS[0]: ["/0"]}


class TestLimit:
    def test_what_there_is_no_time_for_comes_with_the_next_listing(self) -> None:
        definitions, connection = Definitions(), Connection(5)
        unread = []
        for _ in range(4):
            listing = listing_of(definitions, connection, limit_s=2.0)
            unread.append(listing.unread)
        assert unread == [3, 1, 0, 0]
        assert connection.reads == 5

    def test_a_slow_libvirt_gives_one_each_time_at_least(self) -> None:
        definitions, connection = Definitions(), Connection(3)
        assert [listing_of(definitions, connection, limit_s=0.0).unread for _ in range(3)] == [2, 1, 0]

    def test_what_runs_comes_first(self) -> None:
        definitions, connection = Definitions(), Connection(3)
        connection.domains[UUIDS[2]].running = True
        assert told(listing_of(definitions, connection, limit_s=0.0))[UUIDS[2]] == ["/0"]


class TestFailure:
    def test_a_read_that_fails_spoils_nothing_and_is_tried_again(self) -> None:
        definitions, connection = Definitions(), Connection(3)
        connection.domains[UUIDS[0]].fails = libvirt.VIR_ERR_ACCESS_DENIED
        listing = listing_of(definitions, connection)
        assert told(listing) == {UUIDS[0]: None, UUIDS[1]: ["/0"], UUIDS[2]: ["/0"]}
        assert (listing.unread, list(definitions.failures)) == (0, [UUIDS[0]])
        connection.domains[UUIDS[0]].fails = None
        assert told(listing_of(definitions, connection))[UUIDS[0]] == ["/0"]
        assert (connection.reads, definitions.failures) == (4, {})

    def test_those_that_fail_take_no_turn_of_others(self) -> None:
        definitions, connection = Definitions(), Connection(4)
        for uuid in UUIDS[:2]:
            connection.domains[uuid].fails = libvirt.VIR_ERR_INTERNAL_ERROR
        unread = [listing_of(definitions, connection, limit_s=0.0).unread for _ in range(6)]
        assert unread == [3, 2, 1, 0, 0, 0]
        assert definitions.known == 2

    def test_a_domain_that_vanishes_in_between_is_no_failure(self) -> None:
        definitions, connection = Definitions(), Connection(2)
        connection.domains[UUIDS[0]].fails = libvirt.VIR_ERR_NO_DOMAIN
        assert told(listing_of(definitions, connection)) == {UUIDS[0]: None, UUIDS[1]: ["/0"]}
        assert definitions.failures == {}

    def test_a_definition_that_cannot_be_understood_is_not_read_until_it_changes(self) -> None:
        definitions, connection = Definitions(), Connection(2)
        domain = connection.domains[UUIDS[0]]
        domain.broken = True
        for _ in range(3):
            listing = listing_of(definitions, connection)
            assert told(listing) == {UUIDS[0]: None, UUIDS[1]: ["/0"]}
            assert list(definitions.failures) == [UUIDS[0]]
        assert domain.reads == 1
        domain.broken = False
        definitions.observe(event(UUIDS[0], "defined", "updated"))
        assert told(listing_of(definitions, connection))[UUIDS[0]] == ["/0"]
        assert definitions.failures == {}

    def test_an_error_that_nobody_thought_of_costs_one_definition_and_no_inventory(self) -> None:
        definitions, connection = Definitions(), Connection(2)
        connection.domains[UUIDS[0]].XMLDesc = lambda flags: None  # type: ignore[assignment,method-assign,return-value]
        assert told(listing_of(definitions, connection)) == {UUIDS[0]: None, UUIDS[1]: ["/0"]}
        assert "TypeError" in definitions.failures[UUIDS[0]]

    def test_a_failure_of_what_is_gone_is_forgotten(self) -> None:
        definitions, connection = Definitions(), Connection(1)
        connection.domains[UUIDS[0]].broken = True
        listing_of(definitions, connection)
        connection.domains.clear()
        listing_of(definitions, connection)
        assert definitions.failures == {}


class TestSize:
    def test_two_thousand_domains_of_four_disks_stay_far_below_a_frame_s_limit(self) -> None:
        pool = "/var/lib/libvirt/images/"
        domains = [
            ListedDomain(
                f"f3b06a7f-2622-5b08-85b2-{number:012x}",
                f"customer-{number}-web.example.com",
                State.RUNNING,
                1,
                disks=[
                    Disk(f"{pool}customer-{number}-disk-{disk}.qcow2", "machine:1d1e59496908fe7e") for disk in range(4)
                ],
                macs=[f"52:54:00:{number >> 8:02x}:{number & 255:02x}:00"],
            )
            for number in range(2000)
        ]
        size = len(encode_payload(Inventory(seq=0, time=1763900012.5, as_of=1, domains=domains)))
        assert 1_000_000 < size < 1_400_000

    def test_what_would_fill_a_frame_is_left_out_and_the_list_stays_whole(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        definitions, connection = Definitions(), Connection(4)
        connection.domains[UUIDS[3]].running = True
        listing_of(definitions, connection)
        monkeypatch.setattr(module, "MAX_BYTES", 150)
        listing = listing_of(definitions, connection)
        found = [uuid for uuid, disks in told(listing).items() if disks is not None]
        assert found == [UUIDS[0], UUIDS[3]]
        assert len(listing.domains) == 4
        assert connection.reads == 4


_SOME = st.sampled_from(UUIDS[:3])


class DefinitionsMachine(RuleBasedStateMachine):
    """Domains come, change and go; events of it arrive late; listings begin, read and end in between."""

    def __init__(self) -> None:
        super().__init__()
        self.definitions = Definitions()
        self.connection = Connection()
        self.events: list[tuple[str, int]] = []
        """Not delivered yet: whose, and the number of the definition that it tells of."""
        self.delivered: dict[str, int] = {}
        self.last = 0
        self.reading: Any = None
        self.listing: Listing | None = None

    @rule(uuid=_SOME, running=st.booleans())
    def define_or_start(self, uuid: str, running: bool) -> None:
        domain = self.connection.domains.setdefault(uuid, Domain(self.connection.clock, uuid))
        self.last += 1
        domain.version, domain.running = self.last, running
        self.events.append((uuid, self.last))

    @rule(uuid=_SOME)
    def go(self, uuid: str) -> None:
        self.connection.domains.pop(uuid, None)

    @rule(uuid=_SOME, fails=st.booleans(), broken=st.booleans())
    def fail_or_not(self, uuid: str, fails: bool, broken: bool) -> None:
        domain = self.connection.domains.get(uuid)
        if domain is not None:
            domain.fails = libvirt.VIR_ERR_INTERNAL_ERROR if fails else None
            if broken != domain.broken:  # only another definition is broken, or not
                domain.broken = broken
                self.define_or_start(uuid, domain.running)

    @precondition(lambda self: self.events)
    @rule(how=st.sampled_from(("defined", "started", "hotplug")))
    def deliver(self, how: str) -> None:
        uuid, version = self.events.pop(0)
        self.delivered[uuid] = version
        if how == "hotplug":
            self.definitions.changed(uuid)
        else:
            self.definitions.observe(event(uuid, how))

    @precondition(lambda self: self.reading is None and self.listing is None)
    @rule(limit_s=st.sampled_from((0.0, 2.0, 100.0)))
    def begin(self, limit_s: float) -> None:
        self.reading = self.definitions.begin(lambda: PLACES, self.connection.clock, limit_s)

    @precondition(lambda self: self.reading is not None)
    @rule()
    def read(self) -> None:
        self.listing, self.reading = self.reading.list(self.connection), None

    @precondition(lambda self: self.listing is not None)
    @rule()
    def end(self) -> None:
        assert self.listing is not None
        listing, self.listing = self.listing, None
        self.definitions.finished(listing)
        for uuid, disks in told(listing).items():
            # Never what was before a change that is known.
            assert disks is None or int(disks[0][1:]) >= self.delivered.get(uuid, 0)

    def teardown(self) -> None:
        """Nothing happens any more: after some listings all is known, once, and it is the truth."""
        if self.reading is not None:
            self.read()
        if self.listing is not None:
            self.end()
        while self.events:
            self.deliver("defined")
        for _ in range(len(UUIDS) + 1):
            listing = listing_of(self.definitions, self.connection, limit_s=0.0)
        assert listing.unread == 0
        sound = {u: d for u, d in self.connection.domains.items() if d.fails is None and not d.broken}
        listing_of(self.definitions, self.connection)
        reads = {uuid: domain.reads for uuid, domain in sound.items()}
        shown = told(listing_of(self.definitions, self.connection))
        assert {uuid: shown[uuid] for uuid in sound} == {u: [f"/{d.version}"] for u, d in sound.items()}
        assert {uuid: domain.reads for uuid, domain in sound.items()} == reads

    @invariant()
    def holds_nothing_of_the_gone_for_long(self) -> None:
        assert self.definitions.known <= len(UUIDS)


DefinitionsMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestDefinitionsMachine = DefinitionsMachine.TestCase
