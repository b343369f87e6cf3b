"""Service managers (design 04): the one interface to what starts and stops the services, and which one it is here."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.paths import Paths

SUPPORTED = "supervisord"
SOCKET_NAMES = ("supervisord.sock", "supervisor.sock")
SYSTEM_SOCKETS = ("/run/supervisord.sock", "/run/supervisor.sock", "/run/supervisor/supervisor.sock")
"""Where distributions put supervisord's UNIX socket. Not its own default, /tmp: anybody can make one there."""
SERVER_VARIABLE = "SUPERVISOR_SERVER_URL"
"""supervisord tells its programs where it listens."""


class ServiceError(VmwatchError):
    """A service could not be started, stopped or asked for; the text says which, and why."""


class ServiceState(StrEnum):
    """What a service manager says of a service, in one vocabulary for all of them."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Somebody has stopped it, or it was never started."""
    ENDED = "ended"
    """It ended by itself and is not started again: disabled, or a wrong configuration."""
    FAILED = "failed"
    """It cannot be started."""
    MISSING = "missing"
    """The service manager does not know it."""


@dataclass(frozen=True)
class ServiceStatus:
    """`pid`: 0 while it does not run. `code`: how it ended last. `text`: the manager's own words."""

    state: ServiceState
    pid: int = 0
    code: int = 0
    text: str = ""

    @property
    def is_up(self) -> bool:
        return self.state in (ServiceState.RUNNING, ServiceState.STARTING) and self.pid > 0


class ServiceManager(Protocol):
    """Starts and stops services by name, such as `vmwatch-node`. Every call may block, and raises ServiceError."""

    @property
    def name(self) -> str:
        """Such as `supervisord`, with where it is."""
        ...

    def start(self, service: str) -> None:
        """Returns when it was started; one that runs already is left alone."""
        ...

    def stop(self, service: str) -> None:
        """Returns when it has ended; one that does not run, or is not known, is no error."""
        ...

    def restart(self, service: str) -> None:
        """Stop it if it runs, and start it."""
        ...

    def status(self, service: str) -> ServiceStatus:
        """Its state now; MISSING if the manager does not know it."""
        ...

    def enable(self, service: str) -> None:
        """See to it that the manager knows the service and starts it at boot. This may start it, too."""
        ...

    def disable(self, service: str) -> None:
        """Stop it, and see to it that it is not started at boot any more."""
        ...


def find_manager(paths: Paths, choice: str = "") -> ServiceManager:
    """The manager that `choice` names (the setting `service_manager`), or the one that is found to run here.

    Raises ServiceError that names what is supported.
    """
    from vmwatch.shared.supervisord import Supervisord  # it needs the vocabulary above

    name, _, place = choice.partition(":")
    if name not in ("", SUPPORTED):
        raise ServiceError(f"service_manager: {name!r} is not supported in this version; {SUPPORTED} is")
    sockets = [Path(place)] if place else _sockets(paths)
    for path in sockets:
        manager = Supervisord(path, paths.prefix)
        if manager.answers():
            return manager
    tried = ", ".join(map(str, sockets))
    raise ServiceError(
        f"no service manager was found: {SUPPORTED} is supported in this version, and does not answer at {tried};"
        f" start it, or say where its UNIX socket is: service_manager={SUPPORTED}:/path"
    )


def _sockets(paths: Paths) -> list[Path]:
    told = os.environ.get(SERVER_VARIABLE, "")
    found = [Path(told.removeprefix("unix://"))] if told.startswith("unix://") else []
    found += [paths.run / name for name in SOCKET_NAMES]
    return list(dict.fromkeys([*found, *map(Path, SYSTEM_SOCKETS)]))
