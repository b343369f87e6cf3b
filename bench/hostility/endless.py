"""A message that never ends: what libzmq cannot bound, shown on a real master.

libzmq hands a message over when its last part has come (`ZMQ_MAXMSGSIZE` limits each part, `ZMQ_RCVHWM` counts whole
messages), so parts of a message without a last one pile up in its memory: 64 bytes there for 2 on the wire.
The client speaks ZMTP 3.0 (RFC 23) by hand, because no ZeroMQ library sends half a message.
"""

import socket
import struct
from types import TracebackType
from typing import Self

_MORE = b"\x01\x00"
"""One part of no bytes, and more to come."""
AT_ONCE = 32 * 1024
ANSWER_MOST_S = 30.0


class EndlessMessage:
    """One connection to the master's port that sends parts of one message as long as it is asked to."""

    def __init__(self, port: int) -> None:
        self.parts = 0
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_MOST_S)
        try:
            self._shake_hands()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _shake_hands(self) -> None:
        self._socket.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        self._read(64)
        ready = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 4) + b"PUSH"
        self._socket.sendall(b"\x04" + bytes([len(ready)]) + ready)
        flags, length = self._read(2)
        if flags != 4:
            raise ConnectionError("the master did not answer with a command")
        self._read(length)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the master closed the connection")
            data += piece
        return data

    def send(self, parts: int) -> None:
        """So many more parts."""
        for _ in range(parts // AT_ONCE):
            self._socket.sendall(_MORE * AT_ONCE)
            self.parts += AT_ONCE
