"""Kills at random during a stream (`bench/kills`), and that its reckoning sees a loss, a double and a disorder."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.killing.comparison import Comparison, compare
from bench.killing.outcome import OVERALL, UNDISTURBED, Done, Outcome, delays, longest_silence
from bench.killing.reference import Life, agree
from bench.killing.run import Plan, Run
from bench.killing.schedule import Target, schedule
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.stack import short_folder

pytestmark = needs_libvirtd()

KILLS = 36
SEED = 20
TIMEOUT_S = 1800
"""A minute on a machine of its own; whoever shares one must not fail for that."""


class Ended:
    """A run that has ended, and its databases."""

    def __init__(self, run: Run, outcome: Outcome) -> None:
        self.outcome = outcome
        self.outboxes = run.installation.outboxes
        self.panel = run.installation.panel_database


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    folder = short_folder()
    folder.mkdir()
    try:
        run = Run(folder, Plan(KILLS, SEED))
        yield Ended(run, run.outcome())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(TIMEOUT_S)
def test_nothing_is_lost_or_doubled_or_out_of_order_when_all_programs_are_killed_at_random(ended: Ended) -> None:
    outcome = ended.outcome
    assert outcome.defects == []
    assert outcome.is_well
    assert (outcome.lost, outcome.doubled, outcome.out_of_order, outcome.changed) == (0, 0, 0, 0)
    assert (outcome.wrong_at_end, outcome.refused) == (0, 0)


@pytest.mark.timeout(TIMEOUT_S)
def test_the_run_was_what_it_claims_to_be(ended: Ended) -> None:
    outcome = ended.outcome
    assert outcome.kills == dict.fromkeys(Target, KILLS // len(Target))
    assert outcome.events_registered == outcome.events_made >= 100 * KILLS
    assert outcome.others_registered > 0
    assert outcome.observed > 1000
    # supervisord's part was done for each: workers and libvirtd have others who start them
    assert all(outcome.restarts[name] >= KILLS // len(Target) for name in ("node", "generator", "master", "panel"))
    assert set(outcome.longest_s) == {*Target, OVERALL, UNDISTURBED}


Tampering = Callable[[sqlite3.Connection], object]

TAMPERINGS: dict[str, tuple[str, Tampering]] = {
    "an event that was not registered": (
        "lost",
        lambda db: db.execute("DELETE FROM eventlog WHERE id = (SELECT max(id) / 2 FROM eventlog)"),
    ),
    "an event registered again later": (
        "doubled",
        lambda db: db.execute(
            "INSERT INTO eventlog SELECT (SELECT max(id) + 1 FROM eventlog), node, epoch, seq, time, received, subject,"
            " event, detail, state FROM eventlog WHERE id = (SELECT max(id) / 2 FROM eventlog)"
        ),
    ),
    "a message of another kind registered twice": (
        "doubled",
        lambda db: db.execute(
            "INSERT INTO killing_registered (node, epoch, seq) SELECT node, epoch, seq FROM killing_registered LIMIT 1"
        ),
    ),
    "two events of a VM in the wrong order": ("disordered", lambda db: swap_two_of_a_vm(db)),
    "an event with another's words": (
        "changed",
        lambda db: db.execute("UPDATE eventlog SET detail = 'other' WHERE id = (SELECT max(id) / 2 FROM eventlog)"),
    ),
    "an event that no outbox had": (
        "changed",
        lambda db: db.execute(
            "INSERT INTO eventlog SELECT (SELECT max(id) + 1 FROM eventlog), node, epoch, seq + 1000000, time,"
            " received, subject, event, detail, state FROM eventlog WHERE id = (SELECT max(id) FROM eventlog)"
        ),
    ),
}


def swap_two_of_a_vm(db: sqlite3.Connection) -> None:
    """Give two neighbouring events of one VM and node each other's number in the log."""
    first, second = db.execute(
        "SELECT id, next FROM (SELECT id, lead(id) OVER (PARTITION BY node, subject ORDER BY id) AS next FROM eventlog)"
        " WHERE next IS NOT NULL LIMIT 1"
    ).fetchone()
    for before, after in ((first, -1), (second, first), (-1, second)):
        db.execute("UPDATE eventlog SET id = ? WHERE id = ?", (after, before))


def found_by(comparison: Comparison) -> set[str]:
    return {name for name in ("lost", "doubled", "disordered", "changed") if getattr(comparison, name)}


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("planted", TAMPERINGS)
def test_a_planted_defect_is_found_in_the_panels_database(ended: Ended, tmp_path: Path, planted: str) -> None:
    kind, tamper = TAMPERINGS[planted]
    panel = Path(shutil.copy(ended.panel, tmp_path))
    assert found_by(compare(ended.outboxes, panel)) == set()
    with contextlib.closing(sqlite3.connect(panel)) as db:
        tamper(db)
        db.commit()
    comparison = compare(ended.outboxes, panel)
    assert kind in found_by(comparison)
    assert any(example.startswith(kind.replace("disordered", "out of order")) for example in comparison.examples)


LIFE = [("vm1", "started", "booted"), ("vm2", "started", "booted"), ("vm1", "stopped", "destroyed")]


def test_events_of_libvirt_told_in_parts_by_two_runs_of_the_node_are_no_hole() -> None:
    found = agree([Life(LIFE, LIFE)], {1: LIFE[:1], 2: LIFE[2:]})
    assert (found.holes, found.told, found.untold) == (0, 2, 1)


def test_events_from_a_libvirtd_that_died_during_the_opening_and_from_the_next_are_no_hole() -> None:
    next_life = [("vm3", "started", "booted"), ("vm3", "suspended", "paused"), ("vm3", "resumed", "unpaused")]
    lives = [Life(LIFE, LIFE[:2]), Life(next_life, next_life)]
    assert agree(lives, {1: LIFE[:1], 2: LIFE[1:2] + next_life[1:]}).holes == 0
    assert agree(lives, {1: LIFE[:1], 2: LIFE[1:2] + next_life[:1] + next_life[2:]}).holes > 0


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        ({1: [LIFE[0], LIFE[2]]}, "one event is missing inside a run"),
        ({1: [LIFE[1], LIFE[0], LIFE[2]]}, "two changed places"),
        ({1: [LIFE[0], LIFE[0], LIFE[1], LIFE[2]]}, "one came twice"),
        ({1: LIFE[:2]}, "the last one is missing although the node ran"),
        ({2: LIFE[:1], 1: LIFE[1:]}, "an older run tells what came later"),
    ],
)
def test_a_hole_in_what_the_node_told_of_libvirts_events_is_found(
    runs: dict[int, list[tuple[str, str, str]]], why: str
) -> None:
    assert agree([Life(LIFE, LIFE)], runs).holes, why


def test_an_observer_that_saw_something_else_is_a_hole() -> None:
    assert agree([Life(LIFE, LIFE), Life(LIFE, LIFE)], {1: LIFE, 2: LIFE}).holes == 0
    assert agree([Life(LIFE, LIFE[1:]), Life(LIFE, LIFE)], {1: LIFE, 2: LIFE}).holes == 1
    assert agree([Life(LIFE, LIFE[:2])], {1: LIFE}).holes == 1


def test_the_time_from_a_kill_counts_until_the_next_event_of_the_node_that_it_stopped() -> None:
    done = [Done(Target.NODE, 10.0), Done(Target.PANEL, 11.0), Done(Target.MASTER, 20.0)]
    received = {"kvm": [9.0, 14.0], "gen": [10.5, 13.0, 20.5]}
    assert delays(done, received, {Target.NODE: "kvm"}) == {
        Target.NODE: [4.0],
        Target.MASTER: [0.5],
        Target.PANEL: [2.0],
        OVERALL: [4.0, 2.0, 0.5],
        UNDISTURBED: [2.0, 0.5],
    }
    assert longest_silence(done, received) == "2.00 s (panel at 0.0)"


def test_a_seed_gives_the_same_kills_again_and_another_seed_others() -> None:
    assert schedule(60, 1, 200) == schedule(60, 1, 200)
    assert schedule(60, 1, 200) != schedule(60, 2, 200)
    moments = [kill.at_events for kill in schedule(60, 1, 200)]
    assert moments == sorted(moments)
