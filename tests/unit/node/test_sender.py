"""The sender core, sentence by sentence of the wire protocol's *The node* (design 02)."""

import json
import sqlite3

import pytest

from vmwatch.node.outbox import Outbox
from vmwatch.node.sender import (
    FRAME_BYTES,
    NEW_EPOCHS_MOST,
    NEW_EPOCHS_S,
    RESEND_FIRST_S,
    RESEND_MOST_S,
    SILENCE_S,
    Answered,
    Sender,
)
from vmwatch.shared.messages import (
    MAX_BATCH_BYTES,
    MAX_MESSAGES,
    Acknowledgement,
    Envelope,
    Head,
    decode_envelope,
    decode_head,
    size_of,
)

INTERVAL_S = 10.0
PLENTY = 100 * 1024 * 1024


class Rig:
    """A sender with a real outbox, and a master that says what the test lets it say."""

    def __init__(self, connected: bool = True) -> None:
        self.now = 1000.0
        self.connection = sqlite3.connect(":memory:")
        self.outbox = Outbox(self.connection, "n1", "m1", lambda: int(self.now * 1e6))
        self.sender = Sender("agent/1", self.outbox.epoch, INTERVAL_S, self.now)
        self.sender.opened(self.now)
        self.stamp = 0
        if connected:
            self.sender.went_up(self.now)

    @property
    def epoch(self) -> int:
        return self.outbox.epoch

    def add(self, count: int, size: int = 10) -> None:
        self.outbox.add([("event", json.dumps({"type": "event", "x": "x" * size}).encode())] * count)

    def send(self) -> list[Envelope]:
        """All frames that are to be sent now, as the shell sends them."""
        frames: list[Envelope] = []
        while True:
            held = self.outbox.held()
            wanted = self.sender.wanted(self.now, held)
            beat = self.sender.heartbeat_due(self.now)
            before, rows = self.outbox.read(wanted) if wanted else (0, [])
            if not rows and not beat:
                return frames
            body = self.sender.compose(self.now, self.now, held, before, rows, b'{"a":1}' if beat else None)
            frames.append(decode_envelope(body))

    def sent(self) -> list[int]:
        """The seqs of the messages that are to be sent now."""
        return [head.seq for frame in self.send() for head in heads(frame)]

    def answer(
        self,
        received: int,
        completed: int = 0,
        *,
        epoch: int = 0,
        master: str = "A",
        credit: int = PLENTY,
        stamp: int = 0,
        seen: float = -1.0,
        newest_epoch: int = 0,
        want_inventory: str = "",
    ) -> Answered:
        """An acknowledgement; without `stamp` a newer one than the last, without `seen` one that makes progress."""
        self.stamp += 1
        ack = Acknowledgement(
            master=master,
            stamp=stamp or self.stamp,
            epoch=epoch or self.epoch,
            received=received,
            completed=completed,
            credit=credit,
            seen=self.now if seen < 0 else seen,
            newest_epoch=newest_epoch,
            want_inventory=want_inventory,
        )
        answered = self.sender.acknowledged(self.now, ack)
        self.outbox.complete(answered.epoch, answered.completed)
        return answered

    def restart(self) -> None:
        """The program ends and starts again; its outbox is what it was."""
        self.now += 1
        self.outbox = Outbox(self.connection, "n1", "m1", lambda: int(self.now * 1e6))
        self.sender = Sender("agent/1", self.outbox.epoch, INTERVAL_S, self.now)
        self.sender.went_up(self.now)


def heads(frame: Envelope) -> list[Head]:
    return [decode_head(raw) for raw in frame.messages]


def places(frames: list[Envelope]) -> list[tuple[int, int]]:
    return [(frame.epoch, head.seq) for frame in frames for head in heads(frame)]


@pytest.fixture
def rig() -> Rig:
    """Connected and answered: the greeting is over, and nothing is held."""
    made = Rig()
    made.send()
    made.answer(0)
    return made


class TestFrames:
    def test_a_heartbeat_is_sent_at_once_after_connecting_and_every_interval(self) -> None:
        rig = Rig()
        (frame,) = rig.send()
        assert (frame.epoch, frame.base, frame.interval, frame.agent) == (rig.epoch, 1, INTERVAL_S, "agent/1")
        assert frame.messages == []
        assert bytes(frame.status) == b'{"a":1}'
        rig.now += INTERVAL_S - 0.1
        assert rig.send() == []
        rig.now += 0.1
        assert len(rig.send()) == 1
        rig.sender.went_down()
        rig.sender.went_up(rig.now)
        assert len(rig.send()) == 1

    def test_a_heartbeat_is_sent_at_once_when_a_run_of_the_master_answers_for_the_first_time(self) -> None:
        rig = Rig()
        rig.send()
        rig.answer(0, master="A")
        (frame,) = rig.send()
        assert bytes(frame.status) == b'{"a":1}'
        assert frame.heard is not None
        assert frame.heard.master == "A"
        rig.answer(0, master="A")
        assert rig.send() == []
        rig.answer(0, master="B")
        assert len(rig.send()) == 1

    def test_heard_is_the_last_acknowledgement_and_absent_before_the_first(self) -> None:
        rig = Rig()
        assert rig.send()[0].heard is None
        rig.answer(0, stamp=7)
        rig.add(1)
        heard = rig.send()[0].heard
        assert heard is not None
        assert (heard.master, heard.stamp) == ("A", 7)

    def test_base_is_the_lowest_held_and_the_next_seq_if_there_is_none(self, rig: Rig) -> None:
        rig.add(3)
        assert rig.send()[0].base == 1
        rig.answer(3, 2)
        rig.add(1)
        assert rig.send()[0].base == 3
        rig.answer(4, 4)
        rig.now += INTERVAL_S
        assert rig.send()[0].base == 5

    def test_prev_names_the_next_lower_seq_that_is_held_or_base_minus_1(self, rig: Rig) -> None:
        rig.add(5)
        rig.outbox.complete(rig.epoch, 1)
        rig.connection.execute("DELETE FROM message WHERE seq = 3")  # dropped, as on a full disk
        (frame,) = rig.send()
        assert [(head.seq, head.prev) for head in heads(frame)] == [(2, 1), (4, 2), (5, 4)]

    def test_prev_across_frames_when_the_last_one_sent_was_dropped(self, rig: Rig) -> None:
        rig.add(3)
        rig.send()
        rig.connection.execute("DELETE FROM message WHERE seq = 3")
        rig.add(1)
        (frame,) = rig.send()
        assert [(head.seq, head.prev) for head in heads(frame)] == [(4, 2)]

    def test_at_most_500_messages(self, rig: Rig) -> None:
        rig.add(MAX_MESSAGES + 1)
        assert [len(frame.messages) for frame in rig.send()] == [MAX_MESSAGES, 1]

    def test_frames_stay_small_enough_for_a_slow_line_but_a_single_message_may_be_larger(self, rig: Rig) -> None:
        rig.add(5, FRAME_BYTES // 3)
        rig.add(1, MAX_BATCH_BYTES + 1000)
        rig.add(1)
        frames = rig.send()
        assert [len(frame.messages) for frame in frames] == [2, 2, 1]
        assert max(size_of([bytes(raw) for raw in frame.messages]) for frame in frames) <= FRAME_BYTES < MAX_BATCH_BYTES
        rig.answer(5, 5)
        assert [len(frame.messages) for frame in rig.send()] == [1, 1]

    def test_the_larger_one_goes_alone_when_nothing_is_in_flight(self, rig: Rig) -> None:
        rig.add(1, MAX_BATCH_BYTES + 1000)
        assert rig.sent() == [1]


class TestEpochs:
    def test_rows_of_earlier_runs_are_sent_and_acknowledged_before_the_first_of_this_one(self, rig: Rig) -> None:
        rig.add(2)
        first = rig.epoch
        rig.restart()
        rig.add(2)
        frames = rig.send()
        rig.answer(0, 0, epoch=first)
        frames += rig.send()
        assert sorted(set(places(frames))) == [(first, 1), (first, 2)]
        rig.answer(2, 1, epoch=first)
        assert rig.sent() == []
        rig.answer(2, 2, epoch=first)
        assert places(rig.send()) == [(rig.epoch, 1), (rig.epoch, 2)]

    def test_an_epoch_of_the_same_run_waits_for_the_one_before(self, rig: Rig) -> None:
        rig.add(1)
        rig.send()
        old = rig.epoch
        rig.sender.begin_epoch(rig.outbox.begin_epoch(old + 10))
        rig.add(1)
        assert rig.sent() == []
        rig.answer(1, 1, epoch=old)
        assert rig.sent() == [1]


class TestCompleted:
    def test_counts_only_for_the_epoch_that_it_names(self, rig: Rig) -> None:
        rig.add(3)
        rig.send()
        rig.answer(0, 3, epoch=rig.epoch - 1)
        assert rig.outbox.depth == 3

    def test_counts_as_a_maximum(self, rig: Rig) -> None:
        rig.add(3)
        rig.send()
        rig.answer(3, 2)
        rig.answer(3, 1)
        assert rig.outbox.held().base == 3

    def test_counts_whatever_the_stamp(self, rig: Rig) -> None:
        rig.add(3)
        rig.send()
        rig.answer(3, 1)
        rig.answer(2, 2, stamp=1)
        assert rig.outbox.held().base == 3


class TestReceived:
    def test_is_taken_from_the_highest_stamp(self, rig: Rig) -> None:
        rig.add(5)
        rig.send()
        rig.answer(5, stamp=50)
        rig.answer(2, stamp=49)
        assert rig.sender.received == 5
        assert rig.sent() == []

    def test_also_downwards_and_then_it_sends_again_at_once(self, rig: Rig) -> None:
        rig.add(5)
        rig.send()
        rig.answer(5)
        rig.answer(2)
        assert rig.sent() == [3, 4, 5]

    def test_other_fields_count_whatever_the_epoch(self, rig: Rig) -> None:
        answered = rig.answer(0, epoch=5, credit=77, want_inventory="t", newest_epoch=rig.epoch + 1)
        assert rig.sender.credit == 77
        assert answered.want_inventory == "t"
        assert answered.newer_epoch == rig.epoch + 1
        assert rig.sender.received == 0

    def test_an_older_stamp_asks_for_nothing(self, rig: Rig) -> None:
        rig.answer(0, stamp=50)
        answered = rig.answer(0, stamp=49, credit=1, want_inventory="t", newest_epoch=rig.epoch + 1)
        assert (answered.want_inventory, answered.newer_epoch) == ("", 0)
        assert rig.sender.credit == PLENTY


class TestCredit:
    def test_no_more_than_one_message_before_the_first_answer(self) -> None:
        rig = Rig()
        rig.add(3)
        assert rig.sent() == [1]
        rig.answer(1)
        assert rig.sent() == [2, 3]

    def test_nor_after_sockets_were_opened_anew(self, rig: Rig) -> None:
        rig.add(3)
        rig.sender.opened(rig.now)
        rig.sender.went_up(rig.now)
        assert rig.sent() == [1]

    def test_bytes_sent_and_not_completed_stay_within_it(self, rig: Rig) -> None:
        rig.add(20, 1000)
        rig.answer(0, credit=5000)
        first = rig.sent()
        assert 3 <= len(first) <= 4
        rig.answer(len(first), 0, credit=5000)
        assert rig.sent() == []
        rig.answer(len(first), 2, credit=5000)
        assert rig.sent() == [first[-1] + 1, first[-1] + 2]

    def test_one_message_is_always_allowed(self, rig: Rig) -> None:
        rig.add(2, 1000)
        rig.answer(0, credit=0)
        assert rig.sent() == [1]
        rig.answer(1, 1, credit=0)
        assert rig.sent() == [2]

    def test_completed_of_another_epoch_frees_nothing(self, rig: Rig) -> None:
        rig.add(2, 1000)
        rig.answer(0, credit=0)
        rig.send()
        rig.answer(0, 2, epoch=rig.epoch - 1, credit=0)
        assert rig.sent() == []


class TestSendingAgain:
    def test_from_received_plus_1_at_once_after_each_connect(self, rig: Rig) -> None:
        rig.add(5)
        rig.send()
        rig.answer(3)
        rig.sender.went_down()
        rig.sender.went_up(rig.now)
        assert rig.sent() == [4, 5]

    def test_nothing_is_sent_while_unconnected(self, rig: Rig) -> None:
        rig.add(1)
        rig.sender.went_down()
        rig.now += 1000
        assert rig.send() == []

    def test_when_received_has_not_moved_for_5_s(self, rig: Rig) -> None:
        rig.add(5)
        rig.send()
        rig.answer(2)
        rig.now += RESEND_FIRST_S - 0.1
        rig.answer(2)
        assert rig.sent() == []
        rig.now += 0.2
        assert rig.sent() == [3, 4, 5]
        assert rig.sender.resends == 1

    def test_not_when_no_row_beyond_it_was_sent(self, rig: Rig) -> None:
        rig.add(5)
        rig.send()
        rig.answer(5)
        for _ in range(100):
            rig.now += 1
            rig.answer(5)
            assert rig.sent() == []

    def test_doubling_up_to_60_s(self, rig: Rig) -> None:
        rig.add(1)
        rig.send()
        waits = []
        for _ in range(6):
            began = rig.now
            while not rig.sent():
                rig.now += 0.5
                rig.answer(0)
            waits.append(rig.now - began)
        assert waits == [5.0, 10.0, 20.0, 40.0, RESEND_MOST_S, RESEND_MOST_S]

    def test_reset_by_progress(self, rig: Rig) -> None:
        rig.add(3)
        rig.send()
        for _ in range(40):
            rig.now += 0.5
            rig.answer(0)
            rig.send()
        rig.answer(1)
        rig.now += RESEND_FIRST_S
        assert rig.sent() == [2, 3]

    def test_from_the_base_as_long_as_no_received_is_known(self) -> None:
        rig = Rig()
        rig.add(1)
        rig.send()
        rig.now += RESEND_FIRST_S
        assert rig.sent() == [1]


class TestMasters:
    def test_a_new_name_forgets_received_and_sends_from_base(self, rig: Rig) -> None:
        rig.add(5)
        rig.send()
        rig.answer(4, 2)
        rig.answer(2, 2, master="B", stamp=1)
        assert rig.sent() == [3, 4, 5]

    def test_even_if_the_new_one_claims_to_have_received(self, rig: Rig) -> None:
        rig.add(5)
        rig.send()
        rig.answer(5, 0)
        rig.answer(0, 0, master="B", stamp=1)
        assert rig.sent() == [1, 2, 3, 4, 5]

    def test_once_per_name(self, rig: Rig) -> None:
        rig.add(3)
        rig.send()
        rig.answer(3, master="A")
        rig.answer(3, master="B")
        rig.send()
        for _ in range(5):
            rig.answer(3, master="A")
            assert rig.sent() == []
            rig.answer(3, master="B")
            assert rig.sent() == []

    def test_a_late_word_of_the_old_one_leaves_the_order_of_stamps_alone(self, rig: Rig) -> None:
        rig.answer(0, master="A", stamp=500)
        rig.answer(0, master="B", stamp=3)
        rig.answer(0, master="B", stamp=4, credit=44)
        assert rig.sender.credit == 44


class TestGivingUp:
    def test_nothing_heard_for_5_s(self, rig: Rig) -> None:
        rig.now += SILENCE_S - 0.1
        assert not rig.sender.must_reopen(rig.now)
        rig.now += 0.1
        assert rig.sender.must_reopen(rig.now)

    @pytest.mark.parametrize(("interval_s", "patience_s"), [(1.0, SILENCE_S), (10.0, 20.0)])
    def test_before_the_first_answer_2_intervals_if_longer(self, interval_s: float, patience_s: float) -> None:
        sender = Sender("a", 1, interval_s, 0.0)
        sender.opened(100.0)
        sender.went_up(100.0)
        assert not sender.must_reopen(100.0 + patience_s - 0.1)
        assert sender.must_reopen(100.0 + patience_s)

    def test_seen_without_progress_for_3_intervals(self, rig: Rig) -> None:
        rig.answer(0, seen=5.0)
        began = rig.now
        while not rig.sender.must_reopen(rig.now):
            rig.now += 1
            rig.answer(0, seen=5.0)
        assert rig.now - began == 3 * INTERVAL_S

    def test_also_while_only_the_way_for_acknowledgements_stands(self, rig: Rig) -> None:
        """The port for frames is blocked, say; beacons alone are no reason to stay."""
        rig.answer(0, seen=5.0)
        rig.sender.went_down()
        began = rig.now
        while not rig.sender.must_reopen(rig.now):
            rig.now += 1
            rig.answer(0, seen=5.0)
        assert rig.now - began == 3 * INTERVAL_S

    def test_any_change_of_seen_is_progress(self, rig: Rig) -> None:
        for step in range(100):  # the clock of the node goes back
            rig.now += 1
            rig.answer(0, seen=1000.0 - step)
            assert not rig.sender.must_reopen(rig.now)

    def test_an_acknowledgement_that_is_heard_keeps_it(self, rig: Rig) -> None:
        for _ in range(100):
            rig.now += 1
            rig.answer(0)
            assert not rig.sender.must_reopen(rig.now)

    def test_opening_anew_begins_anew(self, rig: Rig) -> None:
        rig.now += 100
        rig.sender.opened(rig.now)
        assert not rig.sender.must_reopen(rig.now)
        assert not rig.sender.connected


class TestNewestEpoch:
    def test_a_lower_one_or_its_own_changes_nothing(self, rig: Rig) -> None:
        assert rig.answer(0, newest_epoch=0).newer_epoch == 0
        assert rig.answer(0, newest_epoch=rig.epoch - 1).newer_epoch == 0
        assert rig.answer(0, newest_epoch=rig.epoch).newer_epoch == 0

    def test_a_higher_one_begins_one_above_it_a_few_times_in_5_minutes_at_most(self, rig: Rig) -> None:
        for _ in range(NEW_EPOCHS_MOST):
            above = rig.epoch + 100
            assert rig.answer(0, newest_epoch=above).newer_epoch == above
            rig.sender.begin_epoch(rig.outbox.begin_epoch(above))
            assert rig.epoch > above
        other = rig.epoch + 100
        rig.now += NEW_EPOCHS_S - 1
        assert rig.answer(0, newest_epoch=other).newer_epoch == 0
        rig.now += 1
        assert rig.answer(0, newest_epoch=other).newer_epoch == other

    def test_what_counts_is_the_epoch_of_the_present_run(self, rig: Rig) -> None:
        rig.add(1)
        old = rig.epoch
        rig.restart()
        rig.send()
        assert rig.answer(0, epoch=old, newest_epoch=rig.epoch).newer_epoch == 0


class TestUnsent:
    def test_rows_that_were_sent_in_this_run_are_not(self, rig: Rig) -> None:
        rig.add(3)
        assert rig.sender.first_unsent(rig.epoch) == 1
        rig.send()
        assert rig.sender.first_unsent(rig.epoch) == 4

    def test_of_an_epoch_that_is_not_sent_yet_all_are(self, rig: Rig) -> None:
        rig.add(3)
        rig.send()
        rig.sender.begin_epoch(rig.outbox.begin_epoch(0))
        assert rig.sender.first_unsent(rig.epoch) == 1


class TestDeadline:
    """The shell sleeps until then: never too long, and never without end at once."""

    def test_the_next_heartbeat(self, rig: Rig) -> None:
        rig.now += SILENCE_S - 1
        rig.answer(0)
        assert rig.sender.deadline(rig.now) - rig.now <= SILENCE_S

    def test_after_what_was_due_is_done_it_lies_ahead(self) -> None:
        rig = Rig()
        rig.add(3)
        for step in range(600):
            rig.send()
            if rig.sender.must_reopen(rig.now):
                rig.sender.opened(rig.now)
                rig.sender.went_up(rig.now)
                rig.send()
            if step % 3 == 0:
                rig.answer(0)
                rig.send()
            assert rig.sender.deadline(rig.now) > rig.now
            rig.now = min(rig.sender.deadline(rig.now), rig.now + 1.0)
