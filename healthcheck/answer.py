"""The probe's answer: one line in the Nagios plug-in format, or one JSON object. A core without I/O."""

from typing import Any

from vmwatch.healthcheck.facts import Facts
from vmwatch.healthcheck.figures import Measured
from vmwatch.healthcheck.verdict import Verdict

TEXT_MOST = 600
"""Monitoring systems cut long lines, some at 1,024 bytes; performance data shall still have room."""


def line(verdict: Verdict) -> str:
    """`VMWATCH-NODE OK - what there is to say | performance data`."""
    text = " ".join(verdict.text.replace("|", "/").split())
    if len(text) > TEXT_MOST:
        text = text[: TEXT_MOST - 1] + "…"
    head = f"{verdict.program.upper()} {verdict.level.name} - "
    state = "" if verdict.state.value in ("ok", "ill") else f"{verdict.state.value}: "
    performance = " ".join(figure.performance() for figure in verdict.figures)
    return f"{head}{state}{text}" + (f" | {performance}" if performance else "")


def document(verdict: Verdict, facts: Facts | None, took_s: float) -> dict[str, Any]:
    """The same for programs, and what they need to decide. Times in seconds, since 1970 where they are points."""
    answer: dict[str, Any] = {
        "program": verdict.program,
        "code": int(verdict.level),
        "level": verdict.level.name,
        "state": verdict.state.value,
        "underlying": verdict.underlying.value,
        "text": verdict.text,
        "findings": [
            {"name": finding.name, "level": finding.level.name, "text": finding.text} for finding in verdict.findings
        ],
        "figures": {figure.figure.name: _figure(figure) for figure in verdict.figures},
        "took_s": round(took_s, 3),
    }
    if facts is None:
        return answer
    process, maintenance, canary, daemon = facts.process, facts.maintenance, facts.canary, facts.daemon
    return answer | {
        "checked": round(facts.now, 3),
        "pid": process.pid if process and verdict.figures else None,
        "version": facts.status.get("version", ""),
        "configuration": {"kind": facts.config.kind.value, "text": facts.config.text},
        "maintenance": {"until": maintenance.until, "by": maintenance.by, "reason": maintenance.reason}
        if maintenance
        else None,
        "libvirt_daemon": {"name": daemon.name, "pid": daemon.pid, "socket": daemon.socket} if daemon else None,
        "canary": {"state": canary.state, "seconds": canary.seconds, "text": canary.text} if canary else None,
    }


def _figure(measured: Measured) -> dict[str, Any]:
    return {
        "value": measured.value,
        "unit": measured.figure.unit,
        "level": measured.level.name,
        "warning": str(measured.warning),
        "critical": str(measured.critical),
    }
