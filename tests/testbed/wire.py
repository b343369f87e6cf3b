"""A connection's way through the tests, which can be cut: silently, as a network fails, or with a reset."""

import contextlib
import select
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from tests.testbed.waiting import LOOPBACK, wait_until

READ_SIZE = 65536
OTHER_LOOPBACK = "127.0.0.2"
"""Where the target listens: it may then use the same port as the wire, which some protocols cannot do without."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


Address = str | tuple[str, int]
"""A UNIX socket's path, or host and port."""


def new_socket(address: Address) -> socket.socket:
    return socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)


class Wire:
    """Accepts at one address and forwards to the other, from `with` on; forth at most `bytes_a_second`, if given."""

    def __init__(self, at: Address, to: Address, bytes_a_second: float = 0.0) -> None:
        self.at = at
        self._bytes_a_second = bytes_a_second
        self._to = to
        self._listener = new_socket(at)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(at)
        self._listener.listen()
        self._listener.setblocking(False)
        self.carried = 0
        """Bytes that went forth so far."""
        self._forth, self._back = threading.Event(), threading.Event()
        self._forth.set()
        self._back.set()
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

    @classmethod
    def of_port(cls, port: int) -> Self:
        """From 127.0.0.1 to the same port of 127.0.0.2."""
        return cls((LOOPBACK, port), (OTHER_LOOPBACK, port))

    def stall(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        self._forth.clear()
        self._back.clear()

    def stall_answers(self) -> None:
        """What is asked still arrives; the answers do not."""
        self._back.clear()

    def wait_carrying(self) -> None:
        """Wait until something goes through. Who calls is connected as soon as the kernel says so, and may send: that
        says nothing of the other end, nor whether anybody has begun to forward."""
        wait_until(lambda: self.carried >= READ_SIZE, f"something to go through {self.at}")

    def reset(self) -> None:
        """Break every connection: both ends get a reset. Also those that nobody has accepted yet."""
        with self._lock:
            with contextlib.suppress(OSError):
                while True:
                    self._take()
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._forth.set()
        self._back.set()

    def _accept(self) -> None:
        while True:
            try:
                select.select([self._listener], [], [])
                with self._lock:
                    near = self._take()
            except BlockingIOError:  # it was broken at once
                continue
            except (OSError, ValueError):  # closed
                return
            self._connect(near)

    def _take(self) -> socket.socket:
        """Accept a connection that waits. Raises BlockingIOError if there is none."""
        near, _ = self._listener.accept()
        self._ends.append(near)
        return near

    def _connect(self, near: socket.socket) -> None:
        far = new_socket(self._to)
        try:
            far.connect(self._to)
        except OSError:
            far.close()
            near.close()
            return
        with self._lock:
            if near not in self._ends:  # broken meanwhile
                far.close()
                return
            self._ends.append(far)
        for ends in ((near, far, self._forth), (far, near, self._back)):
            threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, flows: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(READ_SIZE):
                flows.wait()
                other.sendall(data)
                if flows is self._forth:
                    self.carried += len(data)
                    if self._bytes_a_second:
                        time.sleep(len(data) / self._bytes_a_second)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
