"""TCP ports for the demo: the usual ones, or the next that are free."""

import socket

from vmwatch.shared.errors import VmwatchError

ATTEMPTS = 200


def choose(host: str, wanted: int, count: int = 1) -> int:
    """`wanted`, or the first of the next `count` neighbouring ports on which nobody listens."""
    for first in range(wanted, wanted + ATTEMPTS * count, count):
        if all(_is_free(host, port) for port in range(first, first + count)):
            return first
    raise VmwatchError(f"no free TCP ports on {host} from {wanted} on")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the services do: what an ended one has left in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
