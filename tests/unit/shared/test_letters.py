"""Files of letters: whole or not at all, with several who write them."""

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.shared import letters
from vmwatch.shared.letters import Key, Letter, Line

NAMES = st.text("abcXYZ019._-", min_size=1, max_size=64)
COUNTS = st.integers(0, 2**53 - 1)


def line(seq: int) -> bytes:
    return b'{"time":"t","node":"n1","epoch":7,"seq":%d,"reason":"no","message":{"seq":%d}}\n' % (seq, seq)


def seqs(path: Path) -> list[int]:
    return [found.letter.seq for found in letters.read(path) if found.letter is not None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.dead"


@given(NAMES, COUNTS, COUNTS)
def test_a_key_is_read_as_it_is_shown(node: str, epoch: int, seq: int) -> None:
    key = Key(node, epoch, seq)
    assert Key.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", "n1", "n1/2", "n1/a/2", "/1/2", "n1/1/2/3", "n1/-1/2", "n1/1/" + "9" * 30])
def test_what_is_no_key_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="NODE/EPOCH/SEQ"):
        Key.parse(text)


def test_a_message_stays_as_its_node_wrote_it(path: Path) -> None:
    before = b'{"time":"t","node":"n1","epoch":7,"seq":1,"reason":"","message":{"f":1.10,"big":1234567890123456789012}}'
    (found,) = letters.parse(before + b"\n")
    assert found.letter is not None
    letters.append(path, letters.encode([found.letter]))
    assert path.read_bytes() == before + b"\n"


def test_what_is_dropped_goes_and_all_else_stays_as_it_is(path: Path) -> None:
    letters.append(path, line(1) + b'{"half' + b"\n" + line(2))
    assert letters.rewrite(path, lambda found: found.letter is None or found.letter.seq != 1) == 1
    assert path.read_bytes() == b'{"half\n' + line(2)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_nobody_drops_is_not_rewritten(path: Path) -> None:
    letters.append(path, line(1))
    inode = path.stat().st_ino
    assert letters.rewrite(path, lambda found: True) == 0
    assert path.stat().st_ino == inode


def test_a_file_that_is_not_there_has_no_letters_and_is_not_made(path: Path) -> None:
    assert letters.read(path) == []
    assert letters.rewrite(path, lambda found: False) == 0
    with pytest.raises(FileNotFoundError):
        letters.read_from(path, 0, 100)
    assert not path.exists()


def test_a_file_in_use_is_left_alone_and_waited_for_only_so_long(path: Path) -> None:
    letters.append(path, line(1))
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            letters.patiently(lambda: letters.rewrite(path, lambda found: False), timeout_s=0.05)
    assert letters.patiently(lambda: letters.rewrite(path, lambda found: False)) == 1


@given(st.lists(st.integers(0, 10**12), max_size=30), st.integers(1, 200))
def test_pieces_are_whole_lines_and_together_the_file(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], most: int
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "x"
    letters.append(path, b"".join(line(number) for number in numbers))
    offset, found = 0, list[Line]()
    while data := letters.read_from(path, offset, most):
        offset += len(data)
        found += letters.parse(data)
    assert [one.letter.seq for one in found if one.letter] == numbers
    assert len(found) == len(numbers)


def test_only_what_was_read_is_emptied(path: Path) -> None:
    letters.append(path, line(1))
    size = path.stat().st_size
    letters.append(path, line(2))
    assert not letters.empty(path, size)
    assert seqs(path) == [1, 2]
    assert letters.empty(path, path.stat().st_size)
    assert path.read_bytes() == b""


def test_a_file_that_somebody_has_put_in_its_place_is_kept_and_read_from_its_beginning(path: Path) -> None:
    letters.append(path, line(1))
    assert letters.empty(path, 1000)
    assert seqs(path) == [1]


def test_a_message_that_is_a_text_is_not_whole() -> None:
    (found,) = letters.parse(b'{"time":"t","node":"n1","epoch":7,"seq":1,"reason":"no","message":"x"}')
    assert found.letter is not None
    assert not found.letter.is_whole
    assert Letter("t", "n1", 7, 1, "no").is_whole is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(path: Path) -> None:
    os.chown(path.parent, 12345, 12346)
    letters.append(path, line(1) + line(2))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)
    letters.rewrite(path, lambda found: found.letter is not None and found.letter.seq == 1)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_what_root_writes_beside_the_dead_letters_belongs_to_who_has_those(path: Path) -> None:
    letters.append(path, line(1))
    os.chown(path, 12345, 12346)
    beside = path.with_suffix(".returned")
    letters.append(beside, line(1))
    assert (beside.stat().st_uid, beside.stat().st_gid) == (12345, 12346)


def test_a_link_or_a_fifo_in_place_of_the_file_is_refused_and_nothing_is_written(path: Path) -> None:
    other = path.with_name("other")
    other.touch()
    path.symlink_to(other)
    with pytest.raises(OSError):
        letters.append(path, line(1))
    path.unlink()
    path.hardlink_to(other)
    with pytest.raises(PermissionError):
        letters.append(path, line(1))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PermissionError):
        letters.read_from(path, 0, 100)
    assert other.read_bytes() == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_who_has_no_business_there_is_neither_read_nor_written_and_stays_his(path: Path) -> None:
    letters.append(path, line(1))
    planted = path.with_suffix(".returned")
    planted.write_bytes(line(2))
    os.chown(planted, 12345, 12345)
    for act in (lambda: letters.read_from(planted, 0, 100), lambda: letters.append(planted, line(3))):
        with pytest.raises(PermissionError):
            act()
    assert planted.read_bytes() == line(2)
    assert planted.stat().st_uid == 12345
