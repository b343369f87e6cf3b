"""The table of guards (`python -m tests.guards`) fits the code; whether tests miss them is tried there."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.guards.__main__ import chosen, listed
from tests.guards.guard import Guard, GuardError
from tests.guards.table import GUARDS
from tests.guards.trial import Found, modules_for

ROOT = Path(__file__).resolve().parents[2]


@cache
def source_of(file: str) -> tuple[str, str]:
    """A file's text, and what it says to Python."""
    text = (ROOT / file).read_text()
    return text, ast.dump(ast.parse(text))


@pytest.mark.parametrize("file", sorted({guard.file for guard in GUARDS}))
def test_each_guard_is_in_its_file_once_and_what_is_left_without_it_is_another_program(file: str) -> None:
    text, meaning = source_of(file)
    for guard in chosen([file]):
        assert ast.dump(ast.parse(guard.removed_from(text))) != meaning, guard.name


def test_no_two_guards_have_one_name() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


def test_there_are_tests_for_every_file_with_guards() -> None:
    for file in {guard.file for guard in GUARDS}:
        assert all((ROOT / name).exists() for name in modules_for(file))


@pytest.mark.parametrize("text", ["a", "nothing"])
def test_a_guard_that_is_there_twice_or_not_at_all_is_named(text: str) -> None:
    guard = Guard("twice", "panel/rules.py", text, "", "1: nothing")
    with pytest.raises(GuardError, match=r"guard twice: its text is [02] times in panel/rules\.py"):
        guard.removed_from("a a")


def test_a_guard_can_be_chosen_by_its_name_and_all_of_a_file_by_the_files() -> None:
    assert [guard.name for guard in chosen(["left-is-unknown"])] == ["left-is-unknown"]
    assert {guard.file for guard in chosen(["panel/watch.py"])} == {"panel/watch.py"}
    assert all(guard.name in listed() for guard in GUARDS)


def test_a_guard_counts_as_missed_only_by_a_test_that_ran() -> None:
    guard = GUARDS[0]
    assert Found(guard).survived
    assert Found(guard, "test_x", "NameError: name 'a' is not defined").survived
    assert not Found(guard, "test_x", "assert 1 == 2").survived
