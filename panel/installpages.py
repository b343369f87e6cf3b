"""The pages of installations: the form that begins one, and the list of what became of them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vmwatch.panel.api.vminstall import (
    LEAST_LIMIT_S,
    LONGEST_LIMIT_S,
    MOST_REBOOTS,
    USUAL_LIMIT_S,
    installations_of,
    row_of,
)
from vmwatch.panel.board import VmRow
from vmwatch.panel.convention import ApiError, Kind, Out, Params, missed
from vmwatch.panel.dispatch import Dispatcher
from vmwatch.panel.functions import OPERATORS, Panel
from vmwatch.panel.hypervisors import libvirt_uri
from vmwatch.panel.identity import Caller
from vmwatch.panel.installation import Boot, Outcome
from vmwatch.panel.live import vm_fields
from vmwatch.panel.store import Host
from vmwatch.shared.states import State

FORM, CANCEL, LIST = "vm.install", "vm.install.cancel", "vm.install.list"
FIELDS = ("boot", "image", "reboots", "time_limit")
"""What is typed, and may be wrong."""
ON_PAGE = 200

Viewer = Callable[[Request, Mapping[str, str]], Awaitable[Caller]]
Draw = Callable[[Request, str, Mapping[str, object]], Response]


class InstallPages:
    """Draws them. `viewer` says who looks, or raises; `draw` fills a template; `api`: where calls go."""

    def __init__(self, panel: Panel, dispatcher: Dispatcher, viewer: Viewer, draw: Draw, api: str) -> None:
        self._panel = panel
        self._dispatcher = dispatcher
        self._viewer = viewer
        self._draw = draw
        self._api = api

    def draws(self, func: str) -> bool:
        """Is this call's page one of these?"""
        return func in (FORM, CANCEL, LIST)

    async def page(self, request: Request, values: Mapping[str, str]) -> Response:
        """The page, or where the browser goes next. Raises what the call raises, unless a form's field is wrong."""
        func = values["func"]
        if func == LIST:
            return await self._list(request, values)
        if func == FORM and (request.method != "POST" or values.get("sok") != "ok"):
            return await self._form(request, values, None)
        vm = self._vm(values)
        try:
            await self._dispatcher.outcome(request, values, Out.PAGE)
        except ApiError as error:
            if func != FORM or error.kind in (Kind.AUTH, Kind.ACCESS):
                raise
            return await self._form(request, values, error)
        return RedirectResponse(f"{self._api}?func={LIST}&elid={vm.uuid}", 303)

    async def _form(self, request: Request, values: Mapping[str, str], error: ApiError | None) -> Response:
        caller = await self._viewer(request, values)
        if caller.account.role not in OPERATORS:
            raise ApiError(Kind.ACCESS, FORM, f"{FORM} is for administrators and operators")
        vm = self._vm(values)
        usual = {"boot": Boot.CDROM.value, "image": "", "reboots": "1", "time_limit": str(USUAL_LIMIT_S)}
        field = error.object if error is not None and error.object in FIELDS else ""
        text = str(error or "").removeprefix(f"{field}: ")
        context = {
            "title": "Install",
            "func": "vm",
            "account": caller.account,
            "vm": vm_fields(vm),
            "values": {name: values.get(name, default) for name, default in usual.items()},
            "boots": [boot.value for boot in Boot],
            "most_reboots": MOST_REBOOTS,
            "least_s": LEAST_LIMIT_S,
            "most_s": LONGEST_LIMIT_S,
            "errors": {field: text} if field else {},
            "error": "" if field else text,
            "hindrance": "" if error else hindrance(vm, self._panel.writer.hosts.get(vm.node)),
        }
        return self._draw(request, "install.html", context)

    async def _list(self, request: Request, values: Mapping[str, str]) -> Response:
        caller = await self._viewer(request, values)
        board, params = self._panel.board, Params(values)
        # Before the rows: what changes while the page is drawn has another version, and it is drawn again.
        live = {"after": board.last_event, "run": board.run, "version_of_installations": board.installations_version}
        outcome = params.one_of("outcome", [outcome.value for outcome in Outcome if outcome])
        vm = self._vm(values) if params.given("elid") else None
        found = await self._panel.read(lambda: installations_of(self._panel.store, vm.uuid if vm else ""))
        rows = [row_of(row) | {"undecided": row.undecided} for row in found if not outcome or row.outcome == outcome]
        context: dict[str, Any] = {
            "title": "Installations",
            "func": "vm",
            "account": caller.account,
            "vm": None if vm is None else vm_fields(vm),
            "rows": rows[:ON_PAGE],
            "more": len(rows) > ON_PAGE,
            "may_operate": caller.account.role in OPERATORS,
        }
        return self._draw(request, "installations.html", context | live)

    def _vm(self, values: Mapping[str, str]) -> VmRow:
        elid = Params(values).required("elid").strip()
        row = self._panel.board.vm(elid)
        if row is None:
            raise missed("vm", elid)
        return row


def hindrance(vm: VmRow, host: Host | None) -> str:
    """Why an installation would be refused now, as far as that is plain; empty if nothing is."""
    if vm.installing:
        return f"{vm.name} is being installed already: {vm.install}"
    if vm.state not in (State.SHUTOFF, State.CRASHED):
        return f"{vm.name} is {vm.state.value.replace('_', ' ')}; shut it off first"
    if host is not None and not host.allow_install:
        return f"Installing is not allowed on {host.name}: an administrator allows it (allow_install)"
    if host is not None and not libvirt_uri(host):
        return f"It is not known how to reach libvirt on {host.name} (reach, libvirt_uri)"
    return ""
