"""vmwatch-node: the agent on a hypervisor."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vmwatch.node.agent import CHANGEABLE, MEGABYTE, Agent
from vmwatch.node.eventloop import EventLoop
from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.node.steady import SteadyTime
from vmwatch.shared.clock import SystemClock
from vmwatch.shared.conffile import Loaded, load
from vmwatch.shared.exits import Exit
from vmwatch.shared.paths import Paths
from vmwatch.shared.program import parser, run
from vmwatch.shared.reload import Reload
from vmwatch.shared.settings import NodeSettings
from vmwatch.shared.signals import Signals
from vmwatch.shared.statussocket import StatusSocket

log = logging.getLogger(__name__)

PROGRAM = "vmwatch-node"
PURPOSE = "Tells vmwatch-master what libvirt says of this hypervisor's VMs; nothing is lost on the way."
START_AGAIN = "when libvirtd was lost, start again in this process instead of ending with 69 (System V)"
AGAIN_AFTER_S = 1.0


def load_settings(path: Path) -> Loaded[NodeSettings]:
    """The settings of a `vmwatch-node.conf`; raises ConfigurationError."""
    return load(path, NodeSettings)


def serve(options: argparse.Namespace, settings: NodeSettings, paths: Paths) -> int:
    """Run the agent until it ends; returns the exit code. Raises StoreError if the outbox cannot be used."""
    signals = Signals()
    signals.install()
    clock = SystemClock()
    machine = machine_id()
    outbox, set_aside = open_outbox(
        paths.database,
        settings.node_id,
        machine,
        SteadyTime(clock).now_us,
        limit_bytes=settings.outbox_max_mb * MEGABYTE,
    )
    agent = Agent(settings, outbox, clock, signals, machine, set_aside)
    status = StatusSocket(paths.socket, agent.describe)
    status.start()
    ping = StatusSocket(paths.ping, agent.canary.ask)
    try:
        ping.start()
        config = Path(options.config) if options.config else paths.config
        code = agent.run(Reload(config, load_settings, CHANGEABLE).again)
        if code == Exit.LIBVIRT_LOST and options.start_again:
            signals.hold()
    finally:
        ping.close()
        status.close()
        outbox.close()
        signals.retire()
    return _again(signals) if signals.held else code


def _again(signals: Signals) -> Exit:
    """Execute this program anew, in this process; returns only where a signal asked to stop meanwhile."""
    log.info("starts again")
    time.sleep(AGAIN_AFTER_S)
    if not signals.stop_requests:
        logging.shutdown()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return Exit.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """The program's entry; returns its exit code."""
    made = parser(PROGRAM, PURPOSE)
    made.add_argument("--start-again", action="store_true", help=START_AGAIN)
    options = made.parse_args(arguments)
    code = run(options, PROGRAM, load_settings, partial(serve, options))
    if EventLoop.left_running:
        logging.shutdown()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
