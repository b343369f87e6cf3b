"""The bare limit: one client posts batches to one uvicorn process that commits each and does nothing else.

SQLite, WAL, synchronous=FULL, a table with primary key (node, epoch, seq) and no other index: what any receiver
that stores each batch before it answers must do at least.
"""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.load import event_json
from tests.testbed.waiting import free_port, wait_until
from vmwatch.shared.messages import decode_head
from vmwatch.shared.report import Report, ReportEntry, decode_report

DATABASE = "VMWATCH_BENCH_DATABASE"
SIZES = (100, 500)
"""Batches of these sizes are measured."""


def app() -> Starlette:
    """The bare server; its database is named by an environment variable, as uvicorn's factories take no arguments."""
    database = sqlite3.connect(os.environ[DATABASE], check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(
        "CREATE TABLE message (node TEXT, epoch INTEGER, seq INTEGER, body TEXT, PRIMARY KEY (node, epoch, seq))"
        " WITHOUT ROWID"
    )

    async def take(request: Request) -> Response:
        report = decode_report(await request.body())
        database.execute("BEGIN IMMEDIATE")
        for entry in report.nodes:
            database.executemany(
                "INSERT INTO message VALUES (?, ?, ?, ?)",
                [(entry.node, entry.epoch, decode_head(raw).seq, bytes(raw)) for raw in entry.messages],
            )
        database.execute("COMMIT")
        return Response(b"{}", media_type="application/json")

    return Starlette(routes=[Route("/", take, methods=["POST"])])


class BareLimit:
    """The server and its one client. It stays idle between rounds, so that these can take turns with others'."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._session = requests.Session()
        self._session.trust_env = False
        self._seq = 1

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "uvicorn", "--factory", "bench.bare:app", "--port", str(self._port)]
        environment = {**os.environ, DATABASE: str(self._folder / "bare.db")}
        self._server = subprocess.Popen([*command, "--log-level", "warning"], env=environment)
        try:
            wait_until(self._answers, "the bare server to answer")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def round(self, batch: int, seconds: float) -> float:
        """Messages per second with batches of `batch`."""
        sent = 0
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            messages = [msgspec.Raw(event_json(self._seq + offset)) for offset in range(batch)]
            body = msgspec.json.encode(Report("bench", [ReportEntry(node="bench", epoch=1, base=1, messages=messages)]))
            answer = self._session.post(self._url, data=body, headers={"Content-Type": "application/json"}, timeout=60)
            answer.raise_for_status()
            self._seq += batch
            sent += batch
        return sent / elapsed

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def _answers(self) -> bool:
        try:
            return self._session.get(self._url, timeout=5).status_code == 405
        except requests.ConnectionError:
            return False

    def _close(self) -> None:
        self._session.close()
        self._server.terminate()
        self._server.wait(30)
