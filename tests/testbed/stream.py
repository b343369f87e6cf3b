"""A stream of events of which each is one of its kind, so that a lost, doubled or displaced one can be named."""

import threading
from collections import Counter
from itertools import pairwise
from types import TracebackType
from typing import Self

from tests.testbed.stack import Row
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

LIFE = (("defined", "added"), ("started", "booted"), ("stopped", "destroyed"), ("undefined", "removed"))
"""What libvirt tells of each VM of the stream, which lives once under a name of its own."""
PAUSE_S = 0.02
"""Between two VMs: some two hundred events a second, which a busy machine keeps up with."""

Told = tuple[str, str, str]
"""VM, event, detail."""


class Stream:
    """VMs that live one after the other, each from its definition to its end, while the `with` block runs."""

    def __init__(self, daemon: TestDriverDaemon) -> None:
        self.lives = 0
        """VMs that have lived."""
        self._daemon = daemon
        self._ending = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Let the present VM live to its end; no more after it."""
        self._ending.set()
        self._thread.join(60)
        if self._failure is not None:
            raise self._failure

    def more(self, count: int) -> None:
        """Wait until so many more VMs have lived."""
        goal = self.lives + count
        wait_until(lambda: self._failure or self.lives >= goal, f"{count} more lives of the stream")

    @property
    def told(self) -> list[Told]:
        """Everything that libvirt has told so far, in its order."""
        return [(f"s{number:06d}", *step) for number in range(self.lives) for step in LIFE]

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                domain = self._daemon.define(f"s{self.lives:06d}")
                domain.create()
                domain.destroy()
                domain.undefine()
                self.lives += 1
                self._ending.wait(PAUSE_S)
        except BaseException as error:  # told by `end`, in the thread of the test
            self._failure = error


def in_nodes_order(rows: list[Row]) -> list[Row]:
    """Rows of the event log as the node numbered them."""
    return sorted(rows, key=lambda row: (int(row["epoch"]), int(row["seq"])))


def told_by(rows: list[Row]) -> list[Told]:
    """What rows of the event log say."""
    return [(row["name"], row["event"], row["detail"]) for row in rows]


def assert_none_twice_and_in_order(rows: list[Row]) -> None:
    """No row's key twice, and each VM's rows in the node's order; `rows`: in the order of their registration."""
    keys = Counter((row["node"], row["epoch"], row["seq"]) for row in rows)
    assert {key: count for key, count in keys.items() if count > 1} == {}
    last: dict[str, tuple[int, int]] = {}
    for row in rows:
        place = (int(row["epoch"]), int(row["seq"]))
        assert last.get(row["uuid"], (0, 0)) < place, f"out of order: {row}"
        last[row["uuid"]] = place


def assert_whole(rows: list[Row], stream: Stream) -> None:
    """All that libvirt told is registered, once, in order."""
    assert_none_twice_and_in_order(rows)
    assert told_by(in_nodes_order(rows)) == stream.told


def assert_whole_within_runs(rows: list[Row], stream: Stream) -> None:
    """As `assert_whole`, for an agent that was away at times: of what was told while it ran, nothing is missing.

    Within one epoch, one run of the agent, there is no gap; each event belongs to one run only.
    """
    assert_none_twice_and_in_order(rows)
    index = {told: number for number, told in enumerate(stream.told)}
    ordered = in_nodes_order(rows)
    places = [(row["epoch"], index[told]) for row, told in zip(ordered, told_by(ordered), strict=True)]
    for (epoch, place), (next_epoch, next_place) in pairwise(places):
        if epoch == next_epoch:
            assert next_place == place + 1, f"in epoch {epoch} {next_place - place - 1} are missing after {place}"
        else:
            assert next_place > place
