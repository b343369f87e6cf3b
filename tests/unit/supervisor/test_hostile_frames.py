"""Hostile frames of every kind that we could think of, and of many that chance did, against the real cores."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bench.hostility.bodies import KEY_HOLDERS
from bench.hostility.kinds import OUTSIDERS
from bench.hostility.trial import Trial
from vmwatch.shared.errors import MessageError
from vmwatch.shared.keys import node_key, up_mac
from vmwatch.shared.messages import VERSION, decode_head
from vmwatch.supervisor.ledger import Ledger
from vmwatch.supervisor.receiver import Authenticator

SECRET = "A1B2C3D4E5F6G7H8"
FRAMES = 100_000
REASONS = {"frames", "version", "node", "oversized", "mac", "envelope"}


@pytest.mark.parametrize("seed", [1])
def test_a_hundred_thousand_hostile_frames_leave_nothing_behind(seed: int, short_path: Path) -> None:
    outcome = Trial(seed, short_path).run(FRAMES)
    assert outcome.breaches.lines() == []
    assert outcome.frames == FRAMES
    assert set(outcome.kinds) == {*OUTSIDERS, *KEY_HOLDERS, "recording sent again"}
    assert outcome.victims_events > FRAMES // 100


def test_the_same_seed_makes_the_same_frames(tmp_path: Path) -> None:
    counts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        outcome = Trial(5, tmp_path / name).run(1000)
        counts.append((outcome.kinds, outcome.victims_events, outcome.breaches.lines()))
    assert counts[0] == counts[1]


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_random_frames_are_rejected_for_a_reason_that_has_a_name(frames: list[bytes]) -> None:
    with pytest.raises(MessageError) as caught:
        Authenticator(SECRET).verify(frames)
    assert caught.value.reason in REASONS


@given(name=st.binary(max_size=70), mac=st.binary(min_size=32, max_size=32), body=st.binary(max_size=80))
def test_random_parts_behind_the_right_version_are_rejected(name: bytes, mac: bytes, body: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        Authenticator(SECRET).verify([VERSION, name, mac, body])
    assert caught.value.reason in {"node", "mac"}


_ATOMS = st.sampled_from([b"{", b"}", b"[", b"]", b'"', b",", b":", b"1", b"-", b"null", b"\xff", b"\\", b"\0", b" "])
_FIELDS = [b'"seq":1', b'"prev":0', b'"vm":{"uuid":"a"}', b'"type":"event"', b'"token":"t"', b'"messages":[']
_PLACED = st.sampled_from(_FIELDS)


@given(st.lists(_ATOMS | _PLACED | st.binary(max_size=4), max_size=25).map(b"".join))
def test_a_signed_body_of_any_bytes_is_taken_or_named(body: bytes) -> None:
    body = b'{"epoch":1,"base":1,"interval":10,"sent":0,"messages":[{' + body + b"}]}"
    mac = up_mac(node_key(SECRET, "n1"), b"n1", body)
    try:
        node, envelope = Authenticator(SECRET).verify([VERSION, b"n1", mac, body])
    except MessageError as error:
        if error.reason != "envelope":
            raise
        return
    ledger = Ledger("m", 2**20, 0.0)
    entries = ledger.receive(0.0, node, envelope)
    counted = sum(ledger.counters[name] for name in ("message", "accepted", "repeated", "out_of_order", "over_credit"))
    assert counted == len(envelope.messages)
    for entry in entries:
        assert decode_head(Raw(entry.raw)).seq == entry.seq
