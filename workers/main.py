"""A worker process: `python -m vmwatch.workers.main`, started by vmwatch-master and by nobody else."""

import argparse
import ctypes
import logging
import os
import random
import signal
import sys
from collections.abc import Sequence

import msgspec
import zmq

from vmwatch.shared import logs
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.exits import Exit
from vmwatch.shared.handover import Farewell, WorkerSettings, encode
from vmwatch.shared.signals import Signals
from vmwatch.workers.batcher import Batcher
from vmwatch.workers.client import PanelClient
from vmwatch.workers.vmmgr import VmmgrClient
from vmwatch.workers.worker import Worker

log = logging.getLogger(__name__)

LAST_WORDS_MS = 2000
"""At the end: so long the last results may take to leave."""
_STANDARD_INPUT = 0
_PR_SET_PDEATHSIG = 1
_RESULTS_HWM = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """A worker's whole life, in order; returns its exit code."""
    options = _parse(arguments)
    if not die_with(options.parent):
        return Exit.OK
    signals = take_signals()
    try:
        return live(options, signals)
    finally:
        signals.retire()


def live(options: argparse.Namespace, signals: Signals) -> int:
    """From its settings to its end; returns the exit code."""
    try:
        settings = read_settings()
        if settings is None:
            return Exit.OK
        logs.set_up(settings.log_file, settings.log_level, settings.log_format)
        work(settings, signals)
    except ConfigurationError as error:
        log.error("worker %d cannot boot: %s", options.slot, error)
        return Exit.CONFIGURATION
    except Exception:
        # It must not go on with a state that nobody has thought of; the supervisor starts a fresh one.
        log.exception("a defect ends worker %d (generation %d)", options.slot, options.generation)
        return Exit.DEFECT
    return Exit.OK


def work(settings: WorkerSettings, signals: Signals) -> None:
    """Connect, serve, and let the last results leave."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    tasks, results = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    client = panel_client(settings)
    linger_ms = LAST_WORDS_MS
    try:
        tasks.rcvhwm = 0  # the supervisor process bounds what is in our hands
        tasks.connect(settings.tasks)
        results.sndhwm = _RESULTS_HWM
        results.connect(settings.results)
        batcher = Batcher(settings.batch_max, random.Random())
        worker = Worker(settings.generation, batcher, client, tasks, results, signals, _STANDARD_INPUT)
        worker.run()
        if worker.orphaned:
            linger_ms = 0
        else:
            say_farewell(results, settings.generation)
    finally:
        client.close()
        tasks.close(linger=0)
        results.close(linger=linger_ms)
        context.term()


def say_farewell(results: zmq.Socket[bytes], generation: int) -> None:
    """The supervisor waits for it, so that nothing which was said before it comes too late to count."""
    try:
        results.send(encode(Farewell(generation)), zmq.NOBLOCK)
    except zmq.Again:
        log.debug("no room for the last word: the supervisor gives up waiting for it")


def panel_client(settings: WorkerSettings) -> PanelClient:
    """The client of the panel that the settings name; there is one kind so far."""
    return VmmgrClient(settings)


def die_with(parent: int) -> bool:
    """Have the kernel kill us when the process `parent` ends (prctl(2)); False if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return os.getppid() == parent


def take_signals() -> Signals:
    """SIGTERM ends us after the present call. SIGINT, which a terminal sends to all, is for the supervisor alone, and
    so is SIGHUP: it replaces us when there is something new to read."""
    signals = Signals()
    signals.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The supervisor process started us with these blocked, until there was somebody to take them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    return signals


def read_settings() -> WorkerSettings | None:
    """The line on our standard input; None if it ended first. Raises ConfigurationError if it is not understood."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(_STANDARD_INPUT, 65536)
        if not chunk:
            return None
        line += chunk
    try:
        return msgspec.json.decode(line, type=WorkerSettings)
    except msgspec.MsgspecError as error:
        # It may hold secrets: what is wrong with it is said, not what it says.
        raise ConfigurationError(f"what the supervisor process tells is not understood: {error}") from None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A worker process of vmwatch-master, which starts it.")
    parser.add_argument("--slot", type=int, required=True, help="which of the workers this is")
    parser.add_argument("--generation", type=int, required=True, help="which incarnation of all workers")
    parser.add_argument("--parent", type=int, required=True, help="process id of vmwatch-master")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
