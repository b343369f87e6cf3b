"""vmwatch-master set up on the panel's host: its file, its service, and whether it then works. Blocks: for a thread."""

import time
from collections.abc import Callable
from pathlib import Path

from vmwatch.panel.configureplan import Plan
from vmwatch.panel.configurereport import MASTER, Part
from vmwatch.panel.elevated import manager_of
from vmwatch.panel.rootway import needs_root
from vmwatch.shared import rights
from vmwatch.shared.errors import ConfigurationError, VmwatchError
from vmwatch.shared.paths import Paths
from vmwatch.shared.servicefile import bad_path, place
from vmwatch.shared.servicerun import NOTHING, RESTARTED, run_with
from vmwatch.shared.services import ServiceError, ServiceManager, ServiceState
from vmwatch.shared.settings import MASTER_CHANGEABLE, MasterSettings
from vmwatch.shared.statussocket import read_status

WORKS_LIMIT_S = 40.0
"""For a start of all workers on a machine that is busy."""
PATIENCE_S = 10.0
"""With one that runs and had nothing to change."""
LOOK_EVERY_S = 0.1
ENDED_LOOKS = 30
"""Between an end and the next start supervisord calls a service ended as well, for a turn of its loop (1 s)."""
STATUS_LIMIT_S = 5.0

Say = Callable[[str], None]


def set_up(paths: Paths, plan: Plan, say: Say) -> Part:
    """Raises nothing: what fails is told by the part. `paths`: the master's."""
    try:
        return _set_up(paths, plan, say)
    except VmwatchError as error:
        return Part(MASTER, False, str(error))


def _set_up(paths: Paths, plan: Plan, say: Say) -> Part:
    if needs_root(paths.prefix) and (mistakes := rights.look(paths, paths.config).mistakes):
        raise ConfigurationError("; ".join(mistakes))
    placed = place(paths.config, MasterSettings, plan.master, _check_authority)
    for line in placed.dropped:
        say(f"{paths.config}: {line} (the file as it was is {bad_path(paths.config)})")
    say(f"{paths.config} {'is written' if placed.written else 'is right already'}")
    for warning in placed.after.warnings():
        say(f"warning: {warning}")
    if plan.disabled:
        return _block(paths, placed.after)
    manager = manager_of(paths, placed.after.service_manager)
    action = run_with(manager, paths, placed, MASTER_CHANGEABLE, say)
    lacking = _wait_until_working(manager, paths, PATIENCE_S if action == NOTHING else WORKS_LIMIT_S)
    if lacking and action == NOTHING:
        say(f"it does not work although its file is right: {lacking}; it is started again")
        manager.restart(MASTER)
        action, lacking = RESTARTED, _wait_until_working(manager, paths, WORKS_LIMIT_S)
    if lacking:
        return Part(MASTER, False, lacking)
    done = "runs as before" if action == NOTHING else f"was {action} and works"
    return Part(MASTER, True, f"{done}; it listens on {placed.after.listen} and {placed.after.ack_endpoint}")


def _block(paths: Paths, settings: MasterSettings) -> Part:
    try:
        manager_of(paths, settings.service_manager).stop(MASTER)
    except ServiceError as error:
        return Part(MASTER, True, f"disabled; {error}")
    return Part(MASTER, True, "disabled, and stopped")


def _check_authority(settings: MasterSettings) -> None:
    if settings.panel_ca and not Path(settings.panel_ca).is_file():
        raise ConfigurationError(f"panel_ca: {settings.panel_ca} is no file; a file of certificates (PEM) is allowed")


def _wait_until_working(manager: ServiceManager, paths: Paths, limit_s: float) -> str:
    """What is wrong; empty if it works."""
    deadline, ended = time.monotonic() + limit_s, 0
    while True:
        managed = manager.status(MASTER)
        lacking = _lacking(manager, paths)
        ended = ended + 1 if managed.state is ServiceState.ENDED else 0
        if not lacking or ended > ENDED_LOOKS or time.monotonic() > deadline:
            return lacking
        time.sleep(LOOK_EVERY_S)


def _lacking(manager: ServiceManager, paths: Paths) -> str:
    managed = manager.status(MASTER)
    if not managed.is_up:
        return f"it does not run: {managed.text}; see {paths.log}"
    try:
        pid = int(paths.pid.read_text())
        status = read_status(paths.socket, STATUS_LIMIT_S)
    except (OSError, ValueError) as error:
        return f"it runs and does not answer at {paths.socket}: {error}"
    if pid != managed.pid:
        return f"{paths.socket} is answered by process {pid}, which is not the one of {manager.name}"
    if status.get("panel_trouble"):
        return f"it cannot call the panel: {status['panel_trouble']}"
    states = [worker.get("state") for worker in status.get("workers", ())]
    return "" if "ready" in states else "none of its workers is ready"
