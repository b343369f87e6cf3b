"""A run of a service that its manager does not know: that manager died and left it behind, or somebody started it by
hand. It works, but holds the pid file, so that the manager's own cannot start; who sets the service up ends it first.
"""

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

from vmwatch.shared.services import ServiceError, ServiceManager, ServiceState

END_LIMIT_S = 20.0
"""A service ends within 10 s (design 04)."""
LOOK_EVERY_S = 0.1
LOCKS = Path("/proc/locks")

Say = Callable[[str], None]


def end_stray(manager: ServiceManager, service: str, pid_file: Path, say: Say) -> None:
    """Returns when there is none (any more). Raises ServiceError where it cannot be ended."""
    if manager.status(service).state is ServiceState.STOPPING:
        return
    pid = holder(pid_file)
    if not pid:
        return
    say(f"{service} runs as process {pid}, of which {manager.name} knows nothing: it is ended first")
    end(service, pid, lambda: holder(pid_file) == pid)


def end(service: str, pid: int, runs: Callable[[], bool]) -> None:
    """SIGTERM, and wait until it `runs` no more. Raises ServiceError."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise ServiceError(f"process {pid} of {service} may not be ended by this user; end it: kill {pid}") from None
    until = time.monotonic() + END_LIMIT_S
    while runs():
        if time.monotonic() > until:
            raise ServiceError(f"process {pid} of {service} does not end; end it: kill -9 {pid}")
        time.sleep(LOOK_EVERY_S)


def holder(pid_file: Path) -> int:
    """The process that holds this pid file; 0 if none does.

    Its number is believed only where the kernel says the same of the file's lock, and the file is that process's user's
    own: whoever may write to the folder must not be able to have another process ended by root.
    """
    try:
        handle = os.open(pid_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        found, text = os.fstat(handle), os.read(handle, 32).decode(errors="replace").strip()
    except OSError:
        return 0
    finally:
        os.close(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not text.isascii() or not text.isdigit():
        return 0
    pid = int(text)
    try:
        owner = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return 0
    return pid if pid > 1 and owner == found.st_uid and pid in _lockers(found.st_ino) else 0


def _lockers(inode: int) -> set[int]:
    """Processes with a lock of `flock` on a file with this number: `1: FLOCK  ADVISORY  WRITE 42 08:02:77 0 EOF`."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return set()
    rows = (line.split() for line in lines)
    return {
        int(row[4]) for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5].rpartition(":")[2] == str(inode)
    }
