"""The shells that look at files, sockets and processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.shared.test_statussocket import listening
from vmwatch.healthcheck.facts import Answer, Config, PidFileFacts
from vmwatch.healthcheck.gather import ask, is_installed, read_config
from vmwatch.healthcheck.processes import look_at, read_pid_file
from vmwatch.shared.pidfile import PidFile
from vmwatch.shared.statussocket import StatusSocket

MASTER = "vmwatch-master"
NODE = "vmwatch-node"
NOBODY = 65534


@pytest.mark.parametrize(
    ("program", "text", "kind"),
    [
        (NODE, "connect=tcp://127.0.0.1:1\nsecret=ABCDEFGHIJKLMNOP\nnode_id=a\n", Config.RIGHT),
        (NODE, "connect=tcp://127.0.0.1:1\nsecret=ABCDEFGHIJKLMNOP\nnode_id=a\ndisabled=yes\n", Config.DISABLED),
        (NODE, "secret=ABCDEFGHIJKLMNOP\n", Config.WRONG),
        (MASTER, "secret=ABCDEFGHIJKLMNOP\n", Config.RIGHT),
        (MASTER, "secret=ABCDEFGHIJKLMNOP\npanel_ca=/no/such/file\n", Config.WRONG),
        (MASTER, "disabled=perhaps\nsecret=ABCDEFGHIJKLMNOP\n", Config.WRONG),
    ],
)
def test_a_configuration_is_judged_as_the_service_judges_it(
    tmp_path: Path, program: str, text: str, kind: Config
) -> None:
    path = tmp_path / "x.conf"
    path.write_text(text)
    found = read_config(program, path)
    assert found.kind is kind
    assert bool(found.text) is (kind is Config.WRONG)


def test_no_configuration_is_absent(tmp_path: Path) -> None:
    assert read_config(NODE, tmp_path / "x.conf").kind is Config.ABSENT


def test_each_way_a_status_socket_can_fail_is_told_apart(short_path: Path) -> None:
    path = short_path / "s"
    assert ask(path, 60)[0] is Answer.ABSENT
    left_over = socket.socket(socket.AF_UNIX)
    left_over.bind(str(path))
    left_over.close()
    assert ask(path, 60)[0] is Answer.REFUSED
    path.unlink()
    with listening(path, lambda client: client.sendall(b"?")):
        assert ask(path, 60)[0] is Answer.GARBLED
    path.unlink()
    with listening(path, None):
        assert ask(path, 0.5)[0] is Answer.SILENT


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_status_socket_and_a_file_of_somebody_else_are_not_his_to_see(short_path: Path) -> None:
    config = short_path / "x.conf"
    config.write_text("")
    config.chmod(0o600)
    served = StatusSocket(short_path / "s", lambda: {"a": 1})
    served.start()
    try:
        assert ask(short_path / "s", 60)[0] is Answer.GIVEN
        code = (
            "import os, sys\nfrom pathlib import Path\n"
            "from vmwatch.healthcheck.gather import ask, read_config\n"
            f"os.setuid({NOBODY})\n"
            f"print(ask(Path({str(short_path / 's')!r}), 60)[0].value)\n"
            f"print(read_config('vmwatch-node', Path({str(config)!r})).kind.value)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["forbidden", "unreadable"]
    finally:
        served.close()


def test_who_holds_the_pid_file_open_is_known_by_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    with PidFile(path):
        written = read_pid_file(path)
        assert written is not None
        assert written.pid == os.getpid()
        own = look_at(os.getpid(), path)
        assert own is not None
        assert own.holds_pid_file is True
        assert own.started <= written.written
        assert own.memory_bytes
        assert own.descriptors
        (tmp_path / "other.pid").write_text("1\n")
        other = look_at(os.getpid(), tmp_path / "other.pid")
        assert other is not None
        assert other.holds_pid_file is False


def test_a_number_that_no_process_has_is_none(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert look_at(ended.pid, tmp_path / "x") is None
    assert look_at(2**40, tmp_path / "x") is None


@pytest.mark.parametrize("text", ["", "x\n", "-5\n"])
def test_a_pid_file_without_a_number_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.pid"
    path.write_text(text)
    found = read_pid_file(path)
    assert isinstance(found, PidFileFacts)
    assert found.pid == 0


def test_what_lies_beside_the_interpreter_is_installed() -> None:
    assert is_installed("vmwatch-node")
    assert not is_installed("vmwatch-no-such-program")
