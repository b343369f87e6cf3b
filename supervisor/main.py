"""`vmwatch-master`: options, configuration, and the loop between them and the end."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vmwatch.shared import program
from vmwatch.shared.exits import Exit
from vmwatch.shared.handover import WorkerSettings
from vmwatch.shared.masterfile import load_master_settings
from vmwatch.shared.paths import Paths
from vmwatch.shared.reload import Reload
from vmwatch.shared.settings import MasterSettings
from vmwatch.shared.signals import Signals
from vmwatch.shared.statussocket import StatusSocket
from vmwatch.supervisor.master import CHANGEABLE, Master
from vmwatch.supervisor.status import Status

PROGRAM = "vmwatch-master"
PURPOSE = "Takes the messages of the nodes and calls the panel with them; acknowledges what the panel has committed."


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    options = program.parser(PROGRAM, PURPOSE).parse_args(arguments)
    return program.run(options, PROGRAM, load_master_settings, partial(serve, options))


def serve(options: argparse.Namespace, settings: MasterSettings, paths: Paths) -> int:
    """Run until a signal; raises ConfigurationError if an address cannot be used."""
    signals = Signals()
    signals.install(workers=True)
    config = Path(options.config) if options.config else paths.config
    master = Master(settings, paths, signals, partial(worker_settings, options, paths))
    try:
        status = Status(master)
        status_socket = StatusSocket(paths.socket, status.describe)
        status_socket.start()
        try:
            master.run(status.take, Reload(config, load_master_settings, CHANGEABLE).again)
        finally:
            status_socket.close()
    finally:
        master.close()
        signals.retire()
    return Exit.OK


def worker_settings(options: argparse.Namespace, paths: Paths, settings: MasterSettings) -> WorkerSettings:
    """What all workers need to know; the master adds where its sockets are."""
    return WorkerSettings(
        generation=0,
        tasks="",
        results="",
        master="",
        batch_max=settings.batch_max,
        panel_url=settings.panel_url,
        panel_user=settings.panel_user,
        panel_password=settings.panel_password,
        panel_ca=settings.panel_ca,
        panel_timeout=settings.panel_timeout,
        log_file=options.log_file or str(paths.log),
        log_level=settings.log_level,
        log_format=options.log_format,
    )


if __name__ == "__main__":
    sys.exit(main())
