"""Waiting for something to become true, and TCP ports that are free.

Tests never sleep for a fixed time: a machine under load is slow, and a fixed time that is long enough for it
wastes everybody else's. They wait for a condition with a generous limit instead.
"""

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

POLL_INTERVAL_S = 0.02
"""Short against what is waited for (processes, events), long against what one look costs."""

LOOPBACK = "127.0.0.1"
LOWEST_PORT = 10_000
PORT_ATTEMPTS = 1_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_EPHEMERAL_START = 32_768

Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer], what: str, timeout_s: float = 60) -> Answer:
    """Ask `condition` until its answer is true, and return that answer; `what` names it where it never is.

    The last answer is part of the failure's message, because "in vain for 3 events; the last answer was []" tells
    more than a timeout does. The condition is asked at least once, and once more after the limit has passed: a
    machine that was suspended in between has not failed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        too_late = time.monotonic() >= deadline
        answer = condition()
        if answer:
            return answer
        if too_late:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; the last answer was {answer!r}")
        time.sleep(POLL_INTERVAL_S)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    return _free_ports(1)


def free_port_pair() -> int:
    """The first of two neighbouring free TCP ports of 127.0.0.1: for a program that also uses port + 1."""
    return _free_ports(2)


def _free_ports(count: int) -> int:
    """The first of `count` neighbouring free ports.

    They lie below the range from which the kernel takes the ports of outgoing connections: otherwise any client
    on the machine could take one between this answer and the moment when the program under test binds it.
    """
    below = _ephemeral_start() - count
    lowest = min(LOWEST_PORT, below)
    for _ in range(PORT_ATTEMPTS):
        first = random.randint(lowest, below)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise AssertionError(f"found no {count} neighbouring free TCP ports from {lowest} to {below}")


def _ephemeral_start() -> int:
    try:
        start = int(EPHEMERAL_RANGE.read_text().split()[0])
    except OSError:
        return DEFAULT_EPHEMERAL_START
    # A machine may be set up so that nearly every port is ephemeral; then there is nothing below to prefer.
    return start if start > 2 * 1024 else DEFAULT_EPHEMERAL_START


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
