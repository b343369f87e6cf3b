"""Connections that ask nothing are ended, and whoever asks is answered, however long it takes."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.testbed.waiting import wait_until
from vmwatch.panel import headlimit
from vmwatch.panel.headlimit import HeadLimit

HEAD_LIMIT_S = 0.5
LIMIT_S = 30.0
MOST = 3
HEAD = b"POST / HTTP/1.1\r\nHost: panel\r\nContent-Length: 2\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body; takes longer than a head may."""
    body = await Request(scope, receive).body()
    await asyncio.sleep(2 * HEAD_LIMIT_S)
    await PlainTextResponse(body)(scope, receive, send)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with room for few connections, which lets one rest for long between requests."""
    monkeypatch.setattr(headlimit, "HEAD_LIMIT_S", HEAD_LIMIT_S)
    config = uvicorn.Config(
        echo, http=HeadLimit, log_config=None, lifespan="off", limit_concurrency=MOST, timeout_keep_alive=int(LIMIT_S)
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            wait_until(lambda: server.started, "the server")
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(LIMIT_S)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), LIMIT_S)


def answer(connection: socket.socket) -> bytes:
    """Up to its body, which is what was sent."""
    told = b""
    while not told.endswith(b"\r\n\r\nok"):
        more = connection.recv(4096)
        assert more, told
        told += more
    return told


def is_ended(connection: socket.socket) -> bool:
    """Within the limit of a test, by the other end."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def drip(connection: socket.socket, text: bytes) -> None:
    """Raises OSError when the other end has ended it."""
    for byte in text:
        connection.sendall(bytes([byte]))
        time.sleep(HEAD_LIMIT_S / 10)


def test_connections_that_say_nothing_are_ended_and_make_room(port: int) -> None:
    silent = [connect(port) for _ in range(MOST)]
    assert all(is_ended(connection) for connection in silent)
    with connect(port) as connection:
        connection.sendall(HEAD + b"ok")
        assert answer(connection).startswith(b"HTTP/1.1 200")
    for one in silent:
        one.close()


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(port: int) -> None:
    with connect(port) as connection, pytest.raises(OSError):
        drip(connection, b"GET /" + b"a" * 500)


def test_a_second_head_that_is_begun_and_not_ended_is_not_waited_for_either(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(HEAD + b"ok")
        answer(connection)
        connection.sendall(HEAD[:10])
        assert is_ended(connection)


def test_a_body_and_an_answer_may_take_longer_and_so_may_the_rest_between_two_requests(port: int) -> None:
    with connect(port) as connection:
        for _ in range(2):
            connection.sendall(HEAD)
            time.sleep(2 * HEAD_LIMIT_S)
            connection.sendall(b"ok")
            assert answer(connection).startswith(b"HTTP/1.1 200")
            time.sleep(2 * HEAD_LIMIT_S)
