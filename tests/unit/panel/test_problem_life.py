"""The life of one problem: since when, how often, and that a state that lasts is written once."""

from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.problems import Kind, Level, Problem, close_problem, keep_problem, open_objects, raise_problem

SUBJECT = "kvm-01"


class Life:
    """One problem, each step in a draft of its own; `written`: whether the last step changed it."""

    def __init__(self) -> None:
        self.known = Known("run")
        self.written = False

    @property
    def problem(self) -> Problem:
        return self.known.problems[Kind.NODE_SILENT, SUBJECT]

    def keep(self, now: float, text: str = "silent", kind: Kind = Kind.NODE_SILENT) -> bool:
        draft = Draft(self.known)
        return self._merge(draft, keep_problem(draft, now, kind, SUBJECT, Level.ERROR, text))

    def raise_it(self, now: float) -> bool:
        draft = Draft(self.known)
        return self._merge(draft, raise_problem(draft, now, Kind.NODE_SILENT, SUBJECT, Level.ERROR, "silent"))

    def close(self, now: float) -> bool:
        draft = Draft(self.known)
        return self._merge(draft, close_problem(draft, now, Kind.NODE_SILENT, SUBJECT))

    def _merge(self, draft: Draft, answer: bool) -> bool:
        self.written = bool(draft.problems)
        draft.merge()
        return answer


def test_what_happens_again_is_counted_since_the_first_time() -> None:
    life = Life()
    assert life.raise_it(10.0)
    assert not life.raise_it(20.0)
    assert (life.problem.first, life.problem.last, life.problem.count) == (10.0, 20.0, 2)


def test_what_lasts_is_counted_and_written_once_until_its_text_changes() -> None:
    life = Life()
    assert life.keep(10.0)
    assert not life.keep(11.0)
    assert not life.written
    assert not life.keep(12.0, "still silent")
    assert (life.problem.text, life.problem.first, life.problem.last, life.problem.count) == (
        "still silent",
        10.0,
        12.0,
        1,
    )


def test_what_comes_back_is_the_same_problem_since_now() -> None:
    life = Life()
    life.keep(10.0)
    number = life.problem.id
    assert life.close(20.0)
    assert not life.problem.is_open
    assert life.keep(30.0)
    assert (life.problem.id, life.problem.first, life.problem.count, life.problem.closed) == (number, 30.0, 2, 0.0)


def test_what_is_solved_is_not_solved_again() -> None:
    life = Life()
    assert not life.close(5.0)
    life.keep(10.0)
    life.close(20.0)
    assert not life.close(30.0)
    assert not life.written
    assert life.problem.closed == 20.0


def test_only_open_problems_of_a_type_are_found() -> None:
    life = Life()
    life.keep(10.0)
    life.keep(10.0, kind=Kind.ID_CONFLICT)
    life.close(20.0)
    assert open_objects(life.known.problems, Kind.NODE_SILENT) == []
    assert open_objects(life.known.problems, Kind.ID_CONFLICT) == [SUBJECT]
