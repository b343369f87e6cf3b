"""What the panel has not been told yet: kept in a file of its own, in a folder where others may write."""

import os
from pathlib import Path

import pytest

from vmwatch.healthcheck.spool import News, Spool

NEWS = News("vmwatch_node_stopped", "kvm-01", "is FATAL")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vmwatch-eventlistener.json"


def keep(path: Path) -> None:
    spool = Spool(path)
    spool.add(NEWS)
    spool.save()


def test_what_was_kept_is_known_to_the_next_run(path: Path) -> None:
    keep(path)
    assert Spool(path).news == [NEWS]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_believed(path: Path) -> None:
    keep(path)
    os.chown(path, 12345, 12345)
    assert Spool(path).news == []


def test_a_link_is_neither_followed_nor_written_through(path: Path) -> None:
    other = path.with_name("other.json")
    keep(other)
    before = other.read_text()
    path.symlink_to(other.name)
    assert Spool(path).news == []
    Spool(path).save()
    assert other.read_text() == before
    assert not path.is_symlink()


@pytest.mark.timeout(30)
def test_a_fifo_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    assert Spool(path).news == []
