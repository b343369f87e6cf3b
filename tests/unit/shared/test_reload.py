"""What a SIGHUP changes, and what it leaves as it was."""

import logging
from pathlib import Path

import pytest

from vmwatch.shared import conffile
from vmwatch.shared.reload import Reload
from vmwatch.shared.settings import MasterSettings

GOOD = {"secret": "A" * 32, "workers": "2", "memory_mb": "64"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vmwatch-master.conf"
    conffile.write(path, GOOD)
    return path


@pytest.fixture
def current(path: Path) -> MasterSettings:
    return conffile.load(path, MasterSettings).settings


@pytest.fixture
def reload(path: Path, caplog: pytest.LogCaptureFixture) -> Reload[MasterSettings]:
    caplog.set_level(logging.INFO)
    return Reload(path, lambda path: conffile.load(path, MasterSettings), ("secret", "workers"))


def test_what_can_change_changes_and_the_rest_waits_each_time_until_the_next_start(
    path: Path, current: MasterSettings, reload: Reload[MasterSettings], caplog: pytest.LogCaptureFixture
) -> None:
    conffile.write(path, GOOD | {"workers": "3", "memory_mb": "128"})
    for _ in range(2):
        new = reload.again(current)
        assert new is not None
        assert (new.workers, new.memory_mb) == (3, 64)
        assert "memory_mb has changed; it takes effect at the next start" in caplog.text
        caplog.clear()
        current = new
    conffile.write(path, GOOD)
    assert reload.again(current) == conffile.load(path, MasterSettings).settings


def test_no_secret_is_said(
    path: Path, current: MasterSettings, reload: Reload[MasterSettings], caplog: pytest.LogCaptureFixture
) -> None:
    conffile.write(path, GOOD | {"secret": "B" * 32})
    new = reload.again(current)
    assert new is not None
    assert new.secret == "B" * 32
    assert "secret has changed" in caplog.text
    assert "AAA" not in caplog.text
    assert "BBB" not in caplog.text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("workers=3\nworkers=many\n", ":2: workers: is set a second time"),
        ("workers=many\n", ":1: workers: 'many' is not allowed; a whole number from 1 to 64 is"),
        ("listen=tcp://127.0.0.1:9\nack_listen=tcp://127.0.0.1:9\nsecret=AAAA\n", "ack_listen: is the same as listen"),
        ("workers=3\n", "secret: is missing and required"),
    ],
)
def test_a_wrong_file_changes_nothing_and_says_where(
    path: Path,
    current: MasterSettings,
    reload: Reload[MasterSettings],
    caplog: pytest.LogCaptureFixture,
    lines: str,
    said: str,
) -> None:
    path.write_text(lines)
    assert reload.again(current) is None
    assert f"the configuration is wrong and changes nothing: {path}" in caplog.text
    assert said in caplog.text


def test_a_file_that_is_gone_or_becomes_a_folder_changes_nothing(
    path: Path, current: MasterSettings, reload: Reload[MasterSettings], caplog: pytest.LogCaptureFixture
) -> None:
    path.unlink()
    assert reload.again(current) is None
    assert "No such file or directory" in caplog.text
    path.mkdir()
    assert reload.again(current) is None
    assert "Is a directory" in caplog.text


def test_a_system_error_changes_nothing(
    path: Path, current: MasterSettings, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(path: Path) -> conffile.Loaded[MasterSettings]:
        raise PermissionError(13, "Permission denied", str(path))

    assert Reload(path, fails, ("workers",)).again(current) is None
    assert "changes nothing: [Errno 13] Permission denied" in caplog.text


def test_warnings_are_said_again(
    path: Path, current: MasterSettings, reload: Reload[MasterSettings], caplog: pytest.LogCaptureFixture
) -> None:
    conffile.write(path, GOOD | {"secret": "SHORT", "unknown": "1"})
    assert reload.again(current) is not None
    assert "unknown name 'unknown' is ignored" in caplog.text
    assert "secret: 5 characters are few" in caplog.text
