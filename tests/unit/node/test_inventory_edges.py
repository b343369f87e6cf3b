"""When an inventory is due, and which token it bears, where several things happen at once."""

import pytest

from tests.unit.node.test_inventory import EPOCH, INTERVAL_S, event, list_at, listed
from vmwatch.node.inventory import SOON_S, Inventories


@pytest.fixture
def inventories() -> Inventories:
    """After the first listing, of one persistent domain."""
    made = Inventories(INTERVAL_S, 0.0)
    list_at(made, 0.0, listed())
    return made


def test_a_listing_bears_the_token_that_it_was_begun_for_and_not_one_that_came_meanwhile(
    inventories: Inventories,
) -> None:
    """The panel would take it for one that was begun after its question."""
    inventories.begin(10.0, EPOCH, 5)
    inventories.ask(10.5, "t1")
    first = inventories.finished(11.0, 0.0, EPOCH, [listed()])
    assert first is not None
    assert first.token == ""
    inventories.begin(11.0, EPOCH, 6)
    inventories.ask(11.5, "t2")
    second = inventories.finished(12.0, 0.0, EPOCH, [listed()])
    assert second is not None
    assert second.token == "t1"
    third = list_at(inventories, 12.0, listed())
    assert third is not None
    assert third.token == "t2"


def test_a_question_that_is_repeated_does_not_press_a_libvirt_that_fails(inventories: Inventories) -> None:
    inventories.ask(10.0, "t1")
    for now in (10.0, 20.0, 40.0):
        inventories.begin(now, EPOCH, 5)
        inventories.failed(now, "no")
    due_at = inventories.due_at
    assert due_at > 41.0
    inventories.ask(40.5, "t1")
    assert inventories.due_at == due_at


def test_a_domain_that_left_by_a_migration_is_looked_for_within_the_second_although_it_is_persistent(
    inventories: Inventories,
) -> None:
    inventories.observe(10.0, event("stopped", "migrated"))
    assert inventories.due_at == 10.0 + SOON_S <= 11.0


def test_what_a_listing_says_of_persistence_counts_more_than_an_event_from_before_it(inventories: Inventories) -> None:
    """That it was defined again was told while no agent listened."""
    inventories.observe(9.0, event("undefined", "removed"))
    list_at(inventories, 10.0, listed())
    due_at = inventories.due_at
    inventories.observe(12.0, event("stopped", "destroyed"))
    assert inventories.due_at == due_at
