"""What is known, through drafts that overlay each other: a migration's ends may tell in one report, or in several."""

import pytest

from tests.unit.panel.cluster import EPOCH, UUID, Cluster, Node, domain
from tests.unit.panel.test_migration import HANDED_OVER, running
from vmwatch.panel.knowledge import Devices, Draft, Epoch, Known
from vmwatch.panel.rules import Claim
from vmwatch.shared.states import State

OTHER = "00000000-0000-4000-8000-000000000001"
LEFT = Claim(State.SHUTOFF, "web", (EPOCH, 3), 5.0, 1, stated=(EPOCH, 3), persistent=True, departed=50.0)
ARRIVED = Claim(State.RUNNING, "web", (EPOCH, 3), 5.0, 2, stated=(EPOCH, 3), moving="arrived")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("first", ["source", "destination"])
def test_a_departure_and_its_arrival_in_one_transaction_end_each_other(first: str, nested: bool) -> None:
    known = Known("run")
    draft = Draft(known)
    claims = {"source": LEFT, "destination": ARRIVED}
    for node in sorted(claims, key=lambda name: name != first):
        report = Draft(draft) if nested else draft
        report.set_claim(UUID, node, claims[node])
        if nested:
            report.merge()
    draft.merge()
    assert known.vms[UUID]["source"].departed == 0.0
    assert known.departing == set()


def test_a_departure_is_found_through_all_drafts_until_it_is_over() -> None:
    known = Known("run")
    transaction = Draft(known)
    report = Draft(transaction)
    report.set_claim(UUID, "source", LEFT)
    report.merge()
    assert transaction.all_departing() == Draft(transaction).all_departing() == {UUID}
    transaction.merge()
    assert known.departing == Draft(Draft(known)).all_departing() == {UUID}
    known.set_claim(UUID, "third", LEFT)
    known.set_claim(UUID, "source", ARRIVED)
    assert known.departing == {UUID}, "it left the third node too"
    known.set_claim(UUID, "third", ARRIVED)
    assert known.departing == set()


def test_a_listing_in_the_report_of_its_events_forgets_what_they_ended() -> None:
    cluster, node = Cluster(), Node("kvm-01")
    ends = [node.event(*step) for step in (("started", "booted"), ("stopped", "shutdown"), ("undefined", "removed"))]
    cluster.hear(node, *ends, node.inventory())
    assert cluster.known.vms == {}
    assert cluster.known.nodes["kvm-01"].doubted == 0.0


def test_both_ends_of_a_migration_in_one_report_are_one_vm_at_the_destination() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    cluster.hear(destination, destination.event("started", "migrated"), destination.event("resumed", "migrated"))
    cluster.hear(source, *(source.event(*step) for step in HANDED_OVER))
    assert cluster.place() == ("destination", "running")
    assert cluster.known.departing == set()


def test_a_vm_that_is_forgotten_takes_what_was_known_of_its_disks_along() -> None:
    known = Known("run")
    known.set_claim(UUID, "a", ARRIVED)
    known.devices[UUID, "a"] = Devices((("/images/web", "m1"),), ())
    known.set_claim(UUID, "a", None)
    known.set_claim(UUID, "a", ARRIVED)
    assert Draft(known).disks(UUID, "a") == ()


def test_a_token_of_another_run_of_the_panel_proves_nothing() -> None:
    """A listing that an earlier run asked for is on its way: it may be an hour old."""
    cluster, node = Cluster(), Node("kvm-01")
    cluster.hear(node, node.inventory(domain("running")))
    for _ in range(5):
        old = cluster.known.next_token()
    later = Cluster(Known("later", cluster.known.nodes, vms=cluster.known.vms, uuids=cluster.known.uuids))
    later.turn(40, later.report)
    later.hear(node)
    later.turn()
    later.hear(node, node.inventory(domain("running"), token=old))
    assert later.state() is State.UNKNOWN
    assert later.list_if_wanted(node, domain("running"))
    assert later.state() is State.RUNNING


def test_a_start_asks_every_node_for_a_listing_of_its_own() -> None:
    known = Known("run")
    cluster = Cluster(known)
    nodes = [Node("a"), Node("b")]
    for node in nodes:
        cluster.hear(node)
        cluster.list_if_wanted(node)
    assert [cluster.wanted(node) for node in nodes] == ["", ""]
    known.want_all_inventories()
    tokens = [cluster.wanted(node) for node in nodes]
    assert all(tokens)
    assert len(set(tokens)) == 2


def test_another_vms_claims_are_no_part_of_a_vm() -> None:
    known = Known("run")
    draft = Draft(known)
    draft.set_claim(UUID, "a", ARRIVED)
    draft.set_claim(OTHER, "b", ARRIVED)
    assert set(draft.claims_of_vm(UUID)) == {"a"}
    assert set(draft.claims_of_node("b")) == {OTHER}


def test_what_a_listing_forgot_no_older_event_brings_back() -> None:
    cluster, node = Cluster(), Node("kvm-01")
    started = node.event("started", "booted")
    gone = [node.event("stopped", "shutdown"), node.event("undefined", "removed")]
    cluster.hear(node, *gone, node.inventory(domain("running", uuid=OTHER, name="db")))
    cluster.hear(node, started)
    assert cluster.state() is State.ABSENT
    assert cluster.known.claim(UUID, "kvm-01") is None


def test_below_an_epochs_base_every_message_is_known_in_memory_and_through_a_draft() -> None:
    known = Known("run")
    known.epochs["kvm-01", EPOCH] = Epoch(base=5)
    known.keys["kvm-01", EPOCH] = {6}
    for where in (known, Draft(known)):
        assert where.unknown(("kvm-01", EPOCH), [3, 4, 5, 6, 7]) == {5, 7}
