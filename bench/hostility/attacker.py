"""One attacking process: sends as fast as it can until SIGTERM, then prints how many messages it has sent.

`outsider` has no key; `insider` holds the key of a node; `heavy` sends nothing but the largest frames there are;
`squatter` holds a key and sends events of another node's VMs; `stuffer` holds a key and sends messages too large for
a call of the panel.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import NoReturn

import msgspec
import zmq

from bench.hostility.bodies import KEY_HOLDERS, body, message
from bench.hostility.kinds import OUTSIDERS, Cast, Kind
from bench.hostility.speakers import Frames, Signer, vm_uuid
from vmwatch.shared.keys import topic_of
from vmwatch.shared.messages import MAX_FRAME_BYTES, Heard, decode_acknowledgement, encode

POOL = 3000
"""Frames made before the first is sent: making them must not slow the sending."""
TOGETHER = 100
SEND_HWM = 64


class Knowledge(msgspec.Struct):
    """What an attacker is told: the port, whose key he has, whom he is after, and what he overheard."""

    port: int
    secret: str
    evil: str
    victim: str
    epoch: int
    recorded: list[Frames]
    replies: list[Frames]


def _pick(cast: Cast, table: Mapping[str, Kind]) -> Frames:
    name = cast.chance.choices(list(table), [kind.weight for kind in table.values()])[0]
    return table[name].make(cast)


def _outsider(cast: Cast, learn: Callable[[], None]) -> Iterator[Frames]:
    pool = [_pick(cast, OUTSIDERS) if cast.chance.random() < 0.8 else cast.recording() for _ in range(POOL)]
    while True:
        yield from pool


def _insider(cast: Cast, learn: Callable[[], None]) -> Iterator[Frames]:
    while True:
        learn()
        for _ in range(TOGETHER):
            yield _pick(cast, KEY_HOLDERS)


def _heavy(cast: Cast, learn: Callable[[], None]) -> Iterator[Frames]:
    frames = cast.recording()
    sizes = [bytes(MAX_FRAME_BYTES), bytes(MAX_FRAME_BYTES + 1)]
    while True:
        for content in sizes:
            yield [*frames[:3], content]


def _squatter(cast: Cast, learn: Callable[[], None]) -> Iterator[Frames]:
    while True:
        learn()
        for _ in range(TOGETHER // 10):
            vms = [b'{"uuid":"%b","name":"taken"}' % vm_uuid(cast.victim, number % 8).encode() for number in range(500)]
            yield body(cast, *[message(cast, vm=vm) for vm in vms])


def _stuffer(cast: Cast, learn: Callable[[], None]) -> Iterator[Frames]:
    stuffing = b'"%b"' % (b"x" * 5_000_000)
    while True:
        learn()
        yield body(cast, message(cast, x=stuffing))


MODES: Mapping[str, Callable[[Cast, Callable[[], None]], Iterator[Frames]]] = {
    "outsider": _outsider,
    "insider": _insider,
    "heavy": _heavy,
    "squatter": _squatter,
    "stuffer": _stuffer,
}


class Ears:
    """Hears what the master says to the node whose key was stolen."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], cast: Cast, port: int) -> None:
        self._cast = cast
        self._sub = context.socket(zmq.SUB)
        self._sub.subscribe(topic_of(cast.evil.name))
        self._sub.connect(f"tcp://127.0.0.1:{port + 1}")

    def learn(self) -> None:
        """Take in what has come; the order of the evil node's messages goes on from what was received."""
        while self._sub.poll(0):
            acknowledgement = decode_acknowledgement(self._sub.recv_multipart()[3])
            self._cast.heard = encode(Heard(acknowledgement.master, acknowledgement.stamp))
            if acknowledgement.epoch == self._cast.evil_epoch:
                self._cast.evil_offered += self._cast.evil_seq - acknowledgement.received
                self._cast.evil_seq = acknowledgement.received
                self._cast.evil_offered = max(0, self._cast.evil_offered)


def attack(mode: str, knowledge: Knowledge, seed: int) -> NoReturn:
    """Until SIGTERM."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    push = context.socket(zmq.PUSH)
    push.linger = 0
    push.sndhwm = SEND_HWM
    push.connect(f"tcp://127.0.0.1:{knowledge.port}")
    evil = Signer(knowledge.evil, knowledge.secret)
    cast = Cast(Random(seed), evil, knowledge.victim, knowledge.recorded, knowledge.replies, evil_epoch=knowledge.epoch)
    ears = Ears(context, cast, knowledge.port)
    sent = 0

    def end(*_: object) -> NoReturn:
        print(sent, flush=True)
        context.destroy(linger=0)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    for frames in MODES[mode](cast, ears.learn):
        push.send_multipart(frames)
        sent += 1
    raise AssertionError("an attack never ends by itself")


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m bench.hostility.attacker", description=__doc__)
    parser.add_argument("mode", choices=sorted(MODES))
    parser.add_argument("knowledge", type=Path, help="MessagePack of what the attacker knows")
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    attack(options.mode, msgspec.msgpack.decode(options.knowledge.read_bytes(), type=Knowledge), options.seed)


if __name__ == "__main__":
    main()
