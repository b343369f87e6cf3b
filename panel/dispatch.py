"""From an HTTP request to a function and back: the calling convention's transport (design 03)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from vmwatch.panel.convention import (
    MEDIA_TYPES,
    Answer,
    ApiError,
    Doc,
    Kind,
    Out,
    Params,
    SignedIn,
    TransportError,
    bad_value,
    missed,
    render,
)
from vmwatch.panel.functions import ANYBODY, Call, Function, Panel
from vmwatch.panel.identity import COOKIE, Brought, Caller, is_forged
from vmwatch.panel.writer import NotCommitted, WriterBusy

log = logging.getLogger(__name__)

MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 100
BODY_TIMEOUT_S = 30.0
"""A body that takes longer comes from a client that only wants to keep the connection busy, or as good as."""
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_HEADER_BYTES = 4096
"""Longer proofs of identity than this are not even looked at."""


Draw = Callable[[Request, Mapping[str, str]], Awaitable[Response]]


class Dispatcher:
    """Calls functions and gives each outcome its form. Pages are drawn by whoever asks for `Out.PAGE`."""

    def __init__(self, panel: Panel, functions: Mapping[str, Function]) -> None:
        self._panel = panel
        self._functions = functions

    async def answer(self, request: Request, draw: Draw) -> Response:
        """The answer to a call, whatever happens. `draw` makes the page for one without `out`."""
        func, out = "", Out.JSON
        try:
            query = fields(request.url.query.encode())
            func = query.get("func", "")
            self._refuse_secret_in_url(query)
            values = query | await self._form(request)
            func = values.get("func", "")
            out = out_of(values.get("out", ""))
            if out is Out.PAGE and media_type(request) == _JSON:
                out = Out.JSON
            if out is Out.PAGE:
                return await draw(request, values)
            call, answer = await self.outcome(request, values, out)
            if isinstance(answer, Response):
                return answer
            response = document(answer.doc(), call.func, out)
            if isinstance(answer, SignedIn):
                set_cookie(response, answer.session, secure=self._panel.settings.tls)
            return response
        except Exception as error:
            return self.failure(error, func, out)

    async def outcome(self, request: Request, values: Mapping[str, str], out: Out) -> tuple[Call, Answer | Response]:
        """Do the call. Raises ApiError, TransportError, WriterBusy or NotCommitted."""
        func = values.get("func", "")
        function = self._functions.get(func)
        if function is None:
            raise missed("func", func)
        self._panel.counters[f"calls.{func}"] += 1
        # Who signs in may still have the cookie of a session that is over.
        caller = None if function.roles is ANYBODY else await self.caller(request, values)
        function.admit(caller)
        self._refuse_forged(function, caller, request)
        body = await _json_body(request, function) if function.body else b""
        address = request.client.host if request.client else ""
        call = Call(self._panel, func, out, Params(values), caller, address, request, body)
        return call, await function.handle(call)

    async def caller(self, request: Request, values: Mapping[str, str]) -> Caller | None:
        """Who calls. Raises ApiError or TransportError for a proof that is wrong."""
        brought = Brought(
            address=request.client.host if request.client else "",
            authinfo=values.get("authinfo", "")[:_HEADER_BYTES],
            session=values.get("auth", "")[:_HEADER_BYTES],
            authorization=request.headers.get("authorization", "")[:_HEADER_BYTES],
            cookie=request.cookies.get(COOKIE, "")[:_HEADER_BYTES],
        )
        return await self._panel.identity.caller(brought)

    def failure(self, error: Exception, func: str, out: Out) -> Response:
        """The answer to a call that raised this."""
        status, doc, headers = self.describe(error)
        return document(doc, func, out, status, headers)

    def describe(self, error: Exception) -> tuple[int, Doc, Mapping[str, str]]:
        """(HTTP status, document, headers) of an error; counts it."""
        if isinstance(error, ApiError):
            self._panel.counters[f"errors.{error.kind}"] += 1
            return 200, error.doc(), {}
        if isinstance(error, WriterBusy | NotCommitted):
            error = TransportError(503, str(error), {"Retry-After": "1"})
        elif isinstance(error, ClientDisconnect):
            error = TransportError(400, "the call ended before its body")
        elif not isinstance(error, TransportError):
            log.error("a call failed", exc_info=error)
            error = TransportError(500, "the panel failed at this call; its log says why")
        self._panel.counters[f"http.{error.status}"] += 1
        return error.status, error.doc(), error.headers

    def _refuse_secret_in_url(self, query: Mapping[str, str]) -> None:
        secrets = {"authinfo", "auth", "password"} & query.keys()
        if secrets and not self._panel.settings.authinfo_in_url:
            text = "is allowed in a POST body; in an address, which ends up in logs, only with Option AuthinfoInUrl"
            raise bad_value(min(secrets), text)

    def _refuse_forged(self, function: Function, caller: Caller | None, request: Request) -> None:
        by_browser = caller is None or caller.ambient
        if function.changes and by_browser and is_forged(request.method, request.headers):
            text = "what changes something is called by POST from the panel's own pages, or with auth or authinfo"
            raise ApiError(Kind.ACCESS, function.name, text)

    async def _form(self, request: Request) -> dict[str, str]:
        if request.method != "POST" or media_type(request) == _JSON:
            return {}
        body = await read_body(request, MAX_FORM_BYTES)
        if body and media_type(request) != _FORM:
            raise bad_value("Content-Type", f"{_FORM} is allowed, and {_JSON} where a function takes it")
        return fields(body)


async def _json_body(request: Request, function: Function) -> bytes:
    if request.method != "POST" or media_type(request) != _JSON:
        raise bad_value("Content-Type", f"{function.name} is called by POST with {_JSON}")
    return await read_body(request, function.body)


async def read_body(request: Request, most: int) -> bytes:
    """The body; raises TransportError (413) as soon as more than `most` bytes have come, and 408 for a slow one."""
    too_large = TransportError(413, f"the body is larger than {most} bytes", {"Connection": "close"})
    if int(request.headers.get("content-length") or 0) > most:
        raise too_large
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise TransportError(408, f"the body took longer than {BODY_TIMEOUT_S:g} s", {"Connection": "close"}) from None
    return b"".join(chunks)


def fields(encoded: bytes) -> dict[str, str]:
    """The fields of a query or a form; the last one of a name counts. Raises ApiError if there are too many."""
    try:
        pairs = parse_qsl(encoded.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise ApiError(Kind.VALUE, "func", f"{MAX_FIELDS} parameters are allowed") from None
    return dict(pairs)


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def out_of(text: str) -> Out:
    """Raises ApiError for a format that there is not."""
    try:
        return Out(text)
    except ValueError:
        raise bad_value("out", "json, xml or text is allowed", text) from None


def document(doc: Doc, func: str, out: Out, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document in its format."""
    kept = {"Cache-Control": "no-store", **(headers or {})}
    return Response(render(doc, func, out), status, kept, MEDIA_TYPES[out or Out.JSON])


def set_cookie(response: Response, session: str, *, secure: bool) -> None:
    """No `max-age`: the browser forgets it at its end, the panel when it was idle for too long."""
    response.set_cookie(COOKIE, session, httponly=True, samesite="lax", secure=secure)
