"""Nodes whose names are digits alone, and one the other's number: the page and the command mean the one they name."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.testbed.service import command
from tests.testbed.stack import ADMIN, Panel

FIRST, SECOND = "2", "1"
"""In the order of their numbers."""


@pytest.fixture
def panel(short_path: Path) -> Iterator[Panel]:
    with Panel(short_path) as panel:
        for name in (FIRST, SECOND):
            panel.change("vmhostnode.edit", name=name)
        assert [(row["id"], row["name"]) for row in panel.rows("vmhostnode")] == [("1", FIRST), ("2", SECOND)]
        yield panel


def vmwatch(panel: Panel, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VMWATCH_URL": panel.url, "VMWATCH_PASSWORD": ADMIN[1]}
    return subprocess.run(
        [command("vmwatch"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def test_the_page_says_which_node_it_means_by_its_number(panel: Panel) -> None:
    text = requests.get(panel.url, params={"func": "vmhostnode"}, auth=ADMIN, timeout=60).text
    rows = re.findall(r'<tr data-key="(\d+)".*?</tr>', text, re.DOTALL)
    meant = re.findall(r'name="elid" value="(\d+)"', text)
    assert (rows, meant) == ([FIRST, SECOND], ["1", "2"])


def test_a_node_is_removed_by_its_name_and_not_by_anothers_number(panel: Panel) -> None:
    assert vmwatch(panel, "node", "remove", SECOND).returncode == 0
    assert [row["name"] for row in panel.rows("vmhostnode")] == [FIRST]
    again = vmwatch(panel, "node", "remove", SECOND)
    assert (again.returncode, again.stderr.strip()) == (1, f"vmwatch: there is no node {SECOND}")
    assert [row["name"] for row in panel.rows("vmhostnode")] == [FIRST]


def test_how_a_node_is_reached_is_said_of_the_one_of_that_name(panel: Panel) -> None:
    vmwatch(panel, "node", "add", SECOND, "--manual")
    assert {row["name"]: row["reach"] for row in panel.rows("vmhostnode")} == {FIRST: "", SECOND: "manual"}


def test_maintenance_is_that_of_the_node_of_that_name(panel: Panel) -> None:
    vmwatch(panel, "maintenance", SECOND, "--for", "1h")
    assert [row["id"] for row in panel.rows("vmwatch.maintenance")] == [SECOND]
    vmwatch(panel, "maintenance", SECOND, "--end")
    assert panel.rows("vmwatch.maintenance") == []
