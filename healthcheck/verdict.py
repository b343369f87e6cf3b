"""From facts to a verdict: which state the service is in, how bad that is, and every finding. A core without I/O."""

from dataclasses import dataclass, replace

from vmwatch.healthcheck import masterhealth, nodehealth
from vmwatch.healthcheck.facts import Answer, Config, Facts, ProcessFacts, number_at, text_at
from vmwatch.healthcheck.figures import NO_THRESHOLDS, Figure, Measured, Thresholds, measure
from vmwatch.healthcheck.levels import Finding, Level, State, severity, worst
from vmwatch.healthcheck.processhealth import ENDED, START_MOST_S, SUSPENDED, doubt, process_findings

HEALTH = {"vmwatch-master": masterhealth, "vmwatch-node": nodehealth}
FIGURES: dict[str, list[Figure]] = {program: module.FIGURES for program, module in HEALTH.items()}
_NOTHING_COMES = {
    Answer.ABSENT: "there is no status socket",
    Answer.REFUSED: "nobody listens on its status socket",
    Answer.SILENT: "its status socket does not answer",
    Answer.GARBLED: "what its status socket answers is not understood",
}


@dataclass(frozen=True)
class Verdict:
    """`underlying`: the state without the maintenance; the same as `state` where there is none."""

    program: str
    level: Level
    state: State
    underlying: State
    text: str
    findings: tuple[Finding, ...] = ()
    figures: tuple[Measured, ...] = ()


def judge(facts: Facts, thresholds: Thresholds = NO_THRESHOLDS) -> Verdict:
    """The verdict over one service."""
    process, why_not = _own_process(facts)
    if process is None and facts.answer is not Answer.GIVEN:
        verdict = _not_running(facts, why_not)
    else:
        verdict = _running(replace(facts, process=process), process, thresholds)
    if facts.maintenance_error:
        text = f"the mark of maintenance does not count: {facts.maintenance_error}"
        verdict = _with(verdict, Finding("maintenance", Level.WARNING, text))
    return _in_maintenance(facts, verdict)


def unknown(program: str, text: str) -> Verdict:
    """The probe could not find out."""
    finding = Finding("probe", Level.UNKNOWN, text)
    return Verdict(program, Level.UNKNOWN, State.UNKNOWN, State.UNKNOWN, text, (finding,))


def _own_process(facts: Facts) -> tuple[ProcessFacts | None, str]:
    """The service's living process, or why there is none."""
    process, pid_file = facts.process, facts.pid_file
    if process is None:
        return None, "is gone"
    if pid_file is None or pid_file.pid != process.pid:
        return process, ""  # its own status named it
    why_not = doubt(facts.program, pid_file, process)
    if why_not:
        return None, why_not
    return (None, "has ended and nobody takes notice (zombie)") if process.state in ENDED else (process, "")


def _not_running(facts: Facts, why_not: str) -> Verdict:
    config, pid_file = facts.config, facts.pid_file
    if not facts.installed:
        return _single(facts, State.MISSING, Level.CRITICAL, f"{facts.program} is not installed here")
    if config.kind in (Config.WRONG, Config.ABSENT):
        return _single(facts, State.MISCONFIGURED, Level.CRITICAL, f"does not run and would not start: {config.text}")
    if config.kind is Config.DISABLED:
        return _single(facts, State.DISABLED, Level.OK, "disabled by its configuration")
    if pid_file is not None:
        named = f"process {pid_file.pid} {why_not}" if pid_file.pid else "its pid file is empty"
        return _single(facts, State.CRASHED, Level.CRITICAL, f"does not run and did not end in order: {named}")
    if facts.answer is Answer.FORBIDDEN:
        # Its folder may be closed to us as well: that no pid file is seen proves nothing.
        return _single(facts, State.UNKNOWN, Level.UNKNOWN, facts.answer_text)
    return _single(facts, State.STOPPED, Level.CRITICAL, "does not run; it ended in order or was never started")


def _single(facts: Facts, state: State, level: Level, text: str) -> Verdict:
    findings = () if level is Level.OK else (Finding(state.value, level, text),)
    return Verdict(facts.program, level, state, state, text, findings)


def _running(facts: Facts, process: ProcessFacts | None, thresholds: Thresholds) -> Verdict:
    health = HEALTH[facts.program]
    found = process_findings(facts, process) if process is not None else []
    found += _config_findings(facts)
    silence = _silence(facts, process)
    if silence is not None:
        found.append(silence)
    if facts.answer is Answer.GIVEN:
        found += health.findings(facts)
    figures = measure(health.FIGURES, facts, thresholds)
    found += _beyond(figures, found)
    # Of equally bad ones first what says why: the process, the service's own words, figures.
    found.sort(key=lambda finding: -severity(finding.level))
    level = worst(finding.level for finding in found)
    state = _state(facts, process, level, found)
    text = "; ".join(finding.text for finding in found) or health.summary(facts)
    return Verdict(facts.program, level, state, state, text, tuple(found), tuple(figures))


def _beyond(figures: list[Measured], found: list[Finding]) -> list[Finding]:
    """Findings of figures; where one of the same name says why already, only if the figure is worse."""
    said = {finding.name: severity(finding.level) for finding in found}
    crossed = (finding for figure in figures if (finding := figure.finding()) is not None)
    return [finding for finding in crossed if severity(finding.level) > said.get(finding.name, -1)]


def _config_findings(facts: Facts) -> list[Finding]:
    """What would be the matter at the next start."""
    config = facts.config
    if config.kind in (Config.WRONG, Config.ABSENT):
        return [Finding("configuration", Level.WARNING, f"it runs, and would not start again: {config.text}")]
    if config.kind is Config.DISABLED:
        return [Finding("configuration", Level.WARNING, "it runs although disabled=yes: that waits for a restart")]
    return []


def _silence(facts: Facts, process: ProcessFacts | None) -> Finding | None:
    """What it means that no status came."""
    if facts.answer is Answer.GIVEN:
        starting = text_at(facts.status, "phase") == "starting" or number_at(facts.status, "uptime_s") is None
        return Finding("starting", Level.WARNING, "it has just started") if starting else None
    if facts.answer is Answer.FORBIDDEN:
        return Finding("status", Level.UNKNOWN, facts.answer_text)
    nothing = _NOTHING_COMES[facts.answer]
    young = process is not None and process.age_s < START_MOST_S and process.state not in SUSPENDED
    if young and facts.answer in (Answer.ABSENT, Answer.REFUSED):
        return Finding("starting", Level.WARNING, f"it has just started: {nothing} yet")
    of = f" ({facts.answer_text})" if facts.answer_text else ""
    return Finding("stuck", Level.CRITICAL, f"its process lives, and {nothing}{of}")


def _state(facts: Facts, process: ProcessFacts | None, level: Level, found: list[Finding]) -> State:
    names = {finding.name: finding.level for finding in found}
    if "stuck" in names or "suspended" in names or names.get("turn_age") is Level.CRITICAL:
        return State.STUCK
    if "starting" in names and level is Level.WARNING:
        return State.STARTING
    if level is Level.OK:
        return State.OK
    return State.UNKNOWN if level is Level.UNKNOWN else State.ILL


def _with(verdict: Verdict, finding: Finding) -> Verdict:
    text = f"{verdict.text}; {finding.text}"
    level = worst((verdict.level, finding.level))
    return replace(verdict, level=level, text=text, findings=(*verdict.findings, finding))


def _in_maintenance(facts: Facts, verdict: Verdict) -> Verdict:
    """Whatever it is, somebody knows: it is told, and counts for nothing until the end."""
    maintenance = facts.maintenance
    if maintenance is None:
        return verdict
    left_min = max(0.0, maintenance.until - facts.now) / 60
    by = f" by {maintenance.by}" if maintenance.by else ""
    why = f" ({maintenance.reason})" if maintenance.reason else ""
    text = f"in maintenance{by} for {left_min:.0f} more minutes{why}; {verdict.level.name}: {verdict.text}"
    return replace(verdict, level=Level.OK, state=State.MAINTENANCE, text=text)
