"""A libvirtd that goes and comes back beside running VMs is the stop of none of them."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.e2e.test_live_migration import Watching, wait_shown
from tests.testbed import guests
from tests.testbed.migration import boot
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.stack import Stack

pytestmark = needs_root()

NODE = "kvm-01"
LIBVIRT_LOST = 69


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[QemuDaemon]:
    with QemuDaemon(tmp_path / "libvirt") as daemon:
        yield daemon


def test_a_libvirtd_that_is_killed_and_one_that_is_restarted_stop_no_vm(
    stack: Stack, qemu: QemuDaemon, tmp_path: Path
) -> None:
    vm = str(uuid.uuid4())
    image = guests.write_disk(tmp_path / "web.img", guests.idle())
    boot(libvirt.open(qemu.uri), guests.domain_xml("web", vm, image))
    agent = stack.start_node(NODE, qemu.uri)
    wait_shown(stack, vm, "running", NODE)
    with Watching(stack, vm) as watching:
        for end in (qemu.kill, qemu.terminate):
            end()
            assert agent.wait() == LIBVIRT_LOST
            qemu.start()
            agent.start()
            stack.wait_listening(agent)
            stack.wait_drained()
            wait_shown(stack, vm, "running", NODE)
    assert watching.states <= {"running", "unknown"}, watching.shown
    assert not {row["event"] for row in stack.panel.events(uuid=vm)} & {"stopped", "shutdown"}
