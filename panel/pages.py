"""The web pages: what a call without `out` gets."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates

from vmwatch.panel.accounts import Account
from vmwatch.panel.api.problems import (
    LEAST_PERIOD_S,
    LONGEST_PERIOD_S,
    MOST_ATTEMPTS,
    UNSOLVED,
    attempt_row_of,
    attempts_of,
    problem_of,
)
from vmwatch.panel.api.problems import about as problems_about
from vmwatch.panel.api.problems import row_of as problem_row_of
from vmwatch.panel.api.problems import select as select_problems
from vmwatch.panel.api.vm import select as select_vms
from vmwatch.panel.api.vmhostnode import row_of as node_row_of
from vmwatch.panel.configurepages import keys_context, next_query, run_context
from vmwatch.panel.convention import ApiError, Done, Kind, Listing, Out, Params, SignedIn, TransportError
from vmwatch.panel.dispatch import Dispatcher, set_cookie
from vmwatch.panel.events import Events, Filter, Numbered, row_of
from vmwatch.panel.functions import ADMIN, OPERATORS, VIEWERS, Panel
from vmwatch.panel.identity import COOKIE, Caller
from vmwatch.panel.installpages import InstallPages
from vmwatch.panel.labels import time_label
from vmwatch.panel.live import MOST_EVENTS, Stream, vm_fields
from vmwatch.panel.maintenance import MASTER
from vmwatch.panel.paging import MAX_PAGE
from vmwatch.panel.policies import WEEK_S, values_of
from vmwatch.panel.problems import Kind as ProblemKind
from vmwatch.panel.problems import Phase
from vmwatch.shared.states import State
from vmwatch.shared.version import VERSION

API = "/vmmgr"
TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
VMS_ON_PAGE = 200
PROBLEMS_ON_PAGE = 500
EVENTS_ON_PAGE = 100
EXPORTED = ("func", "node", "uuid", "name", "event", "since", "until")
MAX_ID = 2**63 - 1
_PAGES = {
    "vm": "VMs",
    "eventlog": "Events",
    "vmhostnode": "Nodes",
    "problems": "Problems",
    "policy": "Policies",
}
_DETAILS = {"problems.log": "problems"}
"""Pages that are not in the navigation, and what they belong to."""
_FOLLOWING = {
    "policy.edit": "func=policy&saved=on",
    "problems.solve": "func=problems.log&plid={elid}",
    "problems.edit": "func=problems.log&plid={elid}",
    "problems.delete": "func=problems",
}
"""Where a browser goes after it changed something."""
_STATES = [state.value for state in State if state is not State.ABSENT]


class Pages:
    """Draws pages. Every value that a template gets is escaped by Jinja2; none is marked as safe."""

    def __init__(self, panel: Panel, dispatcher: Dispatcher) -> None:
        self._panel = panel
        self._dispatcher = dispatcher
        loader = FileSystemLoader(TEMPLATES)
        environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        self._templates = Jinja2Templates(env=environment)
        self._installs = InstallPages(panel, dispatcher, self._viewer, self._draw, API)
        environment.globals.update(api=API, pages=_PAGES, version=VERSION, states=_STATES, board=panel.board)

    async def draw(self, request: Request, values: Mapping[str, str]) -> Response:
        """The page of a function, or a form, or where the browser goes next."""
        func = values.get("func", "")
        try:
            if func == "logon":
                return self._draw(request, "logon.html", {"title": "Sign in", "next": values.get("next", "")})
            if func == "auth":
                return await self._sign_in(request, values)
            if func in _PAGES | _DETAILS and request.method == "GET" and values.get("export") != "on":
                return await self._page(request, values)
            if self._installs.draws(func):
                return await self._installs.page(request, values)
            if not func:
                return RedirectResponse(f"{API}?func=vm", 303)
            return await self._function(request, values)
        except Exception as error:
            return await self._failure(request, error, func)

    async def live(self, request: Request) -> Response:
        """The stream of changes for a page that was drawn when the event `after` was the newest."""
        try:
            caller = await self._viewer(request, {})
            params = Params(request.query_params)
            seen = Params({"after": request.headers.get("last-event-id", "")}).whole("after", 0, MAX_ID)
            if seen is None:
                seen = params.whole("after", 0, MAX_ID) or 0
            box = self._panel.live.join(seen, params.get("run"), params.whole("problem", 1, MAX_ID) or 0)
            if box is None:
                raise TransportError(503, "too many live pages are open", {"Retry-After": "30"})
        except Exception as error:
            # a stream has no document to say it in: the browser's script looks at the status
            status, _, headers = self._dispatcher.describe(error)
            return Response(status_code=403 if status == 200 else status, headers=dict(headers))
        events = Events(self._panel.store)

        async def missed(after: int) -> list[Numbered]:
            return await self._panel.read(lambda: events.after(Filter(), after, MOST_EVENTS + 1))

        return Stream(self._panel.live, box, missed, lambda: self._panel.identity.is_valid(caller))

    async def _viewer(self, request: Request, values: Mapping[str, str]) -> Caller:
        """Who looks at a page. Raises ApiError if he may not."""
        caller = await self._dispatcher.caller(request, values)
        if caller is None:
            raise ApiError(Kind.AUTH, "auth", "sign in first")
        if caller.account.role not in VIEWERS:
            raise ApiError(Kind.ACCESS, "func", f"an account of the role {caller.account.role} has no pages")
        return caller

    async def _account(self, request: Request) -> Account | None:
        """Whose pages an error's page leads back to."""
        try:
            return (await self._viewer(request, {})).account
        except (ApiError, TransportError):
            return None

    async def _page(self, request: Request, values: Mapping[str, str]) -> Response:
        func = values["func"]
        caller = await self._viewer(request, values)
        params = Params(values)
        drawers = {
            "vm": self._vms,
            "eventlog": self._events,
            "vmhostnode": self._nodes,
            "problems": self._problems,
            "problems.log": self._problem,
            "policy": self._policies,
        }
        drawn = drawers[func]
        context = await drawn(params)
        place = _DETAILS.get(func, func)
        board = self._panel.board
        # what the page's links repeat
        query = {name: value for name, value in values.items() if name not in ("authinfo", "auth")}
        context |= {"title": _PAGES[place], "func": place, "account": caller.account, "query": query}
        context["may_operate"] = caller.account.role in OPERATORS
        context["may_configure"] = caller.account.role in ADMIN
        return self._draw(request, f"{func}.html", {"after": board.last_event, "run": board.run} | context)

    async def _vms(self, params: Params) -> dict[str, object]:
        # The cursor first: what changes while the page is drawn comes again, and nothing is missed.
        after = self._panel.board.last_event
        rows = select_vms(self._panel.board.vms(), params)
        number = params.whole("p_num", 1, MAX_PAGE) or 1
        first = (number - 1) * VMS_ON_PAGE
        return {
            "after": after,
            "rows": [vm_fields(row) for row in rows[first : first + VMS_ON_PAGE]],
            "total": len(rows),
            "page": number,
            "last_page": max(1, -(-len(rows) // VMS_ON_PAGE)),
            "counts": self._panel.board.counts(),
            "warned": self._panel.board.warned,
            "nodes": [row.name for row in self._panel.board.nodes()],
        }

    async def _events(self, params: Params) -> dict[str, object]:
        after, version = self._panel.board.last_event, self._panel.board.problems_version
        chosen, before = Filter.of(params), params.whole("before", 1, MAX_ID)
        events = Events(self._panel.store)
        rows = await self._panel.read(lambda: events.newest(chosen, EVENTS_ON_PAGE, before))
        vm = self._panel.board.vm(chosen.uuid) if chosen.uuid else None
        return {
            "after": after,
            "vm": None if vm is None else vm_fields(vm),
            "version_of_problems": version,
            "problems": [] if vm is None else problems_about(self._panel.board.problems(), vm.uuid),
            "rows": [row_of(*row) for row in reversed(rows)],
            # the whole of what the filter fits, whichever page this is
            "exported": {name: params.get(name) for name in EXPORTED if params.given(name)},
            "older": rows[0][0] if len(rows) == EVENTS_ON_PAGE else None,
            "nodes": [row.name for row in self._panel.board.nodes()],
        }

    async def _nodes(self, params: Params) -> dict[str, object]:
        fields = self._panel.live.node_fields
        return {
            "rows": [node_row_of(row) | fields(row) for row in self._panel.board.nodes()],
            "master_maintenance": time_label(self._panel.board.maintenance.get(MASTER, 0.0)),
        }

    async def _problems(self, params: Params) -> dict[str, object]:
        version, found = self._panel.board.problems_version, self._panel.board.problems()
        chosen = select_problems(found, params)[:PROBLEMS_ON_PAGE]
        return {
            "version_of_problems": version,
            "rows": [problem_row_of(self._panel, one) for one in chosen],
            "open": sum(one.is_open for one in found),
            "total": len(found),
            "phases": [UNSOLVED, *(phase.value for phase in Phase)],
            "kinds": [kind.value for kind in ProblemKind],
        }

    async def _problem(self, params: Params) -> dict[str, object]:
        """One problem, and the log of its attempts."""
        version = self._panel.board.problems_version
        problem = problem_of(self._panel, params.required("plid").strip())
        attempts = await attempts_of(self._panel, problem)
        return {
            "version_of_problems": version,
            "row": problem_row_of(self._panel, problem),
            "progress": self._panel.mender.progress(problem.id),
            "attempts": [{**attempt_row_of(one), "kept": len(one.output.splitlines())} for one in attempts],
            "least_period_s": LEAST_PERIOD_S,
            "longest_period_s": LONGEST_PERIOD_S,
            "most_attempts": MOST_ATTEMPTS,
        }

    async def _policies(self, params: Params) -> dict[str, object]:
        return {"values": values_of(self._panel.board.policies), "saved": params.switch("saved"), "most_s": WEEK_S}

    async def _sign_in(self, request: Request, values: Mapping[str, str]) -> Response:
        """A wrong password shows the form again, with what is wrong."""
        following = values.get("next", "")
        try:
            _, answer = await self._dispatcher.outcome(request, values, Out.PAGE)
        except (ApiError, TransportError) as error:
            status, _, headers = self._dispatcher.describe(error)
            context = {"title": "Sign in", "next": following, "error": str(error)}
            context["username"] = values.get("username", "")
            return self._draw(request, "logon.html", context, status, headers)
        # Only ever a query of ours: a whole address from the form could lead to another site.
        response = RedirectResponse(f"{API}?{following or 'func=vm'}", 303)
        if isinstance(answer, SignedIn):
            set_cookie(response, answer.session, secure=self._panel.settings.tls)
        return response

    async def _function(self, request: Request, values: Mapping[str, str]) -> Response:
        """A function that has no page of its own: its rows or values as a table."""
        call, answer = await self._dispatcher.outcome(request, values, Out.PAGE)
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, Done) and call.func in _FOLLOWING:
            return RedirectResponse(f"{API}?{_FOLLOWING[call.func].format(**answer.tparams)}", 303)
        if following := next_query(call, answer):
            return RedirectResponse(f"{API}?{following}", 303)
        if call.func == "logout":
            response = RedirectResponse(f"{API}?func=logon", 303)
            response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=self._panel.settings.tls)
            return response
        rows = answer.rows if isinstance(answer, Listing) else []
        account = call.caller.account if call.caller else None
        for template, title, shown in (
            ("configure.html", "Configuring", run_context(call, answer)),
            ("hostkey.html", "Host key", keys_context(call, answer)),
        ):
            if shown is not None:
                return self._draw(
                    request, template, {"title": title, "func": "vmhostnode", "account": account, **shown}
                )
        context = {"title": call.func, "func": call.func, "account": account, "rows": rows, "doc": answer.doc()}
        return self._draw(request, "answer.html", context)

    async def _failure(self, request: Request, error: Exception, func: str) -> Response:
        is_auth = isinstance(error, ApiError) and error.kind is Kind.AUTH
        if is_auth and request.method == "GET":
            query = request.url.query or "func=vm"
            return RedirectResponse(f"{API}?{urlencode({'func': 'logon', 'next': query})}", 303)
        status, doc, headers = self._dispatcher.describe(error)
        # A proof of identity that was wrong is not tried a second time: it would count as one more guess.
        account = await self._account(request) if isinstance(error, ApiError) and not is_auth else None
        context = {"title": "Error", "func": func, "account": account, "error": doc["error"]["msg"]["$"]}
        return self._draw(request, "answer.html", context, status, headers)

    def _draw(
        self,
        request: Request,
        template: str,
        context: Mapping[str, object],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        kept = {"Cache-Control": "no-store", **(headers or {})}
        drawn: Response = self._templates.TemplateResponse(request, template, dict(context), status, kept)
        return drawn
