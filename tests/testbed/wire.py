"""A TCP connection's way through the tests, which can be cut: silently, as a network fails, or with a reset."""

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from tests.testbed.waiting import LOOPBACK

READ_SIZE = 65536
OTHER_LOOPBACK = "127.0.0.2"
"""Where the target listens: it may then use the same port as the wire, which some protocols cannot do without."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Wire:
    """Accepts on 127.0.0.1 and forwards to the same port of 127.0.0.2, from `with` on."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._listener = socket.create_server((LOOPBACK, port))
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread in accept() does not notice that its socket is closed, but that it is shut down.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def stall(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        self._flows.clear()

    def reset(self) -> None:
        """Break every connection: both ends get a reset."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                far = socket.create_connection((OTHER_LOOPBACK, self.port))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(READ_SIZE):
                self._flows.wait()
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
