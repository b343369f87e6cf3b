"""The panel's `vmwatch.report` (design 03): what workers post and what the panel answers."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from vmwatch.shared.messages import Count, Interval, Label, NodeId, strict_decode


class ReportEntry(Struct, omit_defaults=True):
    """What one node's one epoch has to say. `live`: a sign of life was seen since the last report.

    `returned`: seqs of those messages that were dead letters: below `base`, and perhaps not registered.
    `skew`, seconds: by how much the node's clock is behind the master's, as its last frame says; beside `live` only.
    """

    node: NodeId
    epoch: Count
    base: Count
    agent: Label = ""
    live: bool = False
    interval: Interval = 10.0
    skew: float = 0.0
    status: Raw = Raw(b"")
    messages: list[Raw] = msgspec.field(default_factory=list)
    returned: list[Count] = msgspec.field(default_factory=list)


class Rejected(Struct):
    """How many messages this run of the master has dropped before it looked into them, and who sent most of them: an
    address, and the node_id that it claimed last, which anybody can."""

    count: Count
    address: Label = ""
    node: Label = ""


class Report(Struct):
    """A batch of messages; one transaction at the panel. `master` is the name of the master's run.

    `rejects` comes with signs of life only.
    """

    master: Label
    nodes: list[ReportEntry] = msgspec.field(default_factory=list)
    rejects: Rejected | UnsetType = UNSET


class Refusal(Struct):
    """A message that the panel will never take: an error type of design 03, the field, and why."""

    seq: Count
    type: str
    object: str
    msg: str


class Verdict(Struct, omit_defaults=True):
    """What became of one entry: settled only if applied + known + refused is the number that was sent."""

    node: NodeId
    epoch: Count
    applied: Count
    known: Count
    newest_epoch: Count = 0
    refused: list[Refusal] = msgspec.field(default_factory=list)
    want_inventory: Label = ""


class _Doc(Struct):
    func: Annotated[str, Meta(pattern=r"^vmwatch\.report$")] = msgspec.field(name="$func")
    ok: dict[str, str]
    report: list[Verdict]


class _Answer(Struct):
    doc: _Doc


_report = msgspec.json.Decoder(Report)
_answer = msgspec.json.Decoder(_Answer)
_entries = msgspec.json.Decoder(list[ReportEntry])


def decode_report(body: bytes) -> Report:
    """A report; raises MessageError (`report`) that names the field."""
    return strict_decode(_report, body, "report")


def decode_answer(body: bytes) -> list[Verdict]:
    """The verdicts of an answer that says `ok` to a report; anything else raises MessageError (`answer`)."""
    return strict_decode(_answer, body, "answer").doc.report


def encode_answer(verdicts: list[Verdict]) -> bytes:
    """The panel's answer to a report that it has committed."""
    return msgspec.json.encode(_Answer(doc=_Doc(func="vmwatch.report", ok={}, report=verdicts)))


def encode_entries(entries: list[ReportEntry]) -> bytes:
    """Entries alone, for the way to a worker."""
    return msgspec.json.encode(entries)


def decode_entries(data: bytes) -> list[ReportEntry]:
    """What `encode_entries` made."""
    return _entries.decode(data)
