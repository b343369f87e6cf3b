"""`vmwatch events` and `vmwatch vms` against a real panel: filters, exports, and what is said of mistakes."""

import csv
import io
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.testbed.service import command
from tests.testbed.stack import ADMIN, SERVICE, Panel
from tests.unit.panel.eventrows import fill
from tests.unit.panel.reports import entry, event, inventory, report, uuid_of
from vmwatch.cli.client import PanelClient, Unreachable
from vmwatch.cli.download import download
from vmwatch.panel.schema import SPAN_ROWS
from vmwatch.panel.store import Store

LONG = 150_000
"""Rows of a log whose export fits into no socket's buffers."""
COUNT = 2500
"""More than the panel gives in one answer."""
SPAN_S = 60.0


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    """`web` starts and stops COUNT times, one event a minute up to now; `=db` of another node has one event."""
    began = time.time() - COUNT * SPAN_S
    words = (("started", "booted"), ("stopped", "destroyed"))
    rows = [event(seq, "web", *words[seq % 2], time=began + seq * SPAN_S) for seq in range(1, COUNT + 1)]
    with Panel(tmp_path_factory.mktemp("panel")) as panel:
        settle(panel, report(entry(*rows)))
        settle(panel, report(entry(event(1, "=db", time=began), node="kvm-02")))
        settle(panel, report(entry(inventory(2, 1, **{"=db": "running", "mail": "shutoff"}), node="kvm-02")))
        yield panel


def settle(panel: Panel, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(
        panel.url, params={"func": "vmwatch.report"}, data=body, headers=headers, auth=SERVICE, timeout=60
    )
    answer.raise_for_status()


def run(panel: Panel, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"VMWATCH_PASSWORD": ADMIN[1], "VMWATCH_URL": panel.url}
    return subprocess.run([command("vmwatch"), *arguments], capture_output=True, env=environment, timeout=300)


def printed(panel: Panel, *arguments: str) -> list[list[str]]:
    """The cells of each line, as `cut` sees them."""
    done = run(panel, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return [line.split("\t") for line in done.stdout.decode().splitlines()]


def test_events_are_filtered_by_everything_that_the_panel_can(panel: Panel) -> None:
    assert len(printed(panel, "events")) == 20
    assert [row[4] for row in printed(panel, "events", "--node", "kvm-02")] == ["=db"]
    assert {row[5] for row in printed(panel, "events", "--event", "stopped", "--name", "web")} == {"stopped"}
    assert {row[8] for row in printed(panel, "events", "--uuid", uuid_of("web"))} == {uuid_of("web")}
    assert len(printed(panel, "events", "--since", "3600s", "--count", "1000")) in range(55, 62)
    hour_ago = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 3600))
    assert len(printed(panel, "events", "--since", hour_ago, "--until", "30m", "--count", "1000")) in range(25, 32)
    assert printed(panel, "events", "--until", "10000d") == []


def test_an_export_has_all_rows_that_fit_and_not_only_the_newest(panel: Panel) -> None:
    done = run(panel, "events", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert len(rows) == COUNT + 1
    assert [row["name"] for row in rows if row["node"] == "kvm-02"] == ["'=db"]  # no formula for a spreadsheet
    done = run(panel, "events", "--format", "jsonl", "--event", "started")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == COUNT // 2 + 1
    assert lines[-1]["name"] == "=db"


def test_a_reader_of_an_export_that_has_enough_leaves_no_traceback(panel: Panel) -> None:
    environment = os.environ | {"VMWATCH_PASSWORD": ADMIN[1], "VMWATCH_URL": panel.url}
    line = f"{command('vmwatch')} events --format jsonl | head -n 1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment, timeout=300)
    assert json.loads(done.stdout)["name"] == "web"
    assert done.stderr == b""


class Killing(io.BytesIO):
    """A file; with the first piece that is written into it the panel is killed."""

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self._panel.kill()
        return super().write(piece)


def test_an_export_that_breaks_off_is_no_whole_one(tmp_path: Path) -> None:
    panel = Panel(tmp_path)
    store = Store(f"sqlite:///{tmp_path / 'var' / 'vmwatch-panel.db'}")
    fill(store, LONG, SPAN_ROWS, random.Random(1))
    store.close()
    with panel:
        into = Killing(panel)
        with pytest.raises(Unreachable, match=r"the answer broke off; \d+ lines were complete"):
            download(PanelClient(panel.url, *ADMIN), "eventlog", "csv", into)
    assert into.getvalue().count(b"\n") < LONG


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["events", "--since", "yesterday"], "--since 'yesterday': a time such as"),
        (["events", "--until", "1900-01-01"], "--until '1900-01-01': a time since 1970"),
        (["events", "--format", "csv", "--follow"], "neither --follow nor --count is allowed"),
        (["events", "--format", "csv", "--url", "http://127.0.0.1:1/vmmgr"], "cannot be reached"),
        (["events", "--format", "jsonl", "--user", "nobody"], "the name or the password is wrong"),
        (["vms", "--sort", "colour"], "sort: one of"),
        (["vms", "--state", "asleep"], "vmstatus: one of"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(panel: Panel, arguments: list[str], text: str) -> None:
    done = run(panel, *arguments)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("vmwatch: ")
    assert text in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == b""


def test_vms_are_searched_and_sorted(panel: Panel) -> None:
    assert [row[1] for row in printed(panel, "vms", "--search", "AIL")] == ["mail"]
    assert [row[1] for row in printed(panel, "vms", "--sort=-name")] == ["web", "mail", "=db"]
    assert [row[1] for row in printed(panel, "vms", "--search", uuid_of("web")[:13])] == ["web"]
