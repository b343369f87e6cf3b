"""`vmhostnode`: the cluster's nodes."""

from dataclasses import replace
from typing import Any

from vmwatch.panel.accounts import Role
from vmwatch.panel.api.configure import ADDRESS, configurator, stop_nodes
from vmwatch.panel.board import NodeRow
from vmwatch.panel.convention import ApiError, Done, Form, Kind, Listing, Params, bad_value, missed
from vmwatch.panel.functions import ADMIN, OPERATORS, VIEWERS, Call, Function
from vmwatch.panel.hypervisors import LIBVIRT_URI, LIBVIRT_URI_ALLOWED
from vmwatch.panel.knowledge import Node
from vmwatch.panel.labels import time_label
from vmwatch.panel.live import lag_label
from vmwatch.panel.onemachine import node_there
from vmwatch.panel.paging import Page
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.removal import added_again, forget
from vmwatch.panel.removed import decided, returned
from vmwatch.panel.ssh import SSH_ADDRESS, SSH_ADDRESS_ALLOWED
from vmwatch.panel.store import Host
from vmwatch.panel.writer import Work
from vmwatch.shared.messages import NODE_ID, NODE_ID_ALLOWED

REACH = ("local", "ssh", "manual")
"""On this machine, over SSH, or not at all: then only its signs of life are judged."""


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
    ssh = params.matching("ssh", SSH_ADDRESS, SSH_ADDRESS_ALLOWED)
    address = params.matching("address", ADDRESS, "a host name or an IP address")
    if not params.given("elid"):
        return await _add(call, address, reach, ssh)
    row = _row(call, params.get("elid").strip())
    if not params.sok:
        told = {"address": row.address, "reach": row.reach, "ssh": row.ssh}
        return Form({"elid": str(row.id), "name": row.name, **told, **_install_fields(row)})
    if params.given("name") and params.get("name") != row.name:
        raise bad_value("name", "is the node's own and cannot be changed here", params.get("name"))

    def job(work: Work) -> None:
        host = work.hosts[row.name]
        way = replace(
            host,
            address=address if "address" in params else host.address,
            reach=reach if "reach" in params else host.reach,
            ssh=ssh if "ssh" in params else host.ssh,
        )
        if _way(way) != _way(host):
            _refuse_second(work, way)
        changed = replace(way, **_install_changes(params))
        work.draft.nodes[row.name] = _node(work, row.name)
        decided(work.draft, work.now, row.name)
        work.writes.append(lambda recorder: recorder.save_host(changed))

    await call.panel.writer.do(job)
    return Done({"elid": str(row.id), **_configured(call, row)})


async def delete(call: Call) -> Done:
    """The nodes `elid` go from the lists, and what they said of VMs with them; their registered events stay.

    A node that is reached (`reach`) has its service stopped and its file removed first; one that still reports is in
    the list again with its next sign of life, and a problem says so.
    """
    rows = [_row(call, elid) for elid in call.params.elids]
    if not call.params.sok:
        raise bad_value("sok", "ok is required to delete")

    def job(work: Work) -> None:
        for row in rows:
            forget(work, row.name)

    hosts = [call.panel.writer.hosts[row.name] for row in rows]
    parts = await stop_nodes(call, hosts)
    await call.panel.writer.do(job)
    told = {"stopped": "; ".join(f"{part.name}: {part.text}" for part in parts)} if parts else {}
    if managed := [host.name for host in hosts if host.reach]:
        told["run"] = str(configurator(call).nodes_removed(managed, parts).number)
    return Done({"elid": ", ".join(str(row.id) for row in rows), **told})


async def _add(call: Call, address: str, reach: str, ssh: str) -> Form | Done:
    if not call.params.sok:
        return Form({"name": "", "address": "", "reach": "", "ssh": "", "allow_install": "no", "libvirt_uri": ""})
    name = call.params.matching("name", NODE_ID, NODE_ID_ALLOWED, required=True)
    changes = {"allow_install": False, "libvirt_uri": "", **_install_changes(call.params)}

    def job(work: Work) -> None:
        host = work.hosts.get(name)
        if host is not None and not host.hidden and name not in returned(work.draft.all_problems().values()):
            raise ApiError(Kind.EXISTS, "name", f"there is a node {name!r} already", name)
        _refuse_second(work, Host(0, name, address, reach, ssh=ssh))
        node = _node(work, name)
        work.draft.nodes[name] = added_again(node) if host is not None and host.hidden else node
        decided(work.draft, work.now, name)

        def save(recorder: Recorder) -> None:
            # the draft has made the row
            told = {"address": address, "reach": reach, "ssh": ssh, **changes}
            recorder.save_host(replace(work.hosts[name], hidden=False, **told))

        work.writes.append(save)

    await call.panel.writer.do(job)
    row = call.panel.board.node_named(name)
    return Done({"elid": str(row.id) if row else name, **_configured(call, None)})


def _configured(call: Call, before: NodeRow | None) -> dict[str, str]:
    """A node that was added, or whose way changed, is configured in the background; `run`: where to look on."""
    name = before.name if before is not None else call.params.get("name")
    now = call.panel.writer.hosts[name]
    if before is not None and not before.removed and _way(before) == _way(now):
        return {}
    if not now.reach:
        return {}
    return {"run": str(configurator(call).node_added(name).number)}


def _way(node: Host | NodeRow) -> tuple[str, str, str]:
    return node.reach, node.ssh, node.address


def _refuse_second(work: Work, wanted: Host) -> None:
    """Two nodes on one machine would write one file in turn; who was removed and reports waits for a decision."""
    undecided = returned(work.draft.all_problems().values())
    others = (host for host in work.hosts.values() if host.name not in undecided)
    if (there := node_there(others, wanted)) is not None:
        field = "reach" if wanted.reach == "local" else "ssh"
        text = f"the node {there.name} is on that machine already; each machine is one node"
        raise ApiError(Kind.EXISTS, field, text, there.name)


def _refuse_operator(call: Call) -> None:
    """What lets the panel change domains, and where its key goes, is an administrator's to say."""
    named = [name for name in ("allow_install", "libvirt_uri", "ssh") if name in call.params]
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


def _row(call: Call, elid: str) -> NodeRow:
    row = call.panel.board.node(elid)
    if row is None:
        raise missed("vmhostnode", elid)
    return row


def row_of(node: NodeRow) -> dict[str, str]:
    """The row as the API shows it; `doubt`: why its word does not count now; `removed`: it was, and reports;
    `maintenance`: until when."""
    return {
        "id": str(node.id),
        "name": node.name,
        "address": node.address,
        "reach": node.reach,
        "ssh": node.ssh,
        "state": node.state,
        "doubt": node.doubt,
        "removed": "yes" if node.removed else "no",
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
