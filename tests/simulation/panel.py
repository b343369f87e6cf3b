"""The panel in the simulation: the real registration core; its disk is what was committed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from tests.simulation.storm import Weather
from tests.simulation.truth import Truth
from tests.simulation.world import BEGAN_WALL_S, Process, World
from vmwatch.panel.knowledge import Draft, EventRow, Known
from vmwatch.panel.registration import register
from vmwatch.panel.watch import Watch
from vmwatch.shared.report import Verdict, decode_report, encode_answer
from vmwatch.workers.transport import Reply

Answer = Callable[[Reply | None], None]
"""Takes the reply, or None when no connection could be made."""

WATCH_S = 1.0
POISON = b'"poison_panel"'
"""A report with this in it makes the panel fail."""
_HTML = b"<html><body>Welcome to the proxy</body></html>"
_REDIRECT = {"location": "https://elsewhere.example/"}


@dataclass
class Backup:
    """All that a panel knew at a moment."""

    known: Known
    registered: list[EventRow]
    keys: Counter[tuple[str, int, int]]
    bounds: dict[tuple[str, str], int]


class SimPanel(Process):
    """Commits reports, dies at any step of it, and restarts from what it committed."""

    def __init__(self, world: World, weather: Weather, truth: Truth) -> None:
        super().__init__(world)
        self.weather = weather
        self.truth = truth
        self.registered: list[EventRow] = []
        """The event log, in the order of commits."""
        self.keys: Counter[tuple[str, int, int]] = Counter()
        """How often each message of any type, (node, epoch, seq), was taken for new."""
        self.lost: set[tuple[str, int, int]] = set()
        """What a restored backup did not have."""
        self.known = Known(run="p")
        self.wall_s = BEGAN_WALL_S
        """What its clock shows beside the virtual time."""
        self.bad_answers_until = 0.0
        self._runs = 0
        self.watch = Watch(world.now)
        self.start()

    def start(self) -> None:
        """A new run: the same committed knowledge, a new name."""
        super().start()
        self._runs += 1
        self.known.run = f"p{self._runs}"
        self.known.want_all_inventories()
        self.watch = Watch(self.world.now)
        self.watch.duplicates.touch(self.known.vms)
        self.later(WATCH_S, self._watch)

    def _watch(self) -> None:
        """What time alone changes."""
        draft = Draft(self.known)
        self.watch.turn(draft, self.known.nodes, self.world.now, self.world.now + self.wall_s, str)
        self._commit(draft)
        self.later(WATCH_S, self._watch)

    def _commit(self, draft: Draft) -> None:
        draft.merge()
        self.watch.duplicates.touch(uuid for uuid, _ in draft.claims)

    # A backup

    def back_up(self) -> Backup:
        known = self.known
        copied = replace(
            known,
            nodes=dict(known.nodes),
            epochs=dict(known.epochs),
            keys={key: set(seqs) for key, seqs in known.keys.items()},
            vms={uuid: dict(claims) for uuid, claims in known.vms.items()},
            uuids={node: set(uuids) for node, uuids in known.uuids.items()},
            departing=set(known.departing),
            problems=dict(known.problems),
        )
        return Backup(copied, list(self.registered), self.keys.copy(), dict(self.truth.bounds))

    def restore(self, backup: Backup) -> None:
        """Of a panel that is not running: what came after the backup is gone, as design 01 says."""
        self.known = backup.known
        self.registered = backup.registered
        lost = self.keys.keys() - backup.keys.keys()
        self.lost |= lost
        for key in lost:
            self.truth.missed(key)
        self.keys = backup.keys
        self.truth.bounds = backup.bounds
        self.truth.shown.clear()

    # Calls

    def request(self, body: bytes, answer: Answer) -> None:
        """An HTTP call. `answer` may never be called: then the caller's time limit ends it."""
        if not self.alive:
            self.world.after(0.001, lambda: answer(None))
        elif not self.world.happens(self.weather.lose):
            slow = self.world.happens(self.weather.straggle)
            delay_s = self.world.between(0.3, 3.0) if slow else self.world.between(0.001, 0.01)
            self.later(delay_s, lambda: self._serve(body, answer))

    def _serve(self, body: bytes, answer: Answer) -> None:
        bad = self.world.now < self.bad_answers_until and self.world.happens(0.7)
        if bad and self.world.happens(0.6):
            self._reply(self._bad_reply([]), answer)
            return
        if POISON in body:
            self._reply(Reply(500, {}, b"Internal Server Error"), answer)
            return
        draft = Draft(self.known)
        report = decode_report(body)
        verdicts = register(draft, report, self.world.now + self.wall_s)
        self.watch.reported(self.world.now, [(entry.node, entry.epoch) for entry in report.nodes if entry.live])
        self._commit(draft)
        self.registered += draft.events
        for (node, epoch), seqs in draft.keys.items():
            self.keys.update((node, epoch, seq) for seq in seqs)
        for verdict in verdicts:
            for refusal in verdict.refused:
                self.truth.missed((verdict.node, verdict.epoch, refusal.seq))
        self.truth.committed(self.known, draft)
        self._reply(self._bad_reply(verdicts) if bad else Reply(200, {}, encode_answer(verdicts)), answer)

    def _reply(self, reply: Reply, answer: Answer) -> None:
        """The answer's way back: it may be lost after the commit, or come when nobody waits any more."""
        if not self.world.happens(self.weather.lose):
            slow = self.world.happens(self.weather.straggle)
            self.later(self.world.between(0.3, 3.0) if slow else 0.001, lambda: answer(reply))

    def _bad_reply(self, verdicts: list[Verdict]) -> Reply:
        """What proxies, wrong accounts and broken connections make of an answer."""
        good = encode_answer(verdicts)
        short = encode_answer(verdicts[:-1])
        double = encode_answer([*verdicts, *verdicts]) if verdicts else short
        wrong = encode_answer([replace_applied(verdict) for verdict in verdicts])
        return self.world.chance.choice(
            (
                Reply(500, {}, b"Internal Server Error"),
                Reply(502, {}, _HTML),
                Reply(503, {"retry-after": "1"}, b""),
                Reply(404, {}, _HTML),
                Reply(404, {}, good),
                Reply(403, {}, good),
                Reply(401, {}, b""),
                Reply(429, {"retry-after": "1"}, b""),
                Reply(413, {}, b""),
                Reply(302, _REDIRECT, b""),
                Reply(200, {}, _HTML),
                Reply(200, {}, b""),
                Reply(200, {}, good[: len(good) // 2]),
                Reply(200, {}, b'{"doc":{"error":{"$type":"access","$object":"user","msg":{"$":"no"}}}}'),
                Reply(200, {}, b'{"doc":{"$func":"vmwatch.report","ok":{}}}'),
                Reply(200, {}, short),
                Reply(200, {}, double),
                Reply(200, {}, wrong),
            )
        )


def replace_applied(verdict: Verdict) -> Verdict:
    """A verdict whose numbers do not add up, whatever was refused."""
    return msgspec.structs.replace(verdict, applied=verdict.applied + 1)
