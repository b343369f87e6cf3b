"""What keeps a worker from being started is told as an OSError, whoever refuses."""

import errno
import os
from pathlib import Path

import pytest
import zmq

from vmwatch.shared.handover import WorkerSettings
from vmwatch.supervisor.channels import Channels
from vmwatch.supervisor.child import Child


def test_a_worker_for_whom_there_is_no_socket_cannot_be_started_now(short_path: Path) -> None:
    settings = WorkerSettings(
        generation=1,
        tasks="",
        results="",
        master="",
        batch_max=1,
        panel_url="http://127.0.0.1:1",
        panel_user="",
        panel_password="",
        panel_ca="",
        panel_timeout=1.0,
        log_file="-",
        log_level="info",
        log_format="text",
    )
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 1)
    channels = Channels(short_path / "channels")
    try:
        only = context.socket(zmq.PULL)
        with pytest.raises(OSError, match="Too many open files") as caught:
            Child(context, channels, 1, settings, os.getpid(), 1)
        assert caught.value.errno == errno.EMFILE
        only.close()
    finally:
        channels.close()
        context.destroy(linger=0)
