"""The panel's core: each message once, by (node, epoch, seq); drafts that are merged only after the commit."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.registration import EPOCH_CLOSES_S, register
from vmwatch.shared.errors import MessageError
from vmwatch.shared.report import Report, ReportEntry, Verdict
from vmwatch.shared.states import State

UUID = "8e0d1b34-5f5d-4ac1-9c1e-2f9d3a1b7c55"


def event(seq: int, name: str = "started", state: str | None = "running") -> dict[str, Any]:
    vm = {"uuid": UUID, "name": "web"}
    return {"seq": seq, "prev": seq - 1, "time": 1.0, "type": "event", "vm": vm, "event": name, "state": state}


def inventory(seq: int, as_of: int, token: str = "", domains: tuple[str, ...] = (UUID,)) -> dict[str, Any]:
    listed = [{"uuid": uuid, "name": "web", "state": "paused"} for uuid in domains]
    return {"seq": seq, "time": 1.0, "type": "inventory", "as_of": as_of, "token": token, "domains": listed, "prev": 0}


def entry(*messages: dict[str, Any], node: str = "a", epoch: int = 5, base: int = 1, live: bool = False) -> ReportEntry:
    raws = [Raw(json.dumps(message).encode()) for message in messages]
    return ReportEntry(node=node, epoch=epoch, base=base, messages=raws, live=live)


def commit(known: Known, *entries: ReportEntry, now: float = 100.0) -> tuple[Draft, list[Verdict]]:
    draft = Draft(known)
    verdicts = register(draft, Report("m", list(entries)), now)
    draft.merge()
    return draft, verdicts


def counts(verdict: Verdict) -> tuple[int, int, int]:
    return verdict.applied, verdict.known, len(verdict.refused)


def test_a_message_is_applied_once_and_known_ever_after() -> None:
    known = Known("run")
    draft, verdicts = commit(known, entry(event(1), event(2, "stopped", "shutoff")))
    assert counts(verdicts[0]) == (2, 0, 0)
    assert [row.seq for row in draft.events] == [1, 2]
    draft, verdicts = commit(known, entry(event(1), event(2), event(3)))
    assert counts(verdicts[0]) == (1, 2, 0)
    assert [row.seq for row in draft.events] == [3]


def test_a_canary_is_known_by_its_key_and_leaves_nothing_else() -> None:
    known = Known("run")
    started = {"seq": 1, "prev": 0, "time": 1.0, "type": "agent", "what": "started"}
    canary = {"seq": 2, "prev": 1, "time": 2.0, "type": "agent", "what": "canary"}
    commit(known, entry(started, event(3)))
    vms, before = {uuid: dict(claims) for uuid, claims in known.vms.items()}, known.nodes["a"]
    draft, verdicts = commit(known, entry(canary))
    assert counts(verdicts[0]) == (1, 0, 0)
    assert (draft.events, draft.stats, known.vms, known.nodes["a"]) == ([], [], vms, before)
    assert known.nodes["a"].said == "started"
    _, verdicts = commit(known, entry(canary))
    assert counts(verdicts[0]) == (0, 1, 0)


def test_the_same_seq_of_another_epoch_or_node_is_another_message() -> None:
    known = Known("run")
    _, verdicts = commit(known, entry(event(1)), entry(event(1), epoch=6), entry(event(1), node="b"))
    assert [counts(verdict) for verdict in verdicts] == [(1, 0, 0)] * 3


def test_below_the_highest_base_all_is_known_also_without_a_key() -> None:
    known = Known("run")
    commit(known, entry(event(9), base=9))
    _, verdicts = commit(known, entry(event(8), base=3))
    assert counts(verdicts[0]) == (0, 1, 0)
    assert known.keys["a", 5] == {9}


def test_a_gap_left_by_another_worker_is_not_taken_as_known() -> None:
    """A watermark would: seq 3 came by another way before 1 and 2."""
    known = Known("run")
    commit(known, entry(event(3)))
    _, verdicts = commit(known, entry(event(1), event(2)))
    assert counts(verdicts[0]) == (2, 0, 0)


def test_what_is_not_understood_is_refused_by_name_and_spoils_no_neighbour() -> None:
    known = Known("run")
    strange = {"seq": 2, "prev": 1, "type": "dance"}
    _, verdicts = commit(known, entry(event(1), strange, event(3)))
    assert counts(verdicts[0]) == (2, 0, 1)
    assert verdicts[0].refused[0].seq == 2
    assert "dance" in verdicts[0].refused[0].msg


def test_after_a_refusal_the_panel_asks_for_an_inventory() -> None:
    known = Known("run")
    _, verdicts = commit(known, entry({"seq": 1, "prev": 0, "type": "dance"}))
    token = verdicts[0].want_inventory
    assert token
    _, verdicts = commit(known, entry(inventory(2, 1, token)))
    assert verdicts[0].want_inventory == ""


def test_an_inventory_with_another_token_does_not_answer_the_question() -> None:
    known = Known("run")
    commit(known, entry(event(1)))
    known.want_all_inventories()
    _, verdicts = commit(known, entry(inventory(2, 1, "older")))
    assert verdicts[0].want_inventory == known.nodes["a"].wanted != ""


def test_a_message_without_a_place_fails_the_whole_report() -> None:
    known = Known("run")
    draft = Draft(known)
    with pytest.raises(MessageError):
        register(draft, Report("m", [entry({"type": "event"})]), 1.0)


def test_an_event_older_than_an_applied_inventory_is_registered_and_changes_nothing() -> None:
    known = Known("run")
    commit(known, entry(inventory(5, 4)))
    draft, verdicts = commit(known, entry(event(3)))
    assert counts(verdicts[0]) == (1, 0, 0)
    assert len(draft.events) == 1
    judgement = known.judgement(UUID)
    assert judgement is not None
    assert judgement.state is State.PAUSED


def test_nothing_is_known_before_the_draft_is_merged() -> None:
    known = Known("run")
    register(Draft(known), Report("m", [entry(event(1))]), 1.0)
    assert known == Known("run", tokens=1)  # a token that was given away is never given again


def test_a_savepoint_that_is_taken_back_leaves_no_trace_in_its_transaction() -> None:
    known = Known("run")
    transaction = Draft(known)
    kept, dropped = Draft(transaction), Draft(transaction)
    register(kept, Report("m", [entry(event(1))]), 1.0)
    kept.merge()
    register(dropped, Report("m", [entry(event(2))]), 1.0)
    later = Draft(transaction)
    verdicts = register(later, Report("m", [entry(event(1), event(2))]), 1.0)
    later.merge()
    transaction.merge()
    assert counts(verdicts[0]) == (1, 1, 0)
    assert known.keys["a", 5] == {1, 2}
    assert [row.seq for row in transaction.events] == [1, 2]


def test_an_old_epoch_without_activity_for_thirty_days_is_closed_and_refuses() -> None:
    known = Known("run")
    commit(known, entry(event(1)), now=0.0)
    commit(known, entry(event(1), epoch=6), now=1.0)
    _, verdicts = commit(known, entry(event(2)), now=EPOCH_CLOSES_S + 2)
    assert counts(verdicts[0]) == (0, 0, 1)
    assert verdicts[0].refused[0].object == "epoch"


def test_what_comes_without_an_epoch_is_never_of_a_closed_one() -> None:
    """`vm.event` without a key is registered under epoch 0, also after a quiet month."""
    known = Known("run")
    commit(known, entry(event(1), epoch=0), now=0.0)
    commit(known, entry(event(1), epoch=6), now=1.0)
    _, verdicts = commit(known, entry(event(2), epoch=0), now=EPOCH_CLOSES_S + 2)
    assert counts(verdicts[0]) == (1, 0, 0)


def test_a_status_that_is_no_text_is_not_kept() -> None:
    """It could not be stored, and every report with this node would fail."""
    known = Known("run")
    bad = entry(live=True)
    bad.status = Raw(b'{"uri":"\xff"}')
    commit(known, bad)
    assert known.nodes["a"].status == b""


def test_the_newest_epoch_stays_open_however_old() -> None:
    known = Known("run")
    commit(known, entry(event(1)), now=0.0)
    _, verdicts = commit(known, entry(event(2)), now=EPOCH_CLOSES_S * 2)
    assert counts(verdicts[0]) == (1, 0, 0)


def test_the_answer_names_the_newest_epoch_of_the_node() -> None:
    known = Known("run")
    commit(known, entry(epoch=9))
    _, verdicts = commit(known, entry(event(1), epoch=5))
    assert verdicts[0].newest_epoch == 9


def test_a_sign_of_life_is_committed_so_that_its_success_tells_a_poison_from_an_outage() -> None:
    known = Known("run")
    commit(known, entry(live=True), now=0.0)
    again, _ = commit(known, entry(live=True), now=5.0)
    nothing, _ = commit(known, now=6.0)
    assert (again.durable, nothing.durable) == (True, False)
    assert known.nodes["a"].seen == 5.0


def test_a_node_that_is_new_is_asked_for_an_inventory() -> None:
    """It may be new only to this panel: what it said was settled, and then a backup was restored."""
    known = Known("run")
    _, first = commit(known, entry(event(1)))
    _, second = commit(known, entry(inventory(2, 1, token=first[0].want_inventory)))
    assert (bool(first[0].want_inventory), second[0].want_inventory) == (True, "")


def test_messages_without_a_sign_of_life_do_not_make_a_node_look_alive() -> None:
    known = Known("run")
    commit(known, entry(event(1)), now=50.0)
    assert known.nodes["a"].seen == 0.0


@given(st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=5), max_size=20))
def test_however_messages_are_repeated_and_cut_into_reports_each_is_registered_once(reports: list[list[int]]) -> None:
    known = Known("run")
    registered: list[int] = []
    for seqs in reports:
        draft, verdicts = commit(known, entry(*(event(seq) for seq in seqs)))
        registered += [row.seq for row in draft.events]
        assert sum(counts(verdicts[0])) == len(seqs)
    assert sorted(registered) == sorted({seq for seqs in reports for seq in seqs})
