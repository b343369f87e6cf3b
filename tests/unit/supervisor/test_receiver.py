"""What is dropped before its body is looked at, and how it is counted; then the same over a real socket."""

import json
import logging
from collections.abc import Iterator

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from tests.testbed.waiting import LOOPBACK, free_port, wait_until
from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import ConfigurationError, MessageError
from vmwatch.shared.keys import node_key, up_mac
from vmwatch.shared.messages import MAX_FRAME_BYTES, VERSION, Envelope
from vmwatch.supervisor.receiver import DOUBTED_FROM_BYTES, PEERS_KEPT, Authenticator, Receiver, Rejects

SECRET = "A1B2C3D4E5F6G7H8"
PREVIOUS = "OLDOLDOLDOLDOLD1"
BODY = b'{"epoch":1,"base":1,"interval":10,"sent":0}'


def frames(node: str = "n1", secret: str = SECRET, body: bytes = BODY) -> list[bytes]:
    name = node.encode()
    return [VERSION, name, up_mac(node_key(secret, node), name, body), body]


def reason(authenticator: Authenticator, message: list[bytes]) -> str:
    with pytest.raises(MessageError) as caught:
        authenticator.verify(message)
    return caught.value.reason


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(SECRET)


class TestAuthenticator:
    def test_a_genuine_frame_passes(self, authenticator: Authenticator) -> None:
        node, envelope = authenticator.verify(frames())
        assert (node, envelope.epoch) == ("n1", 1)

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
    def test_another_number_of_frames_is_rejected(self, authenticator: Authenticator, count: int) -> None:
        assert reason(authenticator, [*frames(), b"more"][:count]) == "frames"

    def test_another_version_is_rejected(self, authenticator: Authenticator) -> None:
        assert reason(authenticator, [b"VW2", *frames()[1:]]) == "version"

    @pytest.mark.parametrize("name", [b"", b"a b", b"n\0", b"x" * 65, "ü".encode(), b"\xff", b"vmwatch-master"])
    def test_a_name_that_is_no_node_id_is_rejected(self, authenticator: Authenticator, name: bytes) -> None:
        mac = up_mac(node_key(SECRET, name.decode(errors="replace")), name, BODY)
        assert reason(authenticator, [VERSION, name, mac, BODY]) == "node"

    @pytest.mark.parametrize("mac", [b"", b"\0" * 32, b"\0" * 31, b"\0" * 33])
    def test_a_wrong_mac_is_rejected(self, authenticator: Authenticator, mac: bytes) -> None:
        message = frames()
        message[2] = mac
        assert reason(authenticator, message) == "mac"

    def test_another_clusters_key_is_rejected(self, authenticator: Authenticator) -> None:
        assert reason(authenticator, frames(secret="SOMEOTHERSECRET1")) == "mac"

    def test_one_node_cannot_speak_for_another(self, authenticator: Authenticator) -> None:
        message = frames("n1")
        message[1] = b"n2"
        assert reason(authenticator, message) == "mac"

    @given(position=st.integers(0, len(BODY) - 1), flip=st.integers(1, 255))
    def test_any_changed_byte_of_the_body_is_noticed(self, position: int, flip: int) -> None:
        message = frames()
        body = bytearray(BODY)
        body[position] ^= flip
        message[3] = bytes(body)
        assert reason(Authenticator(SECRET), message) == "mac"

    def test_a_body_is_not_parsed_before_its_mac_is_right(
        self, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def decode(body: bytes) -> Envelope:
            raise AssertionError("parsed")

        monkeypatch.setattr("vmwatch.supervisor.receiver.decode_envelope", decode)
        assert reason(authenticator, frames(secret="SOMEOTHERSECRET1")) == "mac"

    def test_a_genuine_frame_that_is_no_envelope_is_rejected(self, authenticator: Authenticator) -> None:
        assert reason(authenticator, frames(body=b"[1]")) == "envelope"

    def test_a_body_beyond_the_limit_is_rejected(self, authenticator: Authenticator) -> None:
        assert reason(authenticator, frames(body=b" " * (MAX_FRAME_BYTES + 1))) == "oversized"

    def test_the_previous_secret_is_accepted_and_answered_with(self) -> None:
        authenticator = Authenticator(SECRET, PREVIOUS)
        authenticator.verify(frames(secret=PREVIOUS))
        assert authenticator.key_of("n1") == node_key(PREVIOUS, "n1")
        authenticator.verify(frames(secret=SECRET))
        assert authenticator.key_of("n1") == node_key(SECRET, "n1")

    def test_the_previous_secret_is_rejected_when_it_is_not_set(self, authenticator: Authenticator) -> None:
        assert reason(authenticator, frames(secret=PREVIOUS)) == "mac"

    def test_a_rejected_frame_changes_no_key(self) -> None:
        authenticator = Authenticator(SECRET, PREVIOUS)
        authenticator.verify(frames(secret=PREVIOUS))
        reason(authenticator, frames(secret="SOMEOTHERSECRET1"))
        assert authenticator.key_of("n1") == node_key(PREVIOUS, "n1")


class TestRejects:
    def test_they_are_counted_by_reason_and_by_peer(self) -> None:
        rejects = Rejects()
        rejects.count("mac", "10.0.0.1", "n1")
        rejects.count("mac", "10.0.0.1", "n2")
        rejects.count("frames", "10.0.0.2", "")
        assert rejects.by_reason == {"mac": 2, "frames": 1}
        assert rejects.by_peer["10.0.0.1"].reasons == {"mac": 2}
        assert rejects.by_peer["10.0.0.1"].claimed == "n2"

    def test_names_and_addresses_without_end_do_not_grow_the_table(self) -> None:
        rejects = Rejects()
        for number in range(3 * PEERS_KEPT):
            rejects.count("mac", f"address {number}", f"n{number}")
        assert len(rejects.by_peer) == PEERS_KEPT
        assert rejects.peers_not_kept == 2 * PEERS_KEPT
        assert rejects.by_reason["mac"] == 3 * PEERS_KEPT


class TestReceiver:
    @pytest.fixture
    def context(self) -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        yield context
        context.destroy(linger=0)

    @pytest.fixture
    def endpoint(self) -> Endpoint:
        return Endpoint(LOOPBACK, free_port())

    @pytest.fixture
    def receiver(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint) -> Receiver:
        return Receiver(context, endpoint, Authenticator(SECRET))

    @pytest.fixture
    def push(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint) -> zmq.Socket[bytes]:
        push = context.socket(zmq.PUSH)
        push.connect(str(endpoint))
        return push

    def test_nothing_waits_and_it_does_not_block(self, receiver: Receiver) -> None:
        assert receiver.receive(0.0, 10) == []

    def test_rejects_do_not_keep_a_genuine_frame_from_arriving(
        self, receiver: Receiver, push: zmq.Socket[bytes]
    ) -> None:
        push.send_multipart([b"junk"])
        push.send_multipart([b"x"] * 5000)
        push.send_multipart(frames(secret="SOMEOTHERSECRET1"))
        push.send_multipart(frames())
        got = wait_until(lambda: receiver.receive(0.0, 10), "the genuine frame")
        assert [node for node, _ in got] == ["n1"]
        assert receiver.rejects.by_reason == {"frames": 2, "mac": 1}
        assert list(receiver.rejects.by_peer) == [LOOPBACK]

    def test_a_frame_a_little_too_large_is_counted(self, receiver: Receiver, push: zmq.Socket[bytes]) -> None:
        push.send_multipart(frames(body=b" " * (MAX_FRAME_BYTES + 1)))
        push.send_multipart(frames())
        wait_until(lambda: receiver.receive(0.0, 10), "the genuine frame")
        assert receiver.rejects.by_reason == {"oversized": 1}

    def test_one_turn_reads_no_more_than_it_was_told(self, receiver: Receiver, push: zmq.Socket[bytes]) -> None:
        for _ in range(20):
            push.send_multipart(frames())
        got = wait_until(lambda: receiver.receive(0.0, 3), "frames")
        assert len(got) <= 3

    def test_a_turn_ends_when_its_time_is_over(
        self, receiver: Receiver, push: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vmwatch.supervisor.receiver.TURN_MOST_S", 0.0)
        for _ in range(5):
            push.send_multipart(frames())
        turns: list[int] = []
        while sum(turns) < 5:
            turns.append(len(wait_until(lambda: receiver.receive(0.0, 10), "a frame")))
        assert turns == [1] * 5

    def test_after_a_large_body_with_a_wrong_mac_others_are_not_even_hashed(
        self, receiver: Receiver, push: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vmwatch.supervisor.receiver.DOUBT_FACTOR", 1e6)
        large = BODY[:-1] + b" " * DOUBTED_FROM_BYTES + b"}"
        push.send_multipart(frames(body=large))
        assert wait_until(lambda: receiver.receive(0.0, 10), "a large genuine frame")
        push.send_multipart(frames(secret="SOMEOTHERSECRET1", body=large))
        push.send_multipart(frames(body=large))
        push.send_multipart(frames())
        got = wait_until(lambda: receiver.receive(0.0, 10), "the small genuine frame")
        assert len(got) == 1
        assert receiver.rejects.by_reason == {"mac": 1, "doubted": 1}

    def test_doubt_ends_in_time(self, receiver: Receiver, push: zmq.Socket[bytes]) -> None:
        large = BODY[:-1] + b" " * DOUBTED_FROM_BYTES + b"}"
        push.send_multipart(frames(secret="SOMEOTHERSECRET1", body=large))
        wait_until(lambda: receiver.receive(0.0, 1) or receiver.rejects.by_reason, "the wrong one")

        def taken() -> bool:
            push.send_multipart(frames(body=large))
            return bool(receiver.receive(0.0, 10))

        wait_until(taken, "a large genuine frame to be taken again")

    def test_a_flood_of_rejects_writes_few_lines(
        self, receiver: Receiver, push: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            for _ in range(30):
                push.send_multipart([b"junk"])

            def all_counted() -> bool:
                receiver.receive(0.0, 100)
                return receiver.rejects.by_reason["frames"] == 30

            wait_until(all_counted, "30 rejects")
        assert len(caplog.records) == 1

    def test_a_used_address_is_an_error_that_names_it(
        self, context: zmq.Context[zmq.Socket[bytes]], receiver: Receiver, endpoint: Endpoint
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"listen: {endpoint} cannot be used: Address already in use"):
            Receiver(context, endpoint, Authenticator(SECRET))

    def test_the_status_is_json(self, receiver: Receiver) -> None:
        receiver.rejects.count("mac", "10.0.0.1", "n1")
        assert json.loads(json.dumps(receiver.rejects.describe()))["by_reason"] == {"mac": 1}
