"""What the packages' scripts have done with the services, by whatever service manager runs them here.

    python -m vmwatch.shared.upkeep start|restart|stop SERVICE...

`start` after an installation: only what is configured, and never a second time. `restart` after an upgrade: only what
runs. `stop` before a removal: it ends, and is not started at boot any more.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vmwatch.shared import hostfile
from vmwatch.shared.confedit import valid_values
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.hostfile import EXTERNAL
from vmwatch.shared.nodectl import COMMAND
from vmwatch.shared.paths import PREFIX_VARIABLE, Paths
from vmwatch.shared.program import Parser
from vmwatch.shared.rootmanager import trusted_manager
from vmwatch.shared.servicefile import read
from vmwatch.shared.services import ServiceError, ServiceManager
from vmwatch.shared.settings import MasterSettings, NodeSettings
from vmwatch.shared.stray import end, holder

PROGRAM = "vmwatch.shared.upkeep"
PANEL = "vmwatch-panel"
HELPERS = (COMMAND, "vmwatch-servicectl")
"""What the panel has root do. It goes on when the panel ends, and may be about to start a service."""
HELPERS_END_S = 120.0
LOOK_EVERY_S = 0.1
KINDS: dict[str, type[Any]] = {"vmwatch-master": MasterSettings, "vmwatch-node": NodeSettings}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if all that was asked for is so now; what is not is said on standard error."""
    parser = Parser(prog=PROGRAM, description="For the packages' scripts: starts, restarts or stops services.")
    parser.add_argument("verb", choices=sorted(VERBS))
    parser.add_argument("services", nargs="+", metavar="SERVICE", choices=sorted((*KINDS, PANEL)))
    parser.add_argument("--prefix", metavar="FOLDER", help=f"default: ${PREFIX_VARIABLE} or the machine's")
    options = parser.parse_args(arguments)
    code = Exit.OK
    for service in options.services:
        try:
            print(f"{service}: {VERBS[options.verb](Paths.of(service, options.prefix))}")
        except VmwatchError as error:
            print(f"{service}: {error}", file=sys.stderr)
            code = Exit.FAILURE
    return code


def start(paths: Paths) -> str:
    """What was done. Raises VmwatchError."""
    if paths.program == PANEL and hostfile.load().panel == EXTERNAL:
        return f"is not started: {hostfile.HOST_FILE} says that another panel is in charge"
    if paths.program in KINDS and not paths.config.exists():
        return "is not started before it is configured"
    if _values(paths).get("disabled") == "yes":
        return f"is not started: disabled=yes in {paths.config}"
    manager = _manager(paths)
    manager.enable(paths.program)
    manager.start(paths.program)
    return f"was started by {manager.name}"


def restart(paths: Paths) -> str:
    """The same; what does not run is left so."""
    pid = running(paths)
    if not pid:
        return "does not run, and is not started"
    manager = _manager(paths)
    if not manager.status(paths.program).is_up:
        raise ServiceError(
            f"process {pid} runs the version before: {manager.name} did not start it; start it again yourself"
        )
    manager.restart(paths.program)
    return f"was started again by {manager.name}"


def stop(paths: Paths) -> str:
    """The same. A process that no service manager has started is ended as well: its files are about to go."""
    told = ""
    try:
        manager = _manager(paths)
        manager.disable(paths.program)
        told = f" by {manager.name}"
    except ServiceError as error:
        print(f"{paths.program}: {error}", file=sys.stderr)
    if pid := running(paths):
        told = f": process {pid}"
        end(paths.program, pid, lambda: running(paths) == pid)
    if paths.program == PANEL:
        _let_helpers_end(paths.prefix)
    return f"is stopped{told}"


VERBS: dict[str, Callable[[Paths], str]] = {"start": start, "restart": restart, "stop": stop}


def running(paths: Paths) -> int:
    """The service's process, 0 if it does not run. What is in its folder was not written by root: see `holder`."""
    return holder(paths.pid)


def _let_helpers_end(prefix: Path) -> None:
    """Returns when none works any more: else it could start again what is stopped next. Raises ServiceError."""
    until = time.monotonic() + HELPERS_END_S
    while at_work := helpers(prefix):
        if time.monotonic() > until:
            told = ", ".join(f"{pid} ({name})" for pid, name in sorted(at_work.items()))
            raise ServiceError(f"what it began does not end: process {told}; end it, and then stop the services again")
        time.sleep(LOOK_EVERY_S)


def helpers(prefix: Path) -> dict[int, str]:
    """Processes that do what a panel of this prefix asked root for, by number; also while sudo is about to run them."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = os.fsdecode((folder / "cmdline").read_bytes()).split("\0")
        except OSError:
            continue
        if str(prefix) in words and (name := next((one for one in map(os.path.basename, words) if one in HELPERS), "")):
            found[int(folder.name)] = name
    return found


def _manager(paths: Paths) -> ServiceManager:
    return trusted_manager(paths, _values(paths).get("service_manager", ""))


def _values(paths: Paths) -> dict[str, str]:
    """What its file says, as far as it is right; the panel's says nothing of service managers."""
    kind = KINDS.get(paths.program)
    return valid_values(_text(paths.config), kind) if kind else {}


def _text(path: Path) -> str:
    try:
        return read(path)
    except VmwatchError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
