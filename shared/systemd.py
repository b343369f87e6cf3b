"""systemd as a service manager, through `systemctl` (design 04, *Service managers*; units in packaging/systemd)."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmwatch.shared.exits import Exit
from vmwatch.shared.managercall import call_manager
from vmwatch.shared.services import ServiceError, ServiceState, ServiceStatus

BOOTED = Path("/run/systemd/system")
"""It is there where systemd is what the machine was booted with (sd_booted(3))."""
CALL_LIMIT_S = 60.0
"""A stop takes 15 s at most (TimeoutStopSec), and a start as long as the service needs to be ready."""
ASK_LIMIT_S = 10.0
ENVIRONMENT = {"LC_ALL": "C", "SYSTEMCTL_SKIP_SYSV": "1"}
"""Where a System V script of the same name lies beside the unit, as Debian's packages have it, systemctl would have its
links in /etc/rc?.d made too: nobody there needs them, and a hardened unit may not write there."""
SHOWN = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "ExecMainStatus",
    "StatusText",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "UnitFileState",
)
DISABLED = "disabled"
"""A service that its configuration disables says so in its last status (`program.run`)."""
FINAL = (str(int(Exit.USAGE)), str(int(Exit.CONFIGURATION)))
"""Exit codes after which the units have it not started again (RestartPreventExitStatus)."""
STARTED_AT_BOOT = ("enabled", "enabled-runtime", "alias", "generated")
_STATES = {
    "active": ServiceState.RUNNING,
    "reloading": ServiceState.RUNNING,
    "refreshing": ServiceState.RUNNING,
    "activating": ServiceState.STARTING,
    "deactivating": ServiceState.STOPPING,
}


class Systemd:
    """`command`: how systemctl is called."""

    name = "systemd"

    def __init__(self, command: Sequence[str] = ("systemctl",)) -> None:
        self._command = (*command, "--no-ask-password", "--no-pager")

    def start(self, service: str) -> None:
        self._act("start", "started", service)

    def stop(self, service: str) -> None:
        if self.status(service).state is not ServiceState.MISSING:
            self._act("stop", "stopped", service)

    def restart(self, service: str) -> None:
        self._act("restart", "started again", service)

    def reload(self, service: str) -> None:
        self._act("reload", "told to read its file", service)

    def status(self, service: str) -> ServiceStatus:
        return status_of(self._show(service))

    def enable(self, service: str) -> None:
        shown = self._show(service)
        if status_of(shown).state is ServiceState.MISSING:
            unit = _unit(service)
            raise ServiceError(
                f"systemd has no unit {unit}; the package brings it, or copy packaging/systemd/{unit} to"
                " /etc/systemd/system and run: systemctl daemon-reload"
            )
        if shown.get("UnitFileState") not in STARTED_AT_BOOT:  # to ask needs no rights, to change does
            self._act("enable", "enabled", service)

    def disable(self, service: str) -> None:
        if self.status(service).state is not ServiceState.MISSING:
            self._act("stop", "stopped", service)
            self._act("disable", "disabled", service)

    def _show(self, service: str) -> dict[str, str]:
        told = self._run(ASK_LIMIT_S, "show", f"--property={','.join(SHOWN)}", "--", _unit(service))
        if told.returncode:
            raise ServiceError(f"systemd cannot be asked for {service}: {_first_line(told.stderr)}")
        return parse_show(told.stdout)

    def _act(self, verb: str, done: str, service: str) -> None:
        told = self._run(CALL_LIMIT_S, verb, "--", _unit(service))
        if told.returncode:
            why = _first_line(told.stderr) or f"systemctl {verb} ended with {told.returncode}"
            raise ServiceError(f"{service} could not be {done} by systemd: {why}; {self.status(service).text}")

    def _run(self, limit_s: float, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [*self._command, *words]
        return call_manager(command, f"systemctl {' '.join(words)}", limit_s, ENVIRONMENT)


def parse_show(text: str) -> dict[str, str]:
    """What `systemctl show` prints: NAME=VALUE, one a line."""
    lines = (line.partition("=") for line in text.splitlines())
    return {name: value for name, equals, value in lines if equals}


def status_of(shown: Mapping[str, str]) -> ServiceStatus:
    """The state in our vocabulary."""
    load, active, code = (shown.get(name, "") for name in ("LoadState", "ActiveState", "ExecMainStatus"))
    if load == "not-found":
        return ServiceStatus(ServiceState.MISSING, text="systemd has no unit of this name")
    pid = int(shown["MainPID"]) if shown.get("MainPID", "").isdecimal() else 0
    return ServiceStatus(_state(shown), pid, int(code) if code.isdecimal() else 0, _text(load, active, shown))


def _state(shown: Mapping[str, str]) -> ServiceState:
    if shown.get("LoadState") != "loaded":
        return ServiceState.FAILED
    active = shown.get("ActiveState", "")
    if active == "inactive":
        return ServiceState.ENDED if shown.get("StatusText", "").startswith(DISABLED) else ServiceState.STOPPED
    if active == "failed" and shown.get("Result") == "exit-code" and shown.get("ExecMainStatus") in FINAL:
        return ServiceState.ENDED
    return _STATES.get(active, ServiceState.FAILED)


def _text(load: str, active: str, shown: Mapping[str, str]) -> str:
    words = [f"{active} ({shown.get('SubState', '')})"]
    if load != "loaded":
        words.append(f"its unit is {load}")
    tried = shown.get("ConditionTimestampMonotonic", "0") != "0"
    if active == "inactive" and tried and shown.get("ConditionResult") == "no":
        words.append("not configured, or another condition of its unit is not met")
    if active == "failed" or shown.get("SubState") == "auto-restart":
        words.append(f"{shown.get('Result', '')}, exit code {shown.get('ExecMainStatus', '')}")
    told = shown.get("StatusText", "")  # it outlives who has told it
    if told and ((active in _STATES and active != "activating") or told.startswith(DISABLED)):
        words.append(told)
    return ", ".join(words)


def _unit(service: str) -> str:
    return f"{service}.service"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
