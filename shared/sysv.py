"""System V as a service manager, through `service NAME ACTION` (design 04, *Service managers*; packaging/sysv).

Its scripts are those of the Linux Standard Base, so what they mean is in their exit codes.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vmwatch.shared.managercall import call_manager
from vmwatch.shared.services import ServiceError, ServiceState, ServiceStatus

SCRIPTS = Path("/etc/init.d")
CALL_LIMIT_S = 90.0
"""The scripts wait 30 s for a start, and 15 s for a stop before they kill."""
ASK_LIMIT_S = 10.0
BOOT_TOOLS: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
    "update-rc.d": (
        (("update-rc.d", "NAME", "defaults"), ("update-rc.d", "NAME", "enable")),
        ("update-rc.d", "NAME", "disable"),
    ),
    "chkconfig": ((("chkconfig", "--add", "NAME"), ("chkconfig", "NAME", "on")), ("chkconfig", "NAME", "off")),
    "insserv": ((("insserv", "NAME"),), ("insserv", "--remove", "NAME")),
}
"""What has a script started at boot, and what has it not: Debian's tool, Red Hat's, and the one that both may call."""
_STATES = {
    0: ServiceState.RUNNING,
    1: ServiceState.ENDED,
    2: ServiceState.ENDED,
    3: ServiceState.STOPPED,
}
"""The exit codes of `status` (Linux Standard Base, *Init Script Actions*)."""
_PROCESS = re.compile(r"\(process (\d+)\)")


class SystemV:
    """`prefixed`: a command before each of its own. `scripts`: where they are, by default SCRIPTS."""

    name = "System V"

    def __init__(self, prefixed: Sequence[str] = (), scripts: Path | None = None) -> None:
        self._prefixed = tuple(prefixed)
        self._scripts = scripts or SCRIPTS

    def start(self, service: str) -> None:
        self._act(service, "start", "started")

    def stop(self, service: str) -> None:
        if self._is_there(service):
            self._act(service, "stop", "stopped")

    def restart(self, service: str) -> None:
        self._act(service, "restart", "started again")

    def reload(self, service: str) -> None:
        self._act(service, "reload", "told to read its file")

    def status(self, service: str) -> ServiceStatus:
        if not self._is_there(service):
            return ServiceStatus(ServiceState.MISSING, text=f"there is no {SCRIPTS / service}")
        told = self._run(ASK_LIMIT_S, "service", service, "status")
        text = told.stdout.strip()
        process = _PROCESS.search(text)
        return ServiceStatus(
            _STATES.get(told.returncode, ServiceState.FAILED), int(process[1]) if process else 0, text=text
        )

    def enable(self, service: str) -> None:
        if not self._is_there(service):
            raise ServiceError(
                f"there is no {SCRIPTS / service}; the package brings it, or copy packaging/sysv/{service} there"
            )
        if not self._links(service):
            self._boot(service, True)

    def disable(self, service: str) -> None:
        self.stop(service)
        if self._links(service):
            self._boot(service, False)

    def _is_there(self, service: str) -> bool:
        return (self._scripts / service).exists()

    def _links(self, service: str) -> list[Path]:
        """Those that start it at boot."""
        return list(self._scripts.parent.glob(f"rc[2345].d/S[0-9][0-9]{service}"))

    def _boot(self, service: str, wanted: bool) -> None:
        tool = next((name for name in BOOT_TOOLS if shutil.which(name)), "")
        if not tool:
            raise ServiceError(f"none of {', '.join(BOOT_TOOLS)} is installed: {service} cannot be started at boot")
        on, off = BOOT_TOOLS[tool]
        for words in on if wanted else (off,):
            told = self._run(CALL_LIMIT_S, *(service if word == "NAME" else word for word in words))
            if told.returncode:
                raise ServiceError(f"{' '.join(words).replace('NAME', service)}: {_last_line(told.stderr)}")

    def _act(self, service: str, action: str, done: str) -> None:
        told = self._run(CALL_LIMIT_S, "service", service, action)
        if told.returncode:
            why = _last_line(told.stderr) or _last_line(told.stdout) or f"exit code {told.returncode}"
            raise ServiceError(f"{service} could not be {done} by its System V script: {why}")

    def _run(self, limit_s: float, *words: str) -> "subprocess.CompletedProcess[str]":
        return call_manager([*self._prefixed, *words], " ".join(words), limit_s)


def has_service() -> bool:
    """Whether there is the command that everything here needs."""
    return shutil.which("service") is not None


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
