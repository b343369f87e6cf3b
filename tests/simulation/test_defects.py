"""The simulation can fail: each of these deliberate defects breaks the promise in it.

A defect is put into the real code; then seeds are run until one breaks. That none of them breaks without a
defect is what test_promise.py shows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace as replaced

from tests.simulation import node as simulated_node
from tests.simulation import worker as simulated_worker
from tests.simulation.seeds import run
from vmwatch.node.sender import Answered, Held, Sender
from vmwatch.panel import registration, rules
from vmwatch.panel.knowledge import Known
from vmwatch.shared.messages import Acknowledgement, Envelope, Inventory
from vmwatch.supervisor.dispatcher import Dispatcher
from vmwatch.supervisor.ledger import Entry, Ledger, NodeRecord, Stream
from vmwatch.workers.batcher import FAILURES_ALLOWED, Batcher, CallResult, Job, Outcome, Settlement
from vmwatch.workers.transport import Reply

TRIED_MOST = 3000
"""Seeds. Most defects break one of the first ten, the rarest one of a thousand."""


def assert_caught(first: int = 0) -> None:
    """Some seed breaks the promise; an exception of another kind would be a mistake in the defect itself.

    `first`: where to begin, so that a rare one is not searched for again at each test.
    """
    broken = next(filter(None, map(run, range(first, first + TRIED_MOST))), None)
    assert broken is not None, f"{TRIED_MOST} seeds, and none is broken"
    assert broken.by_promise, str(broken)
    print(broken)


def delivered(jobs: Sequence[Job]) -> CallResult:
    return CallResult([Outcome.DELIVERED] * len(jobs))


def test_acknowledged_on_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Ledger._acknowledgement

    def eager(self: Ledger, now: float, record: NodeRecord, epoch: int) -> Acknowledgement:
        ack = honest(self, now, record, epoch)
        return replaced(ack, completed=ack.received)

    monkeypatch.setattr(Ledger, "_acknowledgement", eager)
    assert_caught()


def test_deleted_on_send(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = simulated_node.SimNode._send

    def forgetful(self: simulated_node.SimNode, body: bytes) -> None:
        honest(self, body)
        held = self.outbox.held()
        self.outbox.complete(held.epoch, self.sender.first_unsent(held.epoch) - 1)

    monkeypatch.setattr(simulated_node.SimNode, "_send", forgetful)
    assert_caught()


def test_marks_advanced_past_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Ledger._accept

    def greedy(self: Ledger, record: NodeRecord, stream: Stream, head: Any, raw: bytes) -> Entry | None:  # noqa: ANN401
        return honest(self, record, stream, replaced(head, prev=0), raw)

    monkeypatch.setattr(Ledger, "_accept", greedy)
    assert_caught()


def test_marks_kept_per_node_instead_of_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Ledger._stream

    def shared(self: Ledger, now: float, record: NodeRecord, envelope: Envelope) -> Stream | None:
        key = (record.name, envelope.epoch)
        fresh = key not in self.streams
        stream = honest(self, now, record, envelope)
        if fresh and stream is not None:
            others = [other for other in self.streams.values() if other.node == record.name]
            stream.received = max(other.received for other in others)
            stream.completed = max(other.completed for other in others)
        return stream

    monkeypatch.setattr(Ledger, "_stream", shared)
    assert_caught()


def test_an_inventorys_own_seq_as_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = rules.after_inventory

    def late(claims: Any, floor: Any, epoch: int, inventory: Inventory, *rest: Any) -> Any:  # noqa: ANN401
        return honest(claims, floor, epoch, replaced(inventory, as_of=inventory.seq), *rest)

    monkeypatch.setattr(registration, "after_inventory", late)
    assert_caught()


def test_a_snapshot_applied_blindly(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = rules.after_inventory

    def blind(claims: Any, floor: Any, epoch: int, inventory: Inventory, *rest: Any) -> Any:  # noqa: ANN401
        old = {uuid: replaced_claim(claim) for uuid, claim in claims.items()}
        return honest(old, rules.NOTHING, epoch, inventory, *rest)

    def replaced_claim(claim: rules.Claim) -> rules.Claim:
        return rules.Claim(claim.state, claim.name, rules.NOTHING, claim.since, claim.turn)

    monkeypatch.setattr(registration, "after_inventory", blind)
    assert_caught()


def test_a_watermark_instead_of_keys_for_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_watermark(self: Known, key: tuple[str, int], seqs: Iterable[int]) -> set[int]:
        watermark = max(self.keys.get(key, ()), default=0)
        return {seq for seq in seqs if seq > watermark}

    monkeypatch.setattr(Known, "unknown", by_watermark)
    assert_caught()


def outcome_with(monkeypatch: pytest.MonkeyPatch, believes: Any) -> None:  # noqa: ANN401
    """Workers take an answer for a success if `believes(reply)`."""
    honest = simulated_worker.outcome

    def credulous(jobs: list[Job], reply: Reply | None) -> tuple[CallResult, list[Any]]:
        if reply is not None and believes(reply):
            return delivered(jobs), []
        return honest(jobs, reply)

    monkeypatch.setattr(simulated_worker, "outcome", credulous)


def test_4xx_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome_with(monkeypatch, lambda reply: 400 <= reply.status < 500)
    assert_caught()


def test_unparsable_200_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome_with(monkeypatch, lambda reply: reply.status == 200 and not reply.body.endswith(b"}"))
    assert_caught()


def test_dispatch_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Dispatcher.add

    def scattered(self: Dispatcher, entries: list[Entry]) -> None:
        for entry in entries:
            entry.lane = f"message {entry.id}"
        honest(self, entries)

    monkeypatch.setattr(Dispatcher, "add", scattered)
    assert_caught()


def test_a_late_result_of_a_replaced_worker_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Dispatcher.done

    def owned(self: Dispatcher, generation: int, entry_id: int) -> Entry | None:
        for worker in self._workers.values():
            if entry_id in worker.in_hand:
                return worker.in_hand[entry_id].entry
        return None

    def done(self: Dispatcher, generation: int, entry_id: int, success: bool) -> None:
        holder = next(worker.generation for worker in self._workers.values() if entry_id in worker.in_hand)
        honest(self, holder, entry_id, success)

    monkeypatch.setattr(Dispatcher, "owned", owned)
    monkeypatch.setattr(Dispatcher, "done", done)
    assert_caught(first=1200)


def test_resent_without_base(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Sender.compose

    def baseless(self: Sender, now: float, wall: float, held: Held, *rest: Any, **more: Any) -> bytes:  # noqa: ANN401
        body = honest(self, now, wall, held, *rest, **more)
        return body.replace(b'"base":%d,' % held.base, b'"base":1,', 1)

    monkeypatch.setattr(Sender, "compose", baseless)
    assert_caught()


def test_received_kept_across_masters(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Sender.acknowledged

    def faithful(self: Sender, now: float, ack: Acknowledgement) -> Answered:
        received = self.received or 0
        answered = honest(self, now, ack)
        self.received = max(received, self.received or 0)
        return answered

    monkeypatch.setattr(Sender, "acknowledged", faithful)
    assert_caught()


def test_refused_during_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: Batcher, now: float, job: Job, settlement: Settlement) -> None:
        self._good += FAILURES_ALLOWED
        honest(self, now, job, settlement)

    honest = Batcher._failed_alone
    monkeypatch.setattr(Batcher, "_failed_alone", hasty)
    assert_caught()


def test_the_epoch_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = rules.after_event

    def flat(claim: Any, floor: Any, place: Any, event: Any, *rest: Any) -> Any:  # noqa: ANN401
        """Compares seqs alone."""
        if claim is not None and place[1] <= claim.mark[1]:
            return None
        return honest(claim, floor, place, event, *rest)

    monkeypatch.setattr(registration, "after_event", flat)
    assert_caught()
