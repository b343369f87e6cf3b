"""`vmwatch-periodic` and `vmwatch status` with a real panel: exit codes, one run at a time, a panel that comes late."""

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.test_panel_api import VIEWER, set_user
from tests.testbed.heart import Heart
from tests.testbed.service import command
from tests.testbed.stack import ADMIN, SERVICE, Panel
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import NODE
from vmwatch.healthcheck.periodic import main
from vmwatch.shared import conffile, hostfile
from vmwatch.shared.exits import Exit
from vmwatch.shared.hostfile import EXTERNAL, HostSettings

LIMIT_S = 120.0
CRON = Path(__file__).parents[2] / "packaging" / "cron" / "vmwatch"
UNLESS = "systemctl --quiet is-active vmwatch-periodic"
"""Where systemd's timers do the same."""


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    with Panel(tmp_path_factory.mktemp("panel")) as panel:
        yield panel


@pytest.fixture
def prefix(panel: Panel) -> Path:
    configure(panel)
    return panel.prefix


def configure(panel: Panel, **changes: str) -> None:
    account = {"panel_url": panel.url, "panel_user": SERVICE[0], "panel_password": SERVICE[1]}
    conffile.write(panel.prefix / "etc" / "vmwatch-master.conf", {"secret": "A" * 32} | account | changes)


def periodic(prefix: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("vmwatch-periodic"), "--prefix", str(prefix), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


def status(panel: Panel, *arguments: str) -> tuple[int, dict[str, list[str]]]:
    """Exit code, and each object's row of the table."""
    environment = {**os.environ, "VMWATCH_URL": panel.url, "VMWATCH_PASSWORD": ADMIN[1]}
    done = subprocess.run(
        [command("vmwatch"), "status", *arguments], capture_output=True, text=True, timeout=120, env=environment
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return done.returncode, {row[1]: row for row in rows}


def test_the_nodes_are_checked_and_the_table_shows_it(panel: Panel, prefix: Path) -> None:
    with Heart(panel, interval_s=3600.0):
        wait_until(lambda: panel.rows("vmhostnode"), "the node")
        panel.change("vmhostnode.edit", elid=NODE, reach="manual")
        assert (periodic(prefix, "node").returncode, periodic(prefix, "node").stdout) == (Exit.OK, "")
        done = periodic(prefix, "node", "--verbose")
        assert (done.returncode, done.stdout) == (Exit.OK, f"{NODE}: ok: by its signs of life\n")
        code, rows = status(panel)
        assert code == Exit.OK
        assert rows[NODE][:3] == ["vmwatch-node", NODE, "active"]
        assert rows[NODE][7] == "ok"
        assert rows["vmwatch-master"][:3] == ["vmwatch-master", "vmwatch-master", "active"]
        # Nothing starts services below this prefix, so the master could not be configured for the node.
        unfinished = {"type": "vmwatch_master_stopped", "state": "unsolved"}
        wait_until(lambda: panel.rows("problems", **unfinished), "what could not be configured to be told")
        assert panel.rows("problems", **unfinished)[0]["description"].startswith("not configured: ")
        assert status(panel, "--strict")[0] == Exit.FAILURE
        panel.change("vmwatch.maintenance.edit", elid="vmwatch-master", **{"for": "3600"})
        assert status(panel, "--strict")[0] == Exit.OK
        # No agent runs below this prefix: the probe says in which way.
        panel.change("vmhostnode.edit", elid=NODE, reach="local")
        done = periodic(prefix, "node", "--verbose")
        assert done.returncode == Exit.OK
        assert re.match(f"{NODE}: (missing|misconfigured|stopped): ", done.stdout)
        (problem,) = panel.rows("problems", type="vmwatch_node_stopped", state="open")
        assert problem["object"] == NODE
        assert "vmwatch_node_stopped" in status(panel)[1][NODE][9]
        assert status(panel, "--strict")[0] == Exit.FAILURE
        panel.change("vmwatch.maintenance.edit", elid=NODE, **{"for": "3600"})
        assert status(panel, "--strict")[0] == Exit.OK
        assert periodic(prefix, "node", "--verbose").stdout.startswith(f"{NODE}: maintenance: until ")
        panel.change("vmwatch.maintenance.edit", elid="vmwatch-master", end="on")


def test_the_master_is_checked(panel: Panel, prefix: Path) -> None:
    done = periodic(prefix, "master", "--verbose")
    assert done.returncode == Exit.OK
    assert done.stdout.startswith("vmwatch-master: ")
    assert [row["object"] for row in panel.rows("problems", type="vmwatch_master_stopped", state="open")] == [
        "vmwatch-master"
    ]
    assert "vmwatch-master: " in (prefix / "var" / "vmwatch-periodic.log").read_text()


def test_a_panel_that_comes_back_within_the_run_is_called_again(panel: Panel, prefix: Path) -> None:
    panel.terminate()
    log = prefix / "var" / "vmwatch-periodic.log"
    running = subprocess.Popen([command("vmwatch-periodic"), "--prefix", str(prefix), "node"], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: log.exists() and "tried again" in log.read_text(), "a first call in vain", LIMIT_S)
    finally:
        panel.start()
    assert running.wait(LIMIT_S) == Exit.OK


def test_a_panel_that_stays_away_is_told_in_the_exit_code(tmp_path: Path, panel: Panel) -> None:
    (tmp_path / "etc").mkdir()
    url = "http://127.0.0.1:1/vmmgr"
    conffile.write(tmp_path / "etc" / "vmwatch-master.conf", {"secret": "A" * 32, "panel_url": url})
    done = periodic(tmp_path, "node", "--retry", "0")
    assert (done.returncode, done.stdout) == (Exit.FAILURE, "")
    assert done.stderr == f"vmwatch-periodic: {url} cannot be reached: Connection refused\n"


def test_a_second_run_at_the_same_time_does_nothing_and_another_kind_is_not_kept(panel: Panel, prefix: Path) -> None:
    lock = prefix / "var" / "run" / "vmwatch-periodic-node.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = periodic(prefix, "node")
        assert done.returncode == Exit.FAILURE
        assert "another run is under way" in done.stderr
        assert periodic(prefix, "master").returncode == Exit.OK


def test_mistakes_are_named_and_have_their_exit_codes(panel: Panel, prefix: Path, tmp_path: Path) -> None:
    assert periodic(prefix, "everything").returncode == Exit.USAGE
    assert periodic(prefix, "node", "--retry", "soon").returncode == Exit.USAGE
    missing = periodic(tmp_path, "node")
    assert missing.returncode == Exit.CONFIGURATION
    assert "vmwatch-master.conf: cannot be read" in missing.stderr
    configure(panel, panel_user="nobody")
    wrong = periodic(prefix, "node")
    assert wrong.returncode == Exit.FAILURE
    assert "the name or the password is wrong" in wrong.stderr
    assert "Traceback" not in missing.stderr + wrong.stderr


def test_where_nothing_is_configured_yet_cron_is_left_in_peace(tmp_path: Path) -> None:
    done = periodic(tmp_path, "--if-configured", "node")
    assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, "", "")


def test_where_another_panel_is_in_charge_cron_does_not_call_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No panel answers there; one that is called would be missed."""
    (tmp_path / "etc").mkdir()
    values = {"secret": "A" * 32, "panel_url": "http://127.0.0.1:1/vmmgr"}
    conffile.write(tmp_path / "etc" / "vmwatch-master.conf", values)
    monkeypatch.setattr(hostfile, "load", lambda: HostSettings(EXTERNAL, str(tmp_path)))
    words = ["node", "--prefix", str(tmp_path), "--retry", "0"]
    assert main([*words, "--if-configured"]) == Exit.OK
    assert main(words) == Exit.FAILURE


def test_only_a_service_may_have_services_checked_and_only_a_viewer_see_the_table(panel: Panel) -> None:
    set_user(panel, *VIEWER, "viewer")
    for who, func, kind in ((VIEWER, "periodic", "access"), (SERVICE, "vmwatch.status", "access")):
        form = {"func": func, "out": "json", "interval": "5"}
        doc = requests.post(panel.url, data=form, auth=who, timeout=60).json()["doc"]
        assert doc["error"]["$type"] == kind
    error = panel.change("periodic", interval="7")["error"]
    assert (error["$type"], error["$object"]) == ("value", "interval")


def test_cron_runs_what_is_installed_every_hour_and_every_five_minutes() -> None:
    lines = [line.split(maxsplit=6) for line in CRON.read_text().splitlines() if re.match(r"[0-9*]", line)]
    assert [(" ".join(line[:5]), line[5], line[6]) for line in lines] == [
        ("7 * * * *", "root", f"{UNLESS}-master.timer 2>/dev/null || vmwatch-periodic --if-configured master"),
        ("*/5 * * * *", "root", f"{UNLESS}-node.timer 2>/dev/null || vmwatch-periodic --if-configured node"),
    ]
