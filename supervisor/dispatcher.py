"""The dispatcher core: which worker gets which message, in an order that holds for each VM (design 01, *Order*).

No socket, process or clock. Messages of one *lane* (a VM's events; a node's other messages) go to one worker, in
order, as long as anything of the lane is waiting or in a worker's hands. Nodes take turns, so that one node's backlog
does not stand before another's fresh events; within a node the oldest message goes first.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from vmwatch.shared.messages import MAX_BATCH_BYTES
from vmwatch.supervisor.ledger import Entry

DEATHS_ALLOWED = 3
"""A message in whose calls so many workers died, while other messages succeeded in between, is refused."""

LANES_IN_HAND = 8
"""A lane has at most such a part of a worker's hand."""
BACKLOG = 100
"""A node with so many messages waiting has a backlog; the others are *brisk*."""
RUN = 30
"""So many messages of a backlog go one after another. Those of fifty nodes in turn, one each, would make a call's every
message a node's entry in the report, an acknowledgement and a deletion of its own."""
SHORT_HAND = 100
"""Beside brisk nodes a worker holds so many messages of backlogs: its calls are short, and soon over."""
HELPING_HAND = 5
"""And the worker that is spared for them so many, so that it is not idle while they say nothing."""
SPARED_FOR = 20_000
"""After a message of a brisk node, that is how many messages long they are spared for."""
SPARED_MOST = 50
"""Messages that the spared worker may hold before the others help it."""


@dataclass(slots=True, eq=False)
class _Item:
    entry: Entry
    deaths: int = 0
    successes_at_death: int = -1


@dataclass(slots=True, eq=False)
class _Lane:
    node: str
    waiting: deque[_Item] = field(default_factory=deque)
    in_hand: int = 0
    generation: int | None = None
    place: object = None
    """The heap, or the suspects, where workers find it; an entry elsewhere is stale. None: it is offered nowhere."""

    @property
    def first_id(self) -> int:
        return self.waiting[0].entry.id


_Heap = list[tuple[int, _Lane]]


@dataclass(slots=True, eq=False)
class _Worker:
    generation: int
    in_hand: dict[int, _Item] = field(default_factory=dict)
    bytes_in_hand: int = 0
    bound: dict[str, _Heap] = field(default_factory=dict)
    """Lanes of this worker that have something waiting, by node."""
    lanes: int = 0
    """How many are bound to it."""
    successes: int = 0
    asked: bool = True
    """It was asked what it can take since the others were last kept from what is for it."""
    suspect: int | None = None
    """The suspect among what it holds: never more than one, so that two of them cannot be blamed for each other."""


class Dispatcher:
    """Hands messages to workers, each known by the generation of its incarnation."""

    def __init__(self, most_in_hand: int, most_bytes_in_hand: int = 2 * MAX_BATCH_BYTES) -> None:
        self._most_in_hand = most_in_hand
        self._most_bytes = most_bytes_in_hand
        # What waits behind a message that fails must leave room for others: only their success tells it from an outage.
        self._most_of_lane = max(1, most_in_hand // LANES_IN_HAND)
        self._workers: dict[int, _Worker] = {}
        self._lanes: dict[str, _Lane] = {}
        self._free: dict[str, _Heap] = {}
        self._suspects: deque[_Lane] = deque()
        """Lanes whose first message was in the hands of a worker that died: they are tried one at a time."""
        self._turns: deque[str] = deque()
        self._nodes: set[str] = set()
        self._successes = 0
        self._depths: Counter[str] = Counter()
        """Messages waiting, by node."""
        self._backlogs: set[str] = set()
        self._spared_for = 0
        self.waiting = 0

    @property
    def workers(self) -> Collection[int]:
        """Generations of the workers that are there."""
        return self._workers.keys()

    def in_hand(self, generation: int) -> int:
        """Messages that this worker holds."""
        worker = self._workers.get(generation)
        return len(worker.in_hand) if worker else 0

    def worker_ready(self, generation: int) -> None:
        """A new worker takes part."""
        self._workers[generation] = _Worker(generation)

    def add(self, entries: Iterable[Entry]) -> None:
        """New messages, in their order."""
        for entry in entries:
            self.waiting += 1
            lane = self._lanes.get(entry.lane)
            if lane is None:
                lane = self._lanes[entry.lane] = _Lane(entry.stream.node)
            lane.waiting.append(_Item(entry))
            self._count(lane.node, 1)
            if self._backlogs and lane.node not in self._backlogs:
                self._spared_for = SPARED_FOR
            self._offer(lane)

    def take(self, generation: int) -> list[Entry]:
        """What this worker shall get now; it then holds these until `done` or `worker_lost`."""
        worker = self._workers[generation]
        worker.asked = True
        if self._suspects and self._tries_suspects(worker):
            # By itself: a worker with nothing else to do then calls with it alone.
            return [self._hand_suspect(worker)]
        taken: list[Entry] = []
        idle_turns = 0
        not_ours = self._not_ours(worker) if self._spared_for else _nobodys
        while idle_turns < len(self._turns) and self._has_room(worker):
            node = self._turns[0]
            self._turns.rotate(-1)
            before = len(taken)
            most = before + (RUN if node in self._backlogs else 1)
            while len(taken) < most and self._has_room(worker) and not not_ours(node):
                lane = self._next_lane(worker, node)
                if lane is None:
                    break
                taken.append(self._hand(worker, lane))
            idle_turns = 0 if len(taken) > before else idle_turns + 1
        return taken

    def owned(self, generation: int, entry_id: int) -> Entry | None:
        """The message if this worker holds it: what another says of it counts for nothing."""
        worker = self._workers.get(generation)
        item = worker.in_hand.get(entry_id) if worker else None
        return item.entry if item else None

    def done(self, generation: int, entry_id: int, success: bool) -> None:
        """The worker has settled the message; `success`: the panel took it."""
        worker = self._workers[generation]
        item = worker.in_hand.pop(entry_id)
        worker.bytes_in_hand -= item.entry.size
        if entry_id == worker.suspect:
            worker.suspect = None
        self._successes += success
        worker.successes += success
        lane = self._lanes[item.entry.lane]
        lane.in_hand -= 1
        if not lane.in_hand:
            # Nothing of it is in flight: whoever has time takes the rest.
            self._bind(lane, None)
            if not lane.waiting:
                del self._lanes[item.entry.lane]
                return
            if lane.place is not self._suspects:
                lane.place = None
        self._offer(lane)

    def witness(self) -> None:
        """The panel has committed something beside these messages.

        Without such a word a message that always fails would stay for ever where nothing else comes: its node's
        window is full, or its epoch is an earlier one and the next waits for it.
        """
        self._successes += 1

    def elsewhere(self, generation: int) -> int:
        """What the panel has committed in all at others' calls: it tells this worker a poison from an outage."""
        worker = self._workers.get(generation)
        return self._successes - (worker.successes if worker else 0)

    def worker_lost(self, generation: int, calling: Collection[int] = (), crashed: bool = True) -> list[Entry]:
        """The worker died: all that it held goes out again, in order, to any worker.

        `calling`: ids of the messages in its last call, as far as it could still say; they, or all that it held, are
        suspects and go out one at a time from now on. With `crashed` false it ended in order, which is no message's
        fault. Returns those that are refused now: too many workers died of them.
        """
        worker = self._workers.pop(generation, None)
        if worker is None:
            return []
        suspects = {id_ for id_ in calling if id_ in worker.in_hand} or set(worker.in_hand)
        if not crashed:
            suspects = set()
        refused = []
        back: dict[str, list[_Item]] = {}
        for item in worker.in_hand.values():
            lane = self._lanes[item.entry.lane]
            lane.in_hand -= 1
            if item.entry.id in suspects and self._strike(item):
                refused.append(item.entry)
            else:
                back.setdefault(item.entry.lane, []).append(item)
        for name, items in back.items():
            items.sort(key=lambda item: item.entry.id)
            self._lanes[name].waiting.extendleft(reversed(items))
            self.waiting += len(items)
            self._count(self._lanes[name].node, len(items))
        for lane in [lane for lane in self._suspects if lane.generation == generation]:
            self._suspects.remove(lane)
        self._release(generation)
        return refused

    def _strike(self, item: _Item) -> bool:
        """Count a worker's death against a message, unless nothing succeeded since the last one (an outage)."""
        if item.deaths == 0 or self._successes > item.successes_at_death:
            item.deaths += 1
            item.successes_at_death = self._successes
        return item.deaths >= DEATHS_ALLOWED

    def _release(self, generation: int) -> None:
        """Lanes of a lost worker are anybody's again."""
        for name, lane in list(self._lanes.items()):
            if lane.generation != generation:
                continue
            self._bind(lane, None)
            lane.place = None
            if lane.waiting:
                self._offer(lane)
            elif not lane.in_hand:
                del self._lanes[name]

    def _offer(self, lane: _Lane) -> None:
        """Put a lane with something waiting where a worker will find it."""
        if lane.place is not None or not lane.waiting or lane.in_hand >= self._most_of_lane:
            return
        if lane.waiting[0].deaths:
            lane.place = self._suspects
            self._suspects.append(lane)
            return
        if lane.node not in self._nodes:
            self._nodes.add(lane.node)
            self._turns.append(lane.node)
        worker = self._workers.get(lane.generation) if lane.generation is not None else None
        heaps = self._free if worker is None else worker.bound
        lane.place = heap = heaps.setdefault(lane.node, [])
        heapq.heappush(heap, (lane.first_id, lane))

    def _next_lane(self, worker: _Worker, node: str) -> _Lane | None:
        """The node's lane with the oldest message among those that this worker may take."""
        free, bound = _valid(self._free.get(node)), _valid(worker.bound.get(node))
        if free and (not bound or free[0][0] < bound[0][0]) and self._may_bind(worker):
            return heapq.heappop(free)[1]
        return heapq.heappop(bound)[1] if bound else None

    def _may_bind(self, worker: _Worker) -> bool:
        """It has not its share of all lanes yet, or nobody else has time: a backlog shall not be one worker's alone."""
        if worker.lanes * len(self._workers) < len(self._lanes):
            return True
        return not any(other is not worker and self._has_room(other) for other in self._workers.values())

    def _bind(self, lane: _Lane, worker: _Worker | None) -> None:
        before = self._workers.get(lane.generation) if lane.generation is not None else None
        if before is not None:
            before.lanes -= 1
        if worker is not None:
            worker.lanes += 1
        lane.generation = worker.generation if worker else None

    def _hand(self, worker: _Worker, lane: _Lane) -> Entry:
        item = lane.waiting.popleft()
        self.waiting -= 1
        self._count(lane.node, -1)
        self._spared_for = max(0, self._spared_for - 1)
        lane.in_hand += 1
        self._bind(lane, worker)
        lane.place = None
        worker.in_hand[item.entry.id] = item
        worker.bytes_in_hand += item.entry.size
        self._offer(lane)
        return item.entry

    def _count(self, node: str, change: int) -> None:
        depth = self._depths[node] = self._depths[node] + change
        if depth >= BACKLOG:
            self._backlogs.add(node)
        elif depth < BACKLOG // 2:
            self._backlogs.discard(node)

    def _not_ours(self, worker: _Worker) -> Callable[[str], bool]:
        """Which nodes' messages this worker leaves alone now.

        While brisk nodes send beside a backlog, one worker is theirs and takes very little else, and the others'
        calls are short.

        So a backlog that lasts for hours does not stand before anybody's fresh events: a call with 500 of its messages
        takes the panel some ten times as long as one event does.
        """
        theirs = self._workers[max(self._workers)]
        if worker is theirs and len(self._workers) > 1:
            return lambda node: len(worker.in_hand) >= HELPING_HAND and node in self._backlogs
        leaves_brisk_ones = worker is not theirs and theirs.asked and len(theirs.in_hand) < SPARED_MOST
        if leaves_brisk_ones:
            theirs.asked = False  # unless it is asked before we come again, it hangs, or is about to end

        def not_ours(node: str) -> bool:
            return len(worker.in_hand) >= SHORT_HAND if node in self._backlogs else leaves_brisk_ones

        return not_ours

    def _has_room(self, worker: _Worker) -> bool:
        return not worker.in_hand or (
            len(worker.in_hand) < self._most_in_hand and worker.bytes_in_hand < self._most_bytes
        )

    def _tries_suspects(self, worker: _Worker) -> bool:
        """One worker tries them, one at a time, and goes on with other messages beside.

        It must have others: only their success can tell a message that kills workers, or that the panel always fails
        on, from an outage. So a suspect of which a worker has died since anything succeeded waits for others to go
        first; were it tried again at once, it could end a lone worker for ever and nothing would ever succeed.
        """
        if worker.suspect is not None or worker.generation != min(self._workers) or not self._has_room(worker):
            return False
        if self._suspects[0].generation not in (None, worker.generation):
            return False
        first = self._suspects[0].waiting[0]
        return self._successes > first.successes_at_death or not self._has_others(worker)

    def _has_others(self, worker: _Worker) -> bool:
        """This worker holds, or could take, a message that is no suspect."""
        return bool(worker.in_hand) or any(map(_valid, [*self._free.values(), *worker.bound.values()]))

    def _hand_suspect(self, worker: _Worker) -> Entry:
        entry = self._hand(worker, self._suspects.popleft())
        worker.suspect = entry.id
        return entry


def _nobodys(node: str) -> bool:
    return False


def _valid(heap: _Heap | None) -> _Heap | None:
    """The heap without stale entries at its top."""
    while heap and heap[0][1].place is not heap:
        heapq.heappop(heap)
    return heap
