"""`eventlog`: the registered events, newest last."""

from collections.abc import Iterator

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse

from vmwatch.panel.convention import MEDIA_TYPES, Listing, Out, row_renderer
from vmwatch.panel.events import Events, Filter, Numbered, row_of
from vmwatch.panel.functions import VIEWERS, Call, Function
from vmwatch.panel.paging import Page

MAX_ID = 2**63 - 1


async def eventlog(call: Call) -> Listing | Response:
    """Filters `node`, `uuid`, `name`, `event`, `since`, `until`. Pages are counted from the oldest row.

    `after` is the id of the last row that the caller has: what follows, without a total. Neither `after` nor
    `p_num`: the newest `p_cnt` rows. `export=on`: all rows, sent as they are read.
    """
    chosen, page = Filter.of(call.params), Page.of(call.params)
    after = call.params.whole("after", 0, MAX_ID)
    events = Events(call.panel.store)
    if call.params.switch("export"):
        return _export(call, events.all(chosen, after or 0))
    if after is not None:
        return _listing(await call.panel.read(lambda: events.after(chosen, after, page.size)), None, None, page.size)
    total = await call.panel.read(lambda: events.count(chosen))
    if page.number is None:
        rows = await call.panel.read(lambda: events.newest(chosen, page.size))
        return _listing(rows, total, max(1, -(-total // page.size)), page.size)
    first = (page.number - 1) * page.size
    return _listing(await call.panel.read(lambda: events.page(chosen, first, page.size)), total, page.number, page.size)


def _listing(rows: list[Numbered], total: int | None, number: int | None, size: int) -> Listing:
    return Listing([row_of(*row) for row in rows], total, number, size)


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
