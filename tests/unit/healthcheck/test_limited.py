"""A time limit that always holds."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.testbed.waiting import wait_until
from vmwatch.healthcheck.limited import run_limited

Stage = Callable[[str], None]
LONG_S = 600.0


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_the_work_returns_comes_back() -> None:
    assert run_limited(lambda stage: {"answer": 42}, 60) == ({"answer": 42}, "")


def test_much_comes_back_whole() -> None:
    done, _ = run_limited(lambda stage: {"text": "x" * 3_000_000}, 60)
    assert done is not None
    assert len(done["text"]) == 3_000_000


def test_work_that_hangs_is_given_up_and_its_stage_is_named() -> None:
    def work(stage: Stage) -> dict[str, Any]:
        stage("reading something")
        time.sleep(LONG_S)
        return {}

    begun = time.monotonic()
    done, why = run_limited(work, 2.0)
    assert done is None
    assert why == "gave up after 2 s while reading something"
    assert time.monotonic() - begun < LONG_S / 2


def test_work_that_fails_says_how() -> None:
    def work(stage: Stage) -> dict[str, Any]:
        raise LookupError("no such thing")

    done, why = run_limited(work, 60)
    assert done is None
    assert "LookupError: no such thing" in why


def test_work_that_dies_is_told() -> None:
    def work(stage: Stage) -> dict[str, Any]:
        os._exit(9)

    assert run_limited(work, 60) == (None, "the probe ended while starting")


def test_whoever_reads_the_output_waits_for_no_child_that_hangs() -> None:
    """As Nagios does, which reads a plug-in's standard output to its end."""
    program = (
        "import sys, time, signal\n"
        "from vmwatch.healthcheck.limited import run_limited\n"
        "def work(stage):\n"
        "    stage('hanging')\n"
        f"    time.sleep({LONG_S})\n"
        "import os\n"
        "os.kill = lambda pid, number: print(pid, flush=True)\n"  # as if the kernel held the child
        "print(run_limited(work, 1)[1])\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG_S)
    assert time.monotonic() - begun < LONG_S / 2
    pid, told = done.stdout.splitlines()
    assert told == "gave up after 1 s while hanging"
    wait_until(lambda: not is_running(int(pid)), "the child's own alarm to end it")
