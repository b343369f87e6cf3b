"""A true duplicate as the panel shows it: one VM on two real hypervisors (design 03, rule 6)."""

import uuid
from pathlib import Path

import libvirt

from tests.e2e.test_live_migration import (  # noqa: F401 - fixtures
    DESTINATION,
    SOURCE,
    STARTED,
    cluster,
    duplicates,
    hypervisors,
    pytestmark,
    told,
    two,
    wait_shown,
)
from tests.testbed import guests
from tests.testbed.migration import Hypervisors, boot
from tests.testbed.qemu import QemuDaemon
from tests.testbed.stack import Stack
from tests.testbed.waiting import wait_until

DUPLICATE_LIMIT_S = 120


def test_a_vm_started_on_two_hypervisors_is_two_claims_and_a_problem_until_one_is_gone(
    cluster: Stack,  # noqa: F811
    hypervisors: Hypervisors,  # noqa: F811
    tmp_path: Path,
) -> None:
    vm = str(uuid.uuid4())

    def start(daemon: QemuDaemon, node: str) -> libvirt.virDomain:
        # A disk each, or QEMU's lock of the image would prevent it.
        image = guests.write_disk(tmp_path / f"{node}.img", guests.idle())
        return boot(hypervisors.connect(daemon), guests.domain_xml("web", vm, image))

    start(hypervisors.source, SOURCE)
    twin = start(hypervisors.destination, DESTINATION)
    for node in (SOURCE, DESTINATION):
        wait_until(lambda node=node: told(cluster, vm, node)[-2:] == STARTED, f"the start on {node}")  # type: ignore[misc]
    [problem] = wait_until(lambda: duplicates(cluster, vm), "the duplicate to be a problem", DUPLICATE_LIMIT_S)
    assert SOURCE in problem["description"]
    assert DESTINATION in problem["description"]
    twin.destroy()
    wait_until(lambda: duplicates(cluster, vm)[0]["state"] == "solved", "the problem to close", DUPLICATE_LIMIT_S)
    wait_shown(cluster, vm, "running", SOURCE)
    twin.create()
    wait_until(lambda: duplicates(cluster, vm)[0]["state"] == "open", "it to open again", DUPLICATE_LIMIT_S)
    assert [row["id"] for row in duplicates(cluster, vm)] == [problem["id"]]
