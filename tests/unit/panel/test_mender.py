"""Attempts on a real database and event loop: how many at a time, when none, and solvers that misbehave."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.panel.clock import FakeClock
from vmwatch.panel import mender as mender_module
from vmwatch.panel.attempts import Attempts
from vmwatch.panel.board import Board
from vmwatch.panel.expiry import DAY_S
from vmwatch.panel.functions import Panel
from vmwatch.panel.identity import Identity
from vmwatch.panel.live import Live
from vmwatch.panel.maintenance import Maintenance, begin
from vmwatch.panel.mender import MOST_ATTEMPTS
from vmwatch.panel.problems import USUAL_PERIOD_S, Kind, Level, Phase, Problem, close_problem, raise_problem
from vmwatch.panel.retention import Retention
from vmwatch.panel.settings import PanelSettings
from vmwatch.panel.solvers import Result, Solver, Tell
from vmwatch.panel.solving import Attempt, Outcome
from vmwatch.panel.store import Store
from vmwatch.panel.writer import Work, Writer

START = 1_800_000_000.0
LIMIT_S = 60.0


class Clinic:
    """A panel without its pages, whose clock the test moves, and a solver that the test gives."""

    def __init__(self, folder: Path, solver: Solver, limit_s: float = LIMIT_S) -> None:
        self.clock = FakeClock(START)
        self.store = Store(f"sqlite:///{folder / 'panel.db'}")
        self.store.open()
        stored = self.store.load()
        self.board = Board()
        self.board.fill(stored)
        self.writer = Writer(self.store, stored, self.board, self.clock)
        self.writer.start()
        identity = cast(Identity, None)  # nobody calls
        live = Live(self.board)
        self.panel = Panel(PanelSettings(), self.store, identity, self.writer, self.board, live, self.clock)
        self.panel.solvers.add(Kind.NODE_STOPPED, solver, limit_s)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """The scenario, while the mender runs beside it."""

        async def both() -> None:
            mending = asyncio.create_task(self.panel.mender.run())
            try:
                async with asyncio.timeout(LIMIT_S):
                    await scenario()
            finally:
                mending.cancel()
                await asyncio.gather(mending, return_exceptions=True)

        asyncio.run(both())

    async def fall_ill(self, *subjects: str) -> None:
        def job(work: Work) -> None:
            for subject in subjects:
                raise_problem(work.draft, work.now, Kind.NODE_STOPPED, subject, Level.ERROR, "it is stopped")

        await self.writer.do(job)

    async def get_well(self, subject: str) -> None:
        await self.writer.do(lambda work: close_problem(work.draft, work.now, Kind.NODE_STOPPED, subject))

    async def maintain(self, subject: str, until_s: float) -> None:
        await self.writer.do(lambda work: begin(work.draft, Maintenance(subject, work.now, until_s)))

    async def solve(self, subject: str) -> int:
        return await self.panel.mender.solve((Kind.NODE_STOPPED, subject), "admin")

    def problem(self, subject: str) -> Problem:
        return next(one for one in self.board.problems() if one.object == subject)

    async def in_phase(self, subject: str, phase: Phase) -> Problem:
        await until(lambda: self.problem(subject).phase == phase)
        return self.problem(subject)

    def log(self, subject: str) -> list[Attempt]:
        return Attempts(self.store).of(self.problem(subject).id)

    def close(self) -> None:
        self.writer.stop(10)
        self.store.close()


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Clinic]]:
    monkeypatch.setattr(mender_module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(mender_module, "CANCEL_S", 0.05)
    opened: list[Clinic] = []

    def make(solver: Solver, limit_s: float = LIMIT_S) -> Clinic:
        opened.append(Clinic(tmp_path, solver, limit_s))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


async def succeeds(problem: Problem, tell: Tell) -> Result:
    tell(f"mends {problem.object}")
    return Result(True, "it runs again")


async def fails(problem: Problem, tell: Tell) -> Result:
    return Result(False, "it does not run")


def test_what_is_due_is_solved_by_itself_and_what_is_not_due_waits(clinic: Callable[..., Clinic]) -> None:
    here = clinic(succeeds)

    async def scenario() -> None:
        await here.fall_ill("early")
        here.clock.now += USUAL_PERIOD_S / 2
        await here.fall_ill("late")
        here.clock.now += USUAL_PERIOD_S / 2
        await here.in_phase("early", Phase.SOLVED)
        assert here.problem("late").phase == Phase.OPEN

    here.run(scenario)
    (attempt,) = here.log("early")
    assert (attempt.who, attempt.outcome, attempt.text) == ("", Outcome.SOLVED, "it runs again")
    assert (attempt.output, attempt.lines) == ("mends early", 1)


def test_an_object_in_maintenance_is_left_alone_unless_a_person_asks(clinic: Callable[..., Clinic]) -> None:
    here = clinic(succeeds)

    async def scenario() -> None:
        await here.maintain("muted", START + DAY_S)
        await here.fall_ill("muted", "other")
        here.clock.now += USUAL_PERIOD_S
        await here.in_phase("other", Phase.SOLVED)
        assert here.problem("muted").phase == Phase.OPEN
        await here.solve("muted")
        await here.in_phase("muted", Phase.SOLVED)
        here.clock.now += DAY_S
        await here.fall_ill("muted")
        here.clock.now += USUAL_PERIOD_S
        await here.in_phase("muted", Phase.SOLVED)

    here.run(scenario)
    assert [attempt.who for attempt in here.log("muted")] == ["", "admin"]


def test_only_some_attempts_go_on_at_a_time_and_all_have_their_turn(clinic: Callable[..., Clinic]) -> None:
    working: set[str] = set()
    most = 0
    subjects = [f"kvm-{number:02d}" for number in range(3 * MOST_ATTEMPTS)]

    async def solver(problem: Problem, tell: Tell) -> Result:
        nonlocal most
        assert problem.object not in working
        working.add(problem.object)
        most = max(most, len(working))
        await asyncio.sleep(0.02)
        working.discard(problem.object)
        return Result(True, "")

    here = clinic(solver)

    async def scenario() -> None:
        await here.fall_ill(*subjects)
        here.clock.now += USUAL_PERIOD_S
        await asyncio.gather(*(here.solve(subject) for subject in subjects[:MOST_ATTEMPTS]))
        for subject in subjects:
            await here.in_phase(subject, Phase.SOLVED)

    here.run(scenario)
    assert most == MOST_ATTEMPTS
    assert {len(here.log(subject)) for subject in subjects} == {1}


def test_a_solver_that_raises_has_failed_and_its_error_is_said(clinic: Callable[..., Clinic]) -> None:
    async def solver(problem: Problem, tell: Tell) -> Result:
        raise OSError("no route to host")

    here = clinic(solver)

    async def scenario() -> None:
        await here.fall_ill("kvm-01")
        await here.solve("kvm-01")
        await here.in_phase("kvm-01", Phase.FAILED)

    here.run(scenario)
    assert [(one.outcome, one.text) for one in here.log("kvm-01")] == [
        (Outcome.FAILED, "the solver failed: no route to host")
    ]


def test_a_solver_that_ignores_its_limit_and_its_end_holds_up_nobody(clinic: Callable[..., Clinic]) -> None:
    stubborn = asyncio.Event()

    async def solver(problem: Problem, tell: Tell) -> Result:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue
        return Result(True, "")

    here = clinic(solver, limit_s=0.05)

    async def scenario() -> None:
        await here.fall_ill("kvm-01")
        await here.solve("kvm-01")
        await here.in_phase("kvm-01", Phase.FAILED)
        stubborn.set()

    here.run(scenario)
    assert [one.outcome for one in here.log("kvm-01")] == [Outcome.LATE]


def test_what_waits_for_its_turn_is_not_begun_when_the_cause_went_away(clinic: Callable[..., Clinic]) -> None:
    gate = asyncio.Event()
    worked: list[str] = []

    async def solver(problem: Problem, tell: Tell) -> Result:
        worked.append(problem.object)
        await gate.wait()
        return Result(True, "")

    here = clinic(solver)
    busy = [f"kvm-{number:02d}" for number in range(MOST_ATTEMPTS)]

    async def scenario() -> None:
        await here.fall_ill(*busy, "waits")
        for subject in busy:
            await here.solve(subject)
        await until(lambda: len(worked) == MOST_ATTEMPTS)
        await here.solve("waits")
        await here.get_well("waits")
        gate.set()
        await until(lambda: not here.problem("waits").attempt)

    here.run(scenario)
    assert "waits" not in worked
    assert here.log("waits")[0].text == "its cause went away before the attempt began"


def test_lines_cannot_write_to_a_terminal_and_are_bounded(clinic: Callable[..., Clinic]) -> None:
    async def solver(problem: Problem, tell: Tell) -> Result:
        tell("\x1b]0;owned\x07 one\nand\ttwo\r\n")
        tell("x" * 10_000)
        return Result(True, "fine\x1b[2J")

    here = clinic(solver)

    async def scenario() -> None:
        await here.fall_ill("kvm-01")
        await here.solve("kvm-01")
        await here.in_phase("kvm-01", Phase.SOLVED)

    here.run(scenario)
    (attempt,) = here.log("kvm-01")
    assert attempt.output == "]0;owned  one\nand two\n" + "x" * mender_module.LONGEST_LINE
    assert (attempt.lines, attempt.text) == (3, "fine [2J")


def test_the_log_of_a_problem_is_bounded_and_goes_with_it_after_its_retention(
    clinic: Callable[..., Clinic], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mender_module, "KEPT_ATTEMPTS", 3)
    here = clinic(fails)
    retention = Retention(here.panel)

    async def scenario() -> None:
        await here.fall_ill("kvm-01", "kvm-02")
        for _ in range(5):
            await here.solve("kvm-01")
            await until(lambda: not here.problem("kvm-01").attempt)
        await here.solve("kvm-02")
        await here.in_phase("kvm-02", Phase.FAILED)
        assert [attempt.id for attempt in here.log("kvm-01")] == [5, 4, 3]
        number = here.problem("kvm-01").id
        await here.get_well("kvm-01")
        here.clock.now += 2 * DAY_S
        assert await retention.forget_problems(3) == 0
        assert await retention.forget_problems(1) == 1
        assert [one.object for one in here.board.problems()] == ["kvm-02"]
        assert Attempts(here.store).of(number) == []
        assert len(here.log("kvm-02")) >= 1

    here.run(scenario)
