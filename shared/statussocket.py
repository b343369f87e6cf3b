"""The status socket: connect to it, read one JSON object, closed (design 04, *Files*)."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vmwatch.shared.errors import ConfigurationError, of_system

log = logging.getLogger(__name__)
MAX_PATH_BYTES = 107
"""A UNIX socket's address holds no more (unix(7))."""
_CLIENT_TIMEOUT_S = 5.0
MOST_BYTES = 64 * 1024 * 1024
"""Of an answer: a master with ten thousand nodes says a tenth of that."""
_CONNECT_AGAIN_S = 0.02
_ACCEPT_AGAIN_S = 0.1


class StatusSocket:
    """Answers with `describe()`, which runs in this object's thread: it must only read what is safe to read there."""

    def __init__(self, path: Path, describe: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._describe = describe
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)

    def start(self) -> None:
        """Raises ConfigurationError if the socket cannot be made, VmwatchError if it cannot be made now."""
        if len(os.fsencode(self._path)) > MAX_PATH_BYTES:
            raise ConfigurationError(f"{self._path}: longer than the {MAX_PATH_BYTES} bytes of a UNIX socket's path")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                self._socket.bind(str(self._path))
            finally:
                os.umask(before)
            self._socket.listen(8)
        except OSError as error:
            raise of_system(error, f"{self._path}: status socket cannot be made: {error.strerror}") from None
        self._thread.start()

    def close(self) -> None:
        """Stop answering and remove the socket."""
        with suppress(OSError):  # a file system that has become read-only
            self._path.unlink(missing_ok=True)
        # shutdown wakes the accept of the thread; close alone would not
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError as error:
                if self._closed:
                    return
                log.debug("no status client can be taken now: %s", error)  # too many open files
                time.sleep(_ACCEPT_AGAIN_S)
                continue
            with client:
                client.settimeout(_CLIENT_TIMEOUT_S)
                try:
                    client.sendall(json.dumps(self._describe()).encode() + b"\n")
                except OSError as error:
                    log.debug("a status client went away: %s", error)
                except Exception:
                    log.exception("the status could not be told; the service goes on")


def read_status(path: Path, timeout_s: float = 5.0) -> dict[str, Any]:
    """The status of the program that owns the socket, in `timeout_s` altogether, however slowly it comes.

    Raises OSError (TimeoutError for the limit) or ValueError (no JSON object, or one that never ends).
    """
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        _connect(client, path, deadline)
        chunks, size = [], 0
        while chunk := _receive(client, deadline):
            chunks.append(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes")
    status = json.loads(b"".join(chunks))
    if not isinstance(status, dict):
        raise ValueError("not a JSON object")
    return status


def _connect(client: socket.socket, path: Path, deadline: float) -> None:
    """Where as many wait as may wait, a connect on a UNIX socket would block without any limit."""
    client.setblocking(False)
    while True:
        try:
            return client.connect(str(path))
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError("nobody accepts") from None
            time.sleep(_CONNECT_AGAIN_S)


def _receive(client: socket.socket, deadline: float) -> bytes:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the answer did not end in time")
    client.settimeout(left_s)
    return client.recv(65536)
