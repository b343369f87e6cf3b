"""Kinds of hostile frames, by name: what whoever reaches the port can send without a key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from bench.hostility.speakers import Frames, Signer
from vmwatch.shared.keys import KEY_BYTES, node_key, up_mac
from vmwatch.shared.messages import MAX_FRAME_BYTES, VERSION

HEAVY = 0.0005
"""Share of the frames of a kind that cost megabytes each, against 1 of the others."""


@dataclass
class Cast:
    """What an attacker may know. `recorded`: genuine frames that he overheard; `evil`: a node whose key he holds."""

    chance: Random
    evil: Signer
    victim: str
    recorded: Sequence[Frames]
    replies: Sequence[Frames]
    """What the master published, as its four frames."""
    stranger_secret: str = "SOMEOTHERCLUSTER"
    evil_epoch: int = 1_763_900_000_000_000
    evil_seq: int = 0
    """The last seq that the master is known to have accepted in `evil_epoch`."""
    evil_offered: int = 0
    """Messages put into frames since then."""
    heard: bytes = b""
    """The JSON of a `heard` that makes a frame of `evil` a sign of life now; empty if there is none."""

    def next_seq(self) -> int:
        """The seq of the evil node's next message."""
        self.evil_offered += 1
        return self.evil_seq + self.evil_offered

    def recording(self) -> Frames:
        """One genuine frame, to be changed at will."""
        return list(self.chance.choice(self.recorded))


@dataclass(frozen=True)
class Kind:
    """One kind. `reasons`: what it may be rejected for; empty: it carries a valid MAC and may be taken."""

    make: Callable[[Cast], Frames]
    reasons: frozenset[str]
    weight: float = 1.0


def _noise(chance: Random, most: int) -> bytes:
    return chance.randbytes(chance.randint(0, most))


def _wrong_key(cast: Cast) -> Frames:
    frames = cast.recording()
    node = frames[1].decode()
    frames[2] = up_mac(node_key(cast.stranger_secret, node), frames[1], frames[3])
    return frames


def _wrong_mac(cast: Cast) -> Frames:
    frames = cast.recording()
    frames[2] = cast.chance.choice([b"", bytes(KEY_BYTES), frames[2][:-1], frames[2] + b"\0", frames[2].hex().encode()])
    return frames


def _wrong_version(cast: Cast) -> Frames:
    frames = cast.recording()
    frames[0] = cast.chance.choice([b"", b"VW0", b"VW2", b"vw1", b"VW1\0", b"VW10", _noise(cast.chance, 64)[3:]])
    return frames


def _garbage(cast: Cast) -> Frames:
    return [_noise(cast.chance, 300) for _ in range(cast.chance.randint(1, 8))]


def _empty(cast: Cast) -> Frames:
    return [b""] * cast.chance.choice([1, 2, 3, 4, 5])


def _few_frames(cast: Cast) -> Frames:
    return cast.recording()[: cast.chance.randint(1, 3)]


def _more_frames(cast: Cast) -> Frames:
    return [*cast.recording(), *[_noise(cast.chance, 30) for _ in range(cast.chance.randint(1, 5))]]


def _many_frames(cast: Cast) -> Frames:
    return [b"x"] * cast.chance.randint(1000, 20_000)


def _oversized(cast: Cast) -> Frames:
    frames = cast.recording()
    frames[3] = bytes(MAX_FRAME_BYTES + cast.chance.randint(1, 60_000))
    return frames


def _large_and_unsigned(cast: Cast) -> Frames:
    frames = cast.recording()
    frames[3] = bytes(MAX_FRAME_BYTES)
    return frames


def _bad_name(cast: Cast) -> Frames:
    names = [b"", b"x" * 65, b"n 1", b"n\0", b"n\n", "узел".encode(), b"\xff\xfe", b"a/b", b"n1\r", b"x" * 5000, b"*"]
    name, body = cast.chance.choice(names), cast.recording()[3]
    key = node_key(cast.stranger_secret, name.decode(errors="replace"))
    return [VERSION, name, up_mac(key, name, body), body]


def _in_anothers_name(cast: Cast) -> Frames:
    frames = cast.evil.sign(cast.recording()[3])
    frames[1] = cast.victim.encode()
    return frames


def _unknown_name(cast: Cast) -> Frames:
    frames = cast.recording()
    frames[1] = b"n-%d" % cast.chance.randrange(10**9)
    return frames


def _flipped_bit(cast: Cast) -> Frames:
    frames = cast.recording()
    part = cast.chance.randrange(len(frames))
    changed = bytearray(frames[part])
    changed[cast.chance.randrange(len(changed))] ^= 1 << cast.chance.randrange(8)
    frames[part] = bytes(changed)
    return frames


def _cut_part(cast: Cast) -> Frames:
    frames = cast.recording()
    part = cast.chance.randrange(len(frames))
    frames[part] = frames[part][: cast.chance.randrange(len(frames[part]))]
    return frames


def _swapped_parts(cast: Cast) -> Frames:
    frames = cast.recording()
    one, other = cast.chance.sample(range(len(frames)), 2)
    frames[one], frames[other] = frames[other], frames[one]
    return frames


def _mixed_up(cast: Cast) -> Frames:
    """The MAC of one recording, the body of another, or something put behind it."""
    one, other = cast.recording(), cast.recording()
    body = other[3] if other[3] != one[3] else one[3] + b" "
    return [*one[:3], body]


def _masters_own_words(cast: Cast) -> Frames:
    """What the master signed for a node, sent back as if the node had signed it."""
    topic, version, mac, body = cast.chance.choice(cast.replies)
    name = topic[:-1]
    return cast.chance.choice([[topic, version, mac, body], [version, topic, mac, body], [version, name, mac, body]])


def _kind(make: Callable[[Cast], Frames], *reasons: str, weight: float = 1.0) -> Kind:
    return Kind(make, frozenset(reasons), weight)


OUTSIDERS: Mapping[str, Kind] = {
    "wrong key": _kind(_wrong_key, "mac"),
    "wrong mac": _kind(_wrong_mac, "mac"),
    "wrong version": _kind(_wrong_version, "version"),
    "garbage": _kind(_garbage, "frames", "version"),
    "empty": _kind(_empty, "frames", "version"),
    "too few frames": _kind(_few_frames, "frames"),
    "too many frames": _kind(_more_frames, "frames"),
    "very many frames": _kind(_many_frames, "frames", weight=10 * HEAVY),
    "oversized": _kind(_oversized, "oversized", weight=HEAVY),
    "as large as allowed, unsigned": _kind(_large_and_unsigned, "mac", weight=HEAVY),
    "name out of its alphabet": _kind(_bad_name, "node"),
    "another node's name": _kind(_in_anothers_name, "mac"),
    "unknown name": _kind(_unknown_name, "mac"),
    "flipped bit": _kind(_flipped_bit, "version", "node", "mac"),
    "truncated part": _kind(_cut_part, "version", "node", "mac"),
    "swapped parts": _kind(_swapped_parts, "version", "node", "mac"),
    "mac of another body": _kind(_mixed_up, "mac"),
    "the master's own words": _kind(_masters_own_words, "version", "node", "mac"),
}
"""Of those without a key. A recording that is sent again unchanged is no kind here: see `trial`."""
