"""Rule 5 where one of the ends is heard late, only in part, or not at all: a VM that runs is never called stopped."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.panel.cluster import UUID, Cluster, Node, domain
from tests.unit.panel.test_migration import HANDED_OVER, STOPPED, Step, running
from vmwatch.panel.watch import ARRIVES_WITHIN_S
from vmwatch.shared.states import State

INCOMING, ARRIVED, FAILED = ("started", "migrated"), ("resumed", "migrated"), ("stopped", "failed")
DEFINED, ENDED = ("defined", "added"), ("stopped", "shutdown")
PAUSED_MIGRATION, PAUSED_STARTING = 2, 11
SHUTOFF_DESTROYED, SHUTOFF_MIGRATED, SHUTOFF_FAILED = 2, 4, 6


def tell(cluster: Cluster, node: Node, *steps: Step) -> None:
    for step in steps:
        cluster.hear(node, node.event(*step))


# The destination's word


@pytest.mark.parametrize("arrival", [("resumed", "migrated"), ("resumed", "postcopy")])
def test_an_arrival_counts_also_where_nobody_heard_that_the_destination_waited(arrival: Step) -> None:
    """Its agent was started in the middle."""
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, source, *HANDED_OVER)
    tell(cluster, destination, arrival, DEFINED, ENDED)
    assert cluster.place() == ("destination", "shutoff")


@pytest.mark.parametrize(
    "steps",
    [
        [ARRIVED],
        [ARRIVED, ("suspended", "paused")],
        [("suspended", "paused")],
        [("suspended", "paused"), ("resumed", "unpaused")],
        [ARRIVED, ("suspended", "paused"), ("resumed", "unpaused"), ("reboot", "")],
    ],
)
def test_whatever_the_vm_does_after_its_arrival_a_late_departure_is_over_with_it(steps: list[Step]) -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, destination, INCOMING, *steps)
    tell(cluster, source, *HANDED_OVER)
    tell(cluster, destination, DEFINED, ENDED)
    assert cluster.place() == ("destination", "shutoff")


@pytest.mark.parametrize("lists", [False, True])
def test_a_migration_that_failed_stops_no_vm_also_while_its_source_is_not_heard(lists: bool) -> None:
    """The VM is where it was, and the panel has not been told where that is."""
    cluster = Cluster()
    _, destination = Node("source"), Node("destination")
    tell(cluster, destination, INCOMING)
    if lists:
        cluster.hear(destination, destination.inventory(domain("paused", reason=PAUSED_STARTING, persistent=False)))
    tell(cluster, destination, FAILED)
    assert cluster.state() is State.UNKNOWN


def test_an_end_that_is_known_only_from_a_listing_fails_like_any_other() -> None:
    cluster = Cluster()
    destination = Node("destination")
    cluster.hear(destination, destination.inventory(domain("paused", reason=PAUSED_STARTING, persistent=False)))
    tell(cluster, destination, FAILED)
    assert cluster.state() is State.UNKNOWN


def test_an_end_that_is_known_only_from_a_listing_stops_no_vm_when_it_is_destroyed_while_it_waits() -> None:
    """As libvirt does where the network is cut."""
    cluster = Cluster()
    destination = Node("destination")
    cluster.hear(destination, destination.inventory(domain("paused", reason=PAUSED_STARTING, persistent=False)))
    tell(cluster, destination, ("stopped", "destroyed"))
    assert cluster.state() is State.UNKNOWN


@pytest.mark.parametrize("reason", [SHUTOFF_DESTROYED, SHUTOFF_FAILED])
def test_a_migrations_failure_that_only_a_listing_tells_stops_no_vm(reason: int) -> None:
    """The destination has a definition of it from an earlier stay."""
    cluster = Cluster()
    destination = Node("destination")
    tell(cluster, destination, INCOMING)
    cluster.hear(destination, destination.inventory(domain("shutoff", reason=reason)))
    assert cluster.state() is State.UNKNOWN


def test_a_failed_migration_of_a_vm_that_is_then_destroyed_and_undefined_leaves_nothing() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, source, ("stopped", "destroyed"), ("undefined", "removed"))
    tell(cluster, destination, INCOMING, FAILED)
    assert cluster.state() is not State.SHUTOFF

    def answer() -> None:
        for node in (source, destination):
            cluster.hear(node)
            cluster.list_if_wanted(node)

    cluster.turn(ARRIVES_WITHIN_S + 5, answer)
    assert cluster.state() is State.ABSENT


# The source's word


def test_a_definition_that_a_listing_shows_before_the_departure_is_told_is_no_stop() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, source, HANDED_OVER[0])
    cluster.hear(source, source.inventory(domain("shutoff", reason=SHUTOFF_MIGRATED)))
    assert cluster.state() is State.UNKNOWN
    tell(cluster, source, HANDED_OVER[1])
    assert cluster.state() is State.UNKNOWN
    tell(cluster, destination, INCOMING, ARRIVED)
    assert cluster.place() == ("destination", "running")


def test_a_definition_that_stayed_behind_is_no_new_departure_at_each_listing() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, source, *HANDED_OVER)
    tell(cluster, destination, INCOMING, DEFINED, ARRIVED)
    cluster.hear(source, source.inventory(domain("shutoff", reason=SHUTOFF_MIGRATED)))
    tell(cluster, destination, ENDED)
    assert cluster.place() == ("destination", "shutoff")


def test_a_source_whose_hand_over_is_only_listed_and_that_is_then_destroyed_is_stopped() -> None:
    cluster = Cluster()
    source, _ = running(cluster)
    cluster.hear(source, source.inventory(domain("paused", reason=PAUSED_MIGRATION)))
    tell(cluster, source, ("stopped", "destroyed"))
    assert cluster.place() == ("source", "shutoff")


# One migration after another


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("ends", ["told", "listed as failed", "not listed"])
def test_a_way_back_that_fails_leaves_the_vm_where_it_went_though_that_node_is_silent(ends: str, lists: bool) -> None:
    """The node where it went still says what it said long before: that the VM is stopped there."""
    cluster = Cluster()
    source, destination = running(cluster, persistent=ends != "not listed")
    cluster.hear(destination, destination.inventory(domain("shutoff")))
    tell(cluster, source, *HANDED_OVER, INCOMING)
    if lists:
        cluster.hear(source, source.inventory(domain("paused", reason=PAUSED_MIGRATION)))
    if ends == "told":
        tell(cluster, source, FAILED)
    else:
        left = [domain("shutoff", reason=SHUTOFF_FAILED)] if ends == "listed as failed" else []
        neighbour = domain("running", uuid="00000000-0000-4000-8000-000000000001", name="neighbour")
        cluster.hear(source, source.inventory(*left, neighbour))
    assert cluster.state() is State.UNKNOWN
    tell(cluster, destination, INCOMING, ARRIVED)
    assert cluster.place() == ("destination", "running")
    tell(cluster, destination, DEFINED, ENDED)
    assert cluster.place() == ("destination", "shutoff")


def test_a_way_back_that_waits_is_shown_as_paused_and_ends_the_departure_when_it_comes() -> None:
    cluster = Cluster()
    source, _ = running(cluster)
    tell(cluster, source, *HANDED_OVER, INCOMING)
    assert cluster.place() == ("source", "paused")
    tell(cluster, source, ARRIVED, ENDED)
    assert cluster.place() == ("source", "shutoff")


def test_a_vm_that_ran_and_is_listed_as_failed_may_have_left_and_not_come_back() -> None:
    """Both migrations are told later; and where it died instead, it is nowhere, and stopped when that is known."""
    cluster = Cluster()
    source, destination = running(cluster)
    listed = domain("shutoff", reason=SHUTOFF_FAILED)
    cluster.hear(source, source.inventory(listed))
    assert cluster.state() is State.UNKNOWN

    def answer() -> None:
        for node, domains in ((source, [listed]), (destination, [])):
            cluster.hear(node)
            cluster.list_if_wanted(node, *domains)

    cluster.turn(ARRIVES_WITHIN_S + 5, answer)
    assert cluster.place() == ("source", "shutoff")


@pytest.mark.parametrize("undefined", [False, True])
def test_an_old_arrival_does_not_pay_for_a_new_departure(undefined: bool) -> None:
    """There, ended there, started at the source again, and away to a third node; the second's word lags."""
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, destination, INCOMING, ARRIVED)
    tell(cluster, source, *HANDED_OVER, ("started", "booted"), *HANDED_OVER)
    if undefined:
        tell(cluster, source, ("undefined", "removed"))
    tell(cluster, destination, ENDED)
    assert cluster.state() is State.UNKNOWN
    third = Node("third")
    tell(cluster, third, INCOMING, ARRIVED)
    assert cluster.place() == ("third", "running")


def test_an_arrival_from_outside_the_cluster_ends_with_the_run() -> None:
    """It was never paid out, and the VM has been started anew since."""
    cluster = Cluster()
    source, destination = Node("source"), Node("destination")
    cluster.hear(source, source.inventory(domain("shutoff")))
    tell(cluster, destination, DEFINED, INCOMING, ARRIVED, ENDED, ("started", "booted"))
    tell(cluster, source, ("started", "booted"), *HANDED_OVER)
    tell(cluster, destination, ENDED)
    assert cluster.state() not in STOPPED


def test_a_migration_that_failed_spends_no_arrival() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    third = Node("third")
    tell(cluster, destination, INCOMING, DEFINED, ARRIVED)
    tell(cluster, third, INCOMING, FAILED)
    tell(cluster, source, *HANDED_OVER)
    tell(cluster, destination, ENDED)
    assert cluster.place() == ("destination", "shutoff")


# What nobody shows


OTHER = "00000000-0000-4000-8000-000000000002"


class Asked:
    """Nodes that live; whoever does not `keep_quiet` answers each wish with its `lists`."""

    def __init__(self, cluster: Cluster, *nodes: Node) -> None:
        self.cluster = cluster
        self.nodes = nodes
        self.keep_quiet: set[str] = set()
        self.lists: dict[str, list[dict[str, Any]]] = {node.name: [] for node in nodes}
        self.answers = 0

    def beat(self) -> None:
        for node in self.nodes:
            self.cluster.hear(node)
            if node.name not in self.keep_quiet:
                self.answers += self.cluster.list_if_wanted(node, *self.lists[node.name])

    def turn(self, seconds: float) -> None:
        self.cluster.turn(seconds, self.beat)


def asked_of(cluster: Cluster, *nodes: Node, others: Sequence[dict[str, Any]] = ()) -> Asked:
    """After the first wishes, those of nodes that are new to the panel; `others` run on the source too."""
    asked = Asked(cluster, *nodes)
    asked.lists["source"] = [domain("running"), *others]
    asked.turn(1)
    asked.answers = 0
    return asked


def test_nobody_is_asked_for_a_vm_that_left_before_its_arrival_has_had_time() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    asked = asked_of(cluster, source, destination)
    tell(cluster, source, *HANDED_OVER)
    tell(cluster, destination, INCOMING)
    asked.lists = {"source": [domain("shutoff")], "destination": [domain("paused", reason=PAUSED_STARTING)]}
    asked.turn(ARRIVES_WITHIN_S - 1)
    assert asked.answers == 0
    asked.turn(5)
    assert asked.answers == 2


def test_a_departure_is_over_in_time_also_when_the_panels_clock_went_back() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    asked = asked_of(cluster, source, destination)
    tell(cluster, source, *HANDED_OVER)
    cluster.wall_ahead_s -= 86_400
    asked.lists["source"] = [domain("shutoff")]
    asked.turn(ARRIVES_WITHIN_S + 5)
    assert cluster.place() == ("source", "shutoff")


def test_a_vm_that_nobody_has_is_stopped_where_it_was_last_and_not_where_else_it_is_defined() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    asked = asked_of(cluster, source, destination)
    tell(cluster, source, *HANDED_OVER)
    tell(cluster, destination, DEFINED)
    asked.lists = {"source": [domain("shutoff")], "destination": [domain("shutoff")]}
    asked.turn(ARRIVES_WITHIN_S + 5)
    assert cluster.place() == ("source", "shutoff")


def test_the_end_of_a_departure_that_time_brings_is_stored() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    asked = asked_of(cluster, source, destination)
    tell(cluster, source, *HANDED_OVER)
    asked.lists["source"] = [domain("shutoff")]
    for _ in range(int(ARRIVES_WITHIN_S) + 10):
        before = cluster.state()
        asked.beat()
        if cluster.judge().durable:
            break
        cluster.now += 1.0
    assert (before, cluster.state()) == (State.UNKNOWN, State.SHUTOFF)


def test_what_left_while_others_were_looked_for_is_looked_for_anew() -> None:
    """A node had listed for the first inquiry before the second VM went to it, and its later word lags."""
    cluster = Cluster()
    source, destination = running(cluster)
    third = Node("third")
    stays = domain("running", uuid=OTHER, name="db")
    asked = asked_of(cluster, source, destination, third, others=[stays])
    asked.lists["source"] = [domain("shutoff"), stays]
    tell(cluster, source, *HANDED_OVER)
    asked.keep_quiet = {"third"}
    asked.turn(ARRIVES_WITHIN_S + 5)
    assert asked.answers == 2, "the first VM is looked for, and one node has not said that it does not have it"
    cluster.hear(source, *(source.event(*step, uuid=OTHER, vm="db") for step in HANDED_OVER))
    asked.lists["source"] = [domain("shutoff"), domain("shutoff", uuid=OTHER, name="db")]
    asked.keep_quiet = {"third", "destination"}
    asked.turn(ARRIVES_WITHIN_S + 5)
    asked.keep_quiet = {"destination"}
    asked.turn(3)
    assert cluster.state() is State.SHUTOFF
    assert cluster.state(OTHER) is State.UNKNOWN, "the destination has not been asked since"
    asked.keep_quiet = set()
    asked.turn(3)
    assert cluster.state(OTHER) is State.SHUTOFF


# Away, and not back


@pytest.mark.parametrize("lists", ["", "waiting", "afterwards"])
@pytest.mark.parametrize("ends", [[FAILED], [("shutdown", "host"), ("stopped", "destroyed")]])
def test_a_vm_that_left_and_whose_way_back_fails_is_still_away(ends: list[Step], lists: str) -> None:
    """Where it went to is not heard yet; that a third node has an old definition of it says nothing."""
    cluster = Cluster()
    source, third = running(cluster)[0], Node("third")
    cluster.hear(third, third.inventory(domain("shutoff")))
    tell(cluster, source, *HANDED_OVER, INCOMING)
    if lists == "waiting":
        cluster.hear(source, source.inventory(domain("paused", reason=PAUSED_STARTING)))
    tell(cluster, source, *(ends if lists != "afterwards" else []))
    if lists:
        cluster.hear(source, source.inventory(domain("shutoff", reason=6)))
    assert cluster.state() is State.UNKNOWN
    destination = Node("destination")
    tell(cluster, destination, INCOMING, DEFINED, ARRIVED)
    assert cluster.place() == ("destination", "running")
    tell(cluster, destination, ENDED)
    assert cluster.place() == ("destination", "shutoff")


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_way_back_of_which_only_the_failure_is_heard_leaves_the_vm_away(attempts: int) -> None:
    """What told that it began lies in the dead letters."""
    cluster = Cluster()
    source, _ = running(cluster)
    tell(cluster, source, *HANDED_OVER)
    for _ in range(attempts):
        source.event(*INCOMING)
        tell(cluster, source, FAILED)
    assert cluster.state() is State.UNKNOWN
    tell(cluster, Node("destination"), INCOMING, DEFINED, ARRIVED)
    assert cluster.place() == ("destination", "running")


@pytest.mark.parametrize("lists", [False, True])
def test_a_vm_that_fails_where_it_handed_over_is_looked_for_first(lists: bool) -> None:
    """Its QEMU was killed after the hand-over; or it is a way back of which only the listing and the end were heard."""
    cluster = Cluster()
    source, destination = running(cluster)
    cluster.hear(destination, destination.inventory(domain("shutoff")))
    tell(cluster, source, HANDED_OVER[0])
    if lists:
        cluster.hear(source, source.inventory(domain("paused", reason=PAUSED_MIGRATION)))
    tell(cluster, source, FAILED)
    assert cluster.state() is State.UNKNOWN
    tell(cluster, destination, INCOMING, ARRIVED)
    assert cluster.place() == ("destination", "running")
    tell(cluster, destination, ENDED)
    assert cluster.place() == ("destination", "shutoff")


def test_a_vm_that_left_and_is_then_destroyed_here_was_back_though_nobody_heard_it() -> None:
    cluster = Cluster()
    source, _ = running(cluster)
    tell(cluster, source, *HANDED_OVER, ("stopped", "destroyed"))
    assert cluster.place() == ("source", "shutoff")


def test_a_way_back_that_fails_without_a_definition_leaves_the_vm_away() -> None:
    cluster = Cluster()
    source, _ = running(cluster, persistent=False)
    tell(cluster, source, *HANDED_OVER, INCOMING)
    cluster.hear(source, source.inventory(domain("running", uuid=OTHER, name="db")))
    assert cluster.state() is State.UNKNOWN


@pytest.mark.parametrize("lists", [False, True])
def test_a_migration_that_fails_twice_is_over_with_any_word_of_another_node(lists: bool) -> None:
    cluster = Cluster()
    source, destination = Node("source"), Node("destination")
    tell(cluster, destination, INCOMING, FAILED, INCOMING, FAILED)
    if lists:
        cluster.hear(destination, destination.inventory(domain("shutoff", reason=6)))
    assert cluster.state() is State.UNKNOWN
    cluster.hear(source, source.inventory(domain("shutoff")))
    assert cluster.place() == ("source", "shutoff")


@pytest.mark.parametrize("heard", [True, False])
def test_of_a_migration_that_failed_once_more_it_does_not_matter_whether_its_beginning_was_heard(heard: bool) -> None:
    cluster = Cluster()
    source, destination = Node("source"), Node("destination")
    tell(cluster, destination, INCOMING, FAILED)
    incoming = destination.event(*INCOMING)
    if heard:
        cluster.hear(destination, incoming)
    tell(cluster, destination, FAILED)
    assert cluster.state() is State.UNKNOWN
    cluster.hear(source, source.inventory(domain("shutoff")))
    assert cluster.place() == ("source", "shutoff")


def test_a_vm_that_left_and_is_back_before_its_departure_was_paid_is_back() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, source, *HANDED_OVER, INCOMING)
    assert cluster.known.vms[UUID]["source"].is_moving
    assert not cluster.known.vms[UUID]["source"].is_held
    tell(cluster, source, ARRIVED)
    tell(cluster, destination, INCOMING, ARRIVED, *HANDED_OVER)
    assert cluster.place() == ("source", "running")
    tell(cluster, source, ENDED)
    assert cluster.place() == ("source", "shutoff")


def test_an_end_that_waited_and_is_not_listed_any_more_leaves_nothing_to_look_for() -> None:
    """The migration failed, and nobody told."""
    cluster = Cluster()
    source, destination = running(cluster)
    tell(cluster, destination, INCOMING)
    cluster.hear(destination, destination.inventory(domain("running", uuid=OTHER, name="db")))
    assert cluster.place() == ("source", "running")
    tell(cluster, source, ("stopped", "destroyed"))
    assert cluster.place() == ("source", "shutoff")


def test_a_running_vm_that_is_listed_no_more_is_gone_with_its_definition_when_nobody_has_it() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    asked = asked_of(cluster, source, destination)
    asked.lists["source"] = [domain("running", uuid=OTHER, name="db")]
    cluster.hear(source, source.inventory(*asked.lists["source"]))
    assert cluster.state() is State.UNKNOWN
    asked.turn(ARRIVES_WITHIN_S + 5)
    assert cluster.state() is State.ABSENT


def test_a_vm_that_its_source_lists_no_more_and_that_arrived_and_ended_elsewhere_is_gone() -> None:
    """Its definition went with it, and was told of by nobody."""
    cluster = Cluster()
    source, destination = running(cluster)
    cluster.hear(source, source.inventory(domain("running", uuid=OTHER, name="db")))
    tell(cluster, destination, INCOMING, DEFINED, ARRIVED, ENDED, ("undefined", "removed"))
    assert cluster.state() is State.ABSENT
