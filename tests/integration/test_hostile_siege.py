"""Attackers at the real sockets of a real master, with a real panel behind it and a genuine node beside them."""

import contextlib
import time
from pathlib import Path

import psutil

from bench.hostility.__main__ import GROWTH_MOST_MB, LEAST_RATIO
from bench.hostility.endless import EndlessMessage
from bench.hostility.siege import Overheard, RanDry, Siege, SiegeResult
from tests.testbed.stack import Stack
from tests.testbed.waiting import wait_until

MILLION = 1_000_000
MEGABYTE = 1024 * 1024
MODES = ["outsider", "insider"]
EVENTS = (100_000, 300_000)
"""Of the genuine node: it must not be through with them while it is measured."""


def besieged(folder: Path) -> SiegeResult:
    """With as few events as are enough on this machine: all that the windows leave has to be delivered too."""
    for events in EVENTS[:-1]:
        with contextlib.suppress(RanDry):
            return Siege(folder / str(events), MODES, seed=1, events=events).run(rounds=3, window_s=0.5)
    return Siege(folder / "most", MODES, seed=1, events=EVENTS[-1]).run(rounds=3, window_s=0.5)


def test_two_attackers_leave_a_genuine_node_more_than_half_of_its_rate_and_nothing_behind(short_path: Path) -> None:
    result = besieged(short_path)
    assert result.wrong == []
    assert min(result.sent) > 0
    assert result.rejected > 0
    assert result.ratio >= LEAST_RATIO, result
    assert result.rss_peak_mb - result.rss_before_mb < GROWTH_MOST_MB


def test_a_message_that_never_ends_costs_memory_and_nothing_else(stack: Stack) -> None:
    """What libzmq cannot bound, as docs/operations.md says; if this fails because nothing grows, say so there."""
    master = psutil.Process(stack.master.pid)
    before = master.memory_info().rss
    with EndlessMessage(stack.port) as endless:

        def grown() -> bool:
            endless.send(MILLION // 4)
            return master.memory_info().rss - before > 32 * MEGABYTE

        wait_until(grown, "the master's memory to grow")
        _live(stack, "kvm-1")
    wait_until(lambda: stack.master.status.get("rejects"), "the master's status")
    _live(stack, "kvm-2")
    assert stack.master.status["rejects"]["by_reason"] == {}
    assert {row["name"] for row in stack.panel.rows("vmhostnode")} == {"kvm-1", "kvm-2"}


def _live(stack: Stack, name: str) -> None:
    """A genuine node comes, is heard, and goes."""
    node = Overheard(stack.port, name)
    try:
        node.live(lambda: any(row["name"] == name for row in stack.panel.rows("vmhostnode")))
        assert node.speaker.completed == node.speaker.seq
        assert node.speaker.heard is not None
    finally:
        node.close()


def test_a_recording_of_a_dead_node_does_not_bring_it_back_to_life(stack: Stack) -> None:
    node = Overheard(stack.port, "kvm-1")
    try:
        node.live(lambda: _state(stack, "kvm-1") == "active")
        wait_until(lambda: _state(stack, "kvm-1") == "silent", "the node to be dead")
        rows, events = stack.panel.rows("vmhostnode"), stack.panel.events()
        for restart in (False, True):
            if restart:
                stack.master.restart_after_kill()
            begun = time.monotonic()
            while time.monotonic() - begun < 6.0:  # longer than signs of life may take to the panel
                node.repeat(node.frames)
                assert _state(stack, "kvm-1") == "silent"
            assert stack.master.status["nodes"]["kvm-1"]["alive"] is False
        assert stack.panel.rows("vmhostnode") == rows
        assert stack.panel.events() == events
    finally:
        node.close()


def _state(stack: Stack, node: str) -> str:
    return next((row["state"] for row in stack.panel.rows("vmhostnode") if row["name"] == node), "")
