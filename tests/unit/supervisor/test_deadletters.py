"""Refused messages: on the disk, or not settled."""

import fcntl
import json
from pathlib import Path

import pytest

from vmwatch.supervisor.deadletters import RETRY_S, DeadLetters
from vmwatch.supervisor.ledger import Entry, Stream


def entry(seq: int = 1, raw: bytes = b'{"seq":1}') -> Entry:
    return Entry(seq, Stream("n1", 7, 1, 0, 0), seq, "lane", len(raw), raw, "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vmwatch-master.dead"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_letter_says_whose_it_is_when_and_why(path: Path) -> None:
    letters = DeadLetters(path)
    one = entry(raw=b'{"seq":1,\n "x": 1.50}')
    letters.add(one, "value state: no")
    assert letters.flush(0.0) == [one]
    (letter,) = lines(path)
    assert letter.pop("time")
    assert letter == {"node": "n1", "epoch": 7, "seq": 1, "reason": "value state: no", "message": {"seq": 1, "x": 1.5}}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_message_is_kept_as_it_was_written(path: Path) -> None:
    letters = DeadLetters(path)
    letters.add(entry(raw=b'{"big":123456789012345678901234567890,\n"f":1.10}'), "no")
    letters.flush(0.0)
    assert b'"message":{"big":123456789012345678901234567890,"f":1.10}' in path.read_bytes()


@pytest.mark.parametrize("raw", [b'{"a":"\xff"}', b"{", b"", b"[" * 5000])
def test_what_is_no_json_is_kept_as_text(path: Path, raw: bytes) -> None:
    letters = DeadLetters(path)
    letters.add(entry(raw=raw), "no")
    letters.flush(0.0)
    (letter,) = lines(path)
    assert letter["message"] == raw.decode(errors="replace")


def test_nothing_is_settled_while_it_cannot_be_written(path: Path) -> None:
    path.mkdir()
    letters = DeadLetters(path)
    letters.add(one := entry(), "no")
    assert letters.flush(0.0) == []
    assert "Is a directory" in letters.failure
    path.rmdir()
    assert letters.flush(RETRY_S / 2) == []
    assert letters.flush(RETRY_S) == [one]
    assert letters.failure == ""


def test_it_waits_for_who_rewrites_the_file(path: Path) -> None:
    letters = DeadLetters(path)
    letters.add(one := entry(), "no")
    with path.open("w") as editor:
        fcntl.flock(editor, fcntl.LOCK_EX)
        assert letters.flush(0.0) == []
    assert letters.flush(RETRY_S) == [one]


def test_a_file_that_was_replaced_is_found_again(path: Path) -> None:
    letters = DeadLetters(path)
    letters.add(entry(1), "no")
    letters.flush(0.0)
    new = path.with_suffix(".new")
    new.write_text("")
    new.replace(path)
    letters.add(entry(2), "no")
    letters.flush(0.0)
    assert [letter["seq"] for letter in lines(path)] == [2]


def test_half_a_line_of_a_crash_spoils_no_other(path: Path) -> None:
    path.write_text('{"half')
    letters = DeadLetters(path)
    letters.add(entry(), "no")
    letters.flush(0.0)
    assert json.loads(path.read_text().splitlines()[1])["seq"] == 1


def test_a_full_disk_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = DeadLetters(path)
    letters.add(entry(1), "no")
    letters.flush(0.0)
    before = path.read_bytes()

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    letters.add(two := entry(2), "no")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fail)
        assert letters.flush(0.0) == []
    assert path.read_bytes() == before
    assert letters.flush(RETRY_S) == [two]
    assert [letter["seq"] for letter in lines(path)] == [1, 2]
