"""What a check of a service means (design 04, *Health*): which problems are there, which are over. A core without I/O.

A node is two things: the machine itself (reachable, libvirt answers) and its vmwatch-node. They fail apart, and are
two problems.
"""

from dataclasses import dataclass, field

from vmwatch.panel.problems import Kind, Level

OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""Exit codes of `vmwatch-healthcheck`: a Nagios plug-in's."""
ILL = "it runs, and is ill"
"""Of a master that reports all the same: its reports alone do not say that it is well again."""
NOT_CONFIGURED = "not configured"
"""What a failed run of configuring left undone: a service that works with what it had before says nothing of it."""
ON_PURPOSE = "stopped"
"""It ended in order, and nobody has started it again: somebody seems to have stopped it."""
LACKS_LIBVIRT = frozenset({"libvirt", "libvirt_tick", "inventory", "inventory_age", "statistics_age"})
"""What `vmwatch-healthcheck node` finds critical of an agent that lacks nothing but its libvirt."""
MANUAL = "manual"


@dataclass(frozen=True)
class Looked:
    """How the machine itself was found. `text`: why it cannot be reached, or what is wrong with its libvirt."""

    reachable: bool
    libvirt: bool
    text: str = ""


@dataclass(frozen=True)
class Probed:
    """What `vmwatch-healthcheck --json` answered: its exit code, `state` and `text`.

    `state` is empty where it gave no answer that is understood, and `timed_out` where it gave none in time.
    `critical`: the names of its critical findings.
    """

    code: int = UNKNOWN
    state: str = ""
    text: str = ""
    timed_out: bool = False
    critical: frozenset[str] = frozenset()

    @property
    def lacks_only_libvirt(self) -> bool:
        """It runs and answers, and nothing but its libvirt is critical."""
        return self.state == "ill" and bool(self.critical) and self.critical <= LACKS_LIBVIRT


@dataclass(frozen=True)
class Finding:
    """A problem that is there."""

    kind: Kind
    text: str
    level: Level = Level.ERROR


@dataclass(frozen=True)
class Result:
    """Of one object. `state`: the probe's word, or one of ours (unreachable, no_libvirt, silent, maintenance, removed,
    unknown).

    Problems that are neither `found` nor `over` stay as they are: nobody could tell.
    """

    object: str
    state: str
    text: str = ""
    found: tuple[Finding, ...] = ()
    over: tuple[Kind, ...] = field(default=())

    @property
    def is_well(self) -> bool:
        return not self.found and self.state in ("ok", "disabled", "maintenance")


def in_maintenance(subject: str, text: str) -> Result:
    """Who works on it knows; nothing of it is judged."""
    return Result(subject, "maintenance", text)


def judge_master(subject: str, probed: Probed, reports: bool) -> Result:
    """`reports`: the panel hears of it. Where it does not, that is what the open problem says."""
    if probed.code == CRITICAL:
        return Result(subject, _state(probed), probed.text, (_finding(Kind.MASTER_STOPPED, probed),))
    if probed.code in (OK, WARNING):
        over = (Kind.MASTER_STOPPED,) if reports or probed.state == "disabled" else ()
        return Result(subject, _state(probed), probed.text, over=over)
    return Result(subject, _state(probed), probed.text)


def judge_node(subject: str, looked: Looked, probed: Probed | None) -> Result:
    """`probed` is None where the machine cannot be reached."""
    if not looked.reachable or probed is None:
        return Result(subject, "unreachable", looked.text, (_unavailable(looked.text),))
    if probed.timed_out:
        # The probe ends in time whatever its service does: it is the machine that hangs.
        return Result(subject, "unreachable", probed.text, (_unavailable(probed.text),))
    found: list[Finding] = [] if looked.libvirt else [_unavailable(looked.text)]
    over: list[Kind] = [Kind.NODE_UNAVAILABLE] if looked.libvirt else []
    if probed.code == CRITICAL:
        # An agent that runs and lacks only its libvirt is not the one to be repaired; it may have been found on its
        # way out before, which it takes when its libvirt is lost.
        if not looked.libvirt and probed.lacks_only_libvirt:
            over.append(Kind.NODE_STOPPED)
        elif looked.libvirt or probed.state != "ill" or probed.critical:
            found.append(_finding(Kind.NODE_STOPPED, probed))
    elif probed.code in (OK, WARNING):
        over.append(Kind.NODE_STOPPED)
    state = _state(probed) if looked.libvirt or (found and found[-1].kind is Kind.NODE_STOPPED) else "no_libvirt"
    text = "; ".join(filter(None, [looked.text if not looked.libvirt else "", probed.text]))
    return Result(subject, state, text, tuple(found), tuple(over))


def is_unfinished(subject: str, text: str) -> bool:
    """Does a problem's text say that configuring its object failed? Then only configuring that succeeds ends it."""
    return text.removeprefix(f"{subject}: ").startswith(NOT_CONFIGURED)


def is_on_purpose(subject: str, text: str) -> bool:
    """Does a problem's text say that somebody seems to have stopped its object? That is not fought: as long as it
    says so nothing is done automatically. One that crashes later says otherwise."""
    return text.startswith(f"{subject}: {ON_PURPOSE}: ")


def judge_by_life(subject: str, state: str, doubt: str) -> Result:
    """A node that nobody can look at: its signs of life alone say how it is (`board.NodeRow.state`)."""
    if state == "active":
        return Result(subject, "ok", "by its signs of life", over=(Kind.NODE_STOPPED, Kind.NODE_UNAVAILABLE))
    return Result(subject, state, doubt or "by its signs of life")


def _unavailable(text: str) -> Finding:
    return Finding(Kind.NODE_UNAVAILABLE, text)


def _finding(kind: Kind, probed: Probed) -> Finding:
    if probed.state == ON_PURPOSE:
        return Finding(kind, f"{ON_PURPOSE}: {probed.text}", Level.WARNING)
    text = f"{ILL}: {probed.text}" if probed.state == "ill" else f"{probed.state or 'critical'}: {probed.text}"
    return Finding(kind, text)


def _state(probed: Probed) -> str:
    return probed.state or {OK: "ok", WARNING: "ill", CRITICAL: "ill"}.get(probed.code, "unknown")
