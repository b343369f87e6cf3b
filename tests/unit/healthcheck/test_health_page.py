"""The page in docs/ says what the probe does: each figure with its thresholds, each state, each finding."""

import re
from pathlib import Path

import pytest

from vmwatch.healthcheck.figures import NEVER_ALERTS, Bound
from vmwatch.healthcheck.levels import State
from vmwatch.healthcheck.nodehealth import MASTER_KINDS
from vmwatch.healthcheck.verdict import FIGURES

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "docs" / "health.md", ROOT / "docs" / "health.ru.md"]


def rows(page: Path) -> dict[str, list[str]]:
    """Cells of each table row that begins with a name in backticks, by that name."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {found[0].split("`")[1]: found for found in cells}


def shown(bound: Bound, cell: str) -> bool:
    return cell == "" if bound is NEVER_ALERTS else f"`{bound.text}`" in cell


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("program", FIGURES)
def test_each_figure_stands_there_with_its_unit_and_thresholds(page: Path, program: str) -> None:
    table = rows(page)
    for figure in FIGURES[program]:
        _, unit, _, warning, critical = table[figure.name]
        assert (unit, shown(figure.warning, warning), shown(figure.critical, critical)) == (figure.unit, True, True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_state_and_each_diagnosis_stands_there(page: Path) -> None:
    assert set(State) <= set(rows(page))
    assert all(f"`{name}`" in page.read_text() for name in MASTER_KINDS.values())


def test_both_pages_name_the_same_things() -> None:
    english, russian = (sorted(re.findall(r"`[a-z_]+`", page.read_text())) for page in PAGES)
    assert english == russian


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_probe_is_called_where_the_packages_put_it(page: Path) -> None:
    link = re.search(r"--install (\S+)", (ROOT / "packaging" / "scripts" / "functions.sh").read_text())
    assert link is not None
    assert set(re.findall(r"/\S+/vmwatch-healthcheck", page.read_text())) == {link[1]}
