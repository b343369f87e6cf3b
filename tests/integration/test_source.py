"""The libvirt source on a real libvirtd: an opening that fails half-way leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.testdriver import TestDriverDaemon

# In a process of its own: a process has one event loop of libvirt, for good.
HALF_OPENED = """
import sys, time
import libvirt
from vmwatch.node.source import Source
from vmwatch.shared.clock import SystemClock

failures = int(sys.argv[2])

class Refusing(Source):
    def _register(self, connection, kind, number):
        global failures
        if kind == "control_error" and failures:
            failures -= 1
            raise libvirt.libvirtError("this daemon is too old for it")
        return super()._register(connection, kind, number)

clock = SystemClock()
source = Refusing(sys.argv[1], clock, lambda: None)
source.start()
while source.connection is None:
    source.turn(clock.monotonic())
    time.sleep(0.02)
other = libvirt.open(sys.argv[1])
other.lookupByName("vm1").create()
other.lookupByName("vm1").destroy()
happened = []
while len(happened) < 2:  # started, stopped
    happened += source.take()
    time.sleep(0.02)
time.sleep(0.5)  # for what should not come
happened += source.take()
print(len(happened), len({(h.kind, h.numbers) for h in happened}))
source.loop.stop()
"""


@pytest.mark.parametrize("failures", [0, 2])
def test_after_openings_that_failed_half_way_each_event_is_told_once(tmp_path: Path, failures: int) -> None:
    """A callback that stays registered keeps its connection open after `close`, and tells everything once more."""
    with TestDriverDaemon(tmp_path / "libvirt", domains=("vm1",)) as daemon:
        command = [sys.executable, "-c", HALF_OPENED, daemon.uri, str(failures)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told, different = map(int, done.stdout.split())
    assert told == different == 2
