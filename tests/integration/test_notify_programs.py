"""What the three programs tell systemd, heard on a real datagram socket: ready, turning, stopping, and silence."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.service import command
from tests.testbed.stack import SECRET
from tests.testbed.waiting import free_port, free_port_pair, wait_until
from vmwatch.shared import conffile
from vmwatch.shared.exits import Exit
from vmwatch.shared.statussocket import read_status

SERVICES = ("vmwatch-master", "vmwatch-node", "vmwatch-panel")
LIMIT_S = 1.0
"""Of the watchdog: fed four times in it."""
SILENT_S = 3 * LIMIT_S
F_SETPIPE_SZ = 1031


class Notified:
    """A program that believes that systemd started it. `heard`: what it has told, in order."""

    def __init__(self, program: str, prefix: Path, *arguments: str, stderr: int = subprocess.DEVNULL) -> None:
        self.program = program
        self.prefix = prefix
        self.heard: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(prefix / "notify"))
        self.socket.setblocking(False)
        told = {"NOTIFY_SOCKET": str(prefix / "notify"), "WATCHDOG_USEC": str(int(LIMIT_S * 1e6))}
        self.process = subprocess.Popen(
            [command(program), "--prefix", str(prefix), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **told},
        )

    def count(self, line: str) -> int:
        """How often it has been told so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += self.socket.recv(4096).decode().split("\n")
        return self.heard.count(line)

    def wait(self, line: str, more_than: int = 0) -> None:
        def told() -> bool:
            assert self.process.poll() is None or self.count(line) > more_than, f"it has ended: {self.heard}"
            return self.count(line) > more_than

        wait_until(told, f"{self.program} to tell {line}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(60)
        self.socket.close()
        (self.prefix / "notify").unlink()

    def status(self) -> dict[str, Any]:
        return read_status(self.prefix / "var" / "run" / f"{self.program}.sock")


@pytest.fixture
def prefix(short_path: Path) -> Path:
    """With a configuration for all three; nobody answers at the addresses in it."""
    for folder in ("etc", "var"):
        (short_path / folder).mkdir()
    port = free_port_pair()
    master = {"listen": f"tcp://127.0.0.1:{port}", "secret": SECRET, "panel_password": "x", "workers": "1"}
    uri = f"qemu+unix:///system?socket={short_path}/nobody"
    node = {"connect": f"tcp://127.0.0.1:{port}", "secret": SECRET, "node_id": "kvm-01", "libvirt_uri": uri}
    conffile.write(short_path / "etc" / "vmwatch-master.conf", master)
    conffile.write(short_path / "etc" / "vmwatch-node.conf", node)
    conffile.write_atomically(short_path / "etc" / "vmmgr.conf", f"PanelListen 127.0.0.1:{free_port()}\n")
    return short_path


@pytest.fixture
def started(request: pytest.FixtureRequest, prefix: Path) -> Iterator[Notified]:
    made = Notified(request.param, prefix)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("started", SERVICES, indirect=True)
def test_a_life_is_told_and_the_watchdog_is_silent_while_it_does_not_turn(started: Notified) -> None:
    started.wait("READY=1")
    started.wait("WATCHDOG=1", more_than=3)
    started.process.send_signal(signal.SIGHUP)
    started.wait("RELOADING=1")
    started.wait("READY=1", more_than=1)
    started.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: "T" in Path(f"/proc/{started.process.pid}/stat").read_text().split(")")[-1], "it to stand still")
    told = started.count("WATCHDOG=1")
    time.sleep(LIMIT_S)
    assert started.count("WATCHDOG=1") == told
    started.process.send_signal(signal.SIGCONT)
    started.wait("WATCHDOG=1", more_than=told)
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(60) == Exit.OK
    assert started.count("STOPPING=1") == 1
    assert [line for line in started.heard if line.startswith("STATUS=")]


@pytest.mark.parametrize("program", SERVICES)
def test_a_main_loop_that_hangs_is_not_covered_up_by_threads_that_live(program: str, prefix: Path) -> None:
    """Its log is a pipe that nobody reads: the next line, which the main loop writes after SIGHUP, waits for ever."""
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    made = Notified(program, prefix, "--log-file", "-", stderr=writing)
    try:
        made.wait("READY=1")
        made.wait("WATCHDOG=1", more_than=1)
        _fill(writing, size)
        made.process.send_signal(signal.SIGHUP)
        made.wait("RELOADING=1")
        told = made.count("WATCHDOG=1")
        time.sleep(SILENT_S)
        assert made.count("WATCHDOG=1") - told <= 1
        assert made.status()["program"] == program  # the thread of its status socket answers all the time
    finally:
        made.close()
        os.close(reading)
        os.close(writing)


def _fill(writing: int, size: int) -> None:
    """A blocking write would wait; the other end shares the flag, so a file description of our own is opened."""
    own = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(own, b"x" * size)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(own, b"x")
    finally:
        os.close(own)


@pytest.mark.parametrize("program", ["vmwatch-master", "vmwatch-node"])
def test_a_disabled_service_was_ready_before_it_ended(program: str, prefix: Path) -> None:
    path = prefix / "etc" / f"{program}.conf"
    path.write_text(f"{path.read_text()}disabled=yes\n")
    made = Notified(program, prefix)
    try:
        assert made.process.wait(60) == Exit.OK
        assert made.count("READY=1") == 1
        assert any(line.startswith("STATUS=disabled") for line in made.heard)
    finally:
        made.close()
