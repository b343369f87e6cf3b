"""The System V scripts through `service`, on folders of their own: what they say, boot and shutdown, what hangs."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.initspace import needs_sysv
from tests.testbed.managers import BIN, UnderSysv, hand_over, status, wait_serving, write_node
from tests.testbed.stack import SECRET, SERVICE, Panel, short_folder
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared import conffile
from vmwatch.shared.services import SERVICES, ServiceError

pytestmark = needs_sysv()

MASTER, NODE, PANEL = SERVICES


@pytest.fixture(scope="module")
def machine() -> Iterator[UnderSysv]:
    folder = short_folder()
    folder.mkdir(mode=0o755)
    prefix = folder / "p"
    try:
        prefix.mkdir()
        panel = Panel(prefix)
        values = {
            "listen": f"tcp://127.0.0.1:{free_port_pair()}",
            "secret": SECRET,
            "panel_url": panel.url,
            "panel_user": SERVICE[0],
            "panel_password": SERVICE[1],
            "workers": "1",
        }
        conffile.write(prefix / "etc" / "vmwatch-master.conf", values)
        with UnderSysv(prefix) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def node(machine: UnderSysv) -> Iterator[UnderSysv]:
    """With a node that is configured and does not run."""
    write_node(machine.prefix)
    yield machine
    machine.manager.stop(NODE)


def service(machine: UnderSysv, action: str) -> tuple[int, str]:
    """`service vmwatch-node ACTION`: its exit code and what it printed."""
    done = machine.space.run("service", NODE, action)
    return done.returncode, done.stdout + done.stderr


def test_its_status_has_the_exit_codes_of_the_linux_standard_base(node: UnderSysv) -> None:
    assert service(node, "status") == (3, f"{NODE}: does not run\n")
    assert service(node, "start")[0] == 0
    pid = wait_serving(node, NODE)
    assert service(node, "status") == (0, f"{NODE}: runs (process {pid})\n")
    assert service(node, "start") == (0, f"{NODE}: runs already (process {pid})\n")
    node.space.run("kill", "-KILL", str(pid))
    wait_until(lambda: service(node, "status")[0] == 1, "its end to be seen")
    assert service(node, "stop") == (0, f"{NODE}: does not run\n")
    assert service(node, "status")[0] == 3
    assert service(node, "try-restart")[0] == 0
    assert service(node, "status")[0] == 3
    assert service(node, "reload")[0] == 7
    assert service(node, "dance")[0] == 2


def test_what_is_not_configured_is_not_started_and_that_is_no_failure(node: UnderSysv) -> None:
    (node.prefix / "etc" / "vmwatch-node.conf").unlink()
    code, text = service(node, "start")
    assert code == 0
    assert "is not configured" in text
    assert service(node, "status")[0] == 3


def test_a_wrong_configuration_is_named_at_once(node: UnderSysv) -> None:
    write_node(node.prefix, stats_interval="often")
    code, text = service(node, "start")
    assert code == 6
    assert "stats_interval" in text
    assert service(node, "status")[0] == 3
    with pytest.raises(ServiceError, match="its configuration is wrong"):
        node.manager.start(NODE)


def test_a_disabled_service_is_told_to_have_ended(node: UnderSysv) -> None:
    write_node(node.prefix, disabled="yes")
    code, text = service(node, "start")
    assert code == 0
    assert "disabled" in text
    assert service(node, "status")[0] == 3


def test_only_root_starts_it_and_only_what_is_installed(node: UnderSysv) -> None:
    script = f"/etc/init.d/{NODE}"
    done = node.space.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", script, "start")
    assert done.returncode == 4
    defaults = node.space.path(f"/etc/default/{NODE}")
    before = defaults.read_text()
    try:
        defaults.write_text(f"{before}DAEMON=/nowhere/{NODE}\n")
        assert service(node, "start")[0] == 5
        defaults.write_text(f"{before}RUN_AS=no-such-user\n")
        assert service(node, "start")[0] == 5
    finally:
        defaults.write_text(before)


def test_what_hangs_is_killed(node: UnderSysv) -> None:
    defaults = node.space.path(f"/etc/default/{NODE}")
    before = defaults.read_text()
    try:
        defaults.write_text(f"{before}STOP_S=1\n")
        service(node, "start")
        pid = wait_serving(node, NODE)
        node.space.run("kill", "-STOP", str(pid))
        code, text = service(node, "stop")
        assert (code, "is killed" in text) == (0, True)
        assert service(node, "status")[0] == 3
    finally:
        defaults.write_text(before)


def test_a_start_does_not_wait_for_a_fifo_in_place_of_the_services_own_pid_file(node: UnderSysv) -> None:
    """Its user may put one there; the program here is one that leaves it."""
    defaults, program = node.space.path(f"/etc/default/{NODE}"), node.prefix / NODE
    own = node.prefix / "var" / "run" / f"{NODE}.pid"
    before = defaults.read_text()
    try:
        own.unlink(missing_ok=True)  # of a run that was killed
        os.mkfifo(own, 0o644)
        program.write_text('#!/bin/sh\nexec tail -f "$0"\n')
        program.chmod(0o755)
        defaults.write_text(f"{before}DAEMON={program}\nREADY_S=1\n")
        done = node.space.run("timeout", "30", "service", NODE, "start")
        assert done.returncode == 0, done.stdout + done.stderr
        assert service(node, "status")[0] == 0
        assert service(node, "stop")[0] == 0
    finally:
        defaults.write_text(before)
        own.unlink()


@needs_libvirtd()
def test_a_stop_that_comes_while_the_agent_starts_again_is_not_lost(node: UnderSysv, tmp_path: Path) -> None:
    log = node.prefix / "var" / f"{NODE}.log"
    with TestDriverDaemon(tmp_path / "libvirt") as libvirtd:
        write_node(node.prefix, libvirt_uri=libvirtd.uri)
        service(node, "start")
        wait_until(lambda: status(node.prefix, NODE).get("libvirt", {}).get("connected"), "it to be connected")
        said = log.read_text().count("starts again")
        libvirtd.kill()
        wait_until(lambda: log.read_text().count("starts again") > said, "it to start again")
        code, text = service(node, "stop")
        assert (code, text) == (0, f"{NODE}: stopped\n")


def test_actions_that_cross_leave_one_process_which_the_script_knows(node: UnderSysv) -> None:
    log = node.prefix / "var" / f"{NODE}.log"
    service(node, "start")
    said = len(log.read_text())
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda action: service(node, action), ("restart", "start", "restart", "restart", "start")))
    assert [code for code, _ in done] == [0] * 5, done
    pid = wait_serving(node, NODE)
    assert service(node, "status") == (0, f"{NODE}: runs (process {pid})\n")
    assert service(node, "stop") == (0, f"{NODE}: stopped\n")
    text = log.read_text()[said:]
    assert "already running" not in text
    assert "second signal" not in text
    assert not any("killed" in printed for _, printed in done)


def test_the_links_boot_all_three_and_shut_them_down(machine: UnderSysv) -> None:
    write_node(machine.prefix)
    hand_over(machine.prefix)
    for name in SERVICES:
        machine.manager.enable(name)
    etc = machine.space.path("/etc")
    starting = sorted(link.name for link in (etc / "rc2.d").glob("S*vmwatch-*"))
    assert sorted(name[3:] for name in starting) == sorted(SERVICES)
    for name in starting:
        done = machine.space.run(f"/etc/rc2.d/{name}", "start")
        assert done.returncode == 0, done.stdout + done.stderr
    for name in SERVICES:
        wait_serving(machine, name)
    stopping = sorted(link.name for link in (etc / "rc0.d").glob("K*vmwatch-*"))
    assert sorted(name[3:] for name in stopping) == sorted(SERVICES)
    for name in stopping:
        assert machine.space.run(f"/etc/rc0.d/{name}", "stop").returncode == 0
    for name in SERVICES:
        assert machine.space.run("service", name, "status").returncode == 3
        assert "ends with exit code 0" in (machine.prefix / "var" / f"{name}.log").read_text()
    left = machine.space.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert str(BIN) not in left
