"""The table of illnesses in docs/health.md: each row has its tests, they are there, and both languages agree."""

import re
from pathlib import Path

import pytest

from vmwatch.panel.problems import Kind

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`([\w/]+)::(test_\w+)`")
BEGIN = {"": "## How a service can be ill", ".ru": "## Чем может быть болен сервис"}
OWN = ("integration/test_illnesses",)
"""Modules that are there for this table alone: each test of theirs stands in it."""
NOT_ILL = {Kind.DUPLICATE, Kind.INSTALL_FAILED}
"""Problems of VMs, and of no service."""


def section(language: str) -> str:
    text = (ROOT / "docs" / f"health{language}.md").read_text()
    return text.partition(BEGIN[language])[2].partition("\n## ")[0]


def rows(language: str) -> list[list[str]]:
    """The cells of each row, without the heads of the tables."""
    lines = [line for line in section(language).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[-1] not in ("tests", "тесты")]


def named(language: str = "") -> list[tuple[str, str]]:
    return NAMED.findall(section(language))


@pytest.mark.parametrize("language", BEGIN)
def test_each_row_has_a_test_and_says_what_repairs_it(language: str) -> None:
    for row in rows(language):
        assert len(row) == 5, row
        assert NAMED.search(row[4]), row
        assert row[0]
        assert row[1]
        assert row[3]


@pytest.mark.parametrize("module", sorted({module for module, _ in named()}))
def test_each_test_that_the_table_names_exists(module: str) -> None:
    text = (ROOT / "tests" / f"{module}.py").read_text()
    for _, test in (one for one in named() if one[0] == module):
        assert f"def {test}(" in text


@pytest.mark.parametrize("module", OWN)
def test_each_test_that_is_there_for_the_table_stands_in_it(module: str) -> None:
    tests = set(re.findall(r"^def (test_\w+)\(", (ROOT / "tests" / f"{module}.py").read_text(), re.MULTILINE))
    assert tests == {test for one, test in named() if one == module}


def test_each_type_of_problem_of_a_service_stands_in_it() -> None:
    assert {kind.value for kind in set(Kind) - NOT_ILL} <= set(re.findall(r"`([a-z_]+)`", section("")))


def test_both_languages_have_the_same_rows() -> None:
    assert [NAMED.findall(row[4]) for row in rows("")] == [NAMED.findall(row[4]) for row in rows(".ru")]
    assert len(rows("")) > 40
