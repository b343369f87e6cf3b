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


def measure(folder: Path, batch: int, seconds: float) -> float:
    """Messages per second of the bare server with batches of `batch`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "bench.bare:app", "--port", str(port)]
    environment = {**os.environ, DATABASE: str(folder / "bare.db")}
    server = subprocess.Popen([*command, "--log-level", "warning"], env=environment)
    try:
        url = f"http://127.0.0.1:{port}/"
        with requests.Session() as session:
            session.trust_env = False
            wait_until(lambda: _answers(session, url), "the bare server to answer")
            return _post(session, url, batch, seconds)
    finally:
        server.terminate()
        server.wait(30)


def _answers(session: requests.Session, url: str) -> bool:
    try:
        return session.get(url, timeout=5).status_code == 405
    except requests.ConnectionError:
        return False


def _post(session: requests.Session, url: str, batch: int, seconds: float) -> float:
    seq, sent = 1, 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        messages = [msgspec.Raw(event_json(seq + offset)) for offset in range(batch)]
        body = msgspec.json.encode(Report("bench", [ReportEntry(node="bench", epoch=1, base=1, messages=messages)]))
        answer = session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=60)
        answer.raise_for_status()
        seq += batch
        sent += batch
    return sent / elapsed
