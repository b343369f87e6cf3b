"""`vmwatch.configure` and what belongs to it: the services' files, progress, and the way to a node (design 04)."""

import asyncio
import re

from starlette.responses import RedirectResponse, Response

from vmwatch.panel.configurator import REACHED, Configurator, Order
from vmwatch.panel.configurepages import HOSTKEY, PROGRESS
from vmwatch.panel.configureplan import Wish, values_text
from vmwatch.panel.configurereport import MASTER, Part
from vmwatch.panel.configureruns import Run
from vmwatch.panel.convention import ApiError, Done, Form, Kind, Listing, Out, bad_value, missed
from vmwatch.panel.functions import ADMIN, Call, Function
from vmwatch.panel.labels import time_label
from vmwatch.panel.removal import signs_end
from vmwatch.panel.removed import begun
from vmwatch.panel.ssh import FINGERPRINT, SSH_ADDRESS, SSH_ADDRESS_ALLOWED, SshError, Target
from vmwatch.panel.store import Host
from vmwatch.panel.writer import Work
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.messages import NODE_ID, NODE_ID_ALLOWED

LONGEST_WAIT_S = 10
MAX_RUN = 10**9
MOST_LINES = 1000
ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,253}[A-Za-z0-9])?")


async def configure(call: Call) -> Listing | Done | Response:
    """Configure all services. Answers when it is done, with a row for each; with `background=on` at once, with the
    run's number. `rotate_secret=on`: with a new secret; `forget_previous=on`: the one before it ends."""
    params = call.params
    solve = params.switch("solve")
    wish = Wish(params.switch("rotate_secret"), params.switch("forget_previous"), lift=not solve)
    order = Order(wish=wish, solves=MASTER if solve else "")
    return await _answer(call, configurator(call).begin("vmwatch.configure", order))


async def configure_node(call: Call) -> Listing | Done | Response:
    """Configure the nodes `elid` and what they need; `solve=on`: to solve a problem."""
    names = frozenset(_host(call, elid).name for elid in call.params.elids)
    solve = call.params.switch("solve")
    order = Order(names, Wish(lift=not solve), min(names) if solve and len(names) == 1 else "")
    return await _answer(call, configurator(call).begin(f"vmwatch.configure.node {', '.join(sorted(names))}", order))


async def progress(call: Call) -> Listing:
    """The lines of the run `elid` from the one after `after` on; `wait` so many seconds for more. The last row has the
    `state` (`running`, `done`, `failed`) and no `text` of its own. Without `elid` the runs, newest first."""
    params = call.params
    runs = configurator(call).runs
    if not params.given("elid"):
        rows = [
            {"id": str(run.number), "began": time_label(run.began), "cause": run.cause, "state": state_of(run)}
            for run in runs.all()
        ]
        return Listing(rows, len(rows), None, MOST_LINES)
    run = runs.find(params.whole("elid", 1, MAX_RUN) or 0)
    if run is None:
        raise missed("elid", params.get("elid"))
    after = params.whole("after", 0, MAX_RUN) or 0
    wait_s = params.whole("wait", 0, LONGEST_WAIT_S) or 0
    if wait_s:
        await run.wait(after, wait_s)
    ended = run.report is not None
    lines = run.lines[after : after + MOST_LINES]
    rows = [
        {"id": str(number), "time": time_label(line.time), "part": line.part, "text": line.text, "state": ""}
        for number, line in enumerate(lines, after + 1)
    ]
    if not ended or after + len(lines) == len(run.lines):
        rows.append({"id": str(after + len(lines)), "time": "", "part": "", "text": "", "state": state_of(run)})
    return Listing(rows, None, None, MOST_LINES)


async def file(call: Call) -> Form:
    """`text`: what `vmwatch-node.conf` of the node `elid` is to say, for who writes it himself. It holds a key."""
    host = _host(call, call.params.required("elid").strip())
    try:
        values = await configurator(call).file_of(host.name)
    except ConfigurationError as error:
        raise ApiError(Kind.MISSED, "secret", str(error)) from None
    return Form({"elid": str(host.id), "name": host.name, "text": values_text(values)})


async def check(call: Call) -> Listing:
    """What a machine that shall become a node has and lacks, a row each; `reach`, `address`, `ssh` as of a node."""
    params = call.params
    params.required("reach")
    host = Host(
        0,
        params.matching("name", NODE_ID, NODE_ID_ALLOWED),
        params.matching("address", ADDRESS, "a host name or an IP address"),
        params.one_of("reach", REACHED),
        ssh=params.matching("ssh", SSH_ADDRESS, SSH_ADDRESS_ALLOWED),
    )
    outcome = await configurator(call).check(host)
    if not outcome.checks:
        return _rows([Part("reach", False, outcome.text)])
    return _rows([Part(found.name, found.ok, found.text) for found in outcome.checks])


async def hostkey(call: Call) -> Listing | Done:
    """The host keys that answer at `ssh` (or `address`), or where the node `elid` is; with `fingerprint` and `sok=ok`
    that one is trusted, and the node is configured: `run`."""
    params = call.params
    ssh = configurator(call).reach.ssh
    host = _host(call, params.get("elid")) if params.given("elid") else None
    address = params.matching("address", ADDRESS, "a host name or an IP address")
    place = params.matching("ssh", SSH_ADDRESS, SSH_ADDRESS_ALLOWED)
    try:
        target = Target.of(place, address) if host is None else Target.of(host.ssh, host.address)
        if params.given("fingerprint"):
            wanted = params.matching("fingerprint", FINGERPRINT, "SHA256: and 43 characters")
            if not params.sok:
                raise bad_value("sok", "ok is required to trust a key")
            key = await ssh.trust(target, wanted)
            told = {"ssh": str(target), "type": key.kind, "fingerprint": key.fingerprint}
            return Done({**told, **_configured_with_key(call, host)})
        keys = await ssh.scan(target)
    except SshError as error:
        raise ApiError(Kind.VALUE, "ssh", str(error)) from None
    rows = [
        {"id": key.fingerprint, "ssh": str(target), "type": key.kind, "fingerprint": key.fingerprint}
        | {"known": "yes" if key.known else "no"}
        for key in keys
    ]
    return Listing(rows, len(rows), None, len(rows))


def _configured_with_key(call: Call, host: Host | None) -> dict[str, str]:
    """A node whose key was trusted waits for nothing else."""
    if host is None or host.reach != "ssh":
        return {}
    run = configurator(call).begin(f"the host key of {host.name} is trusted", Order(frozenset({host.name})))
    return {"run": str(run.number)}


async def sshkey(call: Call) -> Form:
    """`authorized_keys`: the line with the panel's public key for a node's file of that name; `install=on`: with the
    one that lets the panel install there."""
    reach = configurator(call).reach
    ssh = reach.install_ssh if call.params.switch("install") else reach.ssh
    try:
        return Form({"authorized_keys": await ssh.authorized()})
    except SshError as error:
        raise ApiError(Kind.VALUE, "ssh", str(error)) from None


def configurator(call: Call) -> Configurator:
    """The panel's."""
    found = call.panel.configurator
    if found is None:
        raise missed("func", call.func)
    return found


async def stop_nodes(call: Call, hosts: list[Host]) -> list[Part]:
    """Before nodes are removed: their services end, and what they said last has come. Those that are not reached stay
    as they are, and the parts say so."""
    working = configurator(call)
    reached = [host for host in hosts if host.reach in REACHED]
    if not reached:
        return []

    def begin(work: Work) -> None:
        for host in reached:
            begun(work.draft, work.now, host.name)

    await call.panel.writer.do(begin)
    parts = await asyncio.gather(*(working.stop(host, lambda part, line: None) for host in reached))
    if any(part.ok for part in parts):
        await signs_end(call.panel)
    return list(parts)


def state_of(run: Run) -> str:
    """`running`, `done` or `failed`."""
    if run.report is None:
        return "running"
    return "done" if run.report.ok else "failed"


async def _answer(call: Call, run: Run) -> Listing | Done | Response:
    if call.out is Out.PAGE:
        return RedirectResponse(f"/vmmgr?func={PROGRESS}&elid={run.number}", 303)
    if call.params.switch("background"):
        return Done({"elid": str(run.number)})
    return _rows(list((await run.ended()).parts))


def _rows(parts: list[Part]) -> Listing:
    rows = [{"id": part.name, "name": part.name, "ok": "yes" if part.ok else "no", "text": part.text} for part in parts]
    return Listing(rows, len(rows), None, len(rows))


def _host(call: Call, elid: str) -> Host:
    row = call.panel.board.node(elid)
    host = call.panel.writer.hosts.get(row.name) if row is not None else None
    if host is None:
        raise missed("vmhostnode", elid)
    return host


FUNCTIONS = (
    Function("vmwatch.configure", configure, ADMIN, changes=True),
    Function("vmwatch.configure.node", configure_node, ADMIN, changes=True),
    Function(PROGRESS, progress, ADMIN),
    Function("vmwatch.configure.file", file, ADMIN),
    Function("vmwatch.configure.check", check, ADMIN, changes=True),
    Function(HOSTKEY, hostkey, ADMIN, changes=True),
    Function("vmwatch.configure.sshkey", sshkey, ADMIN, changes=True),
)
