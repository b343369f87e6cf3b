"""The event listener under a real supervisord, with a real panel: what is given up is a problem at once."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.test_supervisord import CONF_D, Supervisord, proxy_start
from tests.testbed.service import command
from tests.testbed.stack import SERVICE, Panel, Row
from tests.testbed.waiting import free_port, wait_until

LISTENER = "vmwatch-eventlistener"
LIMIT_S = 120.0
FASTER = """\
import sys, time
real, begun = time.time, time.time()
time.time = lambda: begun + 120 * (real() - begun)
from supervisor.supervisord import main
main(sys.argv[1:])
"""


class Listened(Supervisord):
    """A supervisord with our services but for the panel, which runs beside it, and with the listener."""

    number = 0

    def __init__(self, prefix: Path, panel: Panel) -> None:
        # A node of its own: problems that come and go again and again are not what is tested here.
        Listened.number += 1
        self.node = f"kvm-{Listened.number:02d}"
        super().__init__(prefix)
        self.panel = panel
        (prefix / "conf.d" / "vmwatch-panel.conf").unlink()
        (prefix / "conf.d" / f"{LISTENER}.conf").write_bytes((CONF_D / f"{LISTENER}.conf").read_bytes())
        self.configure_master()

    def configure_master(self, **changes: str) -> None:
        panel = getattr(self, "panel", None)
        account = {"panel_user": SERVICE[0], "panel_password": SERVICE[1]}
        super().configure_master(**account, **({"panel_url": panel.url} if panel else {}), **changes)

    def configure_node(self, **changes: str) -> None:
        super().configure_node(node_id=self.node, **changes)

    def problems(self, kind: str, subject: str = "") -> list[Row]:
        """The open ones about the node, or another `subject`."""
        return self.panel.rows("problems", type=kind, state="open", object=subject or self.node)

    def edit(self, service: str, before: str, after: str) -> None:
        """Change a line of a program file."""
        path = self.prefix / "conf.d" / f"{service}.conf"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def give_up(self, service: str) -> None:
        """Let supervisord find that it cannot start it, and lose patience quickly."""
        self.edit(service, f"command={service}", f"command={self.prefix}/absent")
        self.edit(service, "startretries=60", "startretries=1")

    @property
    def listener_log(self) -> str:
        path = self.prefix / "var" / f"{LISTENER}.log"
        return path.read_text() if path.exists() else ""


class OverTcp(Listened):
    """It serves HTTP on a port, with a password, and no UNIX socket. Which services run is asked of the listener."""

    account = 'environment=SUPERVISOR_USERNAME="ops",SUPERVISOR_PASSWORD="p:w@rd"'

    def __init__(self, prefix: Path, panel: Panel) -> None:
        super().__init__(prefix, panel)
        path = prefix / "supervisord.conf"
        server = f"[inet_http_server]\nport = 127.0.0.1:{free_port()}\nusername = ops\npassword = p:w@rd\n"
        path.write_text(path.read_text().replace(f"[unix_http_server]\nfile = {prefix}/s.sock\n", server))
        if self.account:
            self.edit(LISTENER, "autostart=true", f"autostart=true\n{self.account}")


class WithoutAccount(OverTcp):
    """Nobody has given the listener its password."""

    account = ""


class Hurried(Listened):
    """On a clock that runs faster: ten of supervisord's minutes pass while a test looks on."""

    launched = ("-c", FASTER)


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    with Panel(tmp_path_factory.mktemp("panel")) as panel:
        yield panel


@pytest.fixture
def supervisord(request: pytest.FixtureRequest, short_path: Path, panel: Panel) -> Iterator[Listened]:
    made = getattr(request, "param", Listened)(short_path, panel)
    try:
        yield made
    finally:
        made.kept.close()


@pytest.mark.parametrize("supervisord", [Hurried], indirect=True)
def test_services_that_cannot_be_started_are_problems_at_once_and_solved_when_they_run(
    supervisord: Listened, panel: Panel
) -> None:
    supervisord.give_up("vmwatch-master")
    supervisord.give_up("vmwatch-node")
    supervisord.kept.start()
    (row,) = wait_until(lambda: supervisord.problems("vmwatch_node_stopped"), "the node's problem", LIMIT_S)
    assert (row["object"], row["level"]) == (supervisord.node, "error")
    assert "FATAL" in row["description"]
    masters = partial(supervisord.problems, "vmwatch_master_stopped", "vmwatch-master")
    (row,) = wait_until(masters, "the master's problem", LIMIT_S)
    # The listener, started anew, still knows what it has reported, and finds what is FATAL.
    listener = supervisord.pid(LISTENER)
    os.kill(listener, signal.SIGKILL)
    wait_until(lambda: supervisord.pid(LISTENER) not in (0, listener), "the listener to be started again")
    absent = supervisord.prefix / "absent"
    absent.write_text("#!/bin/sh\nexec sleep 600\n")
    absent.chmod(0o755)
    for name, kind, subject in (
        ("vmwatch-node", "vmwatch_node_stopped", supervisord.node),
        ("vmwatch-master", "vmwatch_master_stopped", "vmwatch-master"),
    ):
        wait_until(lambda name=name: supervisord.state(name) == "FATAL", f"{name} to be given up")  # type: ignore[misc]
        proxy_start(supervisord, name)
        told = partial(supervisord.problems, kind, subject)
        wait_until(lambda told=told: not told(), "the problem to be solved", LIMIT_S)  # type: ignore[misc]


def test_what_the_panel_could_not_hear_is_told_when_it_is_back(supervisord: Listened, panel: Panel) -> None:
    panel.terminate()
    try:
        supervisord.give_up("vmwatch-node")
        supervisord.kept.start()
        spool = supervisord.prefix / "var" / f"{LISTENER}.json"
        wait_until(lambda: spool.exists() and json.loads(spool.read_text())["news"], "the news to be kept", LIMIT_S)
        wait_until(lambda: "it is told later" in supervisord.listener_log, "it to be said", LIMIT_S)
    finally:
        panel.start()
    wait_until(lambda: supervisord.problems("vmwatch_node_stopped"), "the problem", LIMIT_S)
    wait_until(lambda: json.loads(spool.read_text())["news"] == [], "nothing to wait any more", LIMIT_S)


@pytest.mark.parametrize("supervisord", [Listened, OverTcp], indirect=True)
def test_a_wrong_configuration_is_a_problem_at_once(supervisord: Listened, panel: Panel) -> None:
    supervisord.configure_node(stats_interval="often")
    supervisord.kept.start()
    (row,) = wait_until(lambda: supervisord.problems("vmwatch_node_stopped"), "the problem", LIMIT_S)
    assert "exit code 78" in row["description"]


@pytest.mark.parametrize("supervisord", [WithoutAccount], indirect=True)
def test_a_supervisord_that_may_not_be_asked_is_told_with_what_the_listener_lacks(
    supervisord: Listened, panel: Panel
) -> None:
    supervisord.configure_node(stats_interval="often")
    supervisord.kept.start()
    wait_until(lambda: "401 Unauthorized; where its server has a password" in supervisord.listener_log, "it", LIMIT_S)
    supervisord.configure_node()
    assert supervisord.problems("vmwatch_node_stopped") == []


def test_a_service_that_ends_again_and_again_is_a_problem(supervisord: Listened, panel: Panel) -> None:
    supervisord.edit("vmwatch-node", "command=vmwatch-node", "command=/bin/false")
    supervisord.kept.start()
    (row,) = wait_until(lambda: supervisord.problems("vmwatch_node_stopped"), "the problem", LIMIT_S)
    assert "ended unexpectedly 5 times" in row["description"]
    assert supervisord.state("vmwatch-node") != "FATAL"


@pytest.mark.parametrize("supervisord", [Hurried], indirect=True)
def test_ten_minutes_without_libvirtd_and_a_disabled_service_are_neither_fatal_nor_a_problem(
    supervisord: Listened, panel: Panel
) -> None:
    supervisord.configure_master(disabled="yes")
    supervisord.kept.start()
    pid = supervisord.wait_serving("vmwatch-node")
    wait_until(lambda: supervisord.state("vmwatch-master") == "EXITED", "the disabled master to end")

    def minutes() -> float:
        node = supervisord.processes.get("vmwatch-node", {"now": 0, "start": 0})
        return float(node["now"] - node["start"]) / 60

    wait_until(lambda: minutes() > 10, "ten of supervisord's minutes", LIMIT_S)
    assert supervisord.pid("vmwatch-node") == pid
    assert not supervisord.node_is_connected()
    assert "FATAL" not in supervisord.log
    assert supervisord.state(LISTENER) == "RUNNING"
    assert supervisord.problems("vmwatch_node_stopped") == []
    assert not (supervisord.prefix / "var" / f"{LISTENER}.json").exists()


def test_without_an_account_nothing_is_lost_and_the_log_says_what_is_missing(
    supervisord: Listened, panel: Panel
) -> None:
    (supervisord.prefix / "etc" / "vmwatch-master.conf").unlink()
    supervisord.give_up("vmwatch-node")
    supervisord.kept.start()
    wait_until(lambda: "vmwatch-master.conf: cannot be read" in supervisord.listener_log, "it to be said", LIMIT_S)
    assert supervisord.state(LISTENER) == "RUNNING"
    supervisord.configure_master()
    wait_until(lambda: supervisord.problems("vmwatch_node_stopped"), "the problem", LIMIT_S)


def test_by_hand_it_says_who_starts_it(tmp_path: Path) -> None:
    done = subprocess.run([command(LISTENER), "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(LISTENER)
    ended = subprocess.run(
        [command(LISTENER), "--prefix", str(tmp_path)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, b"READY\n")
