"""Pages by cursor and exports of a running panel."""

import random
import time
from collections.abc import Mapping

import requests

from bench.delays import Delays
from bench.figures import Figures, Goal
from bench.longlog.database import DAYS, RARE_EVERY, Plan, node_name, vm_name
from bench.usage import UsageWatch
from tests.testbed.stack import ADMIN, Panel
from tests.unit.panel.reports import uuid_of
from vmwatch.panel.expiry import DAY_S

CALLS = 30
"""Of each kind of page; few, as none of them may be slow."""
SIZE = 100
SLOWER_MOST = 5.0
"""Times the median of the first page without a filter: a page must not depend on where it is or what it shows."""
TIMED_SLOWER_MOST = 50.0
"""A time over all nodes is looked for on each node apart, so that a wrong clock of one does not hide another's rows."""
GROWN_MB_MOST = 64.0
LIMIT_S = 600
CHUNK_BYTES = 1 << 16


def pages(figures: Figures, panel: Panel, plan: Plan) -> None:
    """A page of `SIZE` rows after a cursor at the log's beginning, in its middle and at its end, with all filters."""
    rng = random.Random(1)
    with requests.Session() as session:
        session.auth = ADMIN
        session.trust_env = False
        first = _page(session, panel, plan, rng, {}, 0.0).median
        for (key, title), filters in _filters(plan).items():
            figures.heading(f"a page of {SIZE} rows, {title}")
            most = TIMED_SLOWER_MOST if key == "time" else SLOWER_MOST
            for place, share in (("start", 0.0), ("middle", 0.5), ("end", 0.99)):
                delays = _page(session, panel, plan, rng, filters, share)
                name = f"page_{key}_{place}"
                figures.add(f"{name}_median", f"at the {place}: median of {delays.count}", delays.median, "ms")
                figures.add(f"{name}_most", "  longest", delays.most, "ms")
                goal = Goal(most, at_most=True)
                figures.add(f"{name}_ratio", "  median / first page without a filter", delays.median / first, "", goal)
        figures.heading("without a cursor")
        for name, text, query in (
            ("newest", "the newest rows, with the count of all", {"out": "json"}),
            ("html", "the page in a browser", {}),
        ):
            delays = Delays.of([_call(session, panel, query) for _ in range(CALLS)])
            figures.add(f"{name}_median", f"{text}: median", delays.median, "ms")
            figures.add(f"{name}_most", "  longest", delays.most, "ms")


def _filters(plan: Plan) -> dict[tuple[str, str], dict[str, str]]:
    """By (name, title)."""
    middle = plan.began + DAYS * DAY_S / 2
    since, until = f"{middle:.0f}", f"{middle + 3600:.0f}"
    return {
        ("all", "no filter"): {},
        ("node", "of a node"): {"node": node_name(7)},
        ("event", "of an event"): {"event": "started"},
        ("rare", f"of an event that is rare (1 in {RARE_EVERY:,})"): {"event": "io_error"},
        ("name", "of a VM by name"): {"name": vm_name(77)},
        ("uuid_event", "of a VM by UUID, and an event"): {"uuid": uuid_of(vm_name(77)), "event": "stopped"},
        ("node_event", "of a node and an event"): {"node": node_name(7), "event": "suspended"},
        ("time", "of an hour, one node's clock saying anything"): {"since": since, "until": until},
        ("node_time", "since a time, of a node"): {"since": since, "node": node_name(7)},
        ("nothing", "of nothing that there is"): {"name": "nobody"},
    }


def _page(
    session: requests.Session, panel: Panel, plan: Plan, rng: random.Random, filters: Mapping[str, str], share: float
) -> Delays:
    places = [int(share * plan.rows) + rng.randrange(plan.rows // 200) for _ in range(CALLS)]
    query = {"out": "json", "p_cnt": str(SIZE), **filters}
    return Delays.of([_call(session, panel, query | {"after": str(place)}) for place in places])


def _call(session: requests.Session, panel: Panel, query: Mapping[str, str]) -> float:
    """Milliseconds until the whole answer is there."""
    begun = time.perf_counter()
    answer = session.get(panel.url, params={"func": "eventlog", **query}, timeout=LIMIT_S)
    answer.raise_for_status()
    taken = (time.perf_counter() - begun) * 1000
    if query.get("out") and "error" in answer.json()["doc"]:
        raise AssertionError(answer.text)
    return taken


def exports(figures: Figures, panel: Panel, rows: int) -> None:
    """The newest rows of the log as a file, and what the panel needs for it."""
    newest = int(panel.status["last_event"])
    for format_ in ("csv", "jsonl"):
        figures.heading(f"export of {rows:,} rows as {format_}")
        query = {"func": "eventlog", "export": "on", "format": format_, "after": str(newest - rows)}
        with UsageWatch({"panel": panel.pid}) as watch:
            begun = time.monotonic()
            lines = size = 0
            with requests.get(panel.url, params=query, auth=ADMIN, stream=True, timeout=LIMIT_S) as answer:
                answer.raise_for_status()
                for chunk in answer.iter_content(CHUNK_BYTES):
                    lines += chunk.count(b"\n")
                    size += len(chunk)
            taken = time.monotonic() - begun
        if lines - (format_ == "csv") != rows:
            raise AssertionError(f"of {rows} rows {lines} lines were exported")
        usage = watch.usages["panel"]
        figures.add(f"export_{format_}_rate", "rows", rows / taken, "/s")
        figures.add(f"export_{format_}_mb", "bytes", size / taken / 2**20, "MiB/s")
        grown = usage.rss_mb - usage.first_rss_mb
        goal = Goal(GROWN_MB_MOST, at_most=True)
        figures.add(f"export_{format_}_grown", "the panel's memory grew by", grown, "MiB", goal)
