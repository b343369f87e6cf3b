"""What the ledger promises, condition by condition."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from vmwatch.shared.messages import Acknowledgement, Envelope, Heard, encode
from vmwatch.shared.report import Verdict
from vmwatch.supervisor.ledger import (
    BEACON_S,
    EPOCH_IDLE_S,
    EPOCHS_MOST,
    FORGET_S,
    LEAST_CHARGE,
    MESSAGE_MOST_BYTES,
    PRESENCE_S,
    Entry,
    Ledger,
)

EPOCH = 1_763_900_000_000_000
MEGABYTE = 1024 * 1024


def message(seq: int, prev: int | None = None, uuid: str = "vm-1", **more: object) -> bytes:
    fields = {"seq": seq, "prev": seq - 1 if prev is None else prev, "type": "event", "vm": {"uuid": uuid}}
    return encode(fields | more)


def envelope(
    *messages: bytes,
    base: int = 1,
    epoch: int = EPOCH,
    heard: Heard | None = None,
    interval: float = 10.0,
    **more: object,
) -> Envelope:
    sent = more.pop("sent", 0.0)
    made = Envelope(epoch, base, interval, float(str(sent)), heard=heard, messages=[Raw(raw) for raw in messages])
    if status := more.pop("status", b""):
        assert isinstance(status, bytes)
        made.status = Raw(status)
    assert not more
    return made


class Bench:
    """A ledger, a time, and shorthands."""

    def __init__(self, memory_bytes: int = 16 * MEGABYTE) -> None:
        self.now = 100.0
        self.ledger = Ledger("m1", memory_bytes, self.now)

    def receive(self, *messages: bytes, node: str = "n1", base: int = 1, epoch: int = EPOCH) -> list[Entry]:
        return self.ledger.receive(self.now, node, envelope(*messages, base=base, epoch=epoch))

    def heartbeat(self, node: str = "n1", status: bytes = b"", interval: float = 10.0, epoch: int = EPOCH) -> None:
        """A frame that proves that the node lives."""
        heard = Heard("m1", self.ack(node).stamp)
        frame = envelope(heard=heard, status=status, interval=interval, epoch=epoch)
        self.ledger.receive(self.now, node, frame)

    def acks(self) -> list[tuple[str, Acknowledgement]]:
        return self.ledger.acknowledgements(self.now)

    def ack(self, node: str = "n1") -> Acknowledgement:
        """The next acknowledgement to this node, a beacon if nothing else."""
        if node not in self.ledger.nodes:
            self.receive(node=node)
        self.now += BEACON_S
        return [ack for name, ack in self.acks() if name == node][-1]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def seqs(entries: Sequence[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


class TestAccepting:
    def test_messages_in_order_are_accepted_in_order(self, bench: Bench) -> None:
        assert seqs(bench.receive(message(1), message(2), message(3))) == [1, 2, 3]
        assert bench.ack().received == 3

    def test_a_message_whose_predecessor_is_missing_is_discarded_unmarked(self, bench: Bench) -> None:
        assert seqs(bench.receive(message(1), message(3))) == [1]
        assert bench.ack().received == 1
        assert seqs(bench.receive(message(2), message(3))) == [2, 3]

    def test_a_gap_that_prev_declares_is_no_gap(self, bench: Bench) -> None:
        assert seqs(bench.receive(message(1), message(9, prev=1))) == [1, 9]

    def test_a_message_in_flight_that_comes_again_is_dropped(self, bench: Bench) -> None:
        bench.receive(message(1), message(2))
        assert bench.receive(message(1), message(2)) == []
        assert bench.ledger.counters["repeated"] == 2

    def test_a_settled_message_that_comes_again_is_answered_at_once(self, bench: Bench) -> None:
        (entry,) = bench.receive(message(1))
        bench.ledger.settle(entry)
        bench.ack()
        assert bench.acks() == []
        assert bench.receive(message(1)) == []
        assert [ack.completed for _, ack in bench.acks()] == [1]

    def test_a_first_frame_with_a_base_starts_there(self, bench: Bench) -> None:
        assert seqs(bench.receive(message(41, prev=40), base=41)) == [41]
        assert bench.ack().completed == 40

    def test_a_base_that_rises_settles_what_lies_below(self, bench: Bench) -> None:
        bench.receive(message(1), message(2), message(3))
        bench.receive(base=3)
        assert bench.ack().completed == 2

    def test_a_base_that_falls_back_is_ignored(self, bench: Bench) -> None:
        bench.receive(base=10)
        bench.receive(base=3)
        ack = bench.ack()
        assert (ack.received, ack.completed) == (9, 9)

    def test_epochs_of_one_node_are_counted_apart(self, bench: Bench) -> None:
        bench.receive(message(1), message(2))
        assert seqs(bench.receive(message(1), epoch=EPOCH + 1)) == [1]

    def test_a_message_without_a_place_is_counted_and_spoils_no_neighbour(self, bench: Bench) -> None:
        assert seqs(bench.receive(message(1), b'{"type":"event"}', message(2))) == [1, 2]
        assert bench.ledger.counters["message"] == 1

    def test_a_message_of_an_unknown_shape_is_handed_on_as_it_is(self, bench: Bench) -> None:
        raw = b'{"seq":1,"prev":0,"type":["?"],"vm":7}'
        (entry,) = bench.receive(raw)
        assert entry.raw == raw

    def test_events_of_one_vm_share_a_lane_and_other_messages_the_nodes(self, bench: Bench) -> None:
        stats = encode({"seq": 3, "prev": 2, "type": "stats"})
        one, two, other = bench.receive(message(1, uuid="a"), message(2, uuid="b"), stats)
        (elsewhere,) = bench.receive(message(1, uuid="a"), node="n2")
        assert len({one.lane, two.lane, other.lane}) == 3
        assert elsewhere.lane == one.lane


class TestHostileKeyHolder:
    """A node whose key is in the wrong hands: it may say what it likes of itself, and hurts nobody else."""

    @pytest.mark.parametrize("value", [b"[" * 40 + b"]" * 40, b'"\xff"'])
    def test_a_message_that_would_spoil_a_report_goes_on_without_its_contents(self, bench: Bench, value: bytes) -> None:
        raw = b'{"seq":1,"prev":0,"type":"event","vm":{"uuid":"vm-1"},"x":%b}' % value
        (entry, neighbour) = bench.receive(raw, message(2))
        assert entry.raw == b'{"seq":1,"prev":0,"type":"unreadable"}'
        assert neighbour.raw == message(2)
        assert bench.ledger.counters["unreadable"] == 1

    def test_a_message_that_fits_into_no_call_goes_on_without_its_contents(self, bench: Bench) -> None:
        (large, larger) = bench.receive(message(1, x="x" * 4_000_000), message(2, x="x" * MESSAGE_MOST_BYTES))
        assert large.raw == message(1, x="x" * 4_000_000)
        assert larger.raw == b'{"seq":2,"prev":1,"type":"unreadable"}'

    def test_epochs_without_end_are_discarded_past_the_limit(self, bench: Bench) -> None:
        for number in range(3 * EPOCHS_MOST):
            bench.receive(message(1), epoch=EPOCH + number)
        assert len(bench.ledger.streams) == EPOCHS_MOST
        assert bench.ledger.counters["too_many_epochs"] == 2 * EPOCHS_MOST
        assert bench.receive(message(2), epoch=EPOCH)

    def test_another_nodes_epochs_do_not_count(self, bench: Bench) -> None:
        for number in range(EPOCHS_MOST):
            bench.receive(epoch=EPOCH + number)
        assert bench.receive(message(1), node="n2")

    def test_an_idle_epoch_gives_way_to_a_new_one_and_one_in_flight_does_not(self, bench: Bench) -> None:
        bench.receive(message(1), epoch=EPOCH)
        for number in range(1, EPOCHS_MOST):
            bench.receive(epoch=EPOCH + number)
        bench.now += EPOCH_IDLE_S + 1
        bench.receive(epoch=EPOCH + 2)
        assert bench.receive(message(1), epoch=EPOCH + 1000)
        assert ("n1", EPOCH) in bench.ledger.streams
        assert ("n1", EPOCH + 1) not in bench.ledger.streams
        assert ("n1", EPOCH + 2) in bench.ledger.streams

    def test_a_forgotten_epoch_makes_room(self, bench: Bench) -> None:
        for number in range(EPOCHS_MOST):
            bench.receive(epoch=EPOCH + number)
        bench.now += FORGET_S + 1
        bench.ledger.forget(bench.now)
        for number in range(EPOCHS_MOST):
            bench.receive(epoch=EPOCH + number)
        assert bench.ledger.counters["too_many_epochs"] == 0

    def test_messages_of_a_few_bytes_count_as_the_shortest_event_does(self) -> None:
        bench = Bench(memory_bytes=10 * LEAST_CHARGE)
        accepted = bench.receive(*[b'{"seq":%d,"prev":%d}' % (seq, seq - 1) for seq in range(1, 50)])
        assert len(accepted) == 10
        assert bench.ledger.counters["over_credit"] == 1


class TestCredit:
    def test_what_exceeds_the_credit_is_discarded_unmarked(self) -> None:
        bench = Bench(memory_bytes=1000)
        accepted = bench.receive(*(message(seq, pad="x" * 300) for seq in (1, 2, 3, 4)))
        assert len(accepted) < 4
        assert bench.ack().received == len(accepted)
        assert bench.ledger.counters["over_credit"] == 1

    def test_one_message_is_always_accepted_however_large(self) -> None:
        bench = Bench(memory_bytes=1000)
        assert seqs(bench.receive(message(1, pad="x" * 5000))) == [1]

    def test_settling_gives_credit_back(self) -> None:
        bench = Bench(memory_bytes=1000)
        (first,) = bench.receive(message(1, pad="x" * 900))
        assert bench.receive(message(2, pad="x" * 900)) == []
        bench.ledger.settle(first)
        assert seqs(bench.receive(message(2, pad="x" * 900))) == [2]

    def test_nodes_share_the_memory(self, bench: Bench) -> None:
        alone = bench.ack("n1").credit
        bench.receive(node="n2")
        assert bench.ack("n1").credit == alone // 2


class TestSettling:
    def test_nothing_is_completed_before_it_is_settled(self, bench: Bench) -> None:
        bench.receive(message(1), message(2))
        assert bench.ack().completed == 0

    def test_completed_stops_at_the_first_unsettled(self, bench: Bench) -> None:
        entries = bench.receive(message(1), message(2), message(3))
        bench.ledger.settle(entries[0])
        bench.ledger.settle(entries[2])
        assert bench.ack().completed == 1
        bench.ledger.settle(entries[1])
        assert bench.ack().completed == 3

    def test_a_mark_that_moves_is_told_without_waiting_for_the_beacon(self, bench: Bench) -> None:
        (entry,) = bench.receive(message(1))
        bench.ack()
        assert bench.acks() == []
        bench.ledger.settle(entry)
        assert [ack.completed for _, ack in bench.acks()] == [1]

    def test_an_older_epoch_is_acknowledged_by_its_name(self, bench: Bench) -> None:
        (old,) = bench.receive(message(1))
        bench.receive(epoch=EPOCH + 1)
        bench.acks()
        bench.ledger.settle(old)
        assert [(ack.epoch, ack.completed) for _, ack in bench.acks()] == [(EPOCH, 1)]

    def test_settling_twice_is_a_defect(self, bench: Bench) -> None:
        (entry,) = bench.receive(message(1))
        bench.ledger.settle(entry)
        with pytest.raises(KeyError):
            bench.ledger.settle(entry)

    def test_a_settled_message_frees_its_bytes(self, bench: Bench) -> None:
        (entry,) = bench.receive(message(1))
        bench.ledger.settle(entry)
        assert entry.raw == b""
        assert bench.ledger.nodes["n1"].unsettled_bytes == 0
        assert bench.ledger.entries == {}

    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_completed_never_passes_an_unsettled_message(self, data: st.DataObject) -> None:
        """Whatever arrives, in whatever order, again or not at all; whatever is settled."""
        bench = Bench(memory_bytes=2000)
        unsettled: dict[int, Entry] = {}
        highest = base = 1
        completed = 0
        for _ in range(data.draw(st.integers(1, 40))):
            step = data.draw(st.sampled_from(["receive", "settle", "base"]))
            if step == "receive":
                first = data.draw(st.integers(base, highest + 3))
                count = data.draw(st.integers(0, 5))
                for entry in bench.receive(*(message(s) for s in range(first, first + count)), base=base):
                    unsettled[entry.seq] = entry
                    highest = max(highest, entry.seq)
            elif step == "settle" and unsettled:
                seq = data.draw(st.sampled_from(sorted(unsettled)))
                bench.ledger.settle(unsettled.pop(seq))
            elif step == "base":
                # A node raises its base only over what is acknowledged to it.
                base = data.draw(st.integers(base, completed + 1))
            before, completed = completed, bench.ack().completed
            assert completed >= before
            assert all(seq > completed for seq in unsettled)
            assert bench.ledger.nodes["n1"].unsettled_bytes == sum(entry.size for entry in unsettled.values())
        for entry in unsettled.values():
            bench.ledger.settle(entry)
        ack = bench.ack()
        assert ack.completed == ack.received


class TestAcknowledgements:
    def test_a_beacon_goes_to_every_node_each_second(self, bench: Bench) -> None:
        bench.receive(node="n1")
        bench.receive(node="n2")
        bench.acks()
        assert bench.acks() == []
        bench.now += BEACON_S
        assert sorted(name for name, _ in bench.acks()) == ["n1", "n2"]

    def test_stamps_only_rise(self, bench: Bench) -> None:
        stamps = [bench.ack().stamp for _ in range(5)]
        bench.receive(node="n2")
        stamps += [ack.stamp for _, ack in bench.acks()]
        assert stamps == sorted(set(stamps))

    def test_seen_is_the_newest_sent_of_a_living_node(self, bench: Bench) -> None:
        heard = Heard("m1", bench.ack().stamp)
        bench.ledger.receive(bench.now, "n1", envelope(heard=heard, sent=77.0))
        assert bench.ack().seen == 77.0

    def test_a_recording_does_not_redirect_a_living_nodes_acknowledgements(self, bench: Bench) -> None:
        bench.heartbeat()
        bench.ledger.receive(bench.now, "n1", envelope(epoch=EPOCH - 5, sent=1.0, heard=Heard("m0", 3)))
        bench.acks()
        ack = bench.ack()
        assert (ack.epoch, ack.seen) == (EPOCH, 0.0)

    def test_a_node_that_is_silent_for_long_is_forgotten(self, bench: Bench) -> None:
        bench.receive()
        bench.now += FORGET_S + 1
        assert bench.ledger.forget(bench.now) == ["n1"]
        assert bench.acks() == []
        assert bench.ledger.streams == {}

    def test_a_node_with_something_in_flight_is_not_forgotten(self, bench: Bench) -> None:
        (entry,) = bench.receive(message(1))
        bench.now += FORGET_S + 1
        assert bench.ledger.forget(bench.now) == []
        bench.ledger.settle(entry)
        assert bench.ack().completed == 1


class TestSignsOfLife:
    def test_a_frame_that_names_no_acknowledgement_is_no_sign(self, bench: Bench) -> None:
        bench.receive(message(1))
        assert not bench.ledger.is_alive(bench.now, bench.ledger.nodes["n1"])

    def test_a_frame_that_names_a_fresh_acknowledgement_is_one(self, bench: Bench) -> None:
        bench.heartbeat()
        assert bench.ledger.is_alive(bench.now, bench.ledger.nodes["n1"])

    def test_a_frame_that_names_another_runs_acknowledgement_is_none(self, bench: Bench) -> None:
        stamp = bench.ack().stamp
        bench.ledger.receive(bench.now, "n1", envelope(heard=Heard("m0", stamp)))
        assert not bench.ledger.is_alive(bench.now, bench.ledger.nodes["n1"])

    def test_a_frame_that_names_an_acknowledgement_of_three_intervals_ago_is_none(self, bench: Bench) -> None:
        heard = Heard("m1", bench.ack().stamp)
        bench.now += 31.0
        bench.ledger.receive(bench.now, "n1", envelope(heard=heard, interval=10.0))
        assert not bench.ledger.is_alive(bench.now, bench.ledger.nodes["n1"])

    def test_a_frame_that_names_an_acknowledgement_that_was_never_sent_is_none(self, bench: Bench) -> None:
        heard = Heard("m1", bench.ack().stamp + 1)
        bench.ledger.receive(bench.now, "n1", envelope(heard=heard))
        assert not bench.ledger.is_alive(bench.now, bench.ledger.nodes["n1"])

    def test_a_node_without_a_sign_for_three_intervals_is_not_alive(self, bench: Bench) -> None:
        bench.heartbeat(interval=10.0)
        assert not bench.ledger.is_alive(bench.now + 30.0, bench.ledger.nodes["n1"])


class TestPresence:
    def test_a_report_is_due_at_the_start_although_no_node_is_there(self, bench: Bench) -> None:
        assert bench.ledger.presence(bench.now) == []

    def test_the_next_one_waits_for_the_answer_to_the_last(self, bench: Bench) -> None:
        bench.ledger.presence(bench.now)
        assert bench.ledger.presence(bench.now + 100) is None

    def test_after_an_answer_the_next_one_is_due_in_time(self, bench: Bench) -> None:
        bench.ledger.presence(bench.now)
        bench.ledger.presence_done(bench.now, delivered=True)
        assert bench.ledger.presence(bench.now + PRESENCE_S - 0.1) is None
        assert bench.ledger.presence(bench.now + PRESENCE_S) == []

    def test_a_sign_of_life_is_told_once(self, bench: Bench) -> None:
        bench.heartbeat(status=b'{"rows":3}')
        told = bench.ledger.presence(bench.now)
        assert told is not None
        assert [(entry.node, entry.epoch, entry.live, bytes(entry.status)) for entry in told] == [
            ("n1", EPOCH, True, b'{"rows":3}')
        ]
        bench.ledger.presence_done(bench.now, delivered=True)
        assert bench.ledger.presence(bench.now + PRESENCE_S) == []

    def test_a_sign_of_life_that_was_not_delivered_is_told_again_while_it_is_one(self, bench: Bench) -> None:
        bench.heartbeat(interval=10.0)
        bench.ledger.presence(bench.now)
        bench.ledger.presence_done(bench.now, delivered=False)
        told = bench.ledger.presence(bench.now + BEACON_S)
        assert told is not None
        assert [entry.node for entry in told] == ["n1"]
        bench.ledger.presence_done(bench.now, delivered=False)
        assert bench.ledger.presence(bench.now + 40.0) == []

    def test_of_two_agents_under_one_node_id_both_are_told_however_their_heartbeats_lie(self, bench: Bench) -> None:
        for first, last in ((EPOCH, EPOCH + 1), (EPOCH + 1, EPOCH)):
            bench.heartbeat(epoch=first)
            bench.heartbeat(epoch=last, status=b'{"rows":3}')
            told = bench.ledger.presence(bench.now + PRESENCE_S)
            assert told is not None
            assert [(entry.node, entry.epoch, entry.live) for entry in told] == [
                ("n1", first, True),
                ("n1", last, True),
            ]
            assert [bytes(entry.status) for entry in told] == [b"", b'{"rows":3}']
            bench.ledger.presence_done(bench.now, delivered=True)

    def test_an_epoch_that_has_ended_is_not_told_of_again_when_an_answer_was_lost(self, bench: Bench) -> None:
        bench.heartbeat()
        bench.heartbeat(epoch=EPOCH + 1)
        bench.ledger.presence(bench.now)
        bench.ledger.presence_done(bench.now, delivered=False)
        told = bench.ledger.presence(bench.now + BEACON_S)
        assert told is not None
        assert [entry.epoch for entry in told] == [EPOCH + 1]

    def test_a_node_that_comes_to_life_is_told_without_delay(self, bench: Bench) -> None:
        bench.ledger.presence(bench.now)
        bench.ledger.presence_done(bench.now, delivered=True)
        bench.heartbeat()
        assert bench.ledger.presence(bench.now)

    def test_one_that_does_while_a_report_is_under_way_is_told_in_the_next_without_delay(self, bench: Bench) -> None:
        bench.ledger.presence(bench.now)
        bench.heartbeat()
        bench.ledger.presence_done(bench.now, delivered=True)
        assert bench.ledger.presence(bench.now)

    def test_a_node_whose_libvirt_ceases_or_begins_to_answer_is_told_of_without_delay(self, bench: Bench) -> None:
        def told() -> list[bytes] | None:
            presence = bench.ledger.presence(bench.now)
            if presence is None:
                return None
            bench.ledger.presence_done(bench.now, delivered=True)
            return [bytes(entry.status) for entry in presence]

        well, lost = b'{"libvirt_answers":true,"x":%d}', b'{"libvirt_answers":false}'
        bench.heartbeat(status=well % 1)
        assert told() == [well % 1]
        bench.heartbeat(status=well % 2)
        assert told() is None
        bench.heartbeat(status=lost)
        assert told() == [lost]
        bench.heartbeat(status=lost)
        assert told() is None
        bench.heartbeat(status=well % 3)
        assert told() == [well % 3]

    def test_a_node_without_a_status_makes_a_report_that_is_json(self, bench: Bench) -> None:
        bench.heartbeat()
        told = bench.ledger.presence(bench.now)
        assert told is not None
        assert b"status" not in encode(told)


class TestLearning:
    def test_an_inventory_that_the_panel_wants_is_asked_for(self, bench: Bench) -> None:
        bench.receive()
        bench.ledger.learn([Verdict("n1", EPOCH, 0, 0, EPOCH, want_inventory="t-1")])
        ack = bench.ack()
        assert (ack.want_inventory, ack.newest_epoch) == ("t-1", EPOCH)

    def test_a_node_is_told_of_a_newer_epoch_that_the_panel_has_not_heard_of_yet(self, bench: Bench) -> None:
        """Its outbox was lost while messages of the newer epoch were on their way, and its clock is behind."""
        bench.receive(message(1), epoch=EPOCH + 5)
        bench.receive(message(1))
        bench.ledger.learn([Verdict("n1", EPOCH, 0, 0, EPOCH)])
        assert bench.ack().newest_epoch == EPOCH + 5

    def test_the_wish_ends_when_the_inventory_that_echoes_it_is_settled(self, bench: Bench) -> None:
        bench.receive()
        verdict = Verdict("n1", EPOCH, 0, 0, EPOCH, want_inventory="t-1")
        bench.ledger.learn([verdict])
        (entry,) = bench.receive(encode({"seq": 1, "prev": 0, "type": "inventory", "token": "t-1"}))
        assert bench.ack().want_inventory == "t-1"
        bench.ledger.settle(entry)
        assert bench.ack().want_inventory == ""
        # An answer to an earlier report may still repeat the wish.
        bench.ledger.learn([verdict])
        assert bench.ack().want_inventory == ""

    def test_a_message_that_goes_to_the_dead_letters_is_settled_and_its_node_asked_to_list(self, bench: Bench) -> None:
        """The panel's picture lacks what it says, and nobody else will tell it."""
        (entry,) = bench.receive(message(1))
        bench.ledger.refuse(entry)
        ack = bench.ack()
        assert ack.completed == 1
        assert ack.want_inventory
        (listing,) = bench.receive(encode({"seq": 2, "prev": 1, "type": "inventory", "token": ack.want_inventory}))
        bench.ledger.settle(listing)
        assert bench.ack().want_inventory == ""

    def test_a_verdict_on_a_node_that_is_not_known_is_ignored(self, bench: Bench) -> None:
        bench.ledger.learn([Verdict("stranger", EPOCH, 0, 0)])
        assert bench.ledger.nodes == {}
