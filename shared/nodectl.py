"""What the panel and `vmwatch-nodectl` say to each other: one request on its standard input, JSON lines as answer."""

import msgspec
from msgspec import Struct

COMMAND = "vmwatch-nodectl"
CHECK, CONFIGURE, PROBE, STOP, LOOK, HEALTH = VERBS = ("check", "configure", "probe", "stop", "look", "health")
"""What does it lack; set it up; does its service work; stop it; does libvirt answer; what its healthcheck says."""
HEALTH_LIMIT_S = 15
"""What a check gives `vmwatch-healthcheck`, more than its usual 8: a machine that is busy is not ill."""
MANAGED = ("connect", "ack_connect", "node_id", "node_key", "secret")
"""What may be set in a node's file from outside. Nothing else may: an address of libvirt can name a program to run."""
MAX_REQUEST_BYTES = 64 * 1024


class Request(Struct):
    """`verb`: one of VERBS. `values`: for `configure`, of MANAGED: what to set, None to take it out; for `stop`, of
    which `node_id`."""

    verb: str
    values: dict[str, str | None] = {}


class Step(Struct, tag="step"):
    """A line of progress."""

    text: str


class Check(Struct):
    """One thing that a node needs, and whether it has it. `text` says what was found, or what is missing."""

    name: str
    ok: bool
    text: str


class Outcome(Struct, tag="outcome"):
    """The last line. `time`: the node's wall clock, seconds. `ports`: by `tcp://IP:port` of the master what connecting
    to it from the node gave: `open`, `refused`, `timeout`, or the system's words. `code`, of `health`: the exit code of
    vmwatch-healthcheck, and `text` is its JSON; 127 if it is not installed, None if it did not end in time."""

    ok: bool
    text: str
    time: float = 0.0
    version: str = ""
    changed: bool = False
    action: str = ""
    checks: list[Check] = []
    ports: dict[str, str] = {}
    code: int | None = None


Word = Step | Outcome

_encoder = msgspec.json.Encoder()
_request = msgspec.json.Decoder(Request)
_word: msgspec.json.Decoder[Word] = msgspec.json.Decoder(Word)


def encode(value: Request | Word) -> bytes:
    """One line."""
    return _encoder.encode(value) + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises ValueError for what is no request."""
    return _request.decode(line)


def decode_word(line: bytes) -> Word | None:
    """None for a line of something else: a login shell may print what it likes."""
    try:
        return _word.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
