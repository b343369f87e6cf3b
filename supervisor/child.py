"""One incarnation of a worker: its process, the pipe that tells it that we live, and the socket of its work."""

import signal
import subprocess
import sys
from collections import deque

import msgspec
import zmq

from vmwatch.shared.handover import HandOver, WorkerSettings, encode
from vmwatch.supervisor.channels import Channels

_HELD_BACK = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Blocked from the fork until the worker has handlers: a signal between would end it, perhaps with a traceback."""
_SPARE = 8
"""Hand-overs without messages (signs of life, the word to stop) that may be on their way too."""


class Child:
    """Started by exec, so that `ps` names it; secrets go through its standard input, where nobody else reads them."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        channels: Channels,
        slot: int,
        settings: WorkerSettings,
        parent: int,
        most_in_hand: int,
    ) -> None:
        """Start worker process number `slot`; `settings.tasks` is filled in here. Raises OSError."""
        self.generation = settings.generation
        self._channels = channels
        self._name = f"w{settings.generation}"
        self._unsent: deque[bytes] = deque()
        endpoint = channels.endpoint(self._name)
        # Each hand-over has at least one message, so that what may be in hand is also what may be on its way.
        self._socket = _bound(context, endpoint, most_in_hand + _SPARE)
        try:
            self._process = _start(slot, settings.generation, parent)
        except OSError:
            self._close_socket()
            raise
        self.pid = self._process.pid
        self._tell(msgspec.structs.replace(settings, tasks=endpoint))

    def _tell(self, settings: WorkerSettings) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(settings) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead already, which is seen where all deaths are

    def hand_over(self, work: HandOver) -> None:
        """Send, or keep until it can be sent (`flush`). Never blocks, and nothing is lost while this child lives."""
        self._unsent.append(encode(work))
        self.flush()

    def flush(self) -> None:
        """Send what could not be sent before."""
        while self._unsent:
            try:
                self._socket.send(self._unsent[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._unsent.popleft()

    @property
    def is_congested(self) -> bool:
        """Something could not be sent yet: hand over no more."""
        return bool(self._unsent)

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it. Reaps it."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end after its present call."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once, also when it is stopped or hangs."""
        self._process.kill()

    def close(self) -> None:
        """Free what belongs to it. A process that still runs sees the end of its standard input."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass
        self._close_socket()

    def _close_socket(self) -> None:
        self._socket.close()
        self._channels.remove(self._name)


def _bound(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, most_waiting: int) -> zmq.Socket[bytes]:
    """Raises OSError, as when too many files are open."""
    try:
        socket = context.socket(zmq.PUSH)
        socket.linger = 0
        socket.sndhwm = most_waiting
        try:
            socket.bind(endpoint)
        except zmq.ZMQError:
            socket.close()
            raise
    except zmq.ZMQError as error:
        raise OSError(error.errno, error.strerror) from None
    return socket


def _start(slot: int, generation: int, parent: int) -> subprocess.Popen[bytes]:
    # -P: a file that happens to lie in the working directory must not be taken for a module.
    command = [sys.executable, "-P", "-m", "vmwatch.workers.main"]
    arguments = ["--slot", str(slot), "--generation", str(generation), "--parent", str(parent)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        return subprocess.Popen(command + arguments, stdin=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
