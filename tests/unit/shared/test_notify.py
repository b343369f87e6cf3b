"""sd_notify's protocol, on real datagram sockets."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmwatch.shared.notify import STATUS_EVERY_S, Notifier


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Listener:
    """systemd's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address, "PATH": "/bin"}

    def told(self) -> list[str]:
        lines = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(str(tmp_path / "notify"))
    yield made
    made.socket.close()


def test_its_life_is_told_in_systemds_words_and_line_breaks_do_not_leave_a_status(listener: Listener) -> None:
    notifier = Notifier(listener.environment)
    notifier.ready("works\nREADY=0")
    notifier.reloading()
    notifier.ready()
    notifier.stopping()
    assert listener.told() == ["READY=1", "STATUS=works READY=0", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_an_abstract_address_is_reached() -> None:
    made = Listener(f"@vmwatch-test-{os.getpid()}")
    Notifier(made.environment).ready()
    assert made.told() == ["READY=1"]
    made.socket.close()


def test_children_inherit_nothing(listener: Listener) -> None:
    listener.environment |= {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    Notifier(listener.environment)
    assert listener.environment == {"PATH": "/bin"}


def test_the_watchdog_is_fed_by_turns_and_not_more_often_than_needed(listener: Listener) -> None:
    time = Time()
    notifier = Notifier(listener.environment | {"WATCHDOG_USEC": "4000000"}, time)
    for _ in range(20):
        notifier.turned()
        time.now += 0.25
    assert listener.told() == ["WATCHDOG=1"] * 5


@pytest.mark.parametrize("told", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}])
def test_a_watchdog_that_is_not_there_or_another_process_s_is_not_fed(
    listener: Listener, told: dict[str, str]
) -> None:
    Notifier(listener.environment | told).turned()
    assert listener.told() == []


def test_a_status_is_told_when_it_changes_and_not_with_every_turn(listener: Listener) -> None:
    time = Time()
    notifier = Notifier(listener.environment, time)
    for count in (1, 2, 3):
        notifier.turned(lambda count=count: f"{count} messages")  # type: ignore[misc]
    assert listener.told() == ["STATUS=1 messages"]
    time.now += STATUS_EVERY_S
    notifier.turned(lambda: "3 messages")
    time.now += STATUS_EVERY_S
    notifier.turned(lambda: "3 messages")
    assert listener.told() == ["STATUS=3 messages"]


@pytest.mark.parametrize("address", ["", "relative", "/nobody/listens/here"])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("works")
    notifier.turned()
    notifier.stopping()


def test_a_full_socket_holds_nobody_up(listener: Listener) -> None:
    notifier = Notifier(listener.environment)
    for _ in range(10_000):
        notifier.reloading()
    assert set(listener.told()) == {"RELOADING=1"}
