"""Configuring on the pages: where the browser goes after a call, and what the page of a run shows."""

from vmwatch.panel.convention import Answer, Done, Listing
from vmwatch.panel.functions import Call

PROGRESS = "vmwatch.configure.progress"
HOSTKEY = "vmwatch.configure.hostkey"


def next_query(call: Call, answer: Answer) -> str:
    """After a node was added, changed or removed on a page, or its host key was trusted: to the run that this began,
    or back to the nodes."""
    if not (call.func.startswith("vmhostnode.") or call.func == HOSTKEY) or not isinstance(answer, Done):
        return ""
    run = answer.tparams.get("run")
    return f"func={PROGRESS}&elid={run}" if run else "func=vmhostnode"


def keys_context(call: Call, answer: Answer) -> dict[str, object] | None:
    """What the page of a host's keys shows; None for any other call. `place`: how the form says which host it is."""
    if call.func != HOSTKEY or not isinstance(answer, Listing):
        return None
    row = call.panel.board.node(call.params.get("elid")) if call.params.given("elid") else None
    place = {name: call.params.get(name) for name in ("elid", "ssh", "address") if call.params.given(name)}
    target = answer.rows[0]["ssh"] if answer.rows else ""
    return {"node": row.name if row else "", "target": target, "place": place, "rows": answer.rows}


def run_context(call: Call, answer: Answer) -> dict[str, object] | None:
    """What the page of one run shows; None for any other call."""
    if call.func != PROGRESS or not call.params.given("elid") or not isinstance(answer, Listing):
        return None
    configurator = call.panel.configurator
    run = configurator.runs.find(int(call.params.get("elid"))) if configurator is not None else None
    if run is None:
        return None
    state = next((row["state"] for row in answer.rows if row["state"]), "running")
    lines = [row for row in answer.rows if not row["state"]]
    return {"number": run.number, "cause": run.cause, "state": state, "rows": lines}
