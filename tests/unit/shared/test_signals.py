"""What a signal does to a program that has taken the signals over; each in a process of its own."""

import signal
import subprocess
import sys

import pytest

BEGIN = """
import os, signal
from vmwatch.shared.signals import Signals
signals = Signals()
signals.install(workers={workers})
def send(number):
    os.kill(os.getpid(), number)
"""


def run(script: str, workers: bool = False) -> "subprocess.CompletedProcess[str]":
    whole = BEGIN.format(workers=workers) + script
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=60)


def test_each_is_recorded() -> None:
    done = run(
        "for name in 'TERM INT HUP HUP TTIN TTIN TTIN TTOU'.split(): send(getattr(signal, 'SIG' + name))\n"
        "print(signals.stop_requests, signals.reload_requests, signals.more_workers)",
        workers=True,
    )
    assert (done.returncode, done.stdout) == (0, "2 2 2\n")


def test_without_workers_their_signals_do_nothing() -> None:
    done = run("send(signal.SIGTTIN); send(signal.SIGTTOU); print(signals.more_workers)")
    assert (done.returncode, done.stdout) == (0, "0\n")


def test_a_poll_that_waits_is_woken() -> None:
    done = run(
        "import select, threading\n"
        "threading.Timer(0.2, send, [signal.SIGHUP]).start()\n"
        "print(select.select([signals.wakeup_fd], [], [], 50)[0] == [signals.wakeup_fd], signals.reload_requests)\n"
        "signals.drain(); print(select.select([signals.wakeup_fd], [], [], 0)[0])"
    )
    assert (done.returncode, done.stdout) == (0, "True 1\n[]\n")


AT_THE_END = """
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, {number})
import sys
sys.last = Last()  # lives longer than the handlers
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU])
def test_a_signal_while_python_ends_changes_nothing_after_retiring(number: signal.Signals) -> None:
    assert run(AT_THE_END.format(number=int(number)) + "signals.retire()", workers=True).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_without_retiring_it_would_kill_a_program_that_has_ended_in_order(number: signal.Signals) -> None:
    """Why there is `retire` at all. Should this fail one day, Python has changed and `retire` can go."""
    assert run(AT_THE_END.format(number=int(number)), workers=True).returncode == -number
