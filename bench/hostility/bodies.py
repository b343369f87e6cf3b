"""Kinds of hostile bodies, by name: what a node whose key is in the wrong hands can say.

It can say anything about itself. It must not be able to say anything about others, nor to hurt the service.
"""

from collections.abc import Callable, Mapping
from random import Random

from bench.hostility.kinds import HEAVY, Cast, Kind
from bench.hostility.speakers import Frames, vm_uuid
from vmwatch.shared.messages import MAX_MESSAGES

_MOST = 2**53 - 1
_NUMBERS = [b"-1", b"9007199254740992", b"1e400", b"-1e400", b"NaN", b"Infinity", b'"1"', b"1.5", b"true", b"null"]
_NUMBERS += [b"99999999999999999999999999", b"-0.5", b"0x10", b"01", b"1e", b"", b"{}", b"[]"]
_DEPTHS = [10, 60, 200, 800, 850, 880, 900, 910, 920, 930, 940, 950, 955, 960, 965, 970, 975, 980, 985, 990, 1000, 5000]
_DEPTHS += [100_000]
_STRANGE = [b'"\xff\xfe"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\u0000"', b'"\0"', b"{]", b"tru", b"'a'"]
_STRANGE += [b"[1,]", b'{"a":1,"a":2}', b"/**/1", b"1 2", b"\xef\xbb\xbf1"]


def _deep(chance: Random) -> bytes:
    depth = chance.choice(_DEPTHS) + chance.randint(-3, 3)
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"b":', b"}]")])
    rounds = depth if len(closing) == 1 else depth // 2
    return opening * rounds + b"1" + closing * (rounds if chance.random() < 0.9 else rounds // 2)


def _strange(chance: Random) -> bytes:
    return chance.choice([*_STRANGE, *_NUMBERS])


def body(cast: Cast, *messages: bytes, **fields: bytes) -> Frames:
    """A frame of the evil node: an envelope that is right but for what `fields` say, signed."""
    values = {
        "epoch": b"%d" % cast.evil_epoch,
        "base": b"%d" % (cast.evil_seq + 1),
        "interval": b"10",
        "sent": b"1763900012.5",
    }
    if cast.heard and cast.chance.random() < 0.5:
        values["heard"] = cast.heard
    values |= fields
    text = b",".join(b'"%b":%b' % (name.encode(), value) for name, value in values.items())
    listed = b',"messages":[%b]' % b",".join(messages) if messages else b""
    return cast.evil.sign(b"{%b%b}" % (text, listed))


def message(cast: Cast, at: int | None = None, before: int | None = None, **fields: bytes) -> bytes:
    """An event of the evil node, the next one that the master will take, but for what the arguments say."""
    if at is None:
        at = cast.next_seq()
    values = {
        "seq": b"%d" % at,
        "prev": b"%d" % (cast.evil_seq if before is None else before),
        "type": b'"event"',
        "time": b"1763900012.25",
        "vm": b'{"uuid":"%b","name":"evil"}' % vm_uuid(cast.evil.name, at % 50).encode(),
        "event": b'"started"',
        "detail": b'"booted"',
        "state": b'"running"',
    } | fields
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), value) for name, value in values.items())


def _not_json(cast: Cast) -> Frames:
    choices = [b"", b"{", b"[1]", b"1", b"null", b'"a"', b"{}", b"\0" * 100, cast.chance.randbytes(200), b"[" * 5000]
    return cast.evil.sign(cast.chance.choice(choices))


def _cut_json(cast: Cast) -> Frames:
    whole = body(cast, message(cast))[3]
    return cast.evil.sign(whole[: cast.chance.randrange(len(whole))])


def _missing_field(cast: Cast) -> Frames:
    fields = {"epoch": b"1", "base": b"1", "interval": b"1", "sent": b"1"}
    del fields[cast.chance.choice(sorted(fields))]
    return cast.evil.sign(b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), fields[name]) for name in fields))


def _envelope_number(cast: Cast) -> Frames:
    name = cast.chance.choice(["epoch", "base", "interval"])
    allowed = {b"1.5", b"-0.5"} if name == "interval" else set()
    numbers = [number for number in _NUMBERS if number not in allowed]
    return body(cast, message(cast), **{name: cast.chance.choice(numbers)})


def _too_many(cast: Cast) -> Frames:
    count = MAX_MESSAGES + cast.chance.randint(1, 500)
    return body(cast, *[message(cast) for _ in range(count)])


def _bad_text(cast: Cast) -> Frames:
    texts = [b'"\xff"', b'"\xc3"', b'"\\ud800"', b'"%b"' % (b"a" * 257), b"1", b"null", b'"\n"']
    return body(cast, agent=cast.chance.choice(texts))


def _deep_envelope(cast: Cast) -> Frames:
    return body(cast, message(cast), **{cast.chance.choice(["x", "status"]): _deep(cast.chance)})


def _deep_status(cast: Cast) -> Frames:
    return body(cast, status=_deep(cast.chance))


def _strange_status(cast: Cast) -> Frames:
    return body(cast, status=_strange(cast.chance))


def _huge_status(cast: Cast) -> Frames:
    return body(cast, status=b'"%b"' % (b"s" * cast.chance.choice([1000, 70_000, 200_000])))


def _enormous_status(cast: Cast) -> Frames:
    return body(cast, status=b'"%b"' % (b"s" * cast.chance.choice([4_100_000, 5_000_000])))


def _deep_message(cast: Cast) -> Frames:
    name = cast.chance.choice(["x", "vm", "seq", "type", "token", "state", "counts"])
    return body(cast, message(cast, None, None, **{name: _deep(cast.chance)}), message(cast))


def _strange_message(cast: Cast) -> Frames:
    fields = ["seq", "prev", "type", "time", "vm", "event", "detail", "state", "token", "x"]
    wrong = {name: _strange(cast.chance) for name in cast.chance.sample(fields, cast.chance.randint(1, 2))}
    return body(cast, message(cast, None, None, **wrong), message(cast))


def _no_message(cast: Cast) -> Frames:
    return body(cast, _strange(cast.chance), message(cast))


def _message_number(cast: Cast) -> Frames:
    name = cast.chance.choice(["seq", "prev", "time", "as_of", "taken", "interval"])
    kind = cast.chance.choice([b'"event"', b'"inventory"', b'"stats"', b'"agent"'])
    domains = b'[{"uuid":"%b","state":"running","cpu_ns":%b}]' % (
        vm_uuid(cast.evil.name, 1).encode(),
        cast.chance.choice(_NUMBERS) or b"1",
    )
    fields = {"type": kind, "domains": domains, "what": b'"dropped"', name: cast.chance.choice(_NUMBERS)}
    return body(cast, message(cast, None, None, **fields))


def _unknown_type(cast: Cast) -> Frames:
    kinds = [b'"weather"', b'""', b'"EVENT"', b'"%b"' % (b"t" * 300), b"7", b'"__class__"', b'"\\u0000"']
    return body(cast, message(cast, type=cast.chance.choice(kinds)))


def _unknown_words(cast: Cast) -> Frames:
    words = [b'"exploded"', b'""', b'"unknown"', b'"Running"', b'"%b"' % (b"w" * 65), b"\"'; DROP TABLE nodes; --\""]
    names = [b'""', b'"%b"' % (b"n" * 1025), b'"<script>"', b'"\\u0000"', b'"\\u202e"', b'"\xf0\x9f\x92\xa3"']
    names += [b'"\\u001b[2J"', b'"\\udcff"']
    vm = b'{"uuid":"%b","name":%b}' % (vm_uuid(cast.evil.name, 1).encode(), cast.chance.choice(names))
    fields = {"vm": vm, cast.chance.choice(["event", "detail", "state"]): cast.chance.choice(words)}
    return body(cast, message(cast, None, None, **fields))


def _seq_goes_back(cast: Cast) -> Frames:
    order = [cast.chance.randint(1, cast.evil_seq + 3) for _ in range(20)]
    return body(cast, *[message(cast, seq, max(0, seq - 1)) for seq in order], base=b"1")


def _base_above_seq(cast: Cast) -> Frames:
    return body(cast, message(cast), base=b"%d" % (cast.next_seq() + cast.chance.randint(0, 50)))


def _prev_above_seq(cast: Cast) -> Frames:
    ahead = cast.chance.choice([100_000, _MOST - cast.evil_seq])
    return body(cast, message(cast, before=cast.evil_seq + ahead))


def _extreme_seq(cast: Cast) -> Frames:
    seq, epoch = cast.chance.choice([0, 1, _MOST]), cast.chance.choice([0, 1, _MOST])
    base = cast.chance.choice([0, 1, _MOST])
    return body(cast, message(cast, seq, cast.chance.choice([0, 1, _MOST])), epoch=b"%d" % epoch, base=b"%d" % base)


def _new_epoch(cast: Cast) -> Frames:
    epoch = cast.chance.randint(1, _MOST)
    return body(cast, message(cast, 1, 0), epoch=b"%d" % epoch, base=b"1")


def _new_epoch_heartbeat(cast: Cast) -> Frames:
    return body(cast, epoch=b"%d" % cast.chance.randint(1, _MOST))


def _false_heard(cast: Cast) -> Frames:
    stamp = cast.chance.choice([0, 1, _MOST, 10**6])
    return body(cast, heard=b'{"master":"%b","stamp":%d}' % (cast.chance.choice([b"", b"other", b"m" * 256]), stamp))


def _strange_interval(cast: Cast) -> Frames:
    return body(cast, interval=cast.chance.choice([b"1e-300", b"86400", b"0.001"]), sent=b"%d" % _MOST)


def _of_others_vms(cast: Cast) -> Frames:
    uuid = vm_uuid(cast.victim, cast.chance.randrange(8)).encode()
    event, state = cast.chance.choice([(b"stopped", b"shutoff"), (b"undefined", b"absent"), (b"started", b"running")])
    vm = b'{"uuid":"%b","name":"taken"}' % uuid
    domain = b'[{"uuid":"%b","name":"taken","state":"%b"}]' % (uuid, state)
    kind = cast.chance.choice([b'"event"', b'"inventory"'])
    fields = {"vm": vm, "event": b'"%b"' % event, "state": b'"%b"' % state, "type": kind, "domains": domain}
    fields["as_of"] = b"%d" % cast.chance.choice([0, cast.evil_seq, _MOST])
    return body(cast, message(cast, None, None, **fields))


def _large_message(cast: Cast) -> Frames:
    return body(cast, message(cast, x=b'"%b"' % (b"x" * cast.chance.choice([10_000, 100_000]))))


def _token_of_another(cast: Cast) -> Frames:
    token = cast.chance.choice([b'""', b'"a-1"', b'"%b"' % (b"t" * 256), b'"%b"' % (b"t" * 257)])
    return body(cast, message(cast, type=b'"inventory"', domains=b"[]", as_of=b"1", token=token))


def _valid(cast: Cast) -> Frames:
    count = cast.chance.randint(1, 20)
    return body(cast, *[message(cast) for _ in range(count)])


def _mutated(cast: Cast) -> Frames:
    """A genuine body with some bytes changed, signed again: what random mutation finds that no one thought of."""
    changed = bytearray(body(cast, *[message(cast) for _ in range(3)])[3])
    for _ in range(cast.chance.randint(1, 8)):
        at = cast.chance.randrange(len(changed))
        what = cast.chance.randrange(4)
        if what == 0:
            changed[at] = cast.chance.randrange(256)
        elif what == 1:
            del changed[at : at + cast.chance.randint(1, 9)]
        elif what == 2:
            changed[at:at] = cast.chance.choice(_STRANGE)
        else:
            changed[at:at] = changed[at : at + cast.chance.randint(1, 60)]
        changed = changed or bytearray(b"{")
    return cast.evil.sign(bytes(changed))


def _rejected(make: Callable[[Cast], Frames], weight: float = 1.0) -> Kind:
    return Kind(make, frozenset({"envelope"}), weight)


def _taken(make: Callable[[Cast], Frames], weight: float = 1.0) -> Kind:
    return Kind(make, frozenset(), weight)


KEY_HOLDERS: Mapping[str, Kind] = {
    "no JSON": _rejected(_not_json),
    "half a JSON": _rejected(_cut_json),
    "missing field": _rejected(_missing_field),
    "envelope's number out of range": _rejected(_envelope_number),
    "more than 500 messages": _rejected(_too_many, 0.05),
    "bad text in the envelope": _rejected(_bad_text),
    "deep JSON in the envelope": _taken(_deep_envelope, 0.3),
    "deep JSON as status": _taken(_deep_status, 0.3),
    "deep JSON in a message": _taken(_deep_message, 0.3),
    "strange status": _taken(_strange_status),
    "huge status": _taken(_huge_status, 0.05),
    "enormous status": _taken(_enormous_status, HEAVY),
    "strange message": _taken(_strange_message),
    "no message": _taken(_no_message),
    "message's number out of range": _taken(_message_number),
    "unknown type": _taken(_unknown_type),
    "unknown words": _taken(_unknown_words),
    "seq that goes back": _taken(_seq_goes_back, 0.3),
    "base above seq": _taken(_base_above_seq),
    "prev above seq": _taken(_prev_above_seq),
    "extreme seq": _taken(_extreme_seq),
    "new epoch": _taken(_new_epoch),
    "heartbeat of a new epoch": _taken(_new_epoch_heartbeat),
    "false heard": _taken(_false_heard),
    "strange interval": _taken(_strange_interval),
    "of others' VMs": _taken(_of_others_vms),
    "large message": _taken(_large_message, 0.05),
    "token": _taken(_token_of_another),
    "valid": _taken(_valid, 0.5),
    "mutated": _taken(_mutated, 3.0),
}
"""A kind without reasons may be taken, or rejected as `envelope`."""
