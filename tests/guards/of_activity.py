"""Guards of `panel/activity.py`: rule 8, on what there is no verdict."""

from tests.guards.guard import Guard

FILE = "panel/activity.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, FILE, text, replacement, "8: " + keeps)


SAMPLES = (
    _guard(
        "a-sample-that-comes-again-is-none",
        "if track is not None and place <= track.place:",
        "if False:",
        "two samples are two",
    ),
    _guard(
        "levels-are-of-one-run",
        "before = track.levels if track is not None and _follows(track, row) else {}",
        "before = track.levels if track is not None else {}",
        "missing data, a VM that did not run through the window",
    ),
    _guard(
        "only-a-running-vm-is-sampled",
        "for name in WATCHED if row.domain.state is State.RUNNING else ():",
        "for name in WATCHED:",
        "a VM that did not run through the window",
    ),
    _guard("a-missing-counter-is-no-zero", "        if value is None:\n", "        if False:\n", "missing data"),
    _guard(
        "a-counter-that-moved-begins-anew",
        "holds = level is not None and level.value == value and level.since >= running_since",
        "holds = level is not None and level.since >= running_since",
        "compared between two samples",
    ),
    _guard(
        "a-level-is-of-this-start",
        "holds = level is not None and level.value == value and level.since >= running_since",
        "holds = level is not None and level.value == value",
        "a VM that did not run through the window",
    ),
    _guard(
        "a-clock-that-went-back-begins-anew",
        "return track.taken < row.taken <= track.taken + longest and not restarted",
        "return row.taken <= track.taken + longest and not restarted",
        "missing data",
    ),
    _guard(
        "a-gap-begins-anew",
        "return track.taken < row.taken <= track.taken + longest and not restarted",
        "return track.taken < row.taken and not restarted",
        "missing data",
    ),
    _guard(
        "an-unnoticed-restart-begins-anew",
        "return track.taken < row.taken <= track.taken + longest and not restarted",
        "return track.taken < row.taken <= track.taken + longest",
        "a counter that went back",
    ),
    _guard(
        "a-late-sample-breaks-the-run",
        "if level.place < place else level",
        "if False else level",
        "missing data",
    ),
    _guard(
        "an-older-sample-breaks-nothing",
        "if level.place < place else level",
        "if True else level",
        "what was before the idle time says nothing of it",
    ),
    _guard(
        "the-newest-sample-again-breaks-nothing",
        "    if place == track.place:\n",
        "    if False:\n",
        "what comes again changes nothing",
    ),
)

VERDICT = (
    _guard(
        "a-young-vm-is-not-judged",
        "if track.taken - running_since < policy.min_running_s:",
        "if False:",
        "minimum running time",
    ),
    _guard(
        "the-window-can-be-set",
        "least = (policy.window_s or track.interval) - JITTER * track.interval",
        "least = track.interval - JITTER * track.interval",
        "its window",
    ),
    _guard(
        "samples-may-jitter",
        "least = (policy.window_s or track.interval) - JITTER * track.interval",
        "least = policy.window_s or track.interval",
        "two samples of neighbouring turns",
    ),
    _guard(
        "a-start-within-the-window-is-not-judged",
        "if level.since >= running_since and track.taken > level.since and",
        "if track.taken > level.since and",
        "a VM that did not run through the window",
    ),
    _guard(
        "one-sample-is-no-verdict",
        "and track.taken > level.since and",
        "and",
        "between two samples",
    ),
    _guard(
        "the-window-must-be-full",
        "and track.taken > level.since and track.taken - level.since >= least",
        "and track.taken > level.since",
        "through the window",
    ),
    _guard(
        "either-end-of-a-migration-excuses",
        "return any(claim.is_moving for claim in claims.values())",
        "return False",
        "migrating",
    ),
    _guard(
        "only-a-nodes-own-running-vm-is-tracked",
        "if claim is None or claim.state is not State.RUNNING:",
        "if claim is None:",
        "a VM that did not run through the window",
    ),
    _guard(
        "without-samples-no-warning",
        "if monotonic - track.heard > GAP_INTERVALS * track.interval:",
        "if False:",
        "missing data",
    ),
    _guard(
        "a-warning-lasts-between-samples",
        "if monotonic - track.heard > GAP_INTERVALS * track.interval:",
        "if True:",
        "it goes away when it is over, not each second",
    ),
    _guard(
        "the-holders-samples-judge",
        "track = self._tracks.get(uuid, {}).get(judgement.node) if judgement is not None else None",
        "track = next(iter(self._tracks.get(uuid, {}).values()), None) if judgement is not None else None",
        "on one node",
    ),
    _guard("off-is-off", "not self.policy.enabled\n            or ", "", "policy on/off"),
    _guard(
        "what-does-not-run-is-excused",
        "or judgement.state is not State.RUNNING\n",
        "\n",
        "paused, or unknown now",
    ),
    _guard("installing-is-excused", "            or installing\n", "", "installing"),
    _guard("migrating-is-excused", "            or is_moving(claims)\n", "", "migrating"),
    _guard("exempt-by-uuid", "            or uuid in exempt\n", "", "exempt"),
    _guard("exempt-by-name", "            or judgement.name in exempt\n", "", "exempt"),
    _guard(
        "a-warning-is-remembered",
        "            self._warned.add(uuid)\n",
        "            pass\n",
        "it goes away by itself",
    ),
)

GUARDS = (*SAMPLES, *VERDICT)
