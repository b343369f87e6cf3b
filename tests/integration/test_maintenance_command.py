"""Maintenance through the command, the API, the page and the marks on the panel's host; it ends by itself."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.test_panel_api import VIEWER, set_user
from tests.testbed.heart import Heart
from tests.testbed.service import command
from tests.testbed.stack import ADMIN, Panel
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import NODE
from vmwatch.shared.maintenance import Maintenance, read_maintenance, write_maintenance

LIMIT_S = 120.0


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    with Panel(tmp_path_factory.mktemp("panel")) as panel, Heart(panel, interval_s=3600.0):
        wait_until(lambda: panel.rows("vmhostnode"), "the node")
        panel.change("vmhostnode.edit", elid=NODE, reach="local")
        yield panel


@pytest.fixture(autouse=True)
def ended(panel: Panel) -> Iterator[None]:
    yield
    for subject in (NODE, "vmwatch-master"):
        panel.change("vmwatch.maintenance.edit", elid=subject, end="on")


def vmwatch(panel: Panel, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VMWATCH_URL": panel.url, "VMWATCH_PASSWORD": ADMIN[1]}
    return subprocess.run(
        [command("vmwatch"), "maintenance", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def mark(panel: Panel, program: str) -> Maintenance | None:
    return read_maintenance(panel.prefix / "var" / "run" / f"{program}.maintenance")


def page(panel: Panel) -> str:
    return requests.get(panel.url, params={"func": "vmhostnode"}, auth=ADMIN, timeout=60).text


def test_a_node_that_is_called_master_is_not_taken_for_the_master(panel: Panel) -> None:
    elid = panel.change("vmhostnode.edit", name="master")["tparams"]["elid"]["$"]
    try:
        refused = vmwatch(panel, "master", "--for", "1h")
        assert refused.returncode == 1
        assert "there is a node master as well: vmwatch-master or the node's number is allowed" in refused.stderr
        assert vmwatch(panel, elid, "--for", "1h").returncode == 0
        assert [row["object"] for row in panel.rows("vmwatch.maintenance")] == ["master"]
        vmwatch(panel, elid, "--end")
    finally:
        panel.change("vmhostnode.delete", elid=elid)


def test_it_is_begun_shown_everywhere_and_ended(panel: Panel) -> None:
    done = vmwatch(panel, NODE, "--for", "2h", "--reason", "new disks")
    assert (done.returncode, done.stdout[: len(NODE) + 23]) == (0, f"{NODE}: in maintenance until ")
    (row,) = panel.rows("vmwatch.maintenance")
    assert (row["object"], row["by"], row["reason"]) == (NODE, ADMIN[0], "new disks")
    assert panel.rows("vmhostnode")[0]["maintenance"] == row["until"]
    assert "maintenance until" in page(panel)
    assert vmwatch(panel).stdout.startswith(f"{NODE}\t{row['until']}\t{ADMIN[0]}\tnew disks")
    found = mark(panel, "vmwatch-node")
    assert found is not None
    assert (found.by, found.reason) == (ADMIN[0], "new disks")
    assert mark(panel, "vmwatch-master") is None
    assert vmwatch(panel, NODE, "--end").stdout == f"{NODE}: not in maintenance\n"
    assert panel.rows("vmwatch.maintenance") == []
    assert panel.rows("vmhostnode")[0]["maintenance"] == ""
    assert "maintenance until" not in page(panel)
    assert mark(panel, "vmwatch-node") is None


def test_the_masters_is_shown_on_the_page_and_marked_for_the_probe(panel: Panel) -> None:
    assert vmwatch(panel, "master", "--for", "90m").returncode == 0
    assert [row["object"] for row in panel.rows("vmwatch.maintenance")] == ["vmwatch-master"]
    assert 'vmwatch-master: <span><span class="maintenance">' in page(panel)
    assert mark(panel, "vmwatch-master") is not None
    assert mark(panel, "vmwatch-node") is None


@pytest.mark.parametrize("time", ["0", "31d"])
def test_a_time_that_is_not_allowed_is_told_in_the_operators_words(panel: Panel, time: str) -> None:
    refused = vmwatch(panel, NODE, "--for", time)
    assert (refused.returncode, refused.stderr) == (1, f"vmwatch: --for '{time}': from 1s to 30d is allowed\n")


def test_it_ends_by_itself(panel: Panel) -> None:
    panel.change("vmwatch.maintenance.edit", elid=NODE, **{"for": "1"})
    wait_until(lambda: not panel.rows("vmwatch.maintenance"), "the end", LIMIT_S)
    assert panel.rows("vmhostnode")[0]["maintenance"] == ""
    assert mark(panel, "vmwatch-node") is None
    assert f"the maintenance of {NODE} is over" in panel.log


def test_a_restart_of_the_panel_forgets_none_and_restores_a_lost_mark(panel: Panel) -> None:
    panel.change("vmwatch.maintenance.edit", elid=NODE, **{"for": "3600"})
    before = panel.rows("vmwatch.maintenance")
    (panel.prefix / "var" / "run" / "vmwatch-node.maintenance").unlink()
    panel.restart_after_kill()
    assert panel.rows("vmwatch.maintenance") == before
    wait_until(lambda: mark(panel, "vmwatch-node"), "the mark", LIMIT_S)


def test_a_viewer_may_look_and_not_begin_one(panel: Panel) -> None:
    set_user(panel, *VIEWER, "viewer")
    form = {"func": "vmwatch.maintenance.edit", "out": "json", "elid": NODE, "for": "60", "sok": "ok"}
    doc = requests.post(panel.url, data=form, auth=VIEWER, timeout=60).json()["doc"]
    assert doc["error"]["$type"] == "access"
    query = {"func": "vmwatch.maintenance", "out": "json"}
    assert "elem" in requests.get(panel.url, params=query, auth=VIEWER, timeout=60).json()["doc"]


@pytest.mark.parametrize(
    ("fields", "kind", "named"),
    [
        ({"elid": "kvm-99", "for": "60"}, "missed", "vmhostnode"),
        ({"elid": NODE}, "value", "for"),
        ({"elid": NODE, "for": "60", "end": "on"}, "value", "for"),
        ({"elid": NODE, "for": "99999999"}, "value", "for"),
        ({"elid": NODE, "for": "60", "reason": "a\nb"}, "value", "reason"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_begins(panel: Panel, fields: dict[str, str], kind: str, named: str) -> None:
    error = panel.change("vmwatch.maintenance.edit", **fields)["error"]
    assert (error["$type"], error["$object"]) == (kind, named)
    assert panel.rows("vmwatch.maintenance") == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([NODE], "--for TIME or --end is needed"),
        ([NODE, "--for", "2h", "--end"], "not both"),
        ([NODE, "--for", "soon"], "2h, 90m or 1d12h is allowed"),
        (["--end"], "a node's name or master is allowed"),
        (["kvm-99", "--for", "2h"], "there is no vmhostnode 'kvm-99'"),
    ],
)
def test_a_mistake_at_the_command_is_named(panel: Panel, arguments: list[str], named: str) -> None:
    done = vmwatch(panel, *arguments)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mark_is_read_as_it_was_written_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "run" / "vmwatch-node.maintenance"
    assert read_maintenance(path) is None
    write_maintenance(path, Maintenance(1000.5, "op", "two\nlines"))
    assert read_maintenance(path, now=1000.0) == Maintenance(1000.5, "op", "two lines")
    assert read_maintenance(path, now=1000.5) is None
