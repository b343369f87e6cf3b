"""The keeper: a small parent process for one daemon of our own, and for all that the daemon leaves behind.

    python keeper.py [--mask FOLDER]... [--remove FOLDER]... -- PROGRAM ARGUMENT...

It exists for three reasons:

- It is a *child subreaper*: a QEMU process that libvirtd puts into the background becomes the keeper's child, is
  reaped the moment it ends (libvirtd waits for that) and can be ended at the end, by its pid, because it is ours.
- It has its own *mount namespace*, in which the `--mask` folders are empty: libvirtd keeps its state at fixed
  places, and neither the machine's own libvirt nor its files may notice ours. The namespace outlives libvirtd, so
  that libvirtd can be killed and started again beside VMs that go on running.
- It *cleans up* when its standard input ends, so also when the process that uses it was killed: everything that it
  started ends, and the `--remove` folders go. Is it killed itself, then the daemon gets a SIGTERM.

Commands come as lines on standard input, each is answered by one line: `start` (the pid), `signal NUMBER` (`ok` or
`gone`), `status` (`running` or `ended`), `quit` (no answer: the keeper ends, and its exit is the answer).

It is a script of its own, started with a bare interpreter: only the standard library, and no import of vmwatch.
`kept` is the other end.
"""

import argparse
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

READ_SIZE = 4096
REAP_INTERVAL_S = 0.01
REMOVE_ATTEMPTS = 5

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | None) -> None:
    """A function of the C library that Python 3.11 has no name for; raises OSError as Python's own do."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mask(folders: list[str]) -> None:
    """Put an empty tmpfs over each folder, visible only to this process and its children."""
    call("unshare", CLONE_NEWNS)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    for folder in folders:
        call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"mode=0755")


def end_with_keeper() -> None:
    """In the daemon, before it is executed: the kernel will tell it when the keeper was killed."""
    call("prctl", PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def children() -> list[int]:
    """The pids of this process's children, adopted ones included."""
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # it ended between the listing and the look
            continue
        # "pid (name) state parent ...": the name may itself hold spaces and brackets.
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            pids.append(int(entry.name))
    return pids


class Keeper:
    """The loop: commands from standard input, and a child that ended is reaped at once."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.daemon: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.received = b""
        self.wakeup_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Signals only wake the loop; an interrupt typed at the terminal is its user's business."""
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, self._record_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until standard input ends, `quit` comes, or SIGTERM."""
        while not self.stopping:
            ready, _, _ = select.select([0, self.wakeup_fd], [], [])
            if self.wakeup_fd in ready:
                os.read(self.wakeup_fd, READ_SIZE)
                self.reap()
            if 0 in ready:
                self._read_commands()

    def reap(self) -> bool:
        """Collect every child that has ended; whether any is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if self.daemon is not None and pid == self.daemon.pid:
                # Popen must not wait for this pid itself: the number may belong to someone else by then.
                self.daemon.returncode = os.waitstatus_to_exitcode(status)

    def end_children(self) -> None:
        """Kill, until none is left: a process that dies may leave a child of its own to the keeper."""
        while self.reap():
            for pid in children():
                os.kill(pid, signal.SIGKILL)
            time.sleep(REAP_INTERVAL_S)

    def _record_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _read_commands(self) -> None:
        data = os.read(0, READ_SIZE)
        self.received += data
        *lines, self.received = self.received.split(b"\n")
        for line in lines:
            self._obey(line.decode().split())
        if not data:
            self.stopping = True

    def _obey(self, words: list[str]) -> None:
        self.reap()
        match words:
            case ["start"]:
                self.daemon = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=end_with_keeper
                )
                self._answer(str(self.daemon.pid))
            case ["signal", number]:
                self._answer("ok" if self._signal(int(number)) else "gone")
            case ["status"]:
                self._answer("running" if self._is_running() else "ended")
            case ["quit"]:
                self.stopping = True
            case _:
                raise ValueError(f"no such command: {words}")

    def _is_running(self) -> bool:
        return self.daemon is not None and self.daemon.returncode is None

    def _signal(self, number: int) -> bool:
        """Send it to the daemon. Not yet reaped, it still owns its pid: nobody else can be hit."""
        if self.daemon is None or not self._is_running():
            return False
        os.kill(self.daemon.pid, number)
        return True

    def _answer(self, text: str) -> None:
        os.write(1, f"{text}\n".encode())


def remove(folders: list[str]) -> None:
    """Delete the folders; several attempts, because the tmpfs of a dying process may hold one for a moment."""
    for folder in folders:
        for _ in range(REMOVE_ATTEMPTS):
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.lexists(folder):
                break
            time.sleep(REAP_INTERVAL_S)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mask", action="append", default=[])
    parser.add_argument("--remove", action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    keeper = Keeper(options.command)
    keeper.install()
    try:
        call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if options.mask:
            mask(options.mask)
        keeper.run()
    finally:
        keeper.end_children()
        remove(options.remove)


if __name__ == "__main__":
    main()
