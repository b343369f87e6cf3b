"""What the mains share: options, exit codes, one process per pid file, logs that survive logrotate, the status."""

import errno
import json
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed.smalldisk import fill, make_read_only, small_disk
from vmwatch.shared import conffile, logs, program
from vmwatch.shared.backoff import Backoff
from vmwatch.shared.conffile import Loaded, setting
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.exits import Exit
from vmwatch.shared.paths import Paths
from vmwatch.shared.pidfile import PidFile
from vmwatch.shared.statussocket import StatusSocket, read_status


@dataclass(frozen=True)
class Settings:
    colour: str = setting(conffile.one_of("red", "green"), "red")
    disabled: bool = setting(conffile.yes_or_no, False)
    log_level: str = "info"

    def warnings(self) -> list[str]:
        return []


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def run(prefix: Path, text: str, *arguments: str, code: int = 0) -> int:
    (prefix / "etc").mkdir(exist_ok=True)
    config = prefix / "etc" / "vmwatch-test.conf"
    config.write_text(text)
    config.chmod(0o600)
    options = program.parser("vmwatch-test", "For tests.").parse_args(["--prefix", str(prefix), *arguments])

    def load(path: Path) -> Loaded[Settings]:
        return conffile.load(path, Settings)

    def serve(settings: Settings, paths: Paths) -> int:
        if settings.colour == "green":
            raise RuntimeError("a defect")
        return code

    return program.run(options, "vmwatch-test", load, serve)


def log_of(prefix: Path) -> str:
    return (prefix / "var" / "vmwatch-test.log").read_text()


def test_the_exit_code_is_the_services_own(tmp_path: Path) -> None:
    assert run(tmp_path, "", code=Exit.LIBVIRT_LOST) == 69
    assert "ends with exit code 69" in log_of(tmp_path)


def test_a_wrong_file_ends_with_78_and_its_mistake_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "colour=blue\n") == 78
    assert "vmwatch-test.conf:1: colour: 'blue' is not allowed; one of red, green is" in capsys.readouterr().err


def test_disabled_says_so_in_the_log_and_ends_with_0(tmp_path: Path) -> None:
    assert run(tmp_path, "disabled=yes\n", code=70) == 0
    assert "disabled=yes" in log_of(tmp_path)


def test_check_says_what_is_wrong_or_that_all_is_well_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "colour=green\nother=1\n", "--check") == 0
    captured = capsys.readouterr()
    assert "correct" in captured.out
    assert "unknown name 'other'" in captured.err
    assert not (tmp_path / "var").exists()
    assert run(tmp_path, "colour=blue\n", "--check") == 78


def test_a_defect_ends_with_70_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    assert run(tmp_path, "colour=green\n") == 70
    assert "RuntimeError: a defect" in log_of(tmp_path)


def test_a_wrong_command_line_ends_with_64(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "", "--colour")
    assert caught.value.code == 64


def test_a_second_process_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    path = tmp_path / "run" / "x.pid"
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(ConfigurationError, match=f"already running as process {os.getpid()}"):
            PidFile(path).__enter__()
    assert not path.exists()


def test_a_pid_file_left_by_a_killed_process_keeps_nobody_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    path.write_text("1\n")
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_log_goes_on_in_a_new_file_after_logrotate(tmp_path: Path) -> None:
    path = tmp_path / "var" / "x.log"
    logs.set_up(str(path), "info")
    logging.getLogger("x").info("before")
    path.rename(path.with_suffix(".1"))
    logging.getLogger("x").info("after")
    assert "before" in path.with_suffix(".1").read_text()
    assert "after" in path.read_text()
    assert "before" not in path.read_text()


def test_json_lines_have_a_time_with_offset_and_a_message(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    logs.set_up(str(path), "info", "json")
    logging.getLogger("x").warning("two\nlines of %s", "text")
    entry = json.loads(path.read_text())
    assert entry["message"] == "two\nlines of text"
    assert entry["level"] == "warning"
    assert entry["time"][10] == "T"
    assert entry["time"][-6] in "+-"


def test_a_log_that_cannot_be_written_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="log cannot be written"):
        logs.set_up(str(tmp_path / "file" / "x.log"), "info")


def test_a_rate_limit_lets_one_through_and_counts_the_rest() -> None:
    limit = logs.RateLimit(10.0)
    assert [limit.allows(now) for now in (0.0, 1.0, 9.9, 10.0, 11.0)] == [0, None, None, 2, None]


def test_the_status_socket_gives_one_object_and_is_private(short_path: Path) -> None:
    path = short_path / "x.sock"
    status = StatusSocket(path, lambda: {"answer": 42})
    status.start()
    try:
        assert read_status(path) == {"answer": 42}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        status.close()
    assert not path.exists()


def test_a_status_that_cannot_be_told_does_not_end_the_socket(short_path: Path) -> None:
    answers: Iterator[RuntimeError | dict[str, int]] = iter([RuntimeError("a defect"), {"answer": 42}])

    def describe() -> dict[str, int]:
        answer = next(answers)
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    status = StatusSocket(short_path / "x.sock", describe)
    status.start()
    try:
        with pytest.raises(ValueError):
            read_status(short_path / "x.sock")
        assert read_status(short_path / "x.sock") == {"answer": 42}
    finally:
        status.close()


def test_a_path_too_long_for_a_socket_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="107 bytes"):
        StatusSocket(tmp_path / ("x" * 120), dict).start()


def test_back_off_doubles_up_to_its_limit_and_begins_anew_after_a_success() -> None:
    backoff = Backoff(1.0, 8.0)
    waits = [backoff.next_s() for _ in range(10)]
    for wait, most in zip(waits, [1, 2, 4, 8, 8, 8, 8, 8, 8, 8], strict=True):
        assert most / 2 <= wait <= most
    assert backoff.reset() == 10
    assert backoff.next_s() <= 1.0


def test_the_prefix_comes_from_the_option_the_environment_or_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMWATCH_PREFIX", raising=False)
    assert str(Paths.of("vmwatch-node").config) == "/usr/local/mgr5/etc/vmwatch-node.conf"
    monkeypatch.setenv("VMWATCH_PREFIX", "/srv/vmwatch")
    assert str(Paths.of("vmwatch-node").log) == "/srv/vmwatch/var/vmwatch-node.log"
    assert str(Paths.of("vmwatch-node", "/opt/x").socket) == "/opt/x/var/run/vmwatch-node.sock"


class TestDiskThatTakesNothing:
    def test_a_service_starts_on_a_full_disk_since_it_may_be_the_one_that_frees_some(self, tmp_path: Path) -> None:
        with small_disk(tmp_path, 1) as disk:
            fill(disk)
            with PidFile(disk / "x.pid"), pytest.raises(ConfigurationError, match="already running"):
                PidFile(disk / "x.pid").__enter__()

    def test_what_cannot_be_made_now_is_no_wrong_configuration(self, tmp_path: Path) -> None:
        with small_disk(tmp_path, 1) as disk:
            make_read_only(disk)
            assert run(tmp_path, "", "--log-file", str(disk / "x.log")) == Exit.FAILURE

    def test_a_log_that_is_moved_away_meanwhile_is_written_again_when_there_is_room(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with small_disk(tmp_path, 1) as disk:
            path = disk / "x.log"
            logs.set_up(str(path), "info")
            log = logging.getLogger("x")
            others = fill(disk)
            for _ in range(100):
                log.info("no room %s", "x" * 1000)
            path.rename(disk / "x.log.1")
            for _ in range(100):
                log.info("no room either %s", "x" * 1000)
            others.unlink()
            log.info("room")
            assert "room" in path.read_text()
        assert "No space left on device" in capsys.readouterr().err

    def test_a_file_system_that_has_become_read_only_is_no_defect_at_the_end(
        self, short_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, missing_ok: bool = False) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        status = StatusSocket(short_path / "s", dict)
        status.start()
        with PidFile(short_path / "x.pid"):
            monkeypatch.setattr(Path, "unlink", refuse)
            status.close()


def test_what_ends_with_an_error_leaves_its_pid_file_and_so_does_not_seem_to_be_stopped_on_purpose(
    tmp_path: Path,
) -> None:
    pid_file = tmp_path / "var/run/vmwatch-test.pid"
    assert run(tmp_path, "colour=green\n") == Exit.DEFECT
    assert pid_file.exists()
    assert run(tmp_path, "") == Exit.OK
    assert not pid_file.exists()
