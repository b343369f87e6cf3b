"""What the supervisor process and its workers say to each other over the internal sockets (MessagePack).

A worker's socket carries `HandOver`s; all workers answer with `Result`s, each with the generation of the worker's
incarnation, so that a late word of a replaced worker counts for nothing.
"""

from typing import TypeVar

import msgspec
from msgspec import Struct

from vmwatch.shared.report import Rejected, Verdict


class Task(Struct, array_like=True):
    """One message to deliver. `stream`: index of its entry in the hand-over; `raw`: its JSON as the node sent it."""

    id: int
    stream: int
    seq: int
    lane: str
    raw: bytes


class StreamLabel(Struct, array_like=True):
    """What a report says of one epoch of one node beside its messages."""

    node: str
    epoch: int
    base: int
    agent: str
    interval: float
    returned: bool = False
    """Its messages were dead letters: a person sends them again."""


class HandOver(Struct):
    """Work for a worker. `stop`: finish and end.

    `presence`: signs of life to report now, in one attempt: the JSON of a list of `ReportEntry`, since their raw JSON
    has no place in MessagePack; `rejects` goes with them. `elsewhere`: how much the panel has committed in all at other
    calls than this worker's.
    """

    streams: list[StreamLabel] = []
    tasks: list[Task] = []
    presence: bytes | None = None
    rejects: Rejected | None = None
    stop: bool = False
    elsewhere: int = 0


class Refused(Struct, array_like=True):
    """A message that will never be taken, and why."""

    id: int
    reason: str


class Ready(Struct, tag=True):
    """The worker has booted."""

    generation: int


class Doing(Struct, tag=True):
    """What the worker does now (`waiting`, `calling`, `backing off`) and, when calling, with which messages."""

    generation: int
    what: str
    calling: list[int] = []


class Settled(Struct, tag=True):
    """Outcome of a call: ids that the panel has, messages that it will never take, and what it said of nodes."""

    generation: int
    delivered: list[int]
    refused: list[Refused]
    verdicts: list[Verdict]


class PresenceDone(Struct, tag=True):
    """The report of signs of life was taken, or was not."""

    generation: int
    delivered: bool
    verdicts: list[Verdict] = []


class Trouble(Struct, tag=True):
    """A call failed; `text` says how, for the log and the status; empty: calls succeed again."""

    generation: int
    text: str
    needs_person: bool = False


class Farewell(Struct, tag=True):
    """The worker's last word, when it ends in order: all its results have been heard."""

    generation: int


Result = Ready | Doing | Settled | PresenceDone | Trouble | Farewell

_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()
_hand_over = msgspec.msgpack.Decoder(HandOver)
_result: msgspec.msgpack.Decoder[Result] = msgspec.msgpack.Decoder(Result)


def encode(value: HandOver | Result) -> bytes:
    return _encoder.encode(value)


def decode_hand_over(data: bytes) -> HandOver:
    return _hand_over.decode(data)


def decode_result(data: bytes) -> Result:
    return _result.decode(data)


class WorkerSettings(Struct):
    """What a worker needs to know; it reads this, as one line of JSON, from its standard input, never from its
    arguments, which everybody can read. Its end of file says that the supervisor process is gone."""

    generation: int
    tasks: str
    """Endpoint of its own PULL."""
    results: str
    """Endpoint of the supervisor's PULL."""
    master: str
    batch_max: int
    panel_url: str
    panel_user: str
    panel_password: str
    panel_ca: str
    panel_timeout: float
    log_file: str
    log_level: str
    log_format: str
