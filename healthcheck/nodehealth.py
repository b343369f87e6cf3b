"""vmwatch-node's function, from its status: does libvirt tell, does the master take and acknowledge. A core."""

from collections.abc import Callable

from vmwatch.healthcheck.facts import Facts, Status, number_at, text_at, total_at, value_at
from vmwatch.healthcheck.figures import Bound, Figure
from vmwatch.healthcheck.levels import Finding, Level
from vmwatch.healthcheck.processhealth import START_MOST_S, process_figures

MASTER_KINDS = {
    "unreachable": "master_unreachable",
    "acknowledgements_blocked": "acknowledgements_blocked",
    "acknowledgements_invalid": "acknowledgements_invalid",
    "unanswered": "master_unanswered",
}
"""How a finding is called, by the kind that the agent's own diagnosis has."""


def _reader(*path: str) -> Callable[[Facts], float | None]:
    return lambda facts: number_at(facts.status, *path)


def _connected(status: Status) -> bool:
    return value_at(status, "libvirt", "connected") is True


def _since_start(facts: Facts, *path: str) -> float | None:
    """An age; where there was nothing yet, the time since the start."""
    if value_at(facts.status, path[0]) is None:
        return None
    age_s = number_at(facts.status, *path)
    return number_at(facts.status, "uptime_s") if age_s is None else age_s


def _inventory_age(facts: Facts) -> float | None:
    """Without libvirt there is none, which is said elsewhere."""
    return _since_start(facts, "inventory", "age_s") if _connected(facts.status) else None


def _statistics_age(facts: Facts) -> float | None:
    return _since_start(facts, "statistics", "age_s") if _connected(facts.status) else None


def _seen_age(facts: Facts) -> float | None:
    told = number_at(facts.status, "master", "interval_s") is not None
    return _since_start(facts, "master", "seen_age_s") if told else None


def _canary(facts: Facts) -> float | None:
    return facts.canary.seconds if facts.canary else None


def _intervals(count: int, plus_s: int, usual_s: float, *path: str) -> Callable[[Status], str]:
    return lambda status: f"~:{count * (number_at(status, *path) or usual_s) + plus_s:g}"


FIGURES = [
    Figure("turn_age", "s", "time since its loop turned last", _reader("turn_age_s"), Bound("~:10"), Bound("~:30")),
    Figure(
        "libvirt_tick",
        "s",
        "time since libvirt's event loop turned last",
        _reader("libvirt", "tick_age_s"),
        Bound("~:5"),
        Bound("~:15"),
    ),
    Figure("events", "c", "events that libvirt told since the start", _reader("libvirt", "events")),
    Figure(
        "outbox_depth",
        "",
        "messages that are not acknowledged",
        _reader("outbox", "depth"),
        Bound("~:10000"),
        Bound("~:100000"),
    ),
    Figure(
        "outbox_age",
        "s",
        "age of the oldest message that is not acknowledged",
        _reader("outbox", "oldest_s"),
        Bound("~:60"),
        Bound("~:300"),
    ),
    Figure(
        "dropped",
        "c",
        "messages dropped for want of room since the start",
        lambda facts: total_at(facts.status, "outbox", "dropped"),
    ),
    Figure(
        "drop_age",
        "s",
        "time since messages were dropped for want of room",
        _reader("outbox", "drop_age_s"),
        Bound("3600:"),
    ),
    Figure(
        "inventory_age",
        "s",
        "age of the last complete list of domains",
        _inventory_age,
        Bound("~:2*inventory_interval+60", _intervals(2, 60, 300.0, "inventory", "interval_s")),
        Bound("~:4*inventory_interval+60", _intervals(4, 60, 300.0, "inventory", "interval_s")),
    ),
    Figure(
        "statistics_age",
        "s",
        "age of the last statistics",
        _statistics_age,
        Bound("~:2*stats_interval+60", _intervals(2, 60, 600.0, "statistics", "interval_s")),
    ),
    Figure(
        "master_heard",
        "s",
        "time since the master's last word",
        lambda facts: _since_start(facts, "master", "heard_age_s"),
        Bound("~:10"),
        Bound("~:60"),
    ),
    Figure(
        "master_seen",
        "s",
        "time since the master said that it has something new of this node",
        _seen_age,
        Bound("~:3*heartbeat_interval+10", _intervals(3, 10, 10.0, "master", "interval_s")),
        Bound("~:6*heartbeat_interval+60", _intervals(6, 60, 10.0, "master", "interval_s")),
    ),
    Figure(
        "canary",
        "s",
        "way of the canary through outbox, master and panel",
        _canary,
        Bound("~:5"),
        Bound("~:30"),
    ),
    *process_figures(300, 1024),
]


def findings(facts: Facts) -> list[Finding]:
    """What is not well beside the figures."""
    return [
        found
        for found in (_libvirt(facts), _listing(facts), _outbox(facts), _master(facts), _canary_lost(facts))
        if found is not None
    ]


def _libvirt(facts: Facts) -> Finding | None:
    status = facts.status
    uri, error = text_at(status, "libvirt", "uri"), text_at(status, "libvirt", "last_error")
    why = f"{f': {error}' if error else ''}{_daemon(facts)}"
    if value_at(status, "libvirt", "connected") is False:
        failures, hung_s = number_at(status, "libvirt", "open_failures"), number_at(status, "libvirt", "opening_hung_s")
        if not failures and not hung_s and (number_at(status, "uptime_s") or 0.0) < START_MOST_S:
            return Finding("libvirt", Level.WARNING, f"connecting to libvirt at {uri}")
        return Finding("libvirt", Level.CRITICAL, f"libvirt at {uri} cannot be reached{why}")
    if value_at(status, "libvirt", "answers") is False:
        return Finding("libvirt", Level.CRITICAL, f"libvirt at {uri} does not answer{why}")
    return None


def _daemon(facts: Facts) -> str:
    """Who should answer, for a text that says that nobody does."""
    found = facts.daemon
    if found is None:
        return ""
    if not found.name:
        return "; neither libvirtd nor virtqemud is found on this machine"
    if found.socket:
        return f"; {found.name} does not run, its socket {found.socket} is there"
    return f"; {found.name} runs{f' as process {found.pid}' if found.pid else ''}"


def _listing(facts: Facts) -> Finding | None:
    hung_s = number_at(facts.status, "inventory", "hung_s")
    if hung_s:
        return Finding("inventory", Level.CRITICAL, f"libvirt does not end a listing, overdue for {hung_s:.0f} s")
    error = text_at(facts.status, "inventory", "last_error")
    return Finding("inventory", Level.WARNING, f"the last listing failed: {error}") if error else None


def _outbox(facts: Facts) -> Finding | None:
    trouble = text_at(facts.status, "outbox", "trouble")
    if not trouble:
        return None
    return Finding("outbox", Level.CRITICAL, f"the outbox cannot be written, messages wait in memory: {trouble}")


def _master(facts: Facts) -> Finding | None:
    """Which of the two ways is closed: the agent itself tells it, once it has given a connection up."""
    kind = MASTER_KINDS.get(text_at(facts.status, "master", "diagnosis_kind"))
    if kind is None:
        return None
    return Finding(kind, Level.CRITICAL, text_at(facts.status, "master", "diagnosis"))


def _canary_lost(facts: Facts) -> Finding | None:
    canary = facts.canary
    if canary is None or canary.state == "acknowledged":
        return None
    if canary.state == "under way":
        return Finding("canary", Level.CRITICAL, f"the canary is not acknowledged after {canary.seconds or 0.0:.1f} s")
    if canary.state == "dropped":
        return Finding("canary", Level.CRITICAL, "the canary was dropped: the outbox has no room")
    return Finding("canary", Level.CRITICAL, f"no canary could be sent: {canary.text}")


def summary(facts: Facts) -> str:
    """What an operator wants to read when all is well."""
    status = facts.status
    depth = number_at(status, "outbox", "depth") or 0
    waits = f"{depth:g} messages in the outbox" if depth else "outbox empty"
    canary = facts.canary
    sang = ""
    if canary and canary.state == "acknowledged":
        sang = f", canary acknowledged in {canary.seconds or 0.0:.2f} s"
    daemon = f"{facts.daemon.name}, " if facts.daemon and facts.daemon.name else ""
    return (
        f"libvirt answers ({daemon}{number_at(status, 'inventory', 'domains') or 0:g} domains), {waits}, "
        f"master {text_at(status, 'master', 'address')} acknowledges{sang}"
    )
