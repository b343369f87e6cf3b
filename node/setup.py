"""Sets up vmwatch-node on this machine: its file, its service, and whether it then works (`vmwatch-nodectl`)."""

import errno
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from vmwatch.shared.confedit import valid_values
from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.nodectl import MANAGED, Check, Outcome
from vmwatch.shared.paths import Paths
from vmwatch.shared.rootmanager import trusted_manager
from vmwatch.shared.servicefile import Placed, bad_path, good_path, place, read
from vmwatch.shared.servicerun import NOTHING, RELOADED, RESTARTED, run_with
from vmwatch.shared.services import ServiceError, ServiceManager, ServiceState
from vmwatch.shared.serviceuser import service_user
from vmwatch.shared.settings import NODE_CHANGEABLE, NodeSettings
from vmwatch.shared.statussocket import read_status

SERVICE = "vmwatch-node"
PROCESS = "process"
PROBE_LIMIT_S = 40.0
"""For a start, a connection, a heartbeat and the master's answer, on a machine that is busy."""
PATIENCE_S = 10.0
"""With one that runs and had nothing to change; enough for it to find a master that was just started."""
HEARD_WITHIN_S = 3.0
"""The master speaks once a second to each node that it hears."""
HANGS_S = 15.0
"""Its loop turns once a second at least."""
CONNECT_LIMIT_S = 3.0
LOOK_EVERY_S = 0.1
ENDED_LOOKS = 30
"""Between an end and the next start supervisord calls a service ended as well, for a turn of its loop (1 s)."""
RELOADED_S = 1.5
"""A word of the master's that was on its way at a SIGHUP says nothing of the new settings."""
STATUS_LIMIT_S = 5.0
UNTRIED = "untried"
"""This process may not use the network (its unit says so, `vmwatch-nodectl@.service`): nothing is known of the port."""

Say = Callable[[str], None]
Status = dict[str, Any]


class Setup:
    """One request's work. `say` gets lines of progress."""

    def __init__(self, paths: Paths, say: Say) -> None:
        self._paths = paths
        self._say = say

    def configure(self, values: Mapping[str, str | None]) -> Outcome:
        """Write the file if it is not right already, have the service run with it, and see whether it works.

        Raises ConfigurationError, and then nothing was written, or ServiceError.
        """
        placed = self._place(values)
        manager = trusted_manager(self._paths, placed.after.service_manager)
        if placed.after.disabled:
            manager.stop(SERVICE)
            text = f"disabled=yes in {self._paths.config}: it is not started"
            return Outcome(True, text, changed=placed.written, action="disabled")
        action, since = self._run(manager, placed)
        patience_s = PATIENCE_S if action == NOTHING else PROBE_LIMIT_S
        checks, status = self._wait_until_working(manager, placed.after, since, patience_s)
        if action == NOTHING and not _works(checks):
            action, since = self._shake(manager, checks)
            checks, status = self._wait_until_working(manager, placed.after, since, PROBE_LIMIT_S)
        ports = self._try_ports(placed.after)
        works = _works(checks)
        text = _working(status) if works else _lacking(checks)
        return Outcome(works, text, changed=placed.written, action=action, checks=checks, ports=ports)

    def probe(self) -> Outcome:
        """Whether it works now; changes nothing."""
        values = valid_values(read(self._paths.config), NodeSettings)
        try:
            manager = trusted_manager(self._paths, values.get("service_manager", ""))
            checks, status = _look(manager, self._paths, time.monotonic() - HEARD_WITHIN_S)
        except ServiceError as error:
            return Outcome(False, str(error))
        return Outcome(_works(checks), _working(status) if _works(checks) else _lacking(checks), checks=checks)

    def stop(self, node_id: str = "") -> Outcome:
        """The service ends, is not started again, and its file with its key goes. What was not delivered stays.

        `node_id`: only if it is this node's; a machine whose node has another name now goes on. Empty: whatever it is.
        """
        values = valid_values(read(self._paths.config), NodeSettings)
        if node_id and (present := values.get("node_id", node_id)) != node_id:
            text = f"nothing is done there: {self._paths.config} is the one of the node {present!r}, not of {node_id!r}"
            return Outcome(True, text)
        manager = trusted_manager(self._paths, values.get("service_manager", ""))
        self._say(f"{manager.name} stops {SERVICE}")
        manager.disable(SERVICE)
        for path in (self._paths.config, good_path(self._paths.config), bad_path(self._paths.config)):
            path.unlink(missing_ok=True)
        kept = f"; what it had not delivered is in {self._paths.database}" if self._paths.database.exists() else ""
        text = f"{SERVICE} is stopped and its configuration removed{kept}"
        return Outcome(True, text, action="stopped", changed=True)

    def _place(self, values: Mapping[str, str | None]) -> Placed[NodeSettings]:
        if strange := sorted(values.keys() - set(MANAGED)):
            raise ConfigurationError(f"{strange[0]}: is not set from outside; {', '.join(MANAGED)} are")
        if any("\n" in value or "\r" in value for value in values.values() if value):
            raise ConfigurationError("a value with a line break is not allowed")
        path = self._paths.config
        placed = place(path, NodeSettings, values, owner=service_user(self._paths) if os.geteuid() == 0 else None)
        for line in placed.dropped:
            self._say(f"{path}: {line}")
        if placed.dropped:
            self._say(f"the file as it was is {bad_path(path)}")
        self._say(f"{path} {'is written' if placed.written else 'is right already'}")
        return placed

    def _run(self, manager: ServiceManager, placed: Placed[NodeSettings]) -> tuple[str, float]:
        """(what was done so that it runs with the file, since when its word counts: monotonic seconds)."""
        since = time.monotonic()
        action = run_with(manager, self._paths, placed, NODE_CHANGEABLE, self._say)
        return action, since + {NOTHING: -HEARD_WITHIN_S, RELOADED: RELOADED_S}.get(action, 0.0)

    def _shake(self, manager: ServiceManager, checks: list[Check]) -> tuple[str, float]:
        """It does not work although its file is right. One that hangs is started again; one that answers, and only
        hears no master, reads its file again: a start would miss events and mend no more."""
        hangs = any(check.name == PROCESS and not check.ok for check in checks)
        self._say(f"does not work although its file is right: {_lacking(checks)}")
        since = time.monotonic()
        if hangs:
            self._say(f"{manager.name} starts {SERVICE} again")
            manager.restart(SERVICE)
            return RESTARTED, since
        manager.reload(SERVICE)
        return RELOADED, since + RELOADED_S

    def _wait_until_working(
        self, manager: ServiceManager, settings: NodeSettings, since: float, limit_s: float
    ) -> tuple[list[Check], Status]:
        began, ended, looked = time.monotonic(), 0, False
        while True:
            checks, status = _look(manager, self._paths, since, settings)
            ended = ended + 1 if manager.status(SERVICE).state is ServiceState.ENDED else 0
            spent_s = time.monotonic() - began
            # One that has ended for good will not come back, whatever the patience.
            if _works(checks) or ended > ENDED_LOOKS or spent_s > limit_s:
                return checks, status
            if spent_s > PATIENCE_S and not looked:
                looked = True
                if any(try_port(endpoint) not in ("open", UNTRIED) for endpoint in settings.masters[0]):
                    return checks, status  # there is nobody to be heard
            time.sleep(LOOK_EVERY_S)

    def _try_ports(self, settings: NodeSettings) -> dict[str, str]:
        push, acknowledgements = settings.masters[0]
        tried = {str(endpoint): try_port(endpoint) for endpoint in (push, acknowledgements)}
        found = {address: result for address, result in tried.items() if result != UNTRIED}
        for address, result in found.items():
            if result != "open":
                self._say(f"{address} of the master: {result}")
        return found


def try_port(endpoint: Endpoint) -> str:
    """`open`, `refused`, `timeout`, UNTRIED, or the system's words."""
    try:
        socket.create_connection((endpoint.host, endpoint.port), CONNECT_LIMIT_S).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return UNTRIED if error.errno == errno.EAFNOSUPPORT else error.strerror or str(error)
    return "open"


def _look(
    manager: ServiceManager, paths: Paths, since: float, settings: NodeSettings | None = None
) -> tuple[list[Check], Status]:
    """What there is to say of the service now. `since`: only what was heard of the master after it counts."""
    managed = manager.status(SERVICE)
    if not managed.is_up:
        return [Check(PROCESS, False, f"{SERVICE} does not run: {managed.text}")], {}
    try:
        status = read_status(paths.socket, STATUS_LIMIT_S)
    except (OSError, ValueError) as error:
        return [Check(PROCESS, False, f"{SERVICE} runs and does not answer at {paths.socket}: {error}")], {}
    if status.get("pid") != managed.pid:
        text = f"{paths.socket} is answered by process {status.get('pid')}, which is not the one of {manager.name}"
        return [Check(PROCESS, False, text)], status
    if (turn_age_s := status.get("turn_age_s", 0.0)) > HANGS_S:
        return [Check(PROCESS, False, f"{SERVICE} hangs: its loop has not turned for {turn_age_s:.0f} s")], status
    checks = [Check(PROCESS, True, f"process {managed.pid}")]
    if settings is not None:
        checks += _settled(status, settings)
    return [*checks, _heard(status, since)], status


def _settled(status: Status, settings: NodeSettings) -> list[Check]:
    """Does it run with its file?"""
    if status.get("node_id") != settings.node_id:
        return [Check("settings", False, f"it runs as {status.get('node_id')!r}, its file says {settings.node_id!r}")]
    if "settings" in status:
        if status["settings"] == settings.mark:
            return []
        return [Check("settings", False, "it runs with other settings than its file says")]
    address = status.get("master", {}).get("address", "")
    if address not in map(str, settings.connect):
        return [Check("settings", False, f"it sends to {address}, its file says {settings.connect[0]}")]
    return []


def _heard(status: Status, since: float) -> Check:
    """Is the master heard? What lies before `since` was said with settings that do not hold any more."""
    master = status.get("master", {})
    age_s = master.get("heard_age_s")
    passed_s = time.monotonic() - since
    if age_s is not None and age_s < HEARD_WITHIN_S and age_s < passed_s:
        return Check("master", True, f"{master.get('address')} is heard")
    why = master.get("diagnosis") or "nothing is heard of it yet"
    return Check("master", False, f"the master at {master.get('address')}: {why}")


def _works(checks: list[Check]) -> bool:
    return all(check.ok for check in checks)


def _lacking(checks: list[Check]) -> str:
    return "; ".join(check.text for check in checks if not check.ok)


def _working(status: Status) -> str:
    libvirt = status.get("libvirt", {})
    heard = f"runs, and hears the master at {status.get('master', {}).get('address')}"
    if libvirt.get("connected") and libvirt.get("answers"):
        return heard
    return f"{heard}; libvirt does not answer yet: {libvirt.get('last_error') or libvirt.get('uri')}"
