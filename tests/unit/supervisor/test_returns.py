"""Dead letters that are sent again: each is settled before its file forgets it."""

from itertools import count
from pathlib import Path

import pytest

from vmwatch.shared import letters
from vmwatch.supervisor.ledger import Entry, Stream
from vmwatch.supervisor.returns import LOOK_EVERY_S, READ_BYTES, Returns

UUID = "00000000-0000-0000-0000-000000000001"


def line(seq: int, message: str = "", filling: str = "") -> bytes:
    told = message or f'{{"seq":{seq},"prev":0,"type":"event","vm":{{"uuid":"{UUID}","name":"x{filling}"}}}}'
    return f'{{"time":"t","node":"n1","epoch":7,"seq":{seq},"reason":"no","message":{told}}}\n'.encode()


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.returns = Returns(path, count(1).__next__)

    def take(self) -> list[Entry]:
        self.now += LOOK_EVERY_S
        self.returns.flush(self.now)
        return self.returns.take(self.now)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "vmwatch-master.returned")


def test_a_letter_goes_out_as_it_is_in_the_lane_of_its_vm_and_leaves_when_it_is_settled(bench: Bench) -> None:
    letters.append(bench.path, line(5))
    (entry,) = bench.take()
    assert (entry.stream.node, entry.stream.epoch, entry.seq, entry.lane) == ("n1", 7, 5, f"vm {UUID}")
    assert entry.raw.startswith(b'{"seq":5,')
    assert entry.id in bench.returns
    assert bench.take() == []
    assert bench.path.stat().st_size > 0
    assert bench.returns.settle(entry)
    assert bench.take() == []
    assert bench.path.stat().st_size == 0
    assert bench.returns.describe() == {"returning": 0, "returned": 1, "refused_again": 0}


def test_a_message_of_a_node_is_none_of_these(bench: Bench) -> None:
    assert not bench.returns.settle(Entry(99, Stream("n1", 7, 1, 0, 0), 1, "lane", 1, b"{}", ""))


def test_after_a_kill_all_that_the_file_holds_goes_out_again(bench: Bench) -> None:
    letters.append(bench.path, line(1) + line(2))
    first, _ = bench.take()
    bench.returns.settle(first)
    again = Bench(bench.path)
    assert [entry.seq for entry in again.take()] == [1, 2]


def test_what_is_added_meanwhile_follows(bench: Bench) -> None:
    letters.append(bench.path, line(1))
    (first,) = bench.take()
    letters.append(bench.path, line(2))
    bench.returns.settle(first)
    (second,) = bench.take()
    assert second.seq == 2
    bench.returns.settle(second, refused=True)
    assert bench.take() == []
    assert bench.path.stat().st_size == 0
    assert bench.returns.refused == 1


def test_a_large_file_goes_out_in_parts(bench: Bench) -> None:
    size = len(line(1, filling="x" * 1000))
    number = 3 * READ_BYTES // size
    letters.append(bench.path, b"".join(line(seq, filling="x" * 1000) for seq in range(1, number + 1)))
    seen: list[int] = []
    parts = 0
    while taken := bench.take():
        parts += 1
        seen += [entry.seq for entry in taken]
        assert sum(entry.size for entry in taken) <= READ_BYTES
        for entry in taken:
            bench.returns.settle(entry)
    assert seen == list(range(1, number + 1))
    assert parts >= 3
    assert bench.path.stat().st_size == 0


@pytest.mark.parametrize("message", ['"a text"', "{}", '{"seq":9,"prev":0}', "[" * 40 + "]" * 40])
def test_what_is_no_message_of_that_number_stays_behind_and_holds_up_nothing(bench: Bench, message: str) -> None:
    letters.append(bench.path, line(1, message) + line(2))
    assert [entry.seq for entry in bench.take()] == [2]


def test_a_file_that_cannot_be_read_is_tried_again(bench: Bench) -> None:
    bench.path.mkdir()
    assert bench.take() == []
    bench.path.rmdir()
    letters.append(bench.path, line(1))
    assert len(bench.take()) == 1


def test_a_file_that_is_gone_begins_anew(bench: Bench) -> None:
    letters.append(bench.path, line(1))
    (entry,) = bench.take()
    bench.path.unlink()
    bench.returns.settle(entry)
    assert bench.take() == []
    letters.append(bench.path, line(2))
    assert [entry.seq for entry in bench.take()] == [2]
