"""`eventlog`: the registered events, newest last."""

from collections.abc import Iterator

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse

from vmwatch.panel import export
from vmwatch.panel.convention import MEDIA_TYPES, Listing, Out, bad_value, row_renderer
from vmwatch.panel.events import COLUMNS, Events, Filter, Numbered, row_of
from vmwatch.panel.functions import VIEWERS, Call, Function
from vmwatch.panel.paging import Page

MAX_ID = 2**63 - 1
MOST_COUNTED = 100_000
"""So many rows are counted, and reached by `p_num`: both walk over each of them. The cursor `after` has no end."""


async def eventlog(call: Call) -> Listing | Response:
    """Filters `node`, `uuid`, `name`, `event`, `since`, `until`. Pages are counted from the oldest row.

    `after` is the id of the last row that the caller has: what follows, without a total. Neither `after` nor
    `p_num`: the newest `p_cnt` rows. More than MOST_COUNTED rows have no total. `export=on`: all rows, sent as they
    are read, in the format `format` (csv, jsonl) or `out`.
    """
    chosen, page = Filter.of(call.params), Page.of(call.params)
    after = call.params.whole("after", 0, MAX_ID)
    events = Events(call.panel.store)
    format_ = call.params.one_of("format", list(export.Format))
    if call.params.switch("export"):
        chunks = events.all(chosen, after or 0)
        return _file(call, export.Format(format_), chunks) if format_ else _export(call, chunks)
    if format_:
        raise bad_value("format", "is allowed only with export=on", format_)
    if after is not None:
        return _listing(await call.panel.read(lambda: events.after(chosen, after, page.size)), None, None, page.size)
    first = ((page.number or 1) - 1) * page.size
    if first + page.size > MOST_COUNTED:
        raise bad_value("p_num", f"the first {MOST_COUNTED} rows are allowed; after=ID reaches the rest")
    counted = await call.panel.read(lambda: events.count(chosen, MOST_COUNTED + 1))
    total = counted if counted <= MOST_COUNTED else None
    if page.number is None:
        rows = await call.panel.read(lambda: events.newest(chosen, page.size))
        last = None if total is None else max(1, -(-total // page.size))
        return _listing(rows, total, last, page.size)
    return _listing(await call.panel.read(lambda: events.page(chosen, first, page.size)), total, page.number, page.size)


def _listing(rows: list[Numbered], total: int | None, number: int | None, size: int) -> Listing:
    return Listing([row_of(*row) for row in rows], total, number, size)


def _file(call: Call, format_: export.Format, chunks: Iterator[list[Numbered]]) -> Response:
    rows = ([row_of(*row) for row in chunk] for chunk in chunks)
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{call.func}.{format_}"',
    }
    text = iterate_in_threadpool(export.lines(format_, COLUMNS, rows))
    return StreamingResponse(text, 200, headers, export.MEDIA_TYPES[format_])


def _export(call: Call, chunks: Iterator[list[Numbered]]) -> Response:
    out = call.out or Out.TEXT
    head, render, separator, tail = row_renderer(out)

    def text() -> Iterator[str]:
        yield head.format(func=call.func)
        lead = ""
        for chunk in chunks:
            yield lead + separator.join(render(row_of(*row)) for row in chunk)
            lead = separator
        yield tail

    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(iterate_in_threadpool(text()), 200, headers, MEDIA_TYPES[out])


FUNCTIONS = (Function("eventlog", eventlog, VIEWERS),)
