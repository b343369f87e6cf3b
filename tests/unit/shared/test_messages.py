"""The wire protocol's messages: the envelope first, then each message by itself (design 02)."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.shared.errors import MessageError
from vmwatch.shared.messages import (
    MAX_DEPTH,
    MAX_MESSAGES,
    MAX_STATUS_BYTES,
    Disk,
    Envelope,
    Event,
    Heard,
    Inventory,
    ListedDomain,
    Vm,
    decode_acknowledgement,
    decode_envelope,
    decode_head,
    decode_message,
    encode,
    encode_payload,
    is_plain,
    join_envelope,
    place_payload,
)
from vmwatch.shared.states import State

UUID = "8e0d1b34-5f5d-4ac1-9c1e-2f9d3a1b7c55"
EVENT: dict[str, Any] = {
    "seq": 41,
    "prev": 40,
    "time": 12.5,
    "type": "event",
    "vm": {"uuid": UUID, "name": "web"},
    "event": "started",
    "detail": "booted",
    "state": "running",
}
ENVELOPE: dict[str, Any] = {"epoch": 1763900000123456, "base": 41, "interval": 10, "sent": 1763900012.5}


def envelope_of(**changes: object) -> bytes:
    return json.dumps({**ENVELOPE, **changes}).encode()


def message_of(**changes: object) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def test_an_envelope_leaves_its_messages_as_they_came() -> None:
    strange = '{"seq": 41, "prev": 40, "type":  "never heard of", "x": [1]}'
    body = json.dumps({**ENVELOPE, "messages": []})[:-2] + strange + "]}"
    assert bytes(decode_envelope(body.encode()).messages[0]) == strange.encode()


def test_unknown_fields_are_ignored() -> None:
    assert decode_envelope(envelope_of(colour="red")).base == 41
    assert isinstance(decode_message(message_of(colour="red")), Event)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": -1},
        {"epoch": 2**53},
        {"epoch": 1.5},
        {"epoch": None},
        {"base": "41"},
        {"interval": 0},
        {"interval": 1e9},
        {"messages": [{}] * (MAX_MESSAGES + 1)},
        {"messages": 5},
        {"heard": {"master": 5, "stamp": 1}},
        {"agent": "x" * 300},
    ],
)
def test_a_wrong_envelope_is_an_error_that_names_the_field(changes: dict[str, object]) -> None:
    with pytest.raises(MessageError, match=next(iter(changes))) as caught:
        decode_envelope(envelope_of(**changes))
    assert caught.value.reason == "envelope"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000])
def test_what_is_no_envelope_is_an_error_and_no_crash(body: bytes) -> None:
    with pytest.raises(MessageError):
        decode_envelope(body)


def test_deep_nesting_in_a_message_is_an_error_and_no_crash() -> None:
    deep = b'{"seq":1,"prev":0,"type":"event","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(MessageError):
        decode_message(deep)


def test_a_message_of_an_unknown_type_keeps_its_place() -> None:
    head = decode_head(msgspec.Raw(b'{"seq": 7, "prev": 6, "type": "dance", "vm": 5}'))
    assert (head.seq, head.prev, head.vm) == (7, 6, None)


def test_a_message_without_a_place_is_an_error() -> None:
    with pytest.raises(MessageError, match="prev"):
        decode_head(msgspec.Raw(b'{"seq": 7}'))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vm": {"uuid": "no uuid", "name": "x"}}, "uuid"),
        ({"vm": {"uuid": UUID, "name": ""}}, "name"),
        ({"vm": {"uuid": UUID}}, "name"),
        ({"event": "Started!"}, "event"),
        ({"state": "dancing"}, "state"),
        ({"type": "dance"}, "dance"),
        ({"time": -1}, "time"),
        ({"seq": 2**53}, "seq"),
    ],
)
def test_a_wrong_message_is_an_error_that_names_the_field(changes: dict[str, object], named: str) -> None:
    with pytest.raises(MessageError, match=named):
        decode_message(message_of(**changes))


def test_statistics_that_libvirt_does_not_give_are_absent_and_not_zero() -> None:
    text = message_of(type="stats", interval=600, taken=1.0, domains=[{"uuid": UUID, "state": "shutoff"}])
    message = decode_message(text)
    assert message.domains[0].tx_packets is None  # type: ignore[union-attr]
    assert b"tx_packets" not in encode_payload(message)


def test_an_acknowledgement_with_a_wrong_number_is_an_error() -> None:
    with pytest.raises(MessageError) as caught:
        decode_acknowledgement(b'{"master":"m","stamp":-1,"epoch":1,"received":0,"completed":0,"credit":0,"seen":0}')
    assert caught.value.reason == "acknowledgement"


@given(name=st.text(min_size=1, max_size=50), seq=st.integers(1, 2**53 - 1), state=st.sampled_from([None, *State]))
def test_a_stored_message_comes_back_as_it_was(name: str, seq: int, state: State | None) -> None:
    event = Event(seq=seq, time=1.0, vm=Vm(UUID, name), event="started", detail="booted", state=state)
    try:
        payload = encode_payload(event)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert decode_message(place_payload(payload, seq, seq - 1)) == event


LISTED: dict[str, Any] = {"uuid": UUID, "name": "web", "state": "running"}


def inventory_of(**changes: object) -> bytes:
    return message_of(type="inventory", as_of=0, domains=[{**LISTED, **changes}])


def listed_in(text: bytes) -> ListedDomain:
    message = decode_message(text)
    assert isinstance(message, Inventory)
    return message.domains[0]


def test_an_older_agent_s_inventory_says_nothing_of_disks() -> None:
    listed = listed_in(inventory_of())
    assert (listed.disks, listed.macs) == (None, None)
    assert not {"disks", "macs"} & set(json.loads(encode(listed)))


def test_no_disks_is_told_and_is_not_the_same_as_unknown() -> None:
    listed = listed_in(inventory_of(disks=[], macs=[]))
    assert (listed.disks, listed.macs) == ([], [])
    assert {"disks", "macs"} <= set(json.loads(encode(listed)))


def test_a_disk_comes_back_as_it_was_stored() -> None:
    disks = [Disk("/images/ü.img", "machine:1"), Disk("/dev/disk/by-id/wwn-0x5000c500155a7e10")]
    domains = [ListedDomain(UUID, "web", State.RUNNING, disks=disks, macs=["52:54:00:00:00:01"])]
    inventory = Inventory(seq=1, time=1.0, as_of=0, domains=domains)
    assert decode_message(place_payload(encode_payload(inventory), 1, 0)) == inventory


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"disks": "/a"}, "disks"),
        ({"disks": [{}]}, "path"),
        ({"disks": [{"path": ""}]}, "path"),
        ({"disks": [{"path": "x" * 4097}]}, "path"),
        ({"disks": [{"path": "/a", "on": "x" * 257}]}, "on"),
        ({"macs": [5]}, "macs"),
    ],
)
def test_a_wrong_disk_is_an_error_that_names_the_field(changes: dict[str, object], named: str) -> None:
    with pytest.raises(MessageError, match=named):
        decode_message(inventory_of(**changes))


@given(count=st.integers(0, 5))
def test_a_frame_carries_its_messages_and_leaves_out_what_is_not_set(count: int) -> None:
    envelope = Envelope(epoch=5, base=1, interval=10.0, sent=2.0, agent="a/1", heard=Heard("m", 3))
    body = join_envelope(envelope, [message_of(seq=n + 1, prev=n) for n in range(count)])
    decoded = decode_envelope(body)
    assert [json.loads(bytes(raw))["seq"] for raw in decoded.messages] == list(range(1, count + 1))
    assert "status" not in json.loads(body)
    assert decoded.heard == Heard("m", 3)


def test_a_heartbeat_carries_the_status_as_it_is() -> None:
    envelope = Envelope(epoch=5, base=1, interval=10.0, sent=2.0, status=msgspec.Raw(b'{"depth":3}'))
    assert json.loads(join_envelope(envelope, []))["status"] == {"depth": 3}


@pytest.mark.parametrize(
    "status", [b'"\xff"', b"[" * 33 + b"]" * 33, b'{"a":' * 40 + b"1" + b"}" * 40, b'"%b"' % (b"s" * MAX_STATUS_BYTES)]
)
def test_a_status_that_would_spoil_a_report_makes_the_envelope_invalid(status: bytes) -> None:
    with pytest.raises(MessageError, match=r"are allowed - at `\$.status`") as caught:
        decode_envelope(b'{"epoch":1,"base":1,"interval":10,"sent":0,"status":%b}' % status)
    assert caught.value.reason == "envelope"


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


_LEAVES = st.none() | st.integers() | st.text('[]{}"\\ü,:a', max_size=12)


_JSON: st.SearchStrategy[object] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(value=_JSON, wraps=st.lists(st.booleans(), max_size=2 * MAX_DEPTH))
def test_json_is_plain_just_if_it_is_nested_no_deeper_than_allowed(value: object, wraps: list[bool]) -> None:
    for as_list in wraps:
        value = [value] if as_list else {"[{": value}
    assert is_plain(encode(value)) == (depth_of(value) <= MAX_DEPTH)


def test_json_that_is_not_utf_8_is_not_plain() -> None:
    assert is_plain('{"a":"ü"}'.encode())
    assert not is_plain('{"a":"ü"}'.encode("latin-1"))


def test_an_inventory_of_thousands_is_plain_and_a_wall_of_brackets_is_not() -> None:
    domains = [ListedDomain(UUID, f"vm[{number}", State.RUNNING) for number in range(5000)]
    assert is_plain(encode(Inventory(seq=1, time=1.0, as_of=0, domains=domains)))
    assert not is_plain(b"[" + b"[]," * 5000 + b"1]")


@pytest.mark.parametrize("field", ["type", "token", "vm"])
def test_a_head_with_text_that_is_not_utf_8_keeps_its_place(field: str) -> None:
    value = b'{"uuid":"\xed\xa0\x80"}' if field == "vm" else b'"\xed\xa0\x80"'
    head = decode_head(msgspec.Raw(b'{"seq":2,"prev":1,"%b":%b}' % (field.encode(), value)))
    assert (head.seq, head.prev, head.vm, head.token) == (2, 1, None, "")
