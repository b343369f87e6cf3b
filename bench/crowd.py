"""Agents in processes of their own, as many in each as one core can run; the parent tells them what to do.

The child (`python -m bench.crowd`) reads orders from its standard input, one JSON document in a line, and answers each
on its standard output. It ends when its input does.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import zmq
from msgspec import Struct

from bench.agent import Account, AgentPlan, BenchAgent, Source
from tests.testbed.waiting import wait_until
from vmwatch.node.wakeup import Wakeup

TURN_MOST_S = 1.0
TICK_S = 0.001
"""How exactly the made-up sources keep their times."""


class Order(Struct):
    """`plans`: agents to start; `rates`: events per second by node, from now on."""

    plans: list[AgentPlan] = []
    rates: dict[str, float] = {}


class Accounts(Struct):
    """The answer to each order, by node."""

    nodes: dict[str, Account]


class _Child:
    """The process with agents: one loop for all of them, and one thread that is all their sources."""

    def __init__(self) -> None:
        self._agents: dict[str, BenchAgent] = {}
        self._poller = zmq.Poller()
        self._wakeup = Wakeup()
        self._input = b""
        self._lock = threading.Lock()
        self._obeyed = threading.Event()
        self._paced: list[Source] = []
        """Those that let events happen at a rate of their own."""

    def run(self) -> None:
        self._poller.register(self._wakeup.fd, zmq.POLLIN)
        self._poller.register(sys.stdin.fileno(), zmq.POLLIN)
        threading.Thread(target=self._happen, daemon=True).start()
        while True:
            now = time.monotonic()
            at = min([now + TURN_MOST_S, *(agent.due_at for agent in self._agents.values())])
            ready = dict(self._poller.poll(max(0, int((at - now) * 1000 + 0.999))))
            self._wakeup.drain()
            if sys.stdin.fileno() in ready and not self._obey():
                break
            for agent in self._agents.values():
                agent.turn()
        for agent in self._agents.values():
            agent.close()

    def _obey(self) -> bool:
        """Do what the parent says; False if it says nothing any more."""
        data = os.read(sys.stdin.fileno(), 1 << 16)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            order = msgspec.json.decode(line, type=Order)
            with self._lock:
                for plan in order.plans:
                    self._agents[plan.node] = BenchAgent(plan, self._poller)
                for node, rate in order.rates.items():
                    self._agents[node].source.set_rate(rate, time.monotonic())
                self._paced = [agent.source for agent in self._agents.values() if agent.source.rate > 0]
            self._obeyed.set()
            accounts = Accounts({node: agent.account() for node, agent in self._agents.items()})
            sys.stdout.buffer.write(msgspec.json.encode(accounts) + b"\n")
            sys.stdout.buffer.flush()
        return bool(data)

    def _happen(self) -> None:
        """In libvirt's thread's place."""
        while True:
            with self._lock:
                paced, now, wall = self._paced, time.monotonic(), time.time()
                happened = [source.happen(now, wall) for source in paced]
            if any(happened):
                self._wakeup.wake()
            if paced:
                time.sleep(TICK_S)
            else:  # it would only take the interpreter from the agents' loop
                self._obeyed.wait()
                self._obeyed.clear()


class Crowd:
    """A child with its agents. `orders` are answered with the accounts of all of them."""

    def __init__(self, plans: Sequence[AgentPlan]) -> None:
        self._plans = list(plans)
        self._delays_ms: dict[str, list[float]] = {plan.node: [] for plan in plans}

    def __enter__(self) -> Self:
        for plan in self._plans:
            Path(plan.prefix).joinpath("var").mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.crowd"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self._tell(Order(plans=self._plans))
            wait_until(
                lambda: all(account.connected for account in self.accounts().values()), "the agents to be connected"
            )
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def nodes(self) -> list[str]:
        return [plan.node for plan in self._plans]

    def pace(self, rate: float, nodes: Iterable[str] = ()) -> None:
        """From now on so many events per second of each of `nodes` (of all, if none are named)."""
        self._tell(Order(rates=dict.fromkeys(nodes or self.nodes, rate)))

    def accounts(self) -> dict[str, Account]:
        """By node."""
        return self._tell(Order()).nodes

    def delays_ms(self, node: str) -> list[float]:
        """From when each event happened to its acknowledgement, since the last time; not at full pace."""
        self.accounts()
        taken, self._delays_ms[node] = self._delays_ms[node], []
        return taken

    def added(self) -> int:
        """Events that were written into outboxes."""
        return sum(account.added for account in self.accounts().values())

    def acknowledged(self) -> int:
        """Events that the panel has, as far as the agents know."""
        return sum(account.acknowledged for account in self.accounts().values())

    def depth(self) -> int:
        """Messages in all outboxes."""
        return sum(account.depth for account in self.accounts().values())

    def wait_drained(self, timeout_s: float = 600) -> None:
        """Until every outbox is empty."""
        wait_until(lambda: self.depth() == 0, "the outboxes to drain", timeout_s)

    def _tell(self, order: Order) -> Accounts:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the process with {', '.join(self.nodes)} has ended")
        accounts = msgspec.json.decode(line, type=Accounts)
        for node, account in accounts.nodes.items():
            self._delays_ms[node] += account.delays_ms
        return accounts

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s")
    _Child().run()
