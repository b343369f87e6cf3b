"""The wire protocol's messages (design 02): what a node and a master say to each other.

An envelope is decoded first and leaves its messages raw; each message is then decoded by itself, so that one
that is not understood never spoils its neighbours.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from vmwatch.shared.errors import MessageError
from vmwatch.shared.states import State

VERSION = b"VW1"
MAX_MESSAGES = 500
"""Most messages in one frame, and in one call of the panel unless `batch_max` says less."""
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes of messages in one frame together (a single message may be larger), and of one call of the panel."""
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""libzmq drops what is larger (ZMQ_MAXMSGSIZE), so a node must never send it."""
MAX_STATUS_BYTES = 64 * 1024
"""A heartbeat's status is a page of figures; the master keeps one of each node, and reports many together."""
MAX_DEPTH = 32
"""Of nested JSON in a message or a status. Decoders give up at some depth, and not all at the same one: what one
program still takes must not spoil, further on, the report in which it stands together with others."""
DEFAULT_PORT = 1515
RESERVED_NODES = ("vmwatch-master", "vmwatch-panel")
"""No node may be called so: problems, maintenance and checks have these names for what is no node."""
NODE_ID_PATTERN = rf"(?!(?:{'|'.join(RESERVED_NODES)})\Z)[A-Za-z0-9._-]{{1,64}}"
NODE_ID = re.compile(NODE_ID_PATTERN)
NODE_ID_ALLOWED = f"1 to 64 of A-Z a-z 0-9 . _ -, and not {' or '.join(RESERVED_NODES)},"
"""What to say to who has chosen another one; "is allowed" follows."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]
_DENSE_FROM_BYTES = 4096

Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""A number that every JSON implementation holds exactly."""
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Uuid = Annotated[str, Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
Word = Annotated[str, Meta(pattern="^[a-z0-9_]{1,64}$")]
NodeId = Annotated[str, Meta(pattern=rf"^{NODE_ID_PATTERN}\Z")]
Seconds = Annotated[float, Meta(ge=0, le=2**53 - 1)]
Interval = Annotated[float, Meta(gt=0, le=86400)]
Label = Annotated[str, Meta(max_length=256)]


class Heard(Struct):
    """The last acknowledgement that a node received, as it tells it to the master."""

    master: Label
    stamp: Count


class Envelope(Struct, omit_defaults=True):
    """The body of a node's frame. `messages` stay raw JSON; `interval` in seconds, `sent` seconds since 1970."""

    epoch: Count
    base: Count
    interval: Interval
    sent: Seconds
    agent: Label = ""
    heard: Heard | None = None
    status: Raw = Raw(b"")
    messages: Annotated[list[Raw], Meta(max_length=MAX_MESSAGES)] = msgspec.field(default_factory=list)


class _VmHead(Struct):
    uuid: Label


class Head(Struct):
    """As much of a message as the master needs to hand it on: its place in the order and whose it is."""

    seq: Count
    prev: Count
    type: Label = ""
    vm: _VmHead | None = None
    token: Label = ""


class _Place(Struct):
    seq: Count
    prev: Count


class Vm(Struct):
    """The VM that an event is about."""

    uuid: Uuid
    name: Name


class _Message(Struct, tag_field="type"):
    seq: Count
    time: Seconds
    """Seconds since 1970 by the node's clock: a label, never an order."""


class Event(_Message, tag="event", omit_defaults=True):
    """One callback of libvirt, in libvirt's own words; `state` only where it follows from them."""

    vm: Vm
    event: Word
    detail: Annotated[str, Meta(pattern="^[a-z0-9_]{0,64}$")] = ""
    state: State | None = None


class Disk(Struct, omit_defaults=True, frozen=True):
    """A disk that a domain writes and does not share on purpose. Equal ones of two domains are one and the same disk.

    `path` has its meaning `on` that machine, server or file system; everywhere, if `on` is empty.
    """

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    on: Label = ""


class ListedDomain(Struct, omit_defaults=True):
    """One domain of an inventory; `reason` is libvirt's number for why it is in this state.

    `disks` and `macs` (of its network cards) are None where its definition was not read yet, or cannot be read.
    """

    uuid: Uuid
    name: Name
    state: State
    reason: int = 0
    persistent: bool = True
    disks: list[Disk] | None = None
    macs: list[Label] | None = None


class Inventory(_Message, tag="inventory", omit_defaults=True):
    """All domains of a node. `as_of`: the last seq assigned before the node began to list."""

    as_of: Count
    domains: list[ListedDomain]
    token: Label = ""


class DomainStats(Struct, omit_defaults=True):
    """Counters of one domain as libvirt gives them; None where it gives none (not zero)."""

    uuid: Uuid
    state: State
    cpu_ns: Count | None = None
    memory_kib: Count | None = None
    tx_packets: Count | None = None
    tx_bytes: Count | None = None
    rx_packets: Count | None = None
    rx_bytes: Count | None = None
    write_requests: Count | None = None
    write_bytes: Count | None = None
    read_requests: Count | None = None
    read_bytes: Count | None = None


class Stats(_Message, tag="stats"):
    """Statistics of every domain; `interval` and `taken` in seconds, `taken` just before libvirt was asked."""

    interval: Interval
    taken: Seconds
    domains: list[DomainStats]


class AgentReport(_Message, tag="agent", omit_defaults=True):
    """What the agent says about itself: `started`, `stopping`, `libvirt_lost`, `dropped` (counts by type), `canary`."""

    what: Word
    counts: dict[Label, Count] = msgspec.field(default_factory=dict)
    reason: Label = ""


Message = Event | Inventory | Stats | AgentReport


class Acknowledgement(Struct, omit_defaults=True):
    """What the master publishes to one node (design 02, *Master to node*). `credit` in bytes."""

    master: Label
    stamp: Count
    epoch: Count
    received: Count
    completed: Count
    credit: Count
    seen: Seconds
    newest_epoch: Count = 0
    want_inventory: Label = ""


_T = TypeVar("_T")
_envelope = msgspec.json.Decoder(Envelope)
_head = msgspec.json.Decoder(Head)
_place = msgspec.json.Decoder(_Place)
_message: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_acknowledgement = msgspec.json.Decoder(Acknowledgement)
_encoder = msgspec.json.Encoder()


def strict_decode(decoder: msgspec.json.Decoder[_T], text: bytes | Raw, reason: str) -> _T:
    """Decode, or raise `MessageError(reason)` that names the field and what is allowed.

    A nesting too deep for the decoder ends in RecursionError; it is a peer's mistake like any other.
    """
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(reason, str(error)) from None


def decode_envelope(body: bytes) -> Envelope:
    """The envelope of a node's frame; raises MessageError (`envelope`)."""
    envelope = strict_decode(_envelope, body, "envelope")
    status = bytes(envelope.status)
    if len(status) > MAX_STATUS_BYTES or not is_plain(status):
        allowed = f"{MAX_STATUS_BYTES} bytes of UTF-8, nested {MAX_DEPTH} deep, are allowed"
        raise MessageError("envelope", f"{allowed} - at `$.status`")
    return envelope


def is_plain(text: bytes) -> bool:
    """Whether JSON that was decoded raw is UTF-8 and nested no deeper than MAX_DEPTH: then it spoils no report.

    What is longer than a few KiB and has a bracket in each 8 bytes is none of ours and not worth the time: no.
    """
    if not text.isascii() and not _is_utf8(text):
        return False
    count = len(text.translate(None, _NO_BRACKETS))
    if count <= MAX_DEPTH:
        return True
    if len(text) > _DENSE_FROM_BYTES and 8 * count > len(text):
        return False
    # Without escapes every quotation mark begins or ends a string, and a pair side by side changes nothing.
    marks = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) <= MAX_DEPTH


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_head(message: Raw) -> Head:
    """A message's head. One that has a place in the order but is otherwise unknown keeps it, so that the panel
    can refuse it by name; without a place it raises MessageError (`message`)."""
    try:
        return _head.decode(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        place = strict_decode(_place, message, "message")
        return Head(seq=place.seq, prev=place.prev)


def decode_message(message: bytes | Raw) -> Message:
    """A message in full; raises MessageError (`message`) that names the field."""
    return strict_decode(_message, message, "message")


def decode_acknowledgement(body: bytes) -> Acknowledgement:
    """An acknowledgement; raises MessageError (`acknowledgement`)."""
    return strict_decode(_acknowledgement, body, "acknowledgement")


def encode(value: Any) -> bytes:  # noqa: ANN401 - whatever JSON can hold
    """JSON of a struct or of plain values."""
    return _encoder.encode(value)


def encode_payload(message: Message) -> bytes:
    """A message as the outbox keeps it: its JSON without `seq`, which the outbox assigns, and without `prev`."""
    fields = msgspec.to_builtins(message)
    del fields["seq"]
    return _encoder.encode(fields)


def place_payload(payload: bytes, seq: int, prev: int) -> bytes:
    """The message of a stored payload (a JSON object that has fields): its place in the order put in front."""
    return b'{"seq":%d,"prev":%d,%b' % (seq, prev, payload[1:])


def join_envelope(envelope: Envelope, messages: Sequence[bytes]) -> bytes:
    """The body of a frame with `messages` as they are, without decoding them again."""
    head = _encoder.encode(envelope)
    if not messages:
        return head
    return b'%b,"messages":[%b]}' % (head[:-1], b",".join(messages))


def size_of(messages: Iterable[bytes]) -> int:
    """Bytes of messages together, as the limits of a frame count them."""
    return sum(map(len, messages))
