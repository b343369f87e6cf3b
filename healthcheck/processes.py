"""The probe of a process, with psutil: what the pid file names, and what its children do."""

import os
import time
from pathlib import Path

import psutil

from vmwatch.healthcheck.facts import ChildFacts, PidFileFacts, ProcessFacts
from vmwatch.healthcheck.processhealth import ENDED, SUSPENDED

ZOMBIE_LOOKS = 10
ZOMBIE_PAUSE_S = 0.1
"""A child that has just ended is a zombie for a moment: only what is still one after a second is told."""
_TEXT_MOST = 64


def read_pid_file(path: Path) -> PidFileFacts | None:
    """What the pid file says; None if there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            text, written = file.read(_TEXT_MOST), os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
    first = text.split()[:1]
    return PidFileFacts(int(first[0]) if first and first[0].isdigit() else 0, written)


def look_at(pid: int, pid_file: Path) -> ProcessFacts | None:
    """The process with this number, whatever it is; None if there is none."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            state, started = process.status(), process.create_time()
            try:
                command = tuple(process.cmdline())
            except (psutil.AccessDenied, psutil.ZombieProcess):
                command = ()
        if state in ENDED:
            return ProcessFacts(pid, command, started, state)
        children = _children(process)
        return ProcessFacts(
            pid=pid,
            command=command,
            started=started,
            state=state,
            age_s=max(0.0, time.time() - started),
            holds_pid_file=_holds(process, pid_file),
            memory_bytes=_memory([process, *children]),
            descriptors=_descriptors(process),
            descriptors_limit=_descriptors_limit(process),
            children=_unwell(children),
        )
    except (psutil.NoSuchProcess, ValueError, OverflowError):  # of a number that no process can have
        return None


def _holds(process: psutil.Process, pid_file: Path) -> bool | None:
    try:
        # Not psutil's `open_files`: it names paths, and a path may lead through links.
        wanted = pid_file.stat()
        return any(_is(link, wanted) for link in Path(f"/proc/{process.pid}/fd").iterdir())
    except OSError:
        return None


def _is(link: Path, wanted: os.stat_result) -> bool:
    try:
        found = link.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.AccessDenied:
        return []


def _memory(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _descriptors(process: psutil.Process) -> int | None:
    try:
        return process.num_fds()
    except psutil.AccessDenied:
        return None


def _descriptors_limit(process: psutil.Process) -> int | None:
    try:
        limit = process.rlimit(psutil.RLIMIT_NOFILE)[0]
    except (psutil.AccessDenied, OSError):
        return None
    return limit if limit > 0 else None


def _unwell(children: list[psutil.Process]) -> tuple[ChildFacts, ...]:
    """Suspended ones, and those that stay zombies."""
    for look in range(ZOMBIE_LOOKS):
        found = [fact for child in children if (fact := _child(child)) is not None]
        if not any(fact.state in ENDED for fact in found) or look == ZOMBIE_LOOKS - 1:
            break
        time.sleep(ZOMBIE_PAUSE_S)
    return tuple(found)


def _child(process: psutil.Process) -> ChildFacts | None:
    try:
        state = process.status()
    except psutil.NoSuchProcess:
        return None
    return ChildFacts(process.pid, state) if state in (*ENDED, *SUSPENDED) else None
