"""A node whose backlog has to go over a slow line."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.stack import Stack
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import LOOPBACK, free_port, wait_until
from tests.testbed.wire import Wire
from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.shared.messages import DomainStats, Stats, encode_payload
from vmwatch.shared.states import State

pytestmark = needs_libvirtd()

NODE = "kvm-01"
SAMPLES = 80
LINE_BYTES_A_SECOND = 200_000
"""Eight seconds, after which a peer of ZeroMQ could seem lost, are not enough for what waits here."""


@pytest.fixture
def libvirtd(tmp_path: Path) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path / "libvirt", domains=("web",)) as running:
        yield running


def wait_in_outbox(path: Path) -> int:
    """Statistics of a hundred VMs, as if the master had been away; returns their bytes."""
    outbox, _ = open_outbox(path, NODE, machine_id(), lambda: time.time_ns() // 1000, limit_bytes=512 * 1024 * 1024)
    now = time.time()
    domains = [
        DomainStats(f"{number:08x}-0000-0000-0000-000000000000", State.RUNNING, *[10**12 + number] * 10)
        for number in range(100)
    ]
    payload = encode_payload(Stats(seq=0, time=now, interval=600, taken=now, domains=domains))
    outbox.add([("stats", payload)] * SAMPLES)
    outbox.close()
    return SAMPLES * len(payload)


def test_a_backlog_is_drained_over_a_line_that_is_slower_than_it_is_large(
    stack: Stack, libvirtd: TestDriverDaemon
) -> None:
    port = free_port()
    with Wire((LOOPBACK, port), (LOOPBACK, stack.port), LINE_BYTES_A_SECOND):
        node = stack.node(
            NODE,
            libvirtd.uri,
            connect=f"tcp://{LOOPBACK}:{port}",
            ack_connect=f"tcp://{LOOPBACK}:{stack.port + 1}",
        )
        assert wait_in_outbox(node.prefix / "var" / "vmwatch-node.db") > 10 * LINE_BYTES_A_SECOND
        node.start()
        stack.wait_listening(node)
        wait_until(lambda: node.status["outbox"]["depth"] == 0, "the backlog to be drained", 180)
        assert node.status["master"]["resends"] == 0
