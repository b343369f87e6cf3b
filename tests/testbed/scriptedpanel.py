"""A panel that does what a test tells it to: a real HTTP server, honest by default, as bad as its script otherwise."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from vmwatch.shared.messages import decode_head
from vmwatch.shared.report import Refusal, Report, Verdict, decode_report, encode_answer

USER, PASSWORD = "worker", "right password"
COOKIE = "vmmgrses5"


@dataclass(frozen=True)
class Request:
    """A call as it came. `params`: of the query and of a form."""

    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    query: str

    @property
    def func(self) -> str:
        return self.params.get("func", "")

    @property
    def report(self) -> Report:
        return decode_report(self.body)

    @property
    def keys(self) -> list[tuple[str, int, int]]:
        """(node, epoch, seq) of each message of the report."""
        return [
            (entry.node, entry.epoch, decode_head(raw).seq) for entry in self.report.nodes for raw in entry.messages
        ]


@dataclass
class Reply:
    """An answer. `raw`: take over the connection instead and send anything at all."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: Callable[[socket.socket], object] | None = None


def doc_error(type_: str, object_: str, text: str = "no", value: str | None = None) -> Reply:
    """An error in the calling convention (HTTP 200)."""
    error: dict[str, Any] = {"$type": type_, "$object": object_, "msg": {"$": text}}
    if value is not None:
        error["param"] = [{"$name": "value", "$": value}]
    return Reply(json.dumps({"doc": {"error": error}}).encode())


Script = Callable[[Request], Reply | None]
"""What to answer; None: what an honest panel would."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that broke off, or would not trust us: tests look at the caller's side of it."""


class ScriptedPanel:
    """Listens on a free port of 127.0.0.1 while it is entered. `script` may be replaced at any time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: Script = lambda request: None
        self.registered: list[tuple[str, int, int]] = []
        """(node, epoch, seq) in the order in which they were first taken."""
        self.requests: list[Request] = []
        self.sessions = 0
        self.refuse: Callable[[tuple[str, int, int]], bool] = lambda key: False
        self.want_inventory = ""
        self._lock = threading.Lock()
        panel = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                panel._answer(self)

            def log_message(self, *_: object) -> None:
                """A test's output is its own."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}/vmmgr"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "ScriptedPanel":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def calls(self, func: str) -> list[Request]:
        """The calls of one function so far."""
        with self._lock:
            return [request for request in self.requests if request.func == func]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        query = urlsplit(handler.path).query
        params = dict(parse_qsl(query))
        if handler.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            params |= dict(parse_qsl(body.decode()))
        request = Request(params, dict(handler.headers.items()), body, query)
        with self._lock:
            self.requests.append(request)
        reply = self.script(request)
        if reply is None:
            reply = self.honest(request)
        try:
            if reply.raw is not None:
                handler.close_connection = True
                reply.raw(handler.connection)
                return
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
        except OSError:
            handler.close_connection = True  # the caller has gone, as scripts intend at times

    def honest(self, request: Request) -> Reply:
        """What a panel that works answers."""
        if request.func == "auth":
            if (request.params.get("username"), request.params.get("password")) != (USER, PASSWORD):
                return doc_error("auth", "password", "wrong")
            self.sessions += 1
            name = f"session{self.sessions}"
            return Reply(json.dumps({"doc": {"auth": {"$id": name, "$": name}}}).encode())
        session = f"session{self.sessions}"
        if request.params.get("auth") != session and request.headers.get("Cookie") != f"{COOKIE}={session}":
            return Reply(b'{"doc":{"error":{"$type":"auth","$object":"session","msg":{"$":"over"}}}}', status=401)
        if request.func == "vmwatch.report":
            return Reply(encode_answer(self._register(request.report)))
        if request.func == "vm.event":
            return Reply(b'{"doc":{"$func":"vm.event","ok":{}}}')
        return doc_error("missed", "func", value=request.func)

    def _register(self, report: Report) -> list[Verdict]:
        verdicts = []
        with self._lock:
            for entry in report.nodes:
                verdict = Verdict(entry.node, entry.epoch, 0, 0, entry.epoch, want_inventory=self.want_inventory)
                for raw in entry.messages:
                    key = (entry.node, entry.epoch, decode_head(raw).seq)
                    if self.refuse(key):
                        verdict.refused.append(Refusal(key[2], "value", "state", "no such state"))
                    elif key in self.registered:
                        verdict.known += 1
                    else:
                        verdict.applied += 1
                        self.registered.append(key)
                verdicts.append(verdict)
        return verdicts


def half_an_answer(connection: socket.socket) -> None:
    """The head and half of the body, then the end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b'{"doc":' * 70)
    connection.shutdown(socket.SHUT_RDWR)


def trickle(head: bytes, piece: bytes, every_s: float = 0.05, most_s: float = 60.0) -> Callable[[socket.socket], None]:
    """A piece now and then, so that no single read ever waits for long."""

    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        end = time.monotonic() + most_s
        while time.monotonic() < end:
            connection.sendall(piece)
            time.sleep(every_s)

    return send
