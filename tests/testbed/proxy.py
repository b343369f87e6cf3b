"""A proxy between workers and the panel that misbehaves on demand, as proxies and panels do in real installations."""

import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import requests

from tests.testbed.waiting import free_port

FORWARDED = ("Content-Type", "Cookie", "Authorization", "Accept")


class Misbehaviour:
    """What the proxy does with a report. Each answers (status, headers, body); the body may be sent in part."""

    @staticmethod
    def html_page(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "text/html"}, b"<html><body>Please log in to the guest network</body></html>"

    @staticmethod
    def not_found(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        return 404, {"Content-Type": "text/plain"}, b"not found"

    @staticmethod
    def server_error(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        return 500, {"Content-Type": "text/plain"}, b"oops"

    @staticmethod
    def forbidden(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        return 403, {"Content-Type": "text/plain"}, b"forbidden"

    @staticmethod
    def too_large(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        return 413, {"Content-Type": "text/plain"}, b"too large"

    @staticmethod
    def redirect(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        return 302, {"Location": "/elsewhere"}, b""

    @staticmethod
    def empty_ok(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, b'{"doc":{"$func":"vmwatch.report","ok":{},"report":[]}}'

    @staticmethod
    def cut_in_half(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
        """The panel has taken it; the answer breaks off, with the length of the whole in its header."""
        whole = answer.content
        return answer.status_code, {"Content-Length": str(len(whole))}, whole[: len(whole) // 2]


Misbehave = Callable[[requests.Response], tuple[int, dict[str, str], bytes]]


class Proxy:
    """Forwards to `target`; with `misbehave` set, reports are answered by it. `reports` counts them by status."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = free_port()
        self.misbehave: Misbehave | None = None
        self.forward_first = True
        """Whether a misbehaving proxy passes the report on before it answers wrongly."""
        self.reports: Counter[int] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/vmmgr"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        is_report = "vmwatch.report" in path
        misbehave = self.misbehave if is_report else None
        answer = requests.Response()
        if misbehave is None or self.forward_first:
            try:
                url = self.target + path.removeprefix("/vmmgr")
                answer = requests.post(url, data=body, headers=headers, timeout=60)
            except requests.RequestException:
                return 502, {}, b"the panel is away"
        if misbehave is not None:
            return misbehave(answer)
        kept = {name: value for name, value in answer.headers.items() if name in ("Content-Type", "Set-Cookie")}
        return answer.status_code, kept, answer.content

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name: self.headers[name] for name in FORWARDED if name in self.headers}
                status, answered, content = proxy._answer(self.path, headers, body)
                if "vmwatch.report" in self.path:
                    proxy.reports[status] += 1
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **answered}.items():
                    self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        return Handler
