"""Reading a status socket ends in time, whatever is at its other end."""

import contextlib
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmwatch.shared.statussocket import StatusSocket, read_status

LIMIT_S = 1.0
FAR_TOO_LONG_S = 300.0


@contextlib.contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None] | None, backlog: int = 8) -> Iterator[None]:
    """A socket there; `serve` gets each connection, None: nobody ever accepts."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(backlog)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while serve is not None:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    serve(client)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_status_is_read(short_path: Path) -> None:
    served = StatusSocket(short_path / "s", lambda: {"much": "x" * 1_000_000})
    served.start()
    try:
        assert len(read_status(short_path / "s")["much"]) == 1_000_000
    finally:
        served.close()


def test_one_that_accepts_and_never_answers_is_given_up(short_path: Path) -> None:
    with listening(short_path / "s", None):
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            read_status(short_path / "s", LIMIT_S)
        assert time.monotonic() - begun < FAR_TOO_LONG_S


def test_one_whose_queue_is_full_is_given_up(short_path: Path) -> None:
    """A blocking connect would wait for ever."""
    with listening(short_path / "s", None, backlog=0), contextlib.ExitStack() as waiting:
        for _ in range(3):
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(short_path / "s"))
        with pytest.raises(TimeoutError):
            read_status(short_path / "s", LIMIT_S)


def test_one_that_trickles_is_given_up(short_path: Path) -> None:
    def trickle(client: socket.socket) -> None:
        end = time.monotonic() + FAR_TOO_LONG_S
        while time.monotonic() < end:
            client.sendall(b" ")
            time.sleep(0.02)

    with listening(short_path / "s", trickle):
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            read_status(short_path / "s", LIMIT_S)
        assert time.monotonic() - begun < FAR_TOO_LONG_S


@pytest.mark.parametrize("answer", [b"", b"no json", b"[1]", json.dumps({"a": 1}).encode()[:-1]])
def test_what_is_no_json_object_is_an_error(short_path: Path, answer: bytes) -> None:
    with listening(short_path / "s", lambda client: client.sendall(answer)), pytest.raises(ValueError):
        read_status(short_path / "s", 60)


def test_after_a_time_with_too_many_open_files_the_status_is_told_again(short_path: Path) -> None:
    """accept(2), EMFILE."""
    served = StatusSocket(short_path / "s", lambda: {"well": True})
    served.start()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, limits[1]))
            client.connect(str(short_path / "s"))
            time.sleep(1)  # it cannot be seen from outside that it tries in vain
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            client.settimeout(FAR_TOO_LONG_S)
            assert json.loads(client.recv(1000)) == {"well": True}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        served.close()
