"""The outbox on real SQLite: order over restarts, what may be deleted, foreign and damaged files, full disks."""

import errno
import json
import os
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.testbed.smalldisk import fill, small_disk
from vmwatch.node import outbox as outbox_module
from vmwatch.node.outbox import MAX_PAYLOAD_BYTES, Outbox
from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.node.reserve import RESERVE_BYTES, Reserve
from vmwatch.node.schema import VERSION
from vmwatch.node.sender import Held, Row, Wanted
from vmwatch.shared.errors import StoreError
from vmwatch.shared.messages import Inventory, ListedDomain, decode_message, place_payload
from vmwatch.shared.states import State

START_US = 1_700_000_000_000_000
EVERYTHING = Wanted(after=0, count=10**6, size=10**9, at_least_one=True)
LIMIT = 512 * 1024 * 1024


class Time:
    """Microseconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = START_US

    def __call__(self) -> int:
        return self.now


def made(connection: sqlite3.Connection | None = None, time: Time | None = None, limit_bytes: int = LIMIT) -> Outbox:
    return Outbox(connection or sqlite3.connect(":memory:"), "n1", "m1", time or Time(), limit_bytes=limit_bytes)


def opened(folder: Path, node: str = "n1", machine: str = "m1", time: Time | None = None) -> tuple[Outbox, Path | None]:
    return open_outbox(folder / "outbox.db", node, machine, time or Time(), limit_bytes=LIMIT)


def event(text: str = "") -> tuple[str, bytes]:
    return "event", json.dumps({"type": "event", "text": text}).encode()


def events(count: int, size: int = 0) -> list[tuple[str, bytes]]:
    return [event(f"{number:07}" + "x" * size) for number in range(count)]


def statistics(size: int = 0) -> tuple[str, bytes]:
    return "stats", json.dumps({"type": "stats", "text": "x" * size}).encode()


def inventory(token: str = "", domains: int = 0) -> Inventory:
    listed = [ListedDomain("a" * 36, f"vm{number}", State.RUNNING) for number in range(domains)]
    return Inventory(seq=0, time=1.0, as_of=0, domains=listed, token=token)


def all_unsent(epoch: int) -> int:
    return 1


def all_sent(epoch: int) -> int:
    return 10**9


def types(outbox: Outbox) -> list[str]:
    """The types of the rows of the epoch that is to be sent, in order."""
    return [json.loads(row.payload)["type"] for row in outbox.read(EVERYTHING)[1]]


def unused_tokens(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT token FROM message WHERE type = 'inventory'")]


class TestOrder:
    def test_seq_counts_from_1_in_the_order_given(self) -> None:
        outbox = made()
        assert outbox.add([event("a"), event("b")]) == [1, 2]
        assert outbox.add([event("c")]) == [3]
        assert outbox.last_seq == 3
        assert outbox.read(EVERYTHING) == (0, [Row(1, event("a")[1]), Row(2, event("b")[1]), Row(3, event("c")[1])])

    def test_an_empty_outbox_remembers_its_counter_and_its_epoch(self) -> None:
        connection = sqlite3.connect(":memory:")
        first = made(connection)
        first.add([event()])
        first.complete(first.epoch, 1)
        assert connection.execute("SELECT value FROM fact WHERE name = 'seq'").fetchone() == (1,)
        time = Time()
        time.now = 5  # the clock went back to 1970
        assert made(connection, time).epoch > first.epoch

    def test_two_copies_of_an_old_outbox_begin_different_epochs_although_the_clock_went_back(self) -> None:
        """Else the second one's messages would be taken for the first one's, and never be registered."""
        connection = sqlite3.connect(":memory:")
        made(connection)
        time, epochs = Time(), set()
        time.now = 5
        for _ in range(2):
            copy = sqlite3.connect(":memory:")
            copy.deserialize(connection.serialize())
            epochs.add(made(copy, time).epoch)
        assert len(epochs) == 2

    def test_an_epoch_is_the_time(self) -> None:
        assert made().epoch == START_US

    def test_an_epoch_is_above_all_that_are_held_even_if_the_counters_are_lost(self) -> None:
        connection = sqlite3.connect(":memory:")
        first = made(connection)
        first.add([event()])
        connection.execute("DELETE FROM fact")
        assert made(connection).epoch > first.epoch

    def test_rows_of_an_earlier_run_come_first_and_keep_their_place(self) -> None:
        connection = sqlite3.connect(":memory:")
        first = made(connection)
        first.add(events(3))
        second = made(connection)
        second.add(events(2))
        assert second.held() == Held(first.epoch, 1, 3)
        second.complete(first.epoch, 3)
        assert second.held() == Held(second.epoch, 1, 2)

    def test_held_of_an_empty_outbox_names_the_next_seq(self) -> None:
        outbox = made()
        assert outbox.held() == Held(outbox.epoch, 1, 0)
        outbox.add(events(2))
        outbox.complete(outbox.epoch, 2)
        assert outbox.held() == Held(outbox.epoch, 3, 2)

    def test_a_new_epoch_within_a_run_counts_from_1_and_leaves_what_is_held(self) -> None:
        outbox = made()
        old = outbox.epoch
        outbox.add(events(2))
        assert outbox.begin_epoch(old + 5) == outbox.epoch > old + 5
        assert outbox.add(events(1)) == [1]
        assert outbox.held() == Held(old, 1, 2)

    def test_an_epoch_that_json_cannot_hold_is_refused(self) -> None:
        with pytest.raises(StoreError, match="clock"):
            made().begin_epoch(2**53 - 1)

    def test_what_was_not_committed_is_gone_after_a_crash(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        outbox = made(connection)
        outbox.add(events(1))
        connection.execute("BEGIN")
        connection.execute("DELETE FROM message")
        assert made(connection).depth == 1


class TestReading:
    def test_read_starts_after_and_says_what_is_held_before(self) -> None:
        outbox = made()
        outbox.add(events(5))
        before, rows = outbox.read(Wanted(2, 2, 10**6, at_least_one=False))
        assert before == 2
        assert [row.seq for row in rows] == [3, 4]

    def test_before_skips_what_was_dropped(self) -> None:
        outbox = made()
        outbox.add([event()])
        outbox.add_inventory(inventory(), all_unsent)
        outbox.add_inventory(inventory(), all_unsent)
        assert outbox.read(Wanted(2, 9, 10**6, at_least_one=False))[0] == 1

    def test_size_is_a_limit_as_the_frame_counts_it(self) -> None:
        outbox = made()
        outbox.add(events(10))
        largest = len(place_payload(event("0" * 7)[1], 2**53, 2**53))
        _, rows = outbox.read(Wanted(0, 10, 3 * largest, at_least_one=False))
        assert 1 <= len(rows) <= 3

    def test_one_is_allowed_whatever_its_size(self) -> None:
        outbox = made()
        outbox.add(events(2))
        assert outbox.read(Wanted(0, 10, 0, at_least_one=False))[1] == []
        assert [row.seq for row in outbox.read(Wanted(0, 10, 0, at_least_one=True))[1]] == [1]

    def test_age_of_the_oldest(self) -> None:
        time = Time()
        outbox = made(time=time)
        assert outbox.oldest_age_s() == 0
        outbox.add(events(1))
        time.now += 2_500_000
        outbox.add(events(1))
        assert outbox.oldest_age_s() == 2.5
        outbox.complete(outbox.epoch, 1)
        assert outbox.oldest_age_s() == 0


class TestCompleting:
    def test_only_the_named_epoch_up_to_the_named_seq(self) -> None:
        outbox = made()
        outbox.add(events(5))
        assert outbox.complete(outbox.epoch + 1, 5) == 0
        assert outbox.complete(outbox.epoch - 1, 5) == 0
        assert outbox.complete(outbox.epoch, 3) == 3
        assert outbox.complete(outbox.epoch, 3) == 0
        assert outbox.held() == Held(outbox.epoch, 4, 5)
        assert outbox.depth == 2

    def test_only_new_messages_are_flushed_to_the_disk_at_once(self, tmp_path: Path) -> None:
        """A deletion that a failure of power undoes is one more message that the panel knows."""
        connection = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        outbox = made(connection)
        ran: list[str] = []
        connection.set_trace_callback(ran.append)
        for _ in range(2):
            outbox.add(events(3))
            outbox.complete(outbox.epoch, outbox.last_seq)
        connection.set_trace_callback(None)
        flushes, does, commits = True, "", []
        for statement in ran:
            word = statement.split()[0]
            if "synchronous" in statement:
                flushes = "FULL" in statement
            elif word in ("INSERT", "DELETE"):
                does = word
            elif word == "COMMIT":
                commits.append((does, flushes))
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert commits == [("INSERT", True), ("DELETE", False)] * 2


class TestInventories:
    def test_a_new_one_replaces_one_that_was_not_sent_and_inherits_its_token(self) -> None:
        outbox = made()
        outbox.add_inventory(inventory("t1"), all_unsent)
        outbox.add([event()])
        assert outbox.add_inventory(inventory(), all_unsent) == [3]
        assert types(outbox) == ["event", "inventory"]
        assert outbox.holds_token("t1")
        message = decode_message(place_payload(outbox.read(EVERYTHING)[1][-1].payload, 3, 2))
        assert isinstance(message, Inventory)
        assert message.token == "t1"

    def test_its_own_token_counts_more(self) -> None:
        outbox = made()
        outbox.add_inventory(inventory("t1"), all_unsent)
        outbox.add_inventory(inventory("t2"), all_unsent)
        assert outbox.holds_token("t2")
        assert not outbox.holds_token("t1")

    def test_one_that_was_sent_stays(self) -> None:
        outbox = made()
        outbox.add_inventory(inventory("t1"), all_unsent)
        outbox.add_inventory(inventory(), all_sent)
        assert types(outbox) == ["inventory", "inventory"]
        assert outbox.depth == 2

    def test_a_token_is_held_until_it_is_completed(self) -> None:
        outbox = made()
        assert not outbox.holds_token("t1")
        outbox.add_inventory(inventory("t1"), all_unsent)
        assert outbox.holds_token("t1")
        outbox.complete(outbox.epoch, 1)
        assert not outbox.holds_token("t1")

    def test_replacing_is_no_drop(self) -> None:
        outbox = made()
        outbox.add_inventory(inventory(), all_unsent)
        outbox.add_inventory(inventory(), all_unsent)
        assert outbox.dropped == {}
        assert outbox.depth == 1


class TestLimit:
    """The order in which messages go when there is no room."""

    LIMIT = 256 * 1024

    def test_superseded_inventories_then_statistics_then_events(self) -> None:
        outbox = made(limit_bytes=self.LIMIT)
        outbox.add_inventory(inventory(domains=200), all_sent)
        outbox.add([statistics(20_000)])
        outbox.add([statistics(20_000)])
        outbox.add_inventory(inventory(domains=200), all_sent)
        order: list[str] = []
        known: Counter[str] = Counter()
        while "event" not in order:
            outbox.add(events(10, 400))
            order += sorted((outbox.dropped - known).elements())
            known = Counter(outbox.dropped)
        assert order[:3] == ["inventory", "stats", "stats"]
        assert set(order[3:]) == {"event"}
        assert types(outbox).count("inventory") == 1

    def test_the_oldest_go_first(self) -> None:
        outbox = made(limit_bytes=self.LIMIT)
        outbox.add(events(2000, 400))
        held = outbox.held()
        assert held.last == 2000
        assert held.base == outbox.dropped["event"] + 1
        assert outbox.depth == 2000 - outbox.dropped["event"]

    def test_no_event_goes_for_statistics_or_an_inventory(self) -> None:
        outbox = made(limit_bytes=self.LIMIT)
        outbox.add(events(2000, 400))
        gone = outbox.dropped["event"]
        outbox.add([statistics(50_000)])
        outbox.add_inventory(inventory(domains=2000), all_unsent)
        assert outbox.dropped == {"event": gone, "stats": 1, "inventory": 1}

    def test_the_file_stays_within_the_limit(self, tmp_path: Path) -> None:
        outbox, _ = open_outbox(tmp_path / "o.db", "n1", "m1", Time(), limit_bytes=1024 * 1024)
        for _ in range(40):
            outbox.add(events(100, 400))
        outbox.close()
        assert (tmp_path / "o.db").stat().st_size <= 1024 * 1024

    def test_drops_are_reported_when_there_is_room_even_after_a_restart(self) -> None:
        connection = sqlite3.connect(":memory:")
        outbox = made(connection, limit_bytes=self.LIMIT)
        outbox.add(events(2000, 400))
        gone = outbox.dropped["event"]
        again = made(connection, limit_bytes=self.LIMIT)
        assert again.unreported == {"event": gone}
        again.complete(outbox.epoch, 2000)
        assert again.report_drops(5.0) == [1]
        assert json.loads(again.read(EVERYTHING)[1][0].payload) == {
            "type": "agent",
            "time": 5.0,
            "what": "dropped",
            "counts": {"event": gone},
        }
        assert again.unreported == {}
        assert again.report_drops(6.0) == []
        assert made(connection).unreported == {}

    def test_what_finds_no_room_after_the_last_row_was_dropped_is_not_taken_for_held(self) -> None:
        """Else the sender would want a row that is not there, again and again."""
        outbox = made(limit_bytes=self.LIMIT)
        too_large = statistics(self.LIMIT)
        assert outbox.add([event(), statistics()]) == [1, 2]
        for _ in range(2):
            assert outbox.add([too_large]) == []  # the first time the older statistics go for it, in vain
            assert outbox.held().last == outbox.read(EVERYTHING)[1][-1].seq == 1

    def test_the_drop_of_a_report_of_drops_gives_its_counts_back(self) -> None:
        outbox = made(limit_bytes=self.LIMIT)
        for minute in range(5):
            outbox.add(events(2000, 400))
            outbox.report_drops(float(minute))
        told = Counter(outbox.unreported)
        for row in outbox.read(EVERYTHING)[1]:
            told.update(json.loads(row.payload).get("counts", {}))
        assert told == outbox.dropped

    def test_a_report_never_makes_room_for_itself(self) -> None:
        outbox = made(limit_bytes=self.LIMIT)
        outbox.add(events(2000, 400))
        outbox.limit_bytes = 0
        gone = outbox.unreported
        assert outbox.report_drops(5.0) == []
        assert outbox.unreported == gone

    def test_a_row_that_fits_no_frame_is_dropped_and_counted(self) -> None:
        outbox = made()
        assert outbox.add([statistics(MAX_PAYLOAD_BYTES), event()]) == [1]
        assert outbox.dropped == {"stats": 1}
        assert outbox.unreported == {"stats": 1}


class TestFullDisk:
    def full(self, outbox: Outbox, connection: sqlite3.Connection) -> None:
        """Let the database grow no further, as on a full disk (https://sqlite.org/pragma.html#pragma_max_page_count)."""
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def test_older_messages_make_room_in_the_file(self) -> None:
        connection = sqlite3.connect(":memory:")
        outbox = made(connection)
        outbox.add([statistics(50_000), *events(100, 400)])
        self.full(outbox, connection)
        outbox.add(events(50, 400))
        assert outbox.waiting == 0
        assert outbox.dropped == {"stats": 1}
        assert outbox.depth == 150

    def test_what_finds_no_room_waits_and_is_tried_again(self) -> None:
        connection = sqlite3.connect(":memory:")
        outbox = made(connection)
        connection.execute("PRAGMA query_only = 1")  # as a disk that takes nothing at all
        assert outbox.add(events(3)) == []
        assert (outbox.waiting, outbox.depth) == (3, 3)
        assert outbox.trouble
        connection.execute("PRAGMA query_only = 0")
        assert outbox.add([event("last")]) == [1, 2, 3, 4]
        assert (outbox.waiting, outbox.depth, outbox.trouble) == (0, 4, "")

    def test_memory_is_bounded_and_what_goes_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox_module, "WAITING_MOST_BYTES", 10_000)
        connection = sqlite3.connect(":memory:")
        outbox = made(connection)
        connection.execute("PRAGMA query_only = 1")
        outbox.add(events(100, 400))
        assert 0 < outbox.waiting < 20
        assert outbox.dropped == {"event": 100 - outbox.waiting}
        connection.execute("PRAGMA query_only = 0")
        outbox.commit_waiting()
        assert json.loads(outbox.read(EVERYTHING)[1][-1].payload)["text"].startswith("0000099")

    def test_an_acknowledgement_that_cannot_be_written_deletes_nothing(self) -> None:
        connection = sqlite3.connect(":memory:")
        outbox = made(connection)
        outbox.add(events(3))
        connection.execute("PRAGMA query_only = 1")
        assert outbox.complete(outbox.epoch, 2) == 0
        assert outbox.held() == Held(outbox.epoch, 1, 3)
        connection.execute("PRAGMA query_only = 0")
        assert outbox.complete(outbox.epoch, 2) == 2

    def test_an_inventory_that_waits_is_replaced_there_too(self) -> None:
        connection = sqlite3.connect(":memory:")
        outbox = made(connection)
        outbox.add_inventory(inventory("t1"), all_unsent)
        connection.execute("PRAGMA query_only = 1")
        outbox.add([event()])  # the head of the queue; a lone inventory would not be kept
        outbox.add_inventory(inventory(), all_unsent)
        outbox.add_inventory(inventory(), all_unsent)
        assert outbox.waiting == 2
        assert outbox.holds_token("t1")
        connection.execute("PRAGMA query_only = 0")
        outbox.commit_waiting()
        assert types(outbox) == ["event", "inventory"]
        assert unused_tokens(connection) == ["t1"]


class TestRealFullDisk:
    def test_deletes_and_inserts_go_on_and_all_heals(self, tmp_path: Path) -> None:
        with small_disk(tmp_path, 6) as disk:
            outbox, _ = opened(disk)
            first = outbox.epoch
            outbox.add(events(2000, 400))
            others = fill(disk)
            for _ in range(100):
                outbox.add(events(20, 400))
            assert outbox.trouble
            assert outbox.waiting == 0
            assert outbox.depth + outbox.dropped["event"] == 4000
            deleted = outbox.complete(first, outbox.held().base + 999)
            assert deleted == 1000
            others.unlink()
            outbox.add(events(1))
            assert outbox.trouble == ""
            assert (disk / "outbox.db.reserve").stat().st_size == RESERVE_BYTES
            outbox.close()

    def test_a_small_outbox_drops_nothing_that_can_wait(self, tmp_path: Path) -> None:
        """A new file is all in use: room is what it may grow by, and then what memory holds."""
        with small_disk(tmp_path, 6) as disk:
            outbox, _ = opened(disk)
            outbox.add([event()])
            outbox.complete(outbox.epoch, 1)
            others = fill(disk)
            for number in range(400):
                outbox.add(events(1, 400))
                if number % 2:  # with a master, and without
                    outbox.complete(outbox.epoch, outbox.last_seq)
                fill(disk)
            outbox.add(events(200, 400))
            assert outbox.dropped == {}
            assert outbox.waiting
            others.unlink()
            outbox.commit_waiting()
            assert (outbox.dropped, outbox.waiting, outbox.trouble) == ({}, 0, "")
            assert outbox.last_seq == 601
            outbox.close()

    def test_statistics_make_room_for_events_in_a_small_outbox(self, tmp_path: Path) -> None:
        with small_disk(tmp_path, 6) as disk:
            outbox, _ = opened(disk)
            outbox.add([statistics(40_000)] * 5)
            fill(disk)
            outbox.add(events(600, 400))
            fill(disk)
            outbox.add(events(600, 400))
            assert set(outbox.dropped) == {"stats"}
            outbox.close()

    def test_others_eat_the_reserve(self, tmp_path: Path) -> None:
        with small_disk(tmp_path, 6) as disk:
            outbox, _ = opened(disk)
            outbox.add(events(5000, 400))
            fill(disk)
            outbox.add(events(20, 400))
            fill(disk)
            assert outbox.complete(outbox.epoch, 4000) == 4000 - outbox.dropped["event"]
            outbox.close()

    @pytest.mark.parametrize("crashed", [True, False])
    def test_a_start_on_a_full_disk(self, tmp_path: Path, crashed: bool) -> None:
        with small_disk(tmp_path, 6) as disk:
            outbox, _ = opened(disk)
            outbox.add(events(100, 400))
            held = outbox.held()
            if crashed:
                shutil.copytree(disk, tmp_path / "copy")
                outbox.close()
                shutil.copytree(tmp_path / "copy", disk, dirs_exist_ok=True)
            else:
                outbox.close()
            fill(disk)
            again, _ = opened(disk)
            assert again.held() == held
            assert again.epoch > outbox.epoch
            assert again.add(events(1)) == [1]
            assert again.complete(held.epoch, held.last) == 100 - again.dropped["event"]
            again.close()

    def test_no_room_for_a_reserve(self, tmp_path: Path) -> None:
        with small_disk(tmp_path, 1) as disk:
            others = fill(disk)
            reserve = Reserve(disk / "reserve", 4096)
            assert not reserve.held
            assert not (disk / "reserve").exists()
            others.unlink()
            assert reserve.restore()
            assert reserve.held


class TestFile:
    def test_survives_a_close(self, tmp_path: Path) -> None:
        outbox, _ = opened(tmp_path)
        outbox.add(events(3))
        outbox.close()
        again, aside = opened(tmp_path)
        assert again.depth == 3
        assert again.held().epoch == outbox.epoch < again.epoch
        assert aside is None
        again.close()

    def test_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        opened(tmp_path)[0].close()
        assert (tmp_path / "outbox.db").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(("node", "machine"), [("n2", "m1"), ("n1", "m2")])
    def test_another_nodes_or_machines_is_set_aside_and_kept(self, tmp_path: Path, node: str, machine: str) -> None:
        outbox, _ = opened(tmp_path)
        outbox.add(events(3))
        outbox.close()
        again, aside = opened(tmp_path, node, machine)
        assert again.depth == 0
        assert aside is not None
        kept = sqlite3.connect(aside)
        assert kept.execute("SELECT count(*) FROM message").fetchone() == (3,)
        kept.close()
        again.close()
        assert opened(tmp_path, node, machine)[1] is None

    def test_a_machine_without_an_id_is_like_any(self, tmp_path: Path) -> None:
        opened(tmp_path, machine="")[0].close()
        for machine in ("m1", "", "m1"):
            outbox, aside = opened(tmp_path, machine=machine)
            outbox.close()
            assert aside is None
        outbox, aside = opened(tmp_path, machine="m2")
        outbox.close()
        assert aside is not None

    def test_machine_id(self, tmp_path: Path) -> None:
        assert machine_id(tmp_path / "none") == ""
        (tmp_path / "id").write_text("0123\n")
        assert machine_id(tmp_path / "id") == "0123"
        (tmp_path / "id").write_text("uninitialized\n")
        assert machine_id(tmp_path / "id") == ""

    def refused(self, folder: Path, words: str) -> None:
        before = (folder / "outbox.db").read_bytes()
        with pytest.raises(StoreError, match=words) as caught:
            opened(folder)
        assert str(folder / "outbox.db") in str(caught.value)
        assert (folder / "outbox.db").read_bytes() == before

    def test_a_newer_schema_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        opened(tmp_path)[0].close()
        connection = sqlite3.connect(tmp_path / "outbox.db")
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.close()
        self.refused(tmp_path, f"schema version {VERSION + 1}.*install that version")

    def test_another_programs_database_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        connection = sqlite3.connect(tmp_path / "outbox.db")
        connection.execute("CREATE TABLE theirs (a)")
        connection.close()
        self.refused(tmp_path, "not an outbox")

    def test_no_database_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "outbox.db").write_bytes(b"not a database, and longer than a header would be" * 100)
        self.refused(tmp_path, "move the file away")

    def test_damage_in_the_middle_is_told_with_what_to_do(self, tmp_path: Path) -> None:
        outbox, _ = opened(tmp_path)
        outbox.add(events(200, 400))
        outbox.close()
        path = tmp_path / "outbox.db"
        content = bytearray(path.read_bytes())
        content[8192:] = b"\xa5" * (len(content) - 8192)
        path.write_bytes(content)
        with pytest.raises(StoreError, match="move the file away"):
            opened(tmp_path)[0].read(EVERYTHING)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot be opened"):
            opened(tmp_path / "file")

    def test_a_second_writer_is_waited_for_and_costs_nothing(self, tmp_path: Path) -> None:
        outbox, _ = opened(tmp_path)
        other = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert outbox.add(events(2)) == []
        other.execute("ROLLBACK")
        other.close()
        assert outbox.add([]) == [1, 2]
        outbox.close()

    def test_while_another_holds_the_lock_nothing_is_dropped_however_much_comes(self, tmp_path: Path) -> None:
        """A lock is a matter of time: it must not be taken for a full disk, where the oldest go."""
        outbox, _ = opened(tmp_path)
        outbox.add(events(50))
        other = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert outbox.add(events(100, 1000)) == []
        outbox.add_inventory(inventory("t-1"), all_unsent)
        assert outbox.complete(outbox.epoch, 10) == 0
        other.execute("ROLLBACK")
        other.close()
        assert len(outbox.add([])) == 101
        assert (outbox.dropped, outbox.depth) == (Counter(), 151)
        outbox.close()


class OutboxMachine(RuleBasedStateMachine):
    """Whatever happens: places only go up, and nothing leaves but by `complete`, a counted drop or a replacement."""

    LIMIT = 96 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.connection = sqlite3.connect(":memory:")
        self.epochs: list[int] = []
        self.places: list[tuple[int, int]] = []
        self.completed = 0
        self.replaced = 0
        self.dropped = 0
        self.sent = 0
        self.start()

    def start(self) -> None:
        self.outbox = made(self.connection, self.time, self.LIMIT)
        self.epochs.append(self.outbox.epoch)

    def place(self, seqs: list[int]) -> None:
        self.places += [(self.outbox.epoch, seq) for seq in seqs]

    @rule(count=st.integers(1, 60), size=st.integers(0, 800))
    def add_events(self, count: int, size: int) -> None:
        self.place(self.outbox.add(events(count, size)))

    @rule(size=st.integers(0, 30_000))
    def add_statistics(self, size: int) -> None:
        seqs = self.outbox.add([statistics(size)])
        self.place(seqs)
        self.sent += 1 - len(seqs)  # dropped before it had a place

    @rule(domains=st.integers(0, 100), unsent=st.booleans(), token=st.sampled_from(["", "t1"]))
    def add_inventory(self, domains: int, unsent: bool, token: str) -> None:
        count = self.connection.execute("SELECT count(*) FROM message WHERE type = 'inventory'").fetchone()[0]
        seqs = self.outbox.add_inventory(inventory(token, domains), all_unsent if unsent else all_sent)
        self.replaced += count if unsent else 0
        self.place(seqs)
        self.sent += 1 - len(seqs)

    @rule(part=st.integers(-3, 100))
    def complete(self, part: int) -> None:
        held = self.outbox.held()
        self.completed += self.outbox.complete(held.epoch, held.base + part)

    @rule()
    def report(self) -> None:
        self.place(self.outbox.report_drops(1.0))

    @rule(jump_us=st.integers(-(10**9), 10**9))
    def restart(self, jump_us: int) -> None:
        self.time.now += jump_us
        self.dropped += sum(self.outbox.dropped.values())
        self.start()

    @rule(above=st.integers(0, START_US + 10**10))
    def new_epoch(self, above: int) -> None:
        epoch = self.outbox.begin_epoch(above)
        assert epoch > above
        self.epochs.append(epoch)

    @invariant()
    def places_go_up(self) -> None:
        assert self.places == sorted(set(self.places))
        assert self.epochs == sorted(set(self.epochs))

    @invariant()
    def nothing_is_lost_uncounted(self) -> None:
        dropped = self.dropped + sum(self.outbox.dropped.values()) - self.sent
        assert len(self.places) == self.outbox.depth + self.completed + self.replaced + dropped
        stored = self.connection.execute("SELECT count(*) FROM message").fetchone()[0]
        assert stored == self.outbox.depth

    @invariant()
    def what_is_held_can_be_read(self) -> None:
        held = self.outbox.held()
        _, rows = self.outbox.read(EVERYTHING)
        assert [row.seq for row in rows] == sorted({row.seq for row in rows})
        if rows:
            assert (rows[0].seq, rows[-1].seq) == (held.base, held.last)
            assert {(held.epoch, row.seq) for row in rows} <= set(self.places)


OutboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOutboxMachine = OutboxMachine.TestCase


def test_a_reserve_on_a_file_system_that_has_become_read_only_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    reserve = Reserve(tmp_path / "reserve")
    monkeypatch.setattr(Path, "unlink", refuse)
    reserve.release()
    assert not reserve.held
