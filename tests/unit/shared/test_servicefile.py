"""A service's file put in place: never a wrong one, never without need, the last good one beside it."""

import stat
from pathlib import Path

import pytest

from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.servicefile import bad_path, good_path, place
from vmwatch.shared.settings import NodeSettings

CHANGES: dict[str, str | None] = {"connect": "tcp://10.0.0.1:1515", "node_id": "a", "secret": "S" * 32}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "vmwatch-node.conf"


def test_a_new_file_is_its_owners_alone_and_nothing_is_kept_beside_it(path: Path) -> None:
    placed = place(path, NodeSettings, CHANGES)
    assert placed.written
    assert placed.before is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_right_is_not_touched(path: Path) -> None:
    place(path, NodeSettings, CHANGES)
    before = path.stat()
    placed = place(path, NodeSettings, CHANGES)
    assert not placed.written
    assert placed.differing() == set()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_last_good_file_is_kept_and_what_differs_is_told(path: Path) -> None:
    place(path, NodeSettings, CHANGES)
    first = path.read_text()
    placed = place(path, NodeSettings, CHANGES | {"secret": "T" * 32})
    assert placed.differing() == {"secret"}
    assert good_path(path).read_text() == first
    assert stat.S_IMODE(good_path(path).stat().st_mode) == 0o600


def test_a_file_that_others_can_read_is_closed_and_no_setting_differs(path: Path) -> None:
    place(path, NodeSettings, CHANGES)
    path.chmod(0o644)
    placed = place(path, NodeSettings, CHANGES)
    assert placed.differing() == set()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_spoiled_file_is_mended_from_the_last_good_one_and_kept_for_its_author(path: Path) -> None:
    place(path, NodeSettings, CHANGES | {"stats_interval": "60"})
    place(path, NodeSettings, CHANGES | {"stats_interval": "60", "log_level": "debug"})
    spoiled = path.read_text().replace("stats_interval=60", "stats_interval=often")
    path.write_text(spoiled)
    placed = place(path, NodeSettings, CHANGES)
    assert placed.before is None
    assert placed.after.stats_interval == 60
    assert placed.after.log_level == "debug"
    assert bad_path(path).read_text() == spoiled
    assert "stats_interval" in placed.dropped[0]
    assert "stats_interval=60" in good_path(path).read_text()


def test_a_file_that_is_lost_comes_back_with_all_that_its_last_good_one_said(path: Path) -> None:
    place(path, NodeSettings, CHANGES | {"log_level": "debug"})
    place(path, NodeSettings, CHANGES | {"stats_interval": "60"})
    path.unlink()
    assert place(path, NodeSettings, CHANGES).after.log_level == "debug"


def test_a_wrong_change_writes_nothing(path: Path) -> None:
    place(path, NodeSettings, CHANGES)
    before = path.read_text()
    with pytest.raises(ConfigurationError, match="node_id: 'a b' is not allowed"):
        place(path, NodeSettings, CHANGES | {"node_id": "a b"})
    assert path.read_text() == before
    assert not good_path(path).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"etc/vmwatch-node.conf: cannot be (read|written)"):
        place(tmp_path / "etc" / "vmwatch-node.conf", NodeSettings, CHANGES)
