"""The canary of an agent: one at a time, and what became of it."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.testbed.waiting import wait_until
from vmwatch.node.canary import Canary
from vmwatch.node.drops import Drops
from vmwatch.node.sender import Held

EPOCH = 1000


def made(epoch: int = EPOCH, seq: int = 7) -> Canary:
    canary = Canary(lambda: None)
    canary.sent(10.0, epoch, seq)
    return canary


def state(canary: Canary) -> tuple[str, float]:
    described = canary.describe(20.0)
    return described["state"], described["seconds"]


def test_before_the_first_there_is_nothing_to_describe() -> None:
    assert Canary(lambda: None).describe(1.0) == {}


def test_it_is_under_way_until_an_acknowledgement_reaches_it() -> None:
    canary = made()
    canary.settled(12.0, {EPOCH: 6}, Held(EPOCH, 7, 9))
    assert state(canary) == ("under way", 10.0)
    canary.settled(13.0, {EPOCH: 7}, Held(EPOCH, 8, 9))
    assert state(canary) == ("acknowledged", 3.0)
    canary.settled(14.0, {EPOCH: 9}, Held(EPOCH, 10, 9))
    assert state(canary) == ("acknowledged", 3.0)


def test_an_acknowledgement_of_another_epoch_is_none_of_it() -> None:
    canary = made()
    canary.settled(12.0, {EPOCH - 1: 100, EPOCH + 1: 100}, Held(EPOCH, 7, 7))
    assert canary.under_way


def test_one_that_left_the_outbox_without_acknowledgement_was_dropped() -> None:
    canary = made()
    canary.settled(12.0, {}, Held(EPOCH, 8, 9))
    assert state(canary) == ("dropped", 2.0)


def test_one_that_waits_behind_an_earlier_epoch_is_under_way() -> None:
    canary = made()
    canary.settled(12.0, {}, Held(EPOCH - 1, 100, 200))
    assert canary.under_way


def test_who_asks_is_told_its_place_or_why_there_is_none() -> None:
    canary = Canary(lambda: None)
    steps: list[tuple[Callable[[], None], dict[str, Any]]] = [
        (lambda: canary.sent(1.0, EPOCH, 3), {"epoch": EPOCH, "seq": 3}),
        (canary.share, {"epoch": EPOCH, "seq": 3}),
        (lambda: canary.refused("no room"), {"error": "no room"}),
    ]
    for act, expected in steps:
        answers: list[dict[str, Any]] = []
        thread = threading.Thread(target=_ask, args=(canary, answers))
        thread.start()
        wait_until(lambda: canary.wanted, "the wish")
        act()
        thread.join()
        assert answers == [expected]
        assert not canary.wanted


def _ask(canary: Canary, answers: list[dict[str, Any]]) -> None:
    answers.append(canary.ask())


def test_a_drop_is_as_old_as_the_last_change_of_the_counts() -> None:
    outbox_counts = Counter[str]()
    drops = Drops()
    assert drops.age_s(1.0, outbox_counts) is None
    outbox_counts["stats"] += 2
    assert drops.age_s(5.0, outbox_counts) == 0.0
    assert drops.age_s(8.0, outbox_counts) == 3.0
    outbox_counts["event"] += 1
    assert drops.age_s(9.0, outbox_counts) == 0.0
