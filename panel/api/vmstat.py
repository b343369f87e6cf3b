"""`vmstat`: samples of a VM's counters, and their rates."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, select

from vmwatch.panel.board import Board
from vmwatch.panel.convention import Listing, missed
from vmwatch.panel.functions import VIEWERS, Call, Function
from vmwatch.panel.labels import time_label, time_param
from vmwatch.panel.paging import Page
from vmwatch.panel.rates import Sample, with_rates
from vmwatch.panel.schema import COUNTERS, stats, vms
from vmwatch.panel.store import Store

MAX_ID = 2**63 - 1


async def vmstat(call: Call) -> Listing:
    """Samples of the VM `elid` (its UUID or number), newest last: the newest `p_cnt`, or those after the id `after`.

    A counter that libvirt did not give is empty, not zero. `NAME_rate`, per second: how the counter grew since the
    sample before of this VM on this node, also where that is not on the page; empty where that is not known.
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
        with call.panel.store.reading() as connection, connection.begin():
            rows = [dict(row) for row in connection.execute(query).mappings()]
            ordered = rows[::-1] if after is None else rows
            return [_row_of(*found) for found in with_rates(ordered, _before(connection, ordered))]

    return Listing(await call.panel.read(read), None, None, size)


def _before(connection: Connection, samples: Sequence[Sample]) -> Iterator[Sample]:
    """Of each node with samples here the one before its first."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample["node"], sample)
    for node, sample in first.items():
        mine = (stats.c.uuid == sample["uuid"], stats.c.node == node, stats.c.id < sample["id"])
        query = select(stats).where(*mine).order_by(stats.c.id.desc()).limit(1)
        yield from (dict(row) for row in connection.execute(query).mappings())


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


def _row_of(row: Sample, rates: Mapping[str, float | None]) -> dict[str, str]:
    shown = {name: str(row[name]) for name in ("id", "node", "uuid", "state")}
    shown |= {"taken": time_label(row["taken"]), "interval": f"{row['interval']:g}"}
    shown |= {name: "" if row[name] is None else str(row[name]) for name in COUNTERS}
    return shown | {f"{name}_rate": "" if rate is None else f"{rate:.3f}" for name, rate in rates.items()}


FUNCTIONS = (Function("vmstat", vmstat, VIEWERS),)
