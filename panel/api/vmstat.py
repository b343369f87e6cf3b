"""`vmstat`: samples of a VM's counters."""

from sqlalchemy import select

from vmwatch.panel.board import Board
from vmwatch.panel.convention import Listing, missed
from vmwatch.panel.functions import VIEWERS, Call, Function
from vmwatch.panel.labels import time_label, time_param
from vmwatch.panel.paging import Page
from vmwatch.panel.schema import COUNTERS, stats, vms
from vmwatch.panel.store import Store

MAX_ID = 2**63 - 1


async def vmstat(call: Call) -> Listing:
    """Samples of the VM `elid` (its UUID or number), newest last: the newest `p_cnt`, or those after the id `after`.

    A counter that libvirt did not give is empty, not zero.
    """
    elid = call.params.required("elid").strip()
    size = Page.of(call.params).size
    after = call.params.whole("after", 0, MAX_ID)
    since, until = time_param(call.params, "since"), time_param(call.params, "until")
    uuid = await call.panel.read(lambda: _uuid(call.panel.board, call.panel.store, elid))
    query = select(stats).where(stats.c.uuid == uuid).limit(size)
    if since is not None:
        query = query.where(stats.c.taken >= since)
    if until is not None:
        query = query.where(stats.c.taken <= until)
    newest = query.order_by(stats.c.id.desc())
    query = newest if after is None else query.where(stats.c.id > after).order_by(stats.c.id)

    def read() -> list[dict[str, str]]:
        with call.panel.store.reading() as connection:
            return [_row_of(dict(row)) for row in connection.execute(query).mappings()]

    rows = await call.panel.read(read)
    return Listing(rows[::-1] if after is None else rows, None, None, size)


def _uuid(board: Board, store: Store, elid: str) -> str:
    """Of a VM that is there, or that once was and whose samples may still be. Raises ApiError (`missed`)."""
    row = board.vm(elid)
    if row is not None:
        return row.uuid
    wanted = vms.c.id == int(elid) if elid.isascii() and elid.isdigit() and len(elid) < 19 else vms.c.uuid == elid
    with store.reading() as connection:
        uuid: str | None = connection.execute(select(vms.c.uuid).where(wanted)).scalar()
    if uuid is None:
        raise missed("vm", elid)
    return uuid


def _row_of(row: dict[str, object]) -> dict[str, str]:
    taken = row["taken"]
    shown = {"id": str(row["id"]), "node": str(row["node"]), "uuid": str(row["uuid"]), "state": str(row["state"])}
    shown["taken"] = time_label(taken) if isinstance(taken, float) else ""
    shown["interval"] = f"{row['interval']:g}"
    return shown | {name: "" if row[name] is None else str(row[name]) for name in COUNTERS}


FUNCTIONS = (Function("vmstat", vmstat, VIEWERS),)
