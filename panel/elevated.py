"""The service manager as a panel that is not root reaches it: through `vmwatch-servicectl`. Blocks."""

import os
import signal
import subprocess
from collections.abc import Sequence

import msgspec

from vmwatch.panel.rootway import command_of, explained, needs_root
from vmwatch.panel.servicectl import PROGRAM, SERVICE, STATUS, Answer, Request
from vmwatch.shared.paths import Paths
from vmwatch.shared.services import ServiceError, ServiceManager, ServiceState, ServiceStatus, find_manager

LIMIT_S = 120.0
"""A stop and a start again, which the service manager gives 15 s and more each."""


def manager_of(paths: Paths, choice: str) -> ServiceManager:
    """As `find_manager`; through root where this panel is not."""
    return Elevated(command_of(PROGRAM, paths.prefix)) if needs_root(paths.prefix) else find_manager(paths, choice)


class Elevated:
    """A ServiceManager for vmwatch-master alone. Which one it is, the command finds out from the master's file."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.name = self._ask(SERVICE, STATUS).manager

    def start(self, service: str) -> None:
        self._ask(service, "start")

    def stop(self, service: str) -> None:
        self._ask(service, "stop")

    def restart(self, service: str) -> None:
        self._ask(service, "restart")

    def reload(self, service: str) -> None:
        """Root is not needed for that: master and panel are one user's."""
        pid = self.status(service).pid
        try:
            os.kill(pid, signal.SIGHUP)
        except OSError as error:
            raise ServiceError(f"{service} (process {pid}) cannot be told to read its file: {error.strerror}") from None

    def status(self, service: str) -> ServiceStatus:
        told = self._ask(service, STATUS)
        return ServiceStatus(ServiceState(told.state), told.pid, told.code, told.text)

    def enable(self, service: str) -> None:
        self._ask(service, "enable")

    def disable(self, service: str) -> None:
        self._ask(service, "disable")

    def _ask(self, service: str, verb: str) -> Answer:
        if service != SERVICE:
            raise ServiceError(f"{service} is not started from here; {SERVICE} is")
        line = msgspec.json.encode(Request(verb)) + b"\n"
        try:
            ran = subprocess.run(self._command, input=line, capture_output=True, timeout=LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServiceError(f"{verb} {service}: {error}") from None
        try:
            told = msgspec.json.decode(ran.stdout, type=Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            why = explained(ran.stderr.decode(errors="replace"))
            raise ServiceError(f"{verb} {service}: {PROGRAM} ended with {ran.returncode}: {why}") from None
        if not told.ok:
            raise ServiceError(told.text)
        return told
