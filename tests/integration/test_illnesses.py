"""Illnesses of docs/health.md that no other test provokes, such as a full disk of the panel."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.independent_node import IndependentNode
from tests.testbed.daemon import can_mask
from tests.testbed.probe import Answer, found, probe, run_probe, wait_probe
from tests.testbed.service import Service, command
from tests.testbed.stack import SECRET, Panel, Stack, short_folder
from tests.testbed.waiting import wait_until

DISK_KIB = 1024
FILL_BYTES = 4096
NODE = "kvm-ill"
VM = {"uuid": "6f1f2c1e-2d55-4f5a-9b1e-6a3d3d0b8a11", "name": "web"}


class SmallDiskPanel(Panel):
    """Its database lies on a disk of its own that has little room; only in its mount namespace the disk is there."""

    def __init__(self, prefix: Path) -> None:
        super().__init__(prefix)
        self.disk, self.seed = prefix / "disk", prefix / "seed"
        self.disk.mkdir()
        self.seed.mkdir()
        for path in (prefix / "var").glob("vmwatch-panel.db*"):
            path.rename(self.seed / path.name)
        with (prefix / "etc" / "vmmgr.conf").open("a") as conf:
            conf.write(f"PanelDatabase sqlite:///{self.disk}/vmwatch-panel.db\n")

    def launch(self) -> None:
        mounted = f'mount -t tmpfs -o size={DISK_KIB}k tmpfs "{self.disk}"'
        script = f'{mounted} && cp -a "{self.seed}/." "{self.disk}" && exec "$@"'
        program = [command(self.program), "--prefix", str(self.prefix)]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--", "sh", "-c", script, "sh", *program],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def fill(self) -> Path:
        """Until nothing more finds room; the file that takes it all."""
        path = Path(f"/proc/{self.pid}/root{self.disk}/filling")
        with path.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(FILL_BYTES))
            except OSError:
                return path


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A panel with a small disk, and a master."""
    folder = short_folder()
    try:
        made = Stack(folder)
        made.panel = SmallDiskPanel(made.prefix)
        made.write_master(workers="1")
        with made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def alone() -> Iterator[Stack]:
    """A panel and a master, and no node."""
    folder = short_folder()
    try:
        with Stack(folder, workers=1) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(not can_mask(), reason="needs root and mount namespaces")
def test_a_panel_whose_disk_is_full_takes_nothing_and_goes_on_when_there_is_room(stack: Stack) -> None:
    assert isinstance(stack.panel, SmallDiskPanel)
    node = IndependentNode(NODE, SECRET, stack.port)
    try:

        def beat() -> None:
            node.send()
            node.receive()

        def told(event: str) -> None:
            node.add({"type": "event", "vm": VM, "event": event, "detail": "booted", "state": "running"})

        def settled() -> bool:
            beat()
            return not node.rows

        told("started")
        wait_until(settled, "a message to be settled while there is room")
        filling = stack.panel.fill()

        def ill() -> bool:
            if not node.rows or len(node.rows) < 200:  # each is small: what SQLite had left over is soon used up
                told("started")
            beat()
            return "panel" in found(probe("master", stack.prefix))

        wait_until(ill, "the probe to tell of the panel", timeout_s=180)
        assert node.rows  # what was not committed is the node's still
        sent = node.next_seq - 1
        filling.unlink()
        wait_until(settled, "all to be settled", timeout_s=180)
        wait_until(lambda: probe("master", stack.prefix)["code"] == 0, "the probe to be content", timeout_s=180)
        assert len(stack.panel.events()) == sent
    finally:
        node.close()


def test_a_file_that_became_wrong_is_a_warning_while_the_service_runs(alone: Stack) -> None:
    conf = alone.prefix / "etc" / "vmwatch-master.conf"
    right = conf.read_text()
    assert run_probe("master", alone.prefix, "--wait", "120").returncode == 0
    conf.write_text(f"{right}memory_mb=much\n")
    try:
        answer = probe("master", alone.prefix)
        assert found(answer) == {"configuration": "WARNING"}
        assert "memory_mb" in answer["text"]
    finally:
        conf.write_text(right)
    assert probe("master", alone.prefix)["code"] == 0


def test_a_service_whose_descriptors_run_out_is_told_before_they_do(alone: Stack) -> None:
    answer = wait_probe(
        "master", alone.prefix, lambda answer: "descriptors" in found(answer), "the figure", "-c", "descriptors=~:0"
    )
    assert found(answer)["descriptors"] == "CRITICAL"
    answer = probe("master", alone.prefix, "-c", "memory=~:1000")
    assert found(answer)["memory"] == "CRITICAL"


@pytest.mark.skipif(not can_mask(), reason="needs root and mount namespaces")
def test_a_program_that_is_not_installed_is_missing(short_path: Path) -> None:
    program = command("vmwatch-node")
    hide = 'mount --bind /dev/null "$1" && shift && exec "$@"'
    run = [command("vmwatch-healthcheck"), "node", "--prefix", str(short_path)]
    kept = {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin"))}
    done = subprocess.run(
        ["unshare", "--mount", "--", "sh", "-c", hide, "sh", program, *run],
        capture_output=True,
        text=True,
        env=kept,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "missing" in done.stdout
    assert "missing" not in subprocess.run(run, capture_output=True, text=True, timeout=120, check=False).stdout


def test_a_loop_that_hangs_in_a_write_is_told_and_goes_on_when_it_can(short_path: Path) -> None:
    """Its log is a pipe that nobody reads, as a disk that hangs is; its status is told by another thread."""
    stack = Stack(short_path, workers=1)
    pipe = short_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        with Service("vmwatch-master", stack.prefix, "--log-file", str(pipe)) as master:
            until_blocked(lambda: os.write(reader, bytes(4096)))
            until_blocked(lambda: os.write(reader, b"."))
            master.signal(signal.SIGHUP)  # it logs what it has read again
            thresholds = ("-w", "turn_age=~:1", "-c", "turn_age=~:2")

            def hangs(answer: Answer) -> bool:
                return found(answer).get("turn_age") == "CRITICAL"

            wait_probe("master", stack.prefix, hangs, "the hang", *thresholds)
            until_blocked(lambda: os.read(reader, 65536))
            wait_until(lambda: master.status["turn_age_s"] < 2, "the loop to turn again")
    finally:
        os.close(reader)


def until_blocked(act: Callable[[], object]) -> None:
    try:
        while True:
            act()
    except BlockingIOError:
        pass
