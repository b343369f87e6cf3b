"""Epochs at the panel: which are open, what of them is stored, and what a refusal brings with it."""

from tests.unit.panel.test_registration import commit, counts, entry, event, inventory
from vmwatch.panel.knowledge import Known
from vmwatch.panel.registration import EPOCH_CLOSES_S

DAY_S = 86_400.0


def two_epochs() -> Known:
    """An older epoch, and the newest."""
    known = Known("run")
    commit(known, entry(event(1)), now=0.0)
    commit(known, entry(event(1), epoch=6), now=1.0)
    return known


def test_an_older_epoch_is_open_while_messages_of_it_come() -> None:
    known = two_epochs()
    for day in (20, 40, 60):
        _, verdicts = commit(known, entry(event(day)), now=day * DAY_S)
        assert counts(verdicts[0]) == (1, 0, 0)


def test_a_sign_of_life_does_not_keep_an_older_epoch_open() -> None:
    known = two_epochs()
    for day in (20, 40):
        commit(known, entry(live=True), now=day * DAY_S)
    _, verdicts = commit(known, entry(event(2)), now=41 * DAY_S)
    assert counts(verdicts[0]) == (0, 0, 1)


def test_what_still_comes_of_a_closed_epoch_does_not_open_it_again() -> None:
    known = two_epochs()
    for later in (2.0, 3.0):
        _, verdicts = commit(known, entry(event(2)), now=EPOCH_CLOSES_S + later)
        assert counts(verdicts[0]) == (0, 0, 1)


def test_each_refusal_asks_for_a_listing_also_when_the_last_wish_was_answered() -> None:
    known = Known("run")
    _, verdicts = commit(known, entry(event(1)))
    _, verdicts = commit(known, entry(inventory(2, 1, verdicts[0].want_inventory)))
    assert verdicts[0].want_inventory == ""
    _, verdicts = commit(known, entry({"seq": 3, "prev": 2, "type": "dance"}))
    assert verdicts[0].want_inventory


def test_a_wish_whose_answer_has_the_place_of_an_older_message_is_another_one() -> None:
    """An outbox was restored from a copy, and its agent gives numbers once more: the listing is not looked at."""
    known = Known("run")
    _, verdicts = commit(known, entry(event(1), event(2)))
    wish = verdicts[0].want_inventory
    _, verdicts = commit(known, entry(inventory(2, 1, wish)))
    assert counts(verdicts[0]) == (0, 1, 0)
    assert verdicts[0].want_inventory not in ("", wish)
    _, verdicts = commit(known, entry(inventory(3, 2, verdicts[0].want_inventory)))
    assert verdicts[0].want_inventory == ""
    _, verdicts = commit(known, entry(inventory(3, 2, wish)))
    assert verdicts[0].want_inventory == ""


def test_what_is_new_is_stored_and_what_is_known_costs_no_transaction() -> None:
    known = Known("run")
    new_node, _ = commit(known, entry())
    nothing, _ = commit(known, entry())
    new_epoch, _ = commit(known, entry(epoch=6))
    message, _ = commit(known, entry(event(1)))
    assert [draft.durable for draft in (new_node, nothing, new_epoch, message)] == [True, False, True, True]


def test_a_late_report_of_an_older_epoch_does_not_lower_the_newest_one() -> None:
    known = two_epochs()
    commit(known, entry(event(2)))
    assert known.nodes["a"].newest_epoch == 6


def test_a_message_at_the_base_is_known_by_its_key_also_when_the_base_has_risen_to_it() -> None:
    known = Known("run")
    commit(known, entry(event(8), event(9)))
    commit(known, entry(base=9))
    assert known.keys["a", 5] == {9}
    _, verdicts = commit(known, entry(event(8), event(9), base=9))
    assert counts(verdicts[0]) == (0, 2, 0)
