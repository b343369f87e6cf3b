"""Places at hypervisors: a simulated panel with healthy and hung nodes, in seconds of its own."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from vmwatch.panel.places import MOST_ON_NODE, MOST_QUICK, MOST_SLOW, Places, Ticket

SLOW_S = 10
LIMIT_S = 120
QUICK_S = 1
PAUSE_S = 5
"""A hung node is asked again so long after its last action was ended."""


@dataclass
class Cluster:
    """Time goes in seconds; `answers_s` says how long each node takes, None: for ever."""

    answers_s: dict[str, int | None]
    places: Places = field(default_factory=Places)
    now: int = 0
    asked: dict[Ticket, int] = field(default_factory=dict)
    begun: dict[Ticket, int] = field(default_factory=dict)
    again: list[tuple[int, str]] = field(default_factory=list)
    waits: dict[str, list[int]] = field(default_factory=dict)
    """By node: seconds from the question to the beginning."""

    @property
    def pending(self) -> set[str]:
        """Nodes that were asked for something and have not answered."""
        return {ticket.node for ticket in [*self.asked, *self.begun]} | {node for _, node in self.again}

    def ask(self, node: str) -> None:
        self.asked[self.places.ask(node)] = self.now

    def turn(self) -> None:
        due = [node for at, node in self.again if at <= self.now]
        self.again = [(at, node) for at, node in self.again if at > self.now]
        for node in due:
            self.ask(node)
        for ticket, begun in list(self.begun.items()):
            took, lasts = self.answers_s[ticket.node], self.now - begun
            if took is not None and lasts >= took:
                self._end(ticket)
            elif lasts >= LIMIT_S or ticket.ending:
                self._end(ticket)
                self.again.append((self.now + PAUSE_S, ticket.node))
            elif lasts >= SLOW_S and not ticket.spent:
                self.places.overstay(ticket)
        for ticket in self.places.settle()[0]:
            self.begun[ticket] = self.now
            self.waits.setdefault(ticket.node, []).append(self.now - self.asked.pop(ticket))
        self._check()
        self.now += 1

    def _end(self, ticket: Ticket) -> None:
        del self.begun[ticket]
        self.places.leave(ticket)

    def _check(self) -> None:
        assert sum(not ticket.slow for ticket in self.begun) <= MOST_QUICK
        assert sum(ticket.slow for ticket in self.begun) <= MOST_SLOW
        for node in self.answers_s:
            assert sum(ticket.node == node for ticket in self.begun) <= MOST_ON_NODE


@settings(max_examples=15, deadline=None)
@given(hung=st.integers(0, 60), healthy=st.integers(1, 20), each=st.integers(1, 4))
def test_hung_nodes_however_many_keep_a_healthy_one_waiting_for_seconds_and_only_once(
    hung: int, healthy: int, each: int
) -> None:
    answers: dict[str, int | None] = {f"hung-{number}": None for number in range(hung)}
    answers |= {f"good-{number}": QUICK_S for number in range(healthy)}
    cluster = Cluster(answers)
    for node in [node for node in answers if node.startswith("hung")] * each:
        cluster.ask(node)
    longest = 0
    for _ in range(200):
        for node in answers:
            if node.startswith("good") and not any(ticket.node == node for ticket in cluster.asked):
                cluster.ask(node)
        cluster.turn()
        longest = max(longest, *(cluster.now - at for t, at in cluster.asked.items() if t.node.startswith("good")), 0)
    # In the worst case all hung nodes have asked first: each of them is in the way once.
    first = (hung * MOST_ON_NODE // MOST_QUICK + 1) * (SLOW_S + 2) + 2 * healthy
    assert longest <= first
    # From then on nobody waits for a node that hangs.
    late = [wait for node, waits in cluster.waits.items() if node.startswith("good") for wait in waits[-20:]]
    assert max(late) <= QUICK_S * (healthy // MOST_QUICK + 2)


@settings(max_examples=15, deadline=None)
@given(hung=st.integers(1, 60))
def test_a_suspect_node_that_answers_again_need_not_wait_for_the_limit_of_those_that_hang(hung: int) -> None:
    nodes = [f"hung-{number}" for number in range(hung)] + ["back"]
    cluster = Cluster(dict.fromkeys(nodes))
    for node in nodes:
        cluster.ask(node)
    for _ in range(150):
        cluster.turn()
    cluster.answers_s["back"] = QUICK_S
    before = cluster.now
    for _ in range(LIMIT_S):
        cluster.turn()
        if "back" not in cluster.pending:
            break
    rounds = hung // MOST_SLOW + 1
    assert cluster.now - before <= rounds * (SLOW_S + 2) + PAUSE_S + SLOW_S


def test_a_slow_action_is_left_alone_while_nobody_wants_its_place() -> None:
    cluster = Cluster({"slow": 60, "good": QUICK_S})
    cluster.ask("slow")
    for second in range(100):
        if second % 3 == 0:
            cluster.ask("good")
        cluster.turn()
    assert cluster.again == []
    assert "slow" not in cluster.pending


def test_one_that_is_withdrawn_while_it_waits_takes_no_place() -> None:
    places = Places(quick=1)
    first, second, third = (places.ask(name) for name in "abc")
    assert places.settle() == ([first], [])
    places.leave(second)
    assert places.settle() == ([], [])
    places.leave(first)
    assert places.settle() == ([third], [])
