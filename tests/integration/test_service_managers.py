"""The same tests for all three service managers: supervisord, System V and systemd, each of them real."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.initspace import needs_systemd, needs_sysv
from tests.testbed.managers import Host, UnderSystemd, UnderSysv, status, wait_serving, write_node
from tests.testbed.stack import short_folder
from tests.testbed.supervised import Machine
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.shared.exits import Exit
from vmwatch.shared.services import ServiceError, ServiceState

NODE = "vmwatch-node"
HOSTS = [
    pytest.param(Machine, id="supervisord"),
    pytest.param(UnderSysv, id="sysv", marks=needs_sysv()),
    pytest.param(UnderSystemd, id="systemd", marks=needs_systemd()),
]
QUIET_S = 2.0
"""A manager that starts something again does so within a second or two; this only ever gives it the chance."""


@pytest.fixture(scope="module", params=HOSTS)
def machine(request: pytest.FixtureRequest) -> Iterator[Host]:
    make: Callable[[Path], Host] = request.param
    folder = short_folder()
    folder.mkdir(mode=0o755)
    try:
        with make(folder / "p") as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def host(machine: Host) -> Iterator[Host]:
    """The machine, with a node that is configured and does not run."""
    write_node(machine.prefix)
    machine.manager.enable(NODE)
    machine.manager.stop(NODE)
    yield machine
    machine.manager.stop(NODE)


def test_what_it_does_not_know_is_missing_and_stopping_that_is_no_error(machine: Host) -> None:
    assert machine.manager.status("vmwatch-nothing").state is ServiceState.MISSING
    machine.manager.stop("vmwatch-nothing")
    with pytest.raises(ServiceError, match="vmwatch-nothing"):
        machine.manager.start("vmwatch-nothing")
    with pytest.raises(ServiceError, match="vmwatch-nothing"):
        machine.manager.enable("vmwatch-nothing")


def test_a_service_is_started_once_started_again_and_stopped(host: Host) -> None:
    assert not host.manager.status(NODE).is_up
    host.manager.start(NODE)
    pid = wait_serving(host, NODE)
    assert host.manager.status(NODE).state is ServiceState.RUNNING
    host.manager.start(NODE)
    assert host.manager.status(NODE).pid == pid
    host.manager.restart(NODE)
    wait_serving(host, NODE, other_than=pid)
    host.manager.stop(NODE)
    stopped = host.manager.status(NODE)
    assert (stopped.state, stopped.pid) == (ServiceState.STOPPED, 0)
    assert not status(host.prefix, NODE)
    host.manager.stop(NODE)


def test_reloading_has_it_read_its_file_in_the_same_process(host: Host) -> None:
    host.manager.start(NODE)
    pid = wait_serving(host, NODE)
    write_node(host.prefix, heartbeat_interval="3")
    host.manager.reload(NODE)
    log = host.prefix / "var" / f"{NODE}.log"
    wait_until(lambda: "heartbeat_interval has changed" in log.read_text(), "the file to be read")
    assert host.manager.status(NODE).pid == pid


def test_waiting_for_libvirt_is_running(host: Host) -> None:
    host.manager.start(NODE)
    pid = wait_serving(host, NODE)
    wait_until(lambda: status(host.prefix, NODE)["libvirt"]["open_failures"] > 1, "it to find no libvirt")
    assert host.manager.status(NODE).state is ServiceState.RUNNING
    assert host.manager.status(NODE).pid == pid


def test_a_disabled_service_ends_without_a_failure_and_stays_so(host: Host) -> None:
    write_node(host.prefix, disabled="yes")
    log = host.prefix / "var" / f"{NODE}.log"
    before = log.read_text().count("is disabled") if log.exists() else 0
    host.manager.start(NODE)
    wait_until(lambda: log.read_text().count("is disabled") > before, "it to say so")
    wait_until(lambda: not host.manager.status(NODE).is_up, "it to end")
    assert host.manager.status(NODE).state in (ServiceState.ENDED, ServiceState.STOPPED)
    time.sleep(QUIET_S)
    assert log.read_text().count("is disabled") == before + 1


def test_a_wrong_configuration_is_not_tried_again_and_is_told(host: Host) -> None:
    write_node(host.prefix, stats_interval="often")
    with contextlib.suppress(ServiceError):  # supervisord starts it, and only sees it end
        host.manager.start(NODE)
    wait_until(lambda: not host.manager.status(NODE).is_up, "it to end")
    time.sleep(QUIET_S)
    ended = host.manager.status(NODE)
    assert ended.state in (ServiceState.ENDED, ServiceState.STOPPED)
    assert ended.code in (Exit.CONFIGURATION, 0)
    write_node(host.prefix)
    host.manager.start(NODE)
    wait_serving(host, NODE)


@needs_libvirtd()
def test_the_loss_of_libvirtd_is_followed_by_a_new_run_each_time(host: Host, tmp_path: Path) -> None:
    log = host.prefix / "var" / f"{NODE}.log"
    with TestDriverDaemon(tmp_path / "libvirt") as libvirtd:
        write_node(host.prefix, libvirt_uri=libvirtd.uri)
        host.manager.start(NODE)
        for _ in range(2):
            wait_serving(host, NODE)
            wait_until(lambda: status(host.prefix, NODE).get("libvirt", {}).get("connected"), "it to be connected")
            lost = log.read_text().count("was lost")
            libvirtd.kill()
            wait_until(lambda lost=lost: log.read_text().count("was lost") > lost, "it to miss libvirt")  # type: ignore[misc]
            wait_until(lambda: status(host.prefix, NODE).get("phase") == "running", "it to run again")
            assert host.manager.status(NODE).state in (ServiceState.RUNNING, ServiceState.STARTING)
            libvirtd.start()


def test_what_is_enabled_is_started_at_boot_until_it_is_disabled(host: Host) -> None:
    assert _starts_at_boot(host)
    host.manager.start(NODE)
    wait_serving(host, NODE)
    host.manager.disable(NODE)
    assert not host.manager.status(NODE).is_up
    assert not _starts_at_boot(host)
    host.manager.enable(NODE)
    assert _starts_at_boot(host)
    if host.manager.status(NODE).is_up:
        wait_serving(host, NODE)  # supervisord loses a stop that comes between its fork and exec


def _starts_at_boot(host: Host) -> bool:
    if isinstance(host, UnderSystemd):
        return host.space.run("systemctl", "is-enabled", NODE).stdout.strip() == "enabled"
    if isinstance(host, UnderSysv):
        return bool(list(host.space.path("/etc").glob(f"rc2.d/S*{NODE}")))
    return (host.prefix / "conf.d" / f"{NODE}.conf").exists()


def test_a_killed_agent_is_started_again_or_told_to_have_ended(host: Host) -> None:
    host.manager.start(NODE)
    pid = wait_serving(host, NODE)
    if isinstance(host, UnderSysv):
        host.space.run("kill", "-KILL", str(pid))
        wait_until(lambda: host.manager.status(NODE).state is ServiceState.ENDED, "its end to be seen")
        host.manager.start(NODE)  # as the panel's check does, which finds it stopped
    elif isinstance(host, UnderSystemd):
        host.space.run("kill", "-KILL", str(pid))
    else:
        os.kill(pid, signal.SIGKILL)
    wait_serving(host, NODE, other_than=pid)
