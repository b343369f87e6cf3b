"""supervisord as a service manager: XML-RPC over its UNIX socket (design 04, *Service managers*).

The transport is our own: on a hypervisor supervisord lives in an environment of its own, and ours need not have it.
"""

import http.client
import socket
import sys
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmwatch.shared import conffile
from vmwatch.shared.services import ServiceError, ServiceState, ServiceStatus

CALL_LIMIT_S = 45.0
"""A stop takes as long as the service does (`stopwaitsecs` in conf.d: 15)."""
ASK_LIMIT_S = 5.0
CHECKOUT = Path(__file__).resolve().parent.parent
CONF_D = "conf.d"
PROGRAM_FILE_MODE = 0o644

BAD_NAME, ALREADY_STARTED, NOT_RUNNING, ALREADY_ADDED = 10, 60, 70, 90
"""Numbers of supervisord's faults (supervisor.xmlrpc.Faults)."""
_STATES = {
    "RUNNING": ServiceState.RUNNING,
    "STARTING": ServiceState.STARTING,
    "STOPPING": ServiceState.STOPPING,
    "STOPPED": ServiceState.STOPPED,
    "EXITED": ServiceState.ENDED,
}


class _Connection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path, limit_s: float) -> None:
        super().__init__("localhost", timeout=limit_s)
        self._path = path
        self._limit_s = limit_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._limit_s)
        self.sock.connect(str(self._path))


class SocketTransport(xmlrpc.client.Transport):
    """XML-RPC over a UNIX socket; one answer takes so many seconds at most."""

    def __init__(self, path: Path, limit_s: float) -> None:
        super().__init__()
        self._path = path
        self._limit_s = limit_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ANN401 - as the base class says
        self._extra_headers = self.get_host_info(host)[1]  # an account, where the address has one
        connection = _Connection(self._path, self._limit_s)
        self._connection = host, connection  # so that `close` finds it
        return connection


class Supervisord:
    """One supervisord, by its socket. `prefix`: program files that it lacks are put into `conf.d` there."""

    def __init__(self, path: Path, prefix: Path) -> None:
        self._path = path
        self._folder = prefix / CONF_D

    @property
    def name(self) -> str:
        return f"supervisord ({self._path})"

    @property
    def path(self) -> Path:
        """Its socket."""
        return self._path

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with self._calls(ASK_LIMIT_S) as supervisor:
                supervisor.getState()
        except (ServiceError, xmlrpc.client.Fault):
            return False
        return True

    def start(self, service: str) -> None:
        with self._calls() as supervisor:
            try:
                supervisor.startProcess(service, True)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != ALREADY_STARTED:
                    raise self._error(f"{service} could not be started", fault) from None

    def stop(self, service: str) -> None:
        with self._calls() as supervisor:
            try:
                supervisor.stopProcess(service, True)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode not in (NOT_RUNNING, BAD_NAME):
                    raise self._error(f"{service} could not be stopped", fault) from None

    def restart(self, service: str) -> None:
        self.stop(service)  # supervisord has no call that does both
        self.start(service)

    def reload(self, service: str) -> None:
        with self._calls() as supervisor:
            try:
                supervisor.signalProcess(service, "HUP")
            except xmlrpc.client.Fault as fault:
                raise self._error(f"{service} could not be told to read its file", fault) from None

    def status(self, service: str) -> ServiceStatus:
        with self._calls(ASK_LIMIT_S) as supervisor:
            try:
                told = supervisor.getProcessInfo(service)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == BAD_NAME:
                    return ServiceStatus(ServiceState.MISSING, text=f"{self.name} does not know it")
                raise self._error(f"{service} could not be asked for", fault) from None
        state = _STATES.get(told["statename"], ServiceState.FAILED)
        text = told.get("spawnerr") or told.get("description") or ""
        return ServiceStatus(state, int(told["pid"]), int(told["exitstatus"]), f"{told['statename']} {text}".strip())

    def enable(self, service: str) -> None:
        if self.status(service).state is not ServiceState.MISSING:
            return  # it stands in its configuration, so it is started with supervisord
        target = self._folder / f"{service}.conf"
        if not target.exists():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                conffile.write_atomically(target, program_file(service).read_text(), PROGRAM_FILE_MODE)
            except OSError as error:
                raise ServiceError(f"{target}: cannot be written: {error.strerror}") from None
        with self._calls() as supervisor:
            try:
                supervisor.reloadConfig()  # reads its files again; what they say of other programs is not applied
                supervisor.addProcessGroup(service)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == BAD_NAME:
                    raise ServiceError(
                        f"{self.name} does not read {target}; write into its configuration: [include] files ="
                        f" {self._folder}/vmwatch-*.conf"
                    ) from None
                if fault.faultCode != ALREADY_ADDED:
                    raise self._error(f"{service} could not be added", fault) from None

    def disable(self, service: str) -> None:
        self.stop(service)
        (self._folder / f"{service}.conf").unlink(missing_ok=True)
        with self._calls() as supervisor:
            try:
                supervisor.removeProcessGroup(service)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != BAD_NAME:
                    raise self._error(f"{service} could not be removed", fault) from None

    @contextmanager
    def _calls(self, limit_s: float = CALL_LIMIT_S) -> Iterator[Any]:
        """supervisord's functions. A connection of its own for each time: nothing is kept that could be stale."""
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=SocketTransport(self._path, limit_s))
        try:
            with proxy:
                yield proxy.supervisor
        except xmlrpc.client.ProtocolError as error:
            raise ServiceError(f"{self.name} refuses to be asked: {error.errcode} {error.errmsg}") from None
        except xmlrpc.client.ResponseError as error:
            raise ServiceError(f"{self.name} does not answer as supervisord does: {error}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServiceError(f"{self.name} does not answer: {error}") from None

    def _error(self, what: str, fault: xmlrpc.client.Fault) -> ServiceError:
        return ServiceError(f"{what} by {self.name}: {fault.faultString}")


def program_file(service: str) -> Path:
    """The program file that comes with vmwatch: beside the code in a checkout, or where packages put it."""
    for folder in (CHECKOUT, Path(sys.prefix), Path(sys.prefix) / "share" / "vmwatch"):
        path = folder / CONF_D / f"{service}.conf"
        if path.is_file():
            return path
    raise ServiceError(f"the program file of supervisord for {service} ({CONF_D}/{service}.conf) is not installed")
