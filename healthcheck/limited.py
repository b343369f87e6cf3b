"""Work with a time limit that always holds: it is done by a child process, which nobody needs to wait for.

A thread would not do: one that the kernel holds (a file on a dead file system, a process that cannot be looked at)
keeps its process from ending, and whoever started the probe waits for that.
"""

import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

Work = Callable[[Callable[[str], None]], dict[str, Any]]
"""Gets a function to tell what it does next; returns a JSON object."""
REAP_LOOKS, REAP_PAUSE_S = 20, 0.01
CHILD_MORE_S = 1
"""The child's own alarm comes so much later than the limit, should nobody be there to kill it."""


def run_limited(work: Work, limit_s: float) -> tuple[dict[str, Any] | None, str]:
    """(What `work` returned, empty), or (None, why there is nothing): in `limit_s` seconds at the latest."""
    end = time.monotonic() + limit_s
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_child(work, writing, limit_s)
    os.close(writing)
    try:
        return _listen(reading, end, limit_s)
    finally:
        os.close(reading)
        _end(pid)


def _end(pid: int) -> None:
    """Kill the child, which is not reaped yet, so the number is its own. One that the kernel holds is left to it."""
    os.kill(pid, signal.SIGKILL)
    for _ in range(REAP_LOOKS):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(REAP_PAUSE_S)


def _listen(reading: int, end: float, limit_s: float) -> tuple[dict[str, Any] | None, str]:
    text, stage = b"", "starting"
    while True:
        left_s = end - time.monotonic()
        if left_s <= 0 or not select.select([reading], [], [], left_s)[0]:
            return None, f"gave up after {limit_s:g} s while {stage}"
        chunk = os.read(reading, 65536)
        if not chunk:
            return None, f"the probe ended while {stage}"
        text += chunk
        *lines, text = text.split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "failed" in told:
                return None, f"the probe failed while {stage}: {told['failed']}"
            if "done" in told:
                done: dict[str, Any] = told["done"]
                return done, ""
            stage = told["stage"]


def _be_child(work: Work, writing: int, limit_s: float) -> None:
    """Never returns. Whoever started the probe must not wait for us: its pipes are none of ours."""
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s + CHILD_MORE_S)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        _tell(writing, {"done": work(lambda stage: _tell(writing, {"stage": stage}))})
        code = 0
    except Exception as error:  # the edge of this process: the parent says what it was
        try:
            _tell(writing, {"failed": f"{type(error).__name__}: {error}"})
        except OSError:
            pass
    finally:
        os._exit(code)


def _tell(writing: int, what: dict[str, Any]) -> None:
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(writing, data) :]
