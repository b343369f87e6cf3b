"""`vmhostnode`: the cluster's nodes."""

import re
from dataclasses import replace
from typing import Any

from msgspec import structs

from vmwatch.panel.accounts import Role
from vmwatch.panel.board import NodeRow
from vmwatch.panel.convention import ApiError, Done, Form, Kind, Listing, Params, bad_value, missed
from vmwatch.panel.functions import ADMIN, OPERATORS, VIEWERS, Call, Function
from vmwatch.panel.hypervisors import LIBVIRT_URI, LIBVIRT_URI_ALLOWED
from vmwatch.panel.knowledge import Node
from vmwatch.panel.labels import time_label
from vmwatch.panel.live import lag_label
from vmwatch.panel.paging import Page
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.store import Host
from vmwatch.panel.writer import Work
from vmwatch.shared.messages import NODE_ID

REACH = ("local", "ssh", "manual")
"""On this machine, over SSH, or not at all: then only its signs of life are judged."""
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,253}[A-Za-z0-9])?")
_ALLOWED_NAME = "1 to 64 of A-Z a-z 0-9 . _ -"


async def nodes(call: Call) -> Listing:
    """All nodes. One appears by itself when a report names it."""
    return Page.of(call.params).cut([row_of(node) for node in call.panel.board.nodes()])


async def edit(call: Call) -> Form | Done:
    """`address` and `reach` of the node `elid`; without `elid` a new one, by `name`. `sok=ok` performs it."""
    params = call.params
    _refuse_operator(call)
    reach = params.one_of("reach", REACH)
    params.one_of("allow_install", ("yes", "no"))
    params.matching("libvirt_uri", LIBVIRT_URI, LIBVIRT_URI_ALLOWED)
    address = params.matching("address", _ADDRESS, "a host name or an IP address")
    if not params.given("elid"):
        return await _add(call, address, reach)
    row = _row(call, params.get("elid").strip())
    if not params.sok:
        told = {"address": row.address, "reach": row.reach}
        return Form({"elid": str(row.id), "name": row.name, **told, **_install_fields(row)})
    if params.given("name") and params.get("name") != row.name:
        raise bad_value("name", "is the node's own and cannot be changed here", params.get("name"))

    def job(work: Work) -> None:
        host = work.hosts[row.name]
        changed = replace(
            host,
            address=address if "address" in params else host.address,
            reach=reach if "reach" in params else host.reach,
            **_install_changes(params),
        )
        work.draft.nodes[row.name] = _node(work, row.name)
        work.writes.append(lambda recorder: recorder.save_host(changed))

    await call.panel.writer.do(job)
    return Done({"elid": str(row.id)})


async def delete(call: Call) -> Done:
    """The nodes `elid` go from the lists, and what they said of VMs with them; their registered events stay.

    A node that still reports comes back with its next sign of life, and is asked for an inventory.
    """
    rows = [_row(call, elid) for elid in call.params.elids]
    if not call.params.sok:
        raise bad_value("sok", "ok is required to delete")

    def job(work: Work) -> None:
        for row in rows:
            _forget(work, row.name)

    await call.panel.writer.do(job)
    return Done({"elid": ", ".join(str(row.id) for row in rows)})


async def _add(call: Call, address: str, reach: str) -> Form | Done:
    if not call.params.sok:
        return Form({"name": "", "address": "", "reach": "", "allow_install": "no", "libvirt_uri": ""})
    name = call.params.matching("name", NODE_ID, _ALLOWED_NAME, required=True)
    changes = {"allow_install": False, "libvirt_uri": "", **_install_changes(call.params)}

    def job(work: Work) -> None:
        host = work.hosts.get(name)
        if host is not None and not host.hidden:
            raise ApiError(Kind.EXISTS, "name", f"there is a node {name!r} already", name)
        work.draft.nodes[name] = _node(work, name)

        def save(recorder: Recorder) -> None:
            # the draft has made the row
            recorder.save_host(replace(work.hosts[name], address=address, reach=reach, hidden=False, **changes))

        work.writes.append(save)

    await call.panel.writer.do(job)
    row = call.panel.board.node(name)
    return Done({"elid": str(row.id) if row else name})


def _refuse_operator(call: Call) -> None:
    """What lets the panel change domains is an administrator's to say."""
    named = [name for name in ("allow_install", "libvirt_uri") if name in call.params]
    if named and call.caller is not None and call.caller.account.role not in ADMIN:
        raise ApiError(Kind.ACCESS, named[0], f"{named[0]} is for {Role.ADMIN.value}")


def _install_changes(params: Params) -> dict[str, Any]:
    """What a call says of installing on the node; what it does not name stays."""
    changes: dict[str, Any] = {}
    if params.given("allow_install"):
        changes["allow_install"] = params.get("allow_install") == "yes"
    if "libvirt_uri" in params:
        changes["libvirt_uri"] = params.get("libvirt_uri")
    return changes


def _install_fields(node: NodeRow) -> dict[str, str]:
    return {"allow_install": "yes" if node.allow_install else "no", "libvirt_uri": node.libvirt_uri}


def _node(work: Work, name: str) -> Node:
    return work.draft.node(name) or Node()


def _forget(work: Work, name: str) -> None:
    """The node's row, its epochs and its keys stay, so that nothing of it is ever registered twice."""
    for uuid in work.draft.claims_of_node(name):
        work.draft.claims[uuid, name] = None
    work.draft.nodes[name] = structs.replace(_node(work, name), wanted=work.draft.next_token())
    hidden: Host = replace(work.hosts[name], hidden=True)
    work.writes.append(lambda recorder: recorder.save_host(hidden))


def _row(call: Call, elid: str) -> NodeRow:
    row = call.panel.board.node(elid)
    if row is None:
        raise missed("vmhostnode", elid)
    return row


def row_of(node: NodeRow) -> dict[str, str]:
    """The row as the API shows it; `doubt`: why its word does not count now; `maintenance`: until when."""
    return {
        "id": str(node.id),
        "name": node.name,
        "address": node.address,
        "reach": node.reach,
        "state": node.state,
        "doubt": node.doubt,
        "maintenance": time_label(node.maintenance),
        "last_seen": time_label(node.seen),
        "lag": lag_label(node),
        "version": node.agent,
        **_install_fields(node),
    }


FUNCTIONS = (
    Function("vmhostnode", nodes, VIEWERS),
    Function("vmhostnode.edit", edit, OPERATORS, changes=True),
    Function("vmhostnode.delete", delete, ADMIN, changes=True),
)
