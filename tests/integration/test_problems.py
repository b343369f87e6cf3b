"""Problems through the panel's API and pages: raised by what they name, one row each, closed by themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.testbed.heart import Heart
from tests.testbed.stack import ADMIN, SERVICE, Panel, Row
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import NODE

LIMIT_S = 120.0


@pytest.fixture
def panel(short_path: Path) -> Iterator[Panel]:
    with Panel(short_path) as panel:
        yield panel


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    """For tests that register nothing."""
    with Panel(tmp_path_factory.mktemp("panel")) as panel:
        yield panel


def register(panel: Panel, **fields: str) -> dict[str, object]:
    form = {"func": "problems.register", "out": "json", **fields}
    answer = requests.post(panel.url, data=form, auth=SERVICE, timeout=60)
    doc: dict[str, object] = answer.json()["doc"]
    return doc


def open_ones(panel: Panel, kind: str) -> list[Row]:
    return panel.rows("problems", type=kind, state="open")


def test_the_same_problem_counts_up_and_is_one_row(panel: Panel) -> None:
    for text in ("first", "second"):
        assert "ok" in register(
            panel, type="vmwatch_node_stopped", object="kvm-01", level="error", description=text
        )
    rows = panel.rows("problems")
    assert [(row["type"], row["object"], row["count"], row["description"]) for row in rows] == [
        ("vmwatch_node_stopped", "kvm-01", "2", "second")
    ]
    panel.kill()
    panel.start()
    assert [row["count"] for row in panel.rows("problems")] == ["2"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"type": "nonsense", "object": "a", "description": "x"}, "type"),
        ({"type": "clock_skew", "object": "", "description": "x"}, "object"),
        ({"type": "clock_skew", "object": "a", "description": "x", "level": "bad"}, "level"),
        ({"type": "clock_skew", "object": "a"}, "description"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_registered(
    untouched: Panel, fields: dict[str, str], named: str
) -> None:
    error = register(untouched, **fields)["error"]
    assert isinstance(error, dict)
    assert (error["$type"], error["$object"]) == ("value", named)
    assert untouched.rows("problems") == []


def test_a_silent_node_and_a_silent_master_are_problems_that_close_by_themselves(panel: Panel) -> None:
    with Heart(panel, interval_s=1.0, web="running") as heart:
        wait_until(lambda: panel.rows("vm") != [], "the VM to be known", LIMIT_S)
        heart.silent = True
        wait_until(lambda: open_ones(panel, "vmwatch_node_silent") != [], "the silence to be noticed", LIMIT_S)
        assert [row["vmstatus"] for row in panel.rows("vm")] == ["unknown"]
        heart.silent = False
        wait_until(lambda: open_ones(panel, "vmwatch_node_silent") == [], "the problem to close itself", LIMIT_S)
        assert [row["vmstatus"] for row in panel.rows("vm")] == ["running"]
    wait_until(lambda: open_ones(panel, "vmwatch_master_stopped") != [], "the master's silence to be noticed", LIMIT_S)
    assert [row["vmstatus"] for row in panel.rows("vm")] == ["unknown"]
    with Heart(panel, interval_s=1.0, web="running"):
        wait_until(lambda: open_ones(panel, "vmwatch_master_stopped") == [], "the master to be heard again", LIMIT_S)
        wait_until(lambda: panel.rows("vm")[0]["vmstatus"] == "running", "the VM to be known again", LIMIT_S)
        wait_until(lambda: open_ones(panel, "vmwatch_node_silent") == [], "the node's problem to close", LIMIT_S)
    assert [row["object"] for row in panel.rows("problems", type="vmwatch_node_silent")] == [NODE]


def test_one_vm_running_on_two_nodes_is_a_problem_that_names_both(panel: Panel) -> None:
    with Heart(panel, "kvm-01", web="running"), Heart(panel, "kvm-02", web="running") as second:
        wait_until(lambda: open_ones(panel, "vm_duplicate") != [], "the duplicate to be noticed", LIMIT_S)
        row = open_ones(panel, "vm_duplicate")[0]
        assert "kvm-01" in row["description"]
        assert "kvm-02" in row["description"]
        page = requests.get(panel.url, params={"func": "problems"}, auth=ADMIN, timeout=60).text
        assert "vm_duplicate" in page
        second.states = {"web": "shutoff"}
        second.relist()
        wait_until(lambda: open_ones(panel, "vm_duplicate") == [], "the problem to close itself", LIMIT_S)
