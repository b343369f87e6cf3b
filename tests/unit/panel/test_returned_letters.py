"""Dead letters that are sent again, in the panel's core: registered once, below any base, no word on the present."""

import asyncio
import json
from pathlib import Path
from typing import Any

from msgspec import Raw, structs

from tests.unit.panel.clock import FakeClock
from tests.unit.panel.reports import EPOCH, NODE, event, inventory, stats, uuid_of
from vmwatch.panel.board import Board
from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.registration import EPOCH_CLOSES_S, register
from vmwatch.panel.store import Store
from vmwatch.panel.writer import Writer
from vmwatch.shared.messages import Event, Message
from vmwatch.shared.report import Report, ReportEntry, Verdict
from vmwatch.shared.states import State


def entry(*messages: dict[str, Any], base: int = 1, epoch: int = EPOCH, returned: bool = False) -> ReportEntry:
    raws = [Raw(json.dumps(message).encode()) for message in messages]
    seqs = [message["seq"] for message in messages] if returned else []
    return ReportEntry(node=NODE, epoch=epoch, base=0 if returned else base, messages=raws, returned=seqs)


class Log:
    """What is registered, as the event log holds it: also what keys are not kept of."""

    def __init__(self) -> None:
        self.known = Known("run")
        self.keys: list[tuple[str, int, int]] = []

    def commit(self, *entries: ReportEntry, now: float = 100.0) -> Verdict:
        draft = Draft(self.known)
        (verdict,) = register(draft, Report("m", list(entries)), now, self.holds)
        draft.merge()
        self.keys += [(row.node, row.epoch, row.seq) for row in draft.events]
        return verdict

    def holds(self, node: str, epoch: int, message: Message) -> bool:
        return isinstance(message, Event) and (node, epoch, message.seq) in self.keys


def counts(verdict: Verdict) -> tuple[int, int, int]:
    return verdict.applied, verdict.known, len(verdict.refused)


def test_one_that_was_refused_is_registered_although_it_is_below_the_base() -> None:
    log = Log()
    refused = event(1) | {"state": "flying"}
    assert counts(log.commit(entry(refused))) == (0, 0, 1)
    log.commit(entry(event(2, "db"), base=2))
    assert counts(log.commit(entry(event(1)))) == (0, 1, 0), "from the node itself, below the base all is known"
    assert counts(log.commit(entry(event(1), returned=True))) == (1, 0, 0)
    assert log.keys == [(NODE, EPOCH, 2), (NODE, EPOCH, 1)]


def test_one_that_comes_twice_is_registered_once_in_the_same_report_and_after_a_restart() -> None:
    log = Log()
    log.commit(entry(event(5), base=5))
    twice = entry(event(1), event(1), returned=True)
    assert counts(log.commit(twice)) == (1, 1, 0)
    assert counts(log.commit(entry(event(1), returned=True))) == (0, 1, 0)
    log.known.keys.clear()  # as a start leaves them: none below the base
    assert counts(log.commit(entry(event(1), returned=True))) == (0, 1, 0)
    assert len(log.keys) == 2


def test_one_whose_registration_nobody_heard_of_is_known() -> None:
    """Workers died of a message that the panel had committed: it lies in the dead letters and in the event log."""
    log = Log()
    log.commit(entry(event(1)))
    log.commit(entry(event(2), base=2))
    assert counts(log.commit(entry(event(1), returned=True))) == (0, 1, 0)


def test_one_of_a_closed_epoch_is_registered_because_a_person_wants_it() -> None:
    log = Log()
    log.commit(entry(event(1)))
    log.commit(entry(event(1), epoch=EPOCH + 1))
    late = 100.0 + EPOCH_CLOSES_S + 1
    assert counts(log.commit(entry(event(2)), now=late)) == (0, 0, 1)
    assert counts(log.commit(entry(event(2), returned=True), now=late)) == (1, 0, 0)
    assert counts(log.commit(entry(event(3)), now=late)) == (0, 0, 1), "the epoch is as closed as before"


def test_one_that_still_cannot_be_taken_is_refused_by_name_and_spoils_no_neighbour() -> None:
    log = Log()
    verdict = log.commit(entry(event(1) | {"state": "flying"}, event(2), returned=True))
    assert counts(verdict) == (1, 0, 1)
    assert verdict.refused[0].seq == 1


def test_an_old_one_changes_nothing_of_what_is_known_of_the_present() -> None:
    log = Log()
    first = structs.replace(entry(inventory(3, 2, web="shutoff"), base=3), interval=30.0, agent="vmwatch-node/9")
    log.commit(first)
    before, epoch = log.known.nodes[NODE], log.known.epochs[NODE, EPOCH]
    assert counts(log.commit(entry(event(1), returned=True), now=500.0)) == (1, 0, 0)
    assert log.known.nodes[NODE] == before
    assert log.known.epochs[NODE, EPOCH] == epoch
    judgement = log.known.judgement(uuid_of("web"))
    assert judgement is not None
    assert judgement.state is State.SHUTOFF, "the listing is newer than the event"


def test_a_panel_that_does_not_know_the_node_takes_it() -> None:
    log = Log()
    assert counts(log.commit(entry(event(1), returned=True))) == (1, 0, 0)
    assert log.known.nodes[NODE].seen == 0.0


# On a real database


def settle(writer: Writer, *messages: dict[str, Any], base: int = 1, returned: bool = False) -> Verdict:
    body = Report("m", [entry(*messages, base=base, returned=returned)])
    (verdict,) = asyncio.run(writer.do(lambda work: register(work.draft, body, work.now, work.registered)))
    return verdict


def test_the_database_knows_what_is_registered_of_events_and_samples_also_after_a_restart(tmp_path: Path) -> None:
    told = [event(1), stats(2, taken=500.0), inventory(3, 2, web="running")]
    for base in (1, 9):
        store = Store(f"sqlite:///{tmp_path / 'panel.db'}")
        store.open()
        stored, board = store.load(), Board()
        board.fill(stored)
        writer = Writer(store, stored, board, FakeClock())
        writer.start()
        try:
            if base == 1:
                settle(writer, *told)
                settle(writer, event(9), base=9)
                assert stored.known.keys[NODE, EPOCH] == {9}, "below the base no keys are kept"
            assert counts(settle(writer, *told[:2], returned=True)) == (0, 2, 0)
            assert settle(writer, told[2], returned=True).refused == [], "a listing may come twice"
            others = [event(4, "db"), event(5, word="stopped"), stats(6, taken=501.0), stats(7, "db", taken=500.0)]
            expected = (4, 0, 0) if base == 1 else (0, 4, 0)
            assert counts(settle(writer, *others, returned=True)) == expected
        finally:
            assert writer.stop(30)
            store.close()
