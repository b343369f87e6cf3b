"""`vm.install`, `vm.install.cancel`, `vm.install.list`: operating systems are installed (design 03, rule 7)."""

import re
import secrets

import msgspec
from sqlalchemy import select

from vmwatch.panel.board import VmRow
from vmwatch.panel.convention import ApiError, Done, Form, Kind, Listing, Params, bad_value, missed
from vmwatch.panel.functions import OPERATORS, VIEWERS, Call, Function
from vmwatch.panel.hypervisors import libvirt_uri
from vmwatch.panel.installation import Boot, Installation, Outcome, cancelled, label
from vmwatch.panel.installations import keep_installation
from vmwatch.panel.labels import time_label
from vmwatch.panel.paging import Page
from vmwatch.panel.rules import Claim
from vmwatch.panel.schema import installations
from vmwatch.panel.store import Host, Store
from vmwatch.panel.writer import Work
from vmwatch.shared.states import State

MOST_REBOOTS = 20
LEAST_LIMIT_S, LONGEST_LIMIT_S, USUAL_LIMIT_S = 5, 7 * 86400, 3600
_PATH = r"/[^\x00-\x1f]{1,1000}"
_IMAGES = {
    Boot.CDROM: (re.compile(_PATH + r"\.iso", re.IGNORECASE), ".iso"),
    Boot.FLOPPY: (re.compile(_PATH + r"\.(flp|ima|vfd)", re.IGNORECASE), ".flp, .ima or .vfd"),
}
"""Media only: whoever may install must not read a host's other files, or other VMs' disks, through a guest's drive."""


async def install(call: Call) -> Form | Done:
    """Begin an installation in the VM `elid`: it boots from `boot` (with the medium `image`, a path on its node), and
    ends `reboots` times; after `time_limit` seconds it has failed. `sok=ok` performs it."""
    params = call.params
    vm = _vm(call, params.required("elid").strip())
    boot = Boot(params.one_of("boot", [boot.value for boot in Boot]) or Boot.CDROM)
    image = _image(params, boot)
    reboots = params.whole("reboots", 1, MOST_REBOOTS) or 1
    limit_s = params.whole("time_limit", LEAST_LIMIT_S, LONGEST_LIMIT_S) or USUAL_LIMIT_S
    if not params.sok:
        values = {"boot": boot.value, "image": image, "reboots": str(reboots), "time_limit": str(limit_s)}
        return Form({"elid": str(vm.id), "name": vm.name, **values})

    def job(work: Work) -> Installation:
        node, claim = _place(work, vm)
        _refuse_node(call, work.hosts[node])
        floor = (work.draft.node(node) or work.known.nodes[node]).floor
        begun = Installation(
            id=work.draft.next_installation(),
            key=secrets.token_hex(8),
            uuid=vm.uuid,
            name=claim.name,
            node=node,
            boot=boot,
            image=image,
            reboots=reboots,
            limit_s=float(limit_s),
            began=work.now,
            left=reboots,
            place=max(claim.mark, floor),
        )
        keep_installation(work.draft, None, begun, work.now)
        return begun

    begun = await call.panel.writer.do(job)
    return Done({"elid": str(vm.id), "installation": str(begun.id), "hostnode": begun.node})


async def cancel(call: Call) -> Done:
    """The installations of the VMs `elid` end; their definitions are put back, and a VM that runs is left running."""
    vms = [_vm(call, elid) for elid in call.params.elids]
    if not call.params.sok:
        raise bad_value("sok", "ok is required to cancel")

    def job(work: Work) -> None:
        for vm in vms:
            now = work.draft.installation(vm.uuid)
            if now is None or not now.undecided:
                raise ApiError(Kind.MISSED, "installation", f"{vm.name} is not being installed", str(vm.id))
            spent_s = max(0.0, work.now - now.began)
            keep_installation(work.draft, now, cancelled(now, work.now, spent_s), work.now)

    await call.panel.writer.do(job)
    return Done({"elid": ", ".join(str(vm.id) for vm in vms)})


async def listing(call: Call) -> Listing:
    """All installations, newest first; `elid`: of one VM, `outcome`: those that came out so."""
    params = call.params
    outcome = params.one_of("outcome", [outcome.value for outcome in Outcome if outcome])
    uuid = _vm(call, params.get("elid").strip()).uuid if params.given("elid") else ""
    rows = await call.panel.read(lambda: installations_of(call.panel.store, uuid))
    chosen = [row_of(row) for row in rows if not outcome or row.outcome == outcome]
    return Page.of(params).cut(chosen)


def row_of(row: Installation) -> dict[str, str]:
    """The row as the API shows it; `duration` in seconds, empty until the outcome is known."""
    return {
        "id": str(row.id),
        "uuid": row.uuid,
        "name": row.name,
        "hostnode": row.node,
        "boot": row.boot.value,
        "image": row.image,
        "reboots": str(row.reboots),
        "left": str(row.left),
        "time_limit": f"{row.limit_s:g}",
        "began": time_label(row.began),
        "phase": row.phase.value,
        "outcome": row.outcome.value,
        "duration": "" if row.undecided else f"{row.spent_s:.3f}",
        "reason": row.reason,
        "note": row.note,
        "label": label(row),
    }


def _image(params: Params, boot: Boot) -> str:
    if boot not in _IMAGES:
        if params.given("image"):
            raise bad_value("image", f"is not allowed with boot={boot}", params.get("image"))
        return ""
    pattern, endings = _IMAGES[boot]
    allowed = f"with boot={boot} the absolute path, on the VM's node, of a {endings} file"
    return params.matching("image", pattern, allowed)


def installations_of(store: Store, uuid: str = "") -> list[Installation]:
    """Those of a VM, or all, newest first. Reads the database."""
    query = select(installations.c.content).order_by(installations.c.id.desc())
    with store.reading() as connection:
        found = connection.execute(query.where(installations.c.uuid == uuid) if uuid else query).scalars()
        return [msgspec.json.decode(content, type=Installation) for content in found]


def _vm(call: Call, elid: str) -> VmRow:
    row = call.panel.board.vm(elid)
    if row is None:
        raise missed("vm", elid)
    return row


def _place(work: Work, vm: VmRow) -> tuple[str, Claim]:
    """The one node that has the VM, shut off, and what it says of it. Raises ApiError."""
    before = work.draft.installation(vm.uuid)
    if before is not None and before.unfinished:
        text = f"{vm.name} is being installed already: {label(before)}"
        if not before.undecided:
            why = f" ({before.note})" if before.note else ""
            text = f"{vm.name}: its former definition is still being put back on {before.node}{why}"
        raise ApiError(Kind.EXISTS, "installation", text, str(vm.id))
    there = [(node, claim) for node in work.hosts if (claim := work.draft.claim(vm.uuid, node)) is not None]
    claims = [(node, claim) for node, claim in there if claim.state is not State.ABSENT]
    if not claims:
        raise missed("vm", vm.uuid)
    if len(claims) > 1:
        raise bad_value("elid", f"{vm.name} is on several nodes ({', '.join(sorted(dict(claims)))}); settle that first")
    node, claim = claims[0]
    if claim.state not in (State.SHUTOFF, State.CRASHED):
        raise bad_value("elid", f"{vm.name} is {claim.state.value} on {node}; shut it off first")
    return node, claim


def _refuse_node(call: Call, host: Host) -> None:
    """Raises ApiError where the node may not be changed, cannot be reached, or says nothing."""
    edit = f"vmhostnode.edit with elid={host.id}"
    if not host.allow_install:
        text = (
            f"installing is not allowed on {host.name}: an administrator allows it by {edit} allow_install=yes"
            " sok=ok, only where no other panel is in charge of its VMs"
        )
        raise ApiError(Kind.VALUE, "allow_install", text, host.name)
    if not libvirt_uri(host):
        text = (
            f"it is not known how to reach libvirt on {host.name}: {edit} reach=local, or reach=ssh and address, or"
            " libvirt_uri"
        )
        raise ApiError(Kind.VALUE, "libvirt_uri", text, host.name)
    row = call.panel.board.node_named(host.name)
    if row is None or row.state != "active":
        why = f" ({row.doubt})" if row is not None and row.doubt else ""
        text = f"the node {host.name} does not report{why}, and an installation is counted by its events"
        raise ApiError(Kind.VALUE, "hostnode", text, host.name)


FUNCTIONS = (
    Function("vm.install", install, OPERATORS, changes=True),
    Function("vm.install.cancel", cancel, OPERATORS, changes=True),
    Function("vm.install.list", listing, VIEWERS),
)
