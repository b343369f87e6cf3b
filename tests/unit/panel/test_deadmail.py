"""What lies among the dead letters: counted by node as soon as it is there, and until it is gone."""

from pathlib import Path

import pytest

from vmwatch.panel.complaints import Lying
from vmwatch.panel.deadmail import DeadMail
from vmwatch.shared import letters
from vmwatch.shared.letters import Letter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vmwatch-master.dead"


def letter(node: str, seq: int, reason: str = "no") -> bytes:
    return letters.encode([Letter("2026-01-01T00:00:00+00:00", node, 7, seq, reason)])


def test_where_there_is_no_file_nobody_can_say(path: Path) -> None:
    assert DeadMail(path).look() is None


def test_letters_are_counted_by_node_as_they_come_and_go(path: Path) -> None:
    mail = DeadMail(path)
    letters.append(path, letter("kvm-01", 1) + letter("kvm-02", 5, "why"))
    assert mail.look() == {"kvm-01": Lying(1, 1, "no"), "kvm-02": Lying(1, 5, "why")}
    letters.append(path, letter("kvm-01", 3, "again"))
    assert mail.look() == {"kvm-01": Lying(2, 3, "again"), "kvm-02": Lying(1, 5, "why")}
    letters.rewrite(path, lambda line: b"kvm-01" not in line.text)
    assert mail.look() == {"kvm-02": Lying(1, 5, "why")}
    letters.rewrite(path, lambda line: False)
    assert mail.look() == {}
    path.unlink()
    assert mail.look() is None


def test_half_a_line_counts_when_it_is_whole_and_what_is_none_never_does(path: Path) -> None:
    mail, line = DeadMail(path), letter("kvm-01", 1)
    path.write_bytes(b"no letter\n" + line[:20])
    assert mail.look() == {}
    path.write_bytes(b"no letter\n" + line)
    assert mail.look() == {"kvm-01": Lying(1, 1, "no")}
