"""Which process holds a pid file: only what the kernel says as well is believed."""

import os
from pathlib import Path

import pytest

from vmwatch.shared.pidfile import PidFile
from vmwatch.shared.stray import holder


def test_who_holds_it_is_found_for_as_long_as_he_does(tmp_path: Path) -> None:
    path = tmp_path / "run" / "vmwatch-node.pid"
    assert holder(path) == 0
    with PidFile(path):
        assert holder(path) == os.getpid()
    assert holder(path) == 0


def test_a_number_without_a_lock_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "vmwatch-node.pid"
    path.write_text(f"{os.getpid()}\n")
    assert holder(path) == 0


@pytest.mark.parametrize("text", ["1", "-1", "", "0", "many", str(2**70)])
def test_another_number_than_that_of_who_has_the_lock_is_not_believed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vmwatch-node.pid"
    with PidFile(path):
        path.write_text(text)
        assert holder(path) == 0


def test_the_lock_of_another_file_is_not_believed_through_a_link(tmp_path: Path) -> None:
    with PidFile(tmp_path / "other.pid"):
        (tmp_path / "soft.pid").symlink_to(tmp_path / "other.pid")
        assert holder(tmp_path / "soft.pid") == 0
        (tmp_path / "hard.pid").hardlink_to(tmp_path / "other.pid")
        assert holder(tmp_path / "hard.pid") == 0
