"""Service managers (design 04): the one interface to what starts and stops the services, and which one it is here."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.paths import Paths

SUPERVISORD, SYSTEMD, SYSV = SUPPORTED = ("supervisord", "systemd", "sysv")
"""Their names in the setting `service_manager`."""
SERVICES = ("vmwatch-master", "vmwatch-node", "vmwatch-panel")
SOCKET_NAMES = ("supervisord.sock", "supervisor.sock")
SYSTEM_SOCKETS = tuple(
    map(Path, ("/run/supervisord.sock", "/run/supervisor.sock", "/run/supervisor/supervisor.sock"))
)
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
        """Returns when it was started; one that runs already is left alone, and one that ends at once because it is
        disabled is no error."""
        ...

    def stop(self, service: str) -> None:
        """Returns when it has ended; one that does not run, or is not known, is no error."""
        ...

    def restart(self, service: str) -> None:
        """Stop it if it runs, and start it."""
        ...

    def reload(self, service: str) -> None:
        """Have it read its file again (SIGHUP); it must run."""
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

    Found is, in this order: a supervisord of this prefix, or one of the system's that knows a service of ours;
    systemd, if it has our unit; System V, if it has our script; any supervisord of the system's. So what nobody has set
    up for vmwatch is taken last. Raises ServiceError that names what is supported.
    """
    name, _, place = choice.partition(":")
    if name == SUPERVISORD and place:
        return _supervisord([Path(place)], paths)
    if name == SUPERVISORD:
        return _supervisord([*_own_sockets(paths), *SYSTEM_SOCKETS], paths)
    if name == SYSTEMD:
        return _systemd()
    if name == SYSV:
        return _sysv()
    if name:
        raise ServiceError(f"service_manager: {name!r} is not supported; {', '.join(SUPPORTED)} are")
    return _found(paths)


def _found(paths: Paths) -> ServiceManager:
    tried = []
    looks: tuple[Callable[[], ServiceManager], ...] = (
        lambda: _supervisord(_own_sockets(paths), paths),
        lambda: _knowing(_supervisord(SYSTEM_SOCKETS, paths), SERVICES),
        lambda: _knowing(_systemd(), (paths.program,)),
        lambda: _knowing(_sysv(), (paths.program,)),
        lambda: _supervisord(SYSTEM_SOCKETS, paths),
    )
    for look in looks:
        try:
            return look()
        except ServiceError as error:
            tried.append(str(error))
    raise ServiceError(
        f"no service manager was found ({'; '.join(dict.fromkeys(tried))}); install one of {', '.join(SUPPORTED)},"
        f" or say where supervisord's UNIX socket is: service_manager={SUPERVISORD}:/path"
    )


def _supervisord(sockets: Iterable[Path], paths: Paths) -> ServiceManager:
    from vmwatch.shared.supervisord import Supervisord  # it needs the vocabulary above

    tried = list(sockets)
    for path in tried:
        manager = Supervisord(path, paths.prefix)
        if manager.answers():
            return manager
    raise ServiceError(f"supervisord does not answer at {', '.join(map(str, tried))}")


def _systemd() -> ServiceManager:
    from vmwatch.shared.systemd import BOOTED, Systemd

    if not BOOTED.is_dir():
        raise ServiceError(f"systemd does not run here ({BOOTED} does not exist)")
    return Systemd()


def _sysv() -> ServiceManager:
    from vmwatch.shared.sysv import SystemV, has_service

    if not has_service():
        raise ServiceError("System V: there is no command `service`")
    return SystemV()


def _knowing(manager: ServiceManager, services: Iterable[str]) -> ServiceManager:
    """It, if it knows one of them."""
    names = list(services)
    if all(manager.status(service).state is ServiceState.MISSING for service in names):
        raise ServiceError(f"{manager.name} does not know {' or '.join(names)}")
    return manager


def _own_sockets(paths: Paths) -> list[Path]:
    """Of the supervisord that runs us, and of one that has its socket below the prefix."""
    told = os.environ.get(SERVER_VARIABLE, "")
    found = [Path(told.removeprefix("unix://"))] if told.startswith("unix://") else []
    return list(dict.fromkeys([*found, *(paths.run / name for name in SOCKET_NAMES)]))
