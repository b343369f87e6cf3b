"""Which process the packages' scripts may end: what a service's user writes in its folder sends root after no other."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmwatch.shared.paths import Paths
from vmwatch.shared.pidfile import PidFile
from vmwatch.shared.upkeep import restart, running


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path, "vmwatch-node")
    made.pid.parent.mkdir(parents=True)
    return made


@pytest.fixture
def other() -> Iterator[int]:
    """A process that is none of the services."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def test_a_service_runs_as_long_as_it_holds_its_pid_file(paths: Paths) -> None:
    with PidFile(paths.pid):
        assert running(paths) == os.getpid()
    assert running(paths) == 0


def test_the_number_of_a_process_that_does_not_hold_the_locked_pid_file_is_not_believed(
    paths: Paths, other: int
) -> None:
    paths.pid.write_text(f"{other}\n")
    with paths.pid.open() as planted:
        fcntl.flock(planted, fcntl.LOCK_EX)
        assert running(paths) == 0


@pytest.mark.timeout(30)
def test_a_fifo_in_place_of_the_pid_file_is_no_service_that_runs_and_nothing_waits_for_it(paths: Paths) -> None:
    os.mkfifo(paths.pid)
    assert restart(paths) == "does not run, and is not started"
