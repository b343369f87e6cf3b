"""The panel as an ASGI application: routes, and the headers that every answer has."""

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vmwatch.panel.api.registry import FUNCTIONS
from vmwatch.panel.dispatch import Dispatcher
from vmwatch.panel.functions import Panel
from vmwatch.panel.pages import API, STATIC, Pages

_HEADERS = {
    # Nothing but our own files: a name that slipped through as a tag could still not run anything.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def make_app(panel: Panel) -> ASGIApp:
    """The application of one panel."""
    dispatcher = Dispatcher(panel, FUNCTIONS)
    pages = Pages(panel, dispatcher)

    async def home(request: Request) -> Response:
        return RedirectResponse(API, 303)

    async def vmmgr(request: Request) -> Response:
        return await dispatcher.answer(request, pages.draw)

    routes = [
        Route("/", home, methods=["GET"]),
        Route(API, vmmgr, methods=["GET", "POST"]),
        Route(f"{API}/live", pages.live, methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return _Headers(Starlette(routes=routes))


class _Headers:
    """Adds the headers to every answer; plain ASGI, so that streams pass through as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
