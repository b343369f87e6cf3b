"""`vm`: the list of VMs."""

import re

from vmwatch.panel.board import VmRow
from vmwatch.panel.convention import Listing, Params
from vmwatch.panel.functions import VIEWERS, Call, Function
from vmwatch.panel.labels import time_label
from vmwatch.panel.paging import Page
from vmwatch.shared.states import State

SORTABLE = ("id", "name", "uuid", "hostnode", "vmstatus", "since")
_CHUNKS = re.compile(r"(\d{1,18})")


async def vms(call: Call) -> Listing:
    """All VMs that some node has; filters `hostnode`, `vmstatus`, `q`, `warnings`; `sort=-name` sorts backwards."""
    page = Page.of(call.params)
    rows = [row_of(vm) for vm in select(call.panel.board.vms(), call.params)]
    return page.cut(rows)


def select(rows: list[VmRow], params: Params) -> list[VmRow]:
    """The rows that fit the filters, sorted. Raises ApiError for a filter that there is not."""
    state = params.one_of("vmstatus", [state.value for state in State])
    node, part = params.get("hostnode"), params.get("q").strip().lower()
    warned = params.switch("warnings")
    chosen = [
        row
        for row in rows
        if (not state or row.state == state)
        and (not warned or row.warnings)
        and (not node or row.node == node)
        and (not part or part in row.name.lower() or part in row.uuid)
    ]
    return sort(chosen, params)


def sort(rows: list[VmRow], params: Params) -> list[VmRow]:
    """By name unless `sort` says otherwise; equal ones by number, so that pages do not overlap."""
    wish = params.one_of("sort", [*SORTABLE, *(f"-{name}" for name in SORTABLE)]) or "name"
    name = wish.removeprefix("-")
    rows.sort(key=lambda row: row.id)
    rows.sort(key=_KEYS[name], reverse=wish.startswith("-"))
    return rows


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that puts vm-9 before vm-10."""
    return [
        (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part.lower())
        for part in _CHUNKS.split(text)
        if part
    ]


_KEYS = {
    "id": lambda row: row.id,
    "name": lambda row: natural(row.name),
    "uuid": lambda row: row.uuid,
    "hostnode": lambda row: natural(row.node),
    "vmstatus": lambda row: row.state,
    "since": lambda row: row.since,
}


def row_of(vm: VmRow) -> dict[str, str]:
    """The row as the API shows it."""
    return {
        "id": str(vm.id),
        "name": vm.name,
        "uuid": vm.uuid,
        "hostnode": vm.node,
        "vmstatus": vm.state.value,
        "since": time_label(vm.since),
        "installing": "on" if vm.installing else "off",
        "install": vm.install,
        "warnings": warnings_text(vm),
    }


def warnings_text(vm: VmRow) -> str:
    """`tx_packets since TIME, write_requests since TIME`: what was zero, since when; empty if nothing is wrong."""
    return ", ".join(f"{idle.counter} since {time_label(idle.since)}" for idle in vm.warnings)


FUNCTIONS = (Function("vm", vms, VIEWERS),)
