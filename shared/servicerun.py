"""Has a service run with the file that was just put in place: not more than is needed for that."""

from collections.abc import Callable, Collection
from typing import Any

from vmwatch.shared.paths import Paths
from vmwatch.shared.servicefile import Placed
from vmwatch.shared.services import ServiceManager
from vmwatch.shared.settings import CONFIGURING
from vmwatch.shared.stray import end_stray

Say = Callable[[str], None]

NOTHING, STARTED, RESTARTED, RELOADED = "none", "started", "restarted", "reloaded"


def run_with(
    manager: ServiceManager, paths: Paths, placed: Placed[Any], changeable: Collection[str], say: Say
) -> str:
    """What was done: nothing where it runs and nothing changed, SIGHUP where that suffices (`changeable`), a start.

    A SIGHUP loses nothing at all; a node that is started again does not hear libvirt meanwhile. `paths`: the service's.
    Raises ServiceError.
    """
    service = paths.program
    manager.enable(service)
    status = manager.status(service)
    differing = placed.differing() - CONFIGURING
    if not status.is_up or placed.before is None:
        if not status.is_up:
            end_stray(manager, service, paths.pid, say)
        say(f"{manager.name} starts {service}")
        manager.restart(service)
        return STARTED
    names = ", ".join(sorted(differing))
    if differing - set(changeable):
        say(f"{manager.name} starts {service} again: {names} changed")
        manager.restart(service)
        return RESTARTED
    if differing:
        say(f"{service} reads its file again: {names} changed")
        manager.reload(service)
        return RELOADED
    return NOTHING
