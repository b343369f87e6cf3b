"""The units as systemd itself runs them: a whole installation behind the hardening, the watchdog, the boot, a timer."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.initspace import needs_systemd
from tests.testbed.managers import UnderSystemd, hand_over, status, wait_serving, write_node
from tests.testbed.stack import SECRET, SERVICE, Panel, short_folder
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared import conffile
from vmwatch.shared.services import SERVICES, ServiceState

pytestmark = needs_systemd()

MASTER, NODE, PANEL = SERVICES
WATCHDOG = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\n"


class Installed(UnderSystemd):
    """With a panel and a master that are configured."""

    def __init__(self, prefix: Path) -> None:
        self.panel = Panel(prefix)
        self.port = free_port_pair()
        super().__init__(prefix)
        values = {
            "listen": f"tcp://127.0.0.1:{self.port}",
            "secret": SECRET,
            "panel_url": self.panel.url,
            "panel_user": SERVICE[0],
            "panel_password": SERVICE[1],
            "workers": "2",
        }
        conffile.write(prefix / "etc" / "vmwatch-master.conf", values)
        hand_over(prefix)

    def systemctl(self, *words: str) -> str:
        done = self.space.run("systemctl", *words)
        assert done.returncode == 0, f"systemctl {words}: {done.stderr}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    folder = short_folder()
    folder.mkdir(mode=0o755)
    try:
        with Installed(folder / "p") as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@needs_libvirtd()
def test_a_whole_installation_works_behind_the_hardening(installed: Installed, tmp_path: Path) -> None:
    with TestDriverDaemon(tmp_path / "libvirt") as libvirtd:
        master = f"tcp://127.0.0.1:{installed.port}"
        write_node(installed.prefix, connect=master, libvirt_uri=libvirtd.uri, heartbeat_interval="1")
        for service in (PANEL, MASTER, NODE):
            installed.manager.start(service)
            wait_serving(installed, service)
        wait_until(lambda: status(installed.prefix, NODE)["libvirt"].get("connected"), "the node to be connected")
        libvirtd.define("behind-walls").create()
        wait_until(lambda: [row for row in installed.panel.events() if row["name"] == "behind-walls"], "its events")
        # What the panel starts works there as well: OpenSSH makes it a key.
        assert "ssh-ed25519" in str(installed.panel.change("vmwatch.configure.sshkey"))
        for service in (NODE, MASTER, PANEL):
            installed.manager.stop(service)
            assert installed.manager.status(service).state is ServiceState.STOPPED
            log = (installed.prefix / "var" / f"{service}.log").read_text()
            assert "Traceback" not in log
            assert "ends with exit code 0" in log


def test_the_watchdog_ends_what_does_not_turn_and_it_is_started_again(installed: Installed) -> None:
    write_node(installed.prefix)
    drop_in = installed.space.path(f"/run/systemd/system/{NODE}.service.d")
    drop_in.mkdir(parents=True)
    (drop_in / "watchdog.conf").write_text(WATCHDOG)
    installed.systemctl("daemon-reload")
    try:
        installed.manager.start(NODE)
        pid = wait_serving(installed, NODE)
        installed.space.run("kill", "-STOP", str(pid))
        wait_serving(installed, NODE, other_than=pid)
        assert int(installed.systemctl("show", "--property=NRestarts", "--value", NODE)) > 0
    finally:
        installed.manager.stop(NODE)
        (drop_in / "watchdog.conf").unlink()
        drop_in.rmdir()
        installed.systemctl("daemon-reload")


def test_what_is_enabled_and_configured_is_started_by_the_boot_and_the_rest_is_no_failure(installed: Installed) -> None:
    (installed.prefix / "etc" / "vmwatch-node.conf").unlink(missing_ok=True)
    for service in SERVICES:
        installed.manager.enable(service)
    installed.systemctl("start", "multi-user.target")
    for service in (PANEL, MASTER):
        wait_serving(installed, service)
    node = installed.manager.status(NODE)
    assert node.state is ServiceState.STOPPED
    assert "not configured" in node.text
    assert installed.systemctl("is-system-running") == "running"  # nothing has failed
    order = {
        service: int(installed.systemctl("show", "--property=ActiveEnterTimestampMonotonic", "--value", service))
        for service in (PANEL, MASTER)
    }
    assert order[PANEL] < order[MASTER]


def test_the_timer_of_a_check_is_armed_and_its_service_makes_the_check(installed: Installed) -> None:
    for service in (PANEL, MASTER):
        installed.manager.start(service)
        wait_serving(installed, service)
    installed.systemctl("start", "vmwatch-periodic-node.timer", "vmwatch-periodic-master.timer")
    for what in ("node", "master"):
        assert installed.systemctl("is-active", f"vmwatch-periodic-{what}.timer") == "active"
        installed.systemctl("start", f"vmwatch-periodic-{what}.service")
        shown = installed.systemctl("show", "--property=Result", "--value", f"vmwatch-periodic-{what}.service")
        assert shown == "success"
    assert (installed.prefix / "var" / "vmwatch-periodic.log").stat().st_uid == installed.user.pw_uid
