"""The promise under every fault, simulated: registered exactly once, in order per VM, and the picture is the truth."""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.cluster import Cluster, PromiseBroken, run_seeds

SEEDS = int(os.environ.get("VMWATCH_SEEDS", "600"))
CHUNK = 50


def _broken_of(first: int) -> list[str]:
    texts: list[str] = []
    run_seeds(range(first, min(first + CHUNK, SEEDS)), texts.append)
    return texts


def test_every_message_is_registered_once_and_the_picture_is_true_whatever_fails() -> None:
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        broken = [text for texts in pool.map(_broken_of, range(0, SEEDS, CHUNK)) for text in texts]
    assert not broken, "\n".join(broken[:5])


def test_a_seed_replays_exactly() -> None:
    def story(seed: int) -> tuple[int, list[object]]:
        cluster = Cluster(seed)
        cluster.run()
        return cluster.world.steps, list(cluster.panel.registered)

    assert story(7) == story(7)


def test_a_broken_promise_prints_the_command_that_replays_it() -> None:
    cluster = Cluster(3)
    cluster.run()
    cluster.panel.registered.pop()
    with pytest.raises(PromiseBroken, match=r"lost: .*\n.*python -m tests\.simulation\.cluster 3"):
        cluster.check()


def test_an_acknowledgement_on_receipt_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: a master that acknowledges what the panel has not committed loses events."""
    from vmwatch.shared.messages import Acknowledgement
    from vmwatch.supervisor.ledger import Ledger, NodeRecord

    honest = Ledger._acknowledgement

    def eager(self: Ledger, now: float, record: NodeRecord, epoch: int) -> Acknowledgement:
        ack = honest(self, now, record, epoch)
        ack.completed = ack.received
        return ack

    monkeypatch.setattr(Ledger, "_acknowledgement", eager)
    assert run_seeds(range(10), lambda text: None) > 0
