"""The tests that docs/complaints.md names are there, and both languages name the same."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`([\w/]+)::(test_\w+)`")


def named(language: str) -> list[tuple[str, str]]:
    """(module, test) as the table names them."""
    return NAMED.findall((ROOT / "docs" / f"complaints{language}.md").read_text())


@pytest.mark.parametrize("module", sorted({module for module, _ in named("")}))
def test_each_test_that_the_table_of_complaints_names_exists(module: str) -> None:
    text = (ROOT / "tests" / f"{module}.py").read_text()
    for _, test in (one for one in named("") if one[0] == module):
        assert f"def {test}(" in text


def test_both_languages_name_the_same_tests() -> None:
    assert named("") == named(".ru")
    assert len(named("")) > 30
