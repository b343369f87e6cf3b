"""Nodes of a cluster that tell the real panel core what happens on them, message by message, in any order."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Raw

from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.problems import Problem
from vmwatch.panel.registration import register
from vmwatch.panel.rules import Judgement
from vmwatch.panel.watch import Watch
from vmwatch.shared.report import Report, ReportEntry
from vmwatch.shared.states import State, state_of_event

UUID = "8e0d1b34-5f5d-4ac1-9c1e-2f9d3a1b7c55"
EPOCH = 7


@dataclass
class Node:
    """A node's agent: gives each message its place."""

    name: str
    seq: int = 0
    epoch: int = EPOCH

    def event(self, name: str, detail: str = "", uuid: str = UUID, vm: str = "web") -> dict[str, Any]:
        state = state_of_event(name)
        told = {} if state is None else {"state": state.value}
        subject = {"uuid": uuid, "name": vm}
        return self._placed({"type": "event", "vm": subject, "event": name, "detail": detail, **told})

    def inventory(self, *domains: dict[str, Any], as_of: int | None = None, token: str = "") -> dict[str, Any]:
        seen = self.seq if as_of is None else as_of
        return self._placed({"type": "inventory", "as_of": seen, "token": token, "domains": list(domains)})

    def _placed(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.seq += 1
        return {"seq": self.seq, "prev": self.seq - 1, "time": 1000.0 + self.seq, **fields}


def domain(state: str, uuid: str = UUID, name: str = "web", **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """An entry of an inventory."""
    return {"uuid": uuid, "name": name, "state": state, **fields}


@dataclass
class Cluster:
    """The panel, and its clocks (seconds)."""

    known: Known = field(default_factory=lambda: Known("run"))
    now: float = 5000.0
    wall_ahead_s: float = 1_760_000_000.0
    interval_s: float = 10.0

    def __post_init__(self) -> None:
        self.watch = Watch(self.now)

    @property
    def wall(self) -> float:
        return self.now + self.wall_ahead_s

    def hear(self, node: Node, *messages: dict[str, Any], live: bool = True, epoch: int = 0, **fields: Any) -> None:  # noqa: ANN401
        """A report with these messages, and by default a sign of life."""
        raws = [Raw(json.dumps(message).encode()) for message in messages]
        entry = ReportEntry(
            node.name, epoch or node.epoch, 1, live=live, interval=self.interval_s, messages=raws, **fields
        )
        self.report(entry)

    def report(self, *entries: ReportEntry) -> None:
        """What a master posts."""
        draft = Draft(self.known)
        register(draft, Report("m", list(entries)), self.wall)
        self.watch.reported(self.now, [(entry.node, entry.epoch) for entry in entries if entry.live])
        self._commit(draft)

    def turn(self, seconds: float = 0.0, each: Callable[[], None] = lambda: None) -> None:
        """Time passes, a second at a time, and the panel judges; `each` is done before each of its turns."""
        until = self.now + seconds
        while True:
            each()
            self.judge()
            if self.now >= until:
                return
            self.now += 1.0

    def judge(self) -> Draft:
        """One turn of the panel, and what it changes."""
        draft = Draft(self.known)
        self.watch.turn(draft, list(self.known.nodes), self.now, self.wall, str)
        self._commit(draft)
        return draft

    def _commit(self, draft: Draft) -> None:
        draft.merge()
        self.watch.duplicates.touch(uuid for uuid, _ in [*draft.claims, *draft.devices])

    def wanted(self, node: Node) -> str:
        """The token of the inventory that the panel wants of a node."""
        return self.known.nodes[node.name].wanted

    def list_if_wanted(self, node: Node, *domains: dict[str, Any]) -> bool:
        """The node answers the panel's wish, if it has one."""
        token = self.wanted(node)
        if token:
            self.hear(node, node.inventory(*domains, token=token))
        return bool(token)

    def judged(self, uuid: str = UUID) -> Judgement | None:
        return self.known.judgement(uuid)

    def state(self, uuid: str = UUID) -> State:
        """The VM's state; absent if there is none."""
        judged = self.judged(uuid)
        return State.ABSENT if judged is None else judged.state

    def place(self, uuid: str = UUID) -> tuple[str, str]:
        """(node, state)."""
        judged = self.judged(uuid)
        return ("", State.ABSENT.value) if judged is None else (judged.node, judged.state.value)

    def problems(self, kind: str) -> list[Problem]:
        """Open problems of a type."""
        return [one for one in self.known.problems.values() if one.type == kind and one.is_open]
