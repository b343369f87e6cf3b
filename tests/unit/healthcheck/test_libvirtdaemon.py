"""Which of libvirt's daemons the probe names: by real processes and sockets."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.unit.healthcheck.samples import changed, facts, node_status
from vmwatch.healthcheck.answer import document
from vmwatch.healthcheck.facts import DaemonFacts
from vmwatch.healthcheck.figures import Thresholds
from vmwatch.healthcheck.libvirtdaemon import find_daemon
from vmwatch.healthcheck.verdict import judge


@pytest.fixture
def virtqemud(short_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that name."""
    program = short_path / "virtqemud"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    process = subprocess.Popen([str(program), "600"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    "uri", ["qemu+ssh://root@192.0.2.7/system", "qemu+tls://kvm-02/system", "test:///default", "qemu://[broken"]
)
def test_of_another_machine_s_libvirt_or_one_without_a_daemon_nothing_is_said(uri: str) -> None:
    assert find_daemon(uri) is None


def test_the_running_daemon_that_the_socket_s_name_means_is_named(virtqemud: subprocess.Popen[bytes]) -> None:
    found = find_daemon("qemu+unix:///system?socket=/nowhere/virtqemud-sock-ro")
    assert found is not None
    alone = len([process for process in psutil.process_iter(["name"]) if process.info["name"] == "virtqemud"]) == 1
    assert (found.name, found.socket) == ("virtqemud", "")
    assert found.pid == virtqemud.pid or not alone


def test_a_socket_names_the_daemon_that_would_be_started(short_path: Path) -> None:
    if any(process.info["name"] == "virtqemud" for process in psutil.process_iter(["name"])):
        pytest.skip("a virtqemud runs on this machine")
    path = short_path / "virtqemud-sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(str(path))
        assert find_daemon(f"qemu+unix:///system?socket={path}") == DaemonFacts("virtqemud", socket=str(path))
    path.unlink()
    assert find_daemon(f"qemu+unix:///system?socket={path}") == DaemonFacts()


@pytest.mark.parametrize(
    ("daemon", "well", "ill"),
    [
        (DaemonFacts("libvirtd", 7), "libvirt answers (libvirtd, 12 domains)", "; libvirtd runs as process 7"),
        (DaemonFacts("virtqemud"), "libvirt answers (virtqemud, 12 domains)", "; virtqemud runs"),
        (
            DaemonFacts("virtqemud", socket="/run/s"),
            "libvirt answers (virtqemud, 12 domains)",
            "; virtqemud does not run, its socket /run/s is there",
        ),
        (DaemonFacts(), "libvirt answers (12 domains)", "; neither libvirtd nor virtqemud is found on this machine"),
        (None, "libvirt answers (12 domains)", "cannot be reached"),
    ],
)
def test_the_daemon_is_named_where_it_answers_and_where_it_does_not(
    daemon: DaemonFacts | None, well: str, ill: str
) -> None:
    found = facts(daemon=daemon)
    verdict = judge(found, Thresholds({}, {}))
    assert well in verdict.text
    told = document(verdict, found, 0.0)["libvirt_daemon"]
    assert told == ({"name": daemon.name, "pid": daemon.pid, "socket": daemon.socket} if daemon else None)
    status = changed(node_status(), "libvirt", "connected", to=False)
    assert judge(facts(daemon=daemon, status=status), Thresholds({}, {})).findings[0].text.endswith(ill)
