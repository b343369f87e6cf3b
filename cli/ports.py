"""TCP ports for the demo: the usual ones, or the next that are free."""

import socket
from types import TracebackType
from typing import Self

from vmwatch.shared.errors import VmwatchError

ATTEMPTS = 200
CLAIM = "\0vmwatch-demo-port-"
"""A UNIX socket with an abstract name: it lies in no folder, and the kernel takes it away with its process."""


class Ports:
    """Free ports. Until `close` no other demo gets them: between the choice and a service that listens are seconds."""

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def choose(self, host: str, wanted: int, count: int = 1) -> int:
        """`wanted`, or the first of the next `count` neighbouring ports on which nobody listens."""
        for first in range(wanted, wanted + ATTEMPTS * count, count):
            ports = range(first, first + count)
            if all(_is_free(host, port) for port in ports) and self._claim(ports):
                return first
        raise VmwatchError(f"no free TCP ports on {host} from {wanted} on")

    def close(self) -> None:
        """Give them up."""
        while self._claims:
            self._claims.pop().close()

    def _claim(self, ports: range) -> bool:
        """Whether all of them are ours now; if not, none is."""
        claims: list[socket.socket] = []
        for port in ports:
            claims.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            try:
                claims[-1].bind(f"{CLAIM}{port}")
            except OSError:
                for claim in claims:
                    claim.close()
                return False
        self._claims += claims
        return True


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the services do: what an ended one has left in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
