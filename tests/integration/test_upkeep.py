"""What the packages' scripts have done with the services, under a real supervisord and without one."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.service import Service
from tests.testbed.stack import short_folder
from tests.testbed.supervised import Machine, PanelHost, environment
from tests.testbed.waiting import wait_until
from vmwatch.shared.upkeep import helpers

PANEL = "vmwatch-panel"


def upkeep(prefix: Path, *words: str) -> tuple[int, str]:
    """Exit code, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "vmwatch.shared.upkeep", *words, "--prefix", str(prefix)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    folder = short_folder()
    try:
        with PanelHost(folder, "test:///default") as running:
            running.wait_panel()
            running.conf("vmwatch-node").unlink()
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_an_upgrade_starts_again_what_runs_by_its_own_service_manager(machine: Machine) -> None:
    before = machine.state(PANEL).pid
    code, told = upkeep(machine.prefix, "restart", PANEL)
    assert (code, told) == (0, f"{PANEL}: was started again by {machine.manager.name}\n")
    assert machine.state(PANEL).pid not in (0, before)


def test_an_upgrade_leaves_what_does_not_run(machine: Machine) -> None:
    assert upkeep(machine.prefix, "restart", "vmwatch-node") == (
        0,
        "vmwatch-node: does not run, and is not started\n",
    )


def test_an_installation_starts_nothing_that_is_not_configured_or_is_disabled(machine: Machine) -> None:
    assert upkeep(machine.prefix, "start", "vmwatch-node") == (
        0,
        "vmwatch-node: is not started before it is configured\n",
    )
    conf = machine.conf("vmwatch-master")
    conf.write_text("disabled=yes\n")
    try:
        code, told = upkeep(machine.prefix, "start", "vmwatch-master")
        assert (code, told) == (0, f"vmwatch-master: is not started: disabled=yes in {conf}\n")
    finally:
        conf.unlink()


def test_a_removal_stops_it_and_an_installation_brings_it_back(machine: Machine) -> None:
    assert upkeep(machine.prefix, "stop", PANEL)[0] == 0
    assert not machine.state(PANEL).is_up
    assert upkeep(machine.prefix, "start", PANEL)[0] == 0
    wait_until(lambda: machine.state(PANEL).is_up, "the panel to run again")


def test_what_no_service_manager_has_started_is_named_at_an_upgrade_and_ended_at_a_removal(machine: Machine) -> None:
    assert upkeep(machine.prefix, "stop", PANEL)[0] == 0
    with Service(PANEL, machine.prefix) as panel:
        code, told = upkeep(machine.prefix, "restart", PANEL)
        assert code == 1
        assert f"{PANEL}: process {panel.pid} runs the version before" in told
        assert not panel.process_ended()
        code, told = upkeep(machine.prefix, "stop", PANEL)
        assert (code, told) == (0, f"{PANEL}: is stopped: process {panel.pid}\n")
        assert panel.wait() == 0


def test_a_removal_of_the_panel_waits_for_what_root_does_for_it(machine: Machine) -> None:
    assert upkeep(machine.prefix, "stop", PANEL)[0] == 0
    words = (str(Path(sys.executable).with_name("vmwatch-servicectl")), "--prefix", str(machine.prefix))
    # It waits for its request until its standard input ends.
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as helper:
        wait_until(lambda: helper.pid in helpers(machine.prefix), "it to be seen")
        removal = subprocess.Popen(
            [sys.executable, "-I", "-m", "vmwatch.shared.upkeep", "stop", PANEL, "--prefix", str(machine.prefix)],
            env=environment(),
            stdout=subprocess.DEVNULL,
        )
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                removal.wait(3)
            assert helper.stdin is not None
            helper.stdin.close()
            assert helper.wait(60)
            assert removal.wait(60) == 0
        finally:
            removal.kill()
            removal.wait()
    assert not helpers(machine.prefix)
