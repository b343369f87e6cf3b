"""What a node's heartbeat says of itself (design 02, *status*), as far as a program must understand it."""

import msgspec
from msgspec import Struct


class _Status(Struct):
    libvirt_answers: bool = True


_decoder = msgspec.json.Decoder(_Status)


def libvirt_answers(status: bytes) -> bool:
    """Whether the node says that its libvirt answers; True for one that says nothing of it.

    The status may be anything: it is the node's own.
    """
    try:
        return not status or _decoder.decode(status).libvirt_answers
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return True
