"""Places for actions at hypervisors: so many at a time, and none that a hung node keeps from another. No I/O.

An action that has lasted for some seconds (`overstay`) leaves its place among the quick ones for one among the slow,
and its node is suspect until an action of it ends in time: its actions then take slow places only, one at a time. So
hung nodes are in the way of others for those seconds once, however many they are. A slow action whose seconds are over
is ended where another one wants its place: a suspect node that answers again need not wait for those that hang. Who
asks for actions does them again, so that ends nothing for good.
"""

from collections import Counter
from dataclasses import dataclass

MOST_QUICK = 16
MOST_SLOW = 16
MOST_ON_NODE = 2
"""At a time, so that one node with many installations does not take all places; on a suspect one: 1."""


@dataclass(eq=False)
class Ticket:
    """An action that waits or is under way. `spent`: its seconds are over; `ending`: it is being ended."""

    node: str
    slow: bool = False
    spent: bool = False
    ending: bool = False


class Places:
    """Who has which place, and who waits, in the order in which they asked."""

    def __init__(self, quick: int = MOST_QUICK, slow: int = MOST_SLOW) -> None:
        self._room = {False: quick, True: slow}
        self._waiting: list[Ticket] = []
        self._placed: list[Ticket] = []
        """Under way; of the slow ones the first has been so longest."""
        self._suspects: set[str] = set()

    def ask(self, node: str) -> Ticket:
        """An action wants a place; `settle` says when it has one."""
        ticket = Ticket(node)
        self._waiting.append(ticket)
        return ticket

    def overstay(self, ticket: Ticket) -> None:
        """It has been under way for the seconds that a quick one may take."""
        ticket.spent = True
        self._suspects.add(ticket.node)

    def leave(self, ticket: Ticket) -> None:
        """It has ended, or does not wait any more."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            return
        self._placed.remove(ticket)
        if not ticket.spent:
            self._suspects.discard(ticket.node)

    def settle(self) -> tuple[list[Ticket], list[Ticket]]:
        """After each change: (those that begin now, those to be ended)."""
        self._move()
        begun, able = self._begin()
        # Whoever could begin if there were a place wants a slow one: for itself, or for a quick one that has
        # overstayed and would go there.
        overdue = sum(ticket.spent and not ticket.slow for ticket in self._placed)
        wanted = sum(self._is_suspect(ticket) for ticket in able)
        wanted += min(overdue, len(able) - wanted)
        slow = [ticket for ticket in self._placed if ticket.slow]
        wanted -= sum(ticket.ending for ticket in slow)
        ended = [ticket for ticket in slow if ticket.spent and not ticket.ending][: max(0, wanted)]
        for ticket in ended:
            ticket.ending = True
        return begun, ended

    def _move(self) -> None:
        for ticket in [ticket for ticket in self._placed if ticket.spent and not ticket.slow]:
            if self._has_room(slow=True):
                ticket.slow = True
                self._placed.remove(ticket)
                self._placed.append(ticket)

    def _begin(self) -> tuple[list[Ticket], list[Ticket]]:
        """(those that begin, those that wait for a place alone and not for an action of their own node)"""
        held = Counter(ticket.node for ticket in self._placed)
        begun, able = [], []
        for ticket in self._waiting:
            slow = self._is_suspect(ticket)
            held[ticket.node] += 1
            if held[ticket.node] > (1 if slow else MOST_ON_NODE):
                continue
            if self._has_room(slow=slow):
                ticket.slow = slow
                self._placed.append(ticket)
                begun.append(ticket)
            else:
                able.append(ticket)
        self._waiting = [ticket for ticket in self._waiting if ticket not in begun] if begun else self._waiting
        return begun, able

    def _is_suspect(self, ticket: Ticket) -> bool:
        return ticket.node in self._suspects

    def _has_room(self, *, slow: bool) -> bool:
        return sum(ticket.slow is slow for ticket in self._placed) < self._room[slow]
