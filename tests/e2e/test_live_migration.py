"""Live migration as the panel shows it: two nodes, each watching a hypervisor of its own."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import libvirt
import psutil
import pytest

from tests.testbed.daemon import quiet_libvirt
from tests.testbed.migration import Hypervisors, Migration, Way
from tests.testbed.qemu import needs_root
from tests.testbed.service import Service
from tests.testbed.stack import Row, Stack
from tests.testbed.waiting import LOOPBACK, free_port, free_port_pair, wait_until
from tests.testbed.wire import Wire

pytestmark = needs_root()

SOURCE, DESTINATION = "kvm-01", "kvm-02"
STARTED = [("resumed", "unpaused"), ("started", "booted")]
ARRIVED = [("started", "migrated"), ("resumed", "migrated")]
LEFT = [("suspended", "migrated"), ("stopped", "migrated")]
SAMPLE_INTERVAL_S = 0.03
HEARTBEAT_S = "5"
"""Long: on a machine with much to do a node may say nothing for some seconds, and is silent after three of these."""
GRACE_S = 30
"""Rule 6: two active claims are a problem only after so long."""
LATE_LIMIT_S = 180
"""A node that was cut off is back-off and a resend away, and then has to list."""


class Watching:
    """Asks the panel for one VM again and again, from `with` on: (state, node) as it changed. None: it has none."""

    def __init__(self, stack: Stack, vm: str) -> None:
        self.shown: list[tuple[str, str] | None] = []
        self.looks = 0
        self._stack = stack
        self._vm = vm
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.looks, "the first look at the panel")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def states(self) -> set[str]:
        return {"none" if seen is None else seen[0] for seen in self.shown}

    def _run(self) -> None:
        while not self._ends.wait(SAMPLE_INTERVAL_S):
            self._look()
        self._look()  # at what the test has seen last itself

    def _look(self) -> None:
        seen = shown(self._stack, self._vm)
        self.looks += 1
        if not self.shown or self.shown[-1] != seen:
            self.shown.append(seen)


def shown(stack: Stack, vm: str) -> tuple[str, str] | None:
    """(state, node) of the VM in the panel's list."""
    # Not `vms`: that takes a panel that does not answer for one without VMs.
    elements = stack.panel.call("vm", p_cnt=1000).get("elem", [])
    for row in elements if isinstance(elements, list) else [elements]:
        if row["uuid"]["$"] == vm:
            return row["vmstatus"]["$"], row["hostnode"]["$"]
    return None


def told(stack: Stack, vm: str, node: str) -> list[tuple[str, str]]:
    """What the event log has of a VM from one node, in the node's order."""
    rows = sorted(stack.panel.events(uuid=vm, node=node), key=lambda row: (int(row["epoch"]), int(row["seq"])))
    return [(row["event"], row["detail"]) for row in rows if row["event"] != "control_error"]


def wait_shown(stack: Stack, vm: str, state: str, node: str) -> None:
    wait_until(lambda: shown(stack, vm) == (state, node), f"{vm} to be {state} on {node}, not {shown(stack, vm)}")


def duplicates(stack: Stack, vm: str) -> list[Row]:
    return stack.panel.rows("problems", type="vm_duplicate", object=vm)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisors]:
    with Hypervisors(tmp_path_factory.mktemp("hypervisors")) as two:
        yield two


@pytest.fixture
def hypervisors(two: Hypervisors) -> Iterator[Hypervisors]:
    """Without VMs."""
    yield two
    with quiet_libvirt():
        two.clear()


@pytest.fixture
def cluster(stack: Stack, hypervisors: Hypervisors) -> Stack:
    """Both hypervisors watched."""
    for node, daemon in ((SOURCE, hypervisors.source), (DESTINATION, hypervisors.destination)):
        stack.start_node(node, daemon.uri, heartbeat_interval=HEARTBEAT_S)
    return stack


def migrate_watched(cluster: Stack, vm: str, migration: Migration) -> Watching:
    """To the destination, where it runs in the end; what was shown from its beginning to the last word of both."""
    with Watching(cluster, vm) as watching:
        with migration:
            assert migration.finish() == ""
        wait_shown(cluster, vm, "running", DESTINATION)
        wait_until(lambda: ("stopped", "migrated") in told(cluster, vm, SOURCE), "the source's last word")
        cluster.wait_drained()
        wait_shown(cluster, vm, "running", DESTINATION)
    assert watching.states <= {"running", "paused"}, watching.shown
    return watching


@pytest.mark.parametrize("way", list(Way))
def test_a_vm_that_migrates_is_never_shut_off_and_then_runs_on_the_destination(
    cluster: Stack, hypervisors: Hypervisors, way: Way
) -> None:
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    watching = migrate_watched(cluster, vm, Migration(domain, hypervisors.destination, way))
    assert watching.shown[0] == ("running", SOURCE)
    assert watching.shown[-1] == ("running", DESTINATION)
    assert told(cluster, vm, SOURCE) == [("defined", "added"), *STARTED, *LEFT]
    assert told(cluster, vm, DESTINATION) == ARRIVED


def test_a_vm_that_its_migration_renames_while_it_runs_is_one_vm_under_its_new_name(
    cluster: Stack, hypervisors: Hypervisors
) -> None:
    """libvirt renames no running domain in place (`cannot rename active domain`): only a live migration does."""
    domain = hypervisors.start("web", transient=True)
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    migrate_watched(cluster, vm, Migration(domain, hypervisors.destination, name="www"))
    assert {one: row["name"] for one, row in cluster.panel.vms().items()} == {vm: "www"}
    names = {(row["node"], row["name"]) for row in cluster.panel.events(uuid=vm)}
    assert names == {(SOURCE, "web"), (DESTINATION, "www")}


def test_there_and_back_with_a_definition_on_both_sides(cluster: Stack, hypervisors: Hypervisors) -> None:
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    with Watching(cluster, vm) as watching:
        with Migration(domain, hypervisors.destination, flags=libvirt.VIR_MIGRATE_PERSIST_DEST) as there:
            assert there.finish() == ""
        wait_shown(cluster, vm, "running", DESTINATION)
        arrived = hypervisors.connect(hypervisors.destination).lookupByUUIDString(vm)
        with Migration(arrived, hypervisors.source, flags=libvirt.VIR_MIGRATE_PERSIST_DEST) as back:
            assert back.finish() == ""
        wait_until(lambda: ("stopped", "migrated") in told(cluster, vm, DESTINATION), "the other end's last word")
        cluster.wait_drained()
        wait_shown(cluster, vm, "running", SOURCE)
    assert watching.states <= {"running", "paused"}, watching.shown
    assert told(cluster, vm, DESTINATION) == [ARRIVED[0], ("defined", "added"), ARRIVED[1], *LEFT]
    assert told(cluster, vm, SOURCE)[-5:] == [*LEFT, ARRIVED[0], ("defined", "updated"), ARRIVED[1]]


def test_a_vm_runs_on_the_source_as_long_as_its_migration_lasts_and_after_it_was_cancelled(
    cluster: Stack, hypervisors: Hypervisors
) -> None:
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    with Watching(cluster, vm) as watching, Migration(domain, hypervisors.destination, slow=True) as migration:
        migration.wait_under_way()
        wait_until(lambda: told(cluster, vm, DESTINATION) == ARRIVED[:1], "the destination's first word")
        began = time.monotonic()
        # Longer than the grace period: two claims of a migration that is under way are no duplicate.
        wait_until(lambda: time.monotonic() - began > GRACE_S + 5, "the grace period to pass")
        assert migration.is_under_way
        assert duplicates(cluster, vm) == []
        migration.cancel()
        assert "canceled" in migration.finish()
        wait_until(lambda: told(cluster, vm, DESTINATION)[1:] == [("stopped", "failed")], "the destination's last word")
        cluster.wait_drained()
        wait_shown(cluster, vm, "running", SOURCE)
    assert set(watching.shown) == {("running", SOURCE)}
    assert told(cluster, vm, SOURCE) == [("defined", "added"), *STARTED]  # a cancelled one is no event there
    assert duplicates(cluster, vm) == []


@pytest.mark.parametrize("fault", ["destination's QEMU killed", "connection broken", "destination's libvirtd killed"])
def test_a_migration_that_fails_leaves_the_vm_running_on_the_source(
    cluster: Stack, hypervisors: Hypervisors, fault: str
) -> None:
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    port = free_port()
    with (
        Wire.of_port(port) as wire,
        Watching(cluster, vm) as watching,
        Migration(domain, hypervisors.destination, slow=True, port=port) as migration,
    ):
        migration.wait_under_way()
        match fault:
            case "destination's QEMU killed":
                psutil.Process(hypervisors.destination.qemu_pid("web")).kill()
            case "connection broken":
                wire.wait_carrying()
                wire.reset()
            case _:
                hypervisors.destination.kill()
        assert migration.finish() != ""
        if fault == "destination's libvirtd killed":
            assert cluster.nodes[DESTINATION].wait() == 69
            hypervisors.destination.start()
            cluster.nodes[DESTINATION].start()
            cluster.wait_listening(cluster.nodes[DESTINATION])
        else:
            wait_until(lambda: len(told(cluster, vm, DESTINATION)) == 2, "the destination's last word")
        cluster.wait_drained()
        wait_shown(cluster, vm, "running", SOURCE)
    assert set(watching.shown) == {("running", SOURCE)}


def test_a_vm_whose_source_dies_in_the_middle_is_shut_off(cluster: Stack, hypervisors: Hypervisors) -> None:
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    with Migration(domain, hypervisors.destination, slow=True) as migration:
        migration.wait_under_way()
        psutil.Process(hypervisors.source.qemu_pid("web")).kill()
        assert migration.finish() != ""
    wait_shown(cluster, vm, "shutoff", SOURCE)
    assert told(cluster, vm, SOURCE)[-1] == ("stopped", "failed")


def silent(stack: Stack, node: str) -> bool:
    return any(row["name"] == node and row["doubt"] for row in stack.panel.rows("vmhostnode"))


def domains_listed(agent: Service) -> int | None:
    """How many domains its last listing had."""
    domains: int | None = agent.status.get("inventory", {}).get("domains")
    return domains


@contextlib.contextmanager
def behind_wires(stack: Stack, node: str, libvirt_uri: str) -> Iterator[list[Wire]]:
    """A node whose way to the master goes over wires: frames, and acknowledgements."""
    port = free_port_pair()
    with Wire((LOOPBACK, port), (LOOPBACK, stack.port)) as up, Wire(
        (LOOPBACK, port + 1), (LOOPBACK, stack.port + 1)
    ) as down:
        connect = f"tcp://{LOOPBACK}:{port}"
        agent = stack.start_node(node, libvirt_uri, heartbeat_interval=HEARTBEAT_S, connect=connect)
        try:
            yield [up, down]
        finally:
            agent.close()


def test_a_whole_network_cut_in_the_middle_of_a_migration_leaves_the_vm_running_on_the_source(
    stack: Stack, hypervisors: Hypervisors, short_path: Path
) -> None:
    """The destination's host hears nothing any more, of the source or of the master, and nobody is told of that."""
    there = hypervisors.destination
    stack.start_node(SOURCE, hypervisors.source.uri, heartbeat_interval=HEARTBEAT_S)
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    port = free_port()
    with (
        behind_wires(stack, DESTINATION, there.uri) as reports,
        Wire.of_port(port) as memory,
        Wire(str(short_path / "wire"), str(there.sockets / "libvirt-sock")) as talk,
    ):
        uri = f"qemu+unix:///system?socket={talk.at}"
        wait_shown(stack, vm, "running", SOURCE)
        with Watching(stack, vm) as watching:
            with Migration(domain, there, slow=True, port=port, uri=uri) as migration:
                migration.wait_under_way()
                wait_until(lambda: told(stack, vm, DESTINATION) == ARRIVED[:1], "the destination's first word")
                for wire in (memory, talk, *reports):
                    wire.stall()
                assert migration.finish() != ""
            wait_until(lambda: silent(stack, DESTINATION), "the destination to be silent")
            for wire in (memory, talk, *reports):
                wire.reset()
            # Whether libvirtd ends what waits for the guest or its QEMU itself does depends on who hears of it first.
            wait_until(lambda: told(stack, vm, DESTINATION)[-1][0] == "stopped", "its last word", LATE_LIMIT_S)
            wait_until(lambda: not silent(stack, DESTINATION), "the destination to be believed again", LATE_LIMIT_S)
            stack.wait_drained()
            wait_shown(stack, vm, "running", SOURCE)
        assert set(watching.shown) == {("running", SOURCE)}
        assert duplicates(stack, vm) == []


def test_a_vm_that_arrives_on_a_node_that_is_cut_off_from_the_master_is_never_shut_off(
    stack: Stack, hypervisors: Hypervisors
) -> None:
    stack.start_node(SOURCE, hypervisors.source.uri, heartbeat_interval=HEARTBEAT_S)
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    with behind_wires(stack, DESTINATION, hypervisors.destination.uri) as reports:
        wait_shown(stack, vm, "running", SOURCE)
        with Watching(stack, vm) as watching:
            for wire in reports:
                wire.stall()
            with Migration(domain, hypervisors.destination) as migration:
                assert migration.finish() == ""
            wait_shown(stack, vm, "unknown", SOURCE)
            # Longer than an arrival is waited for: then all nodes are asked, and one does not answer.
            wait_until(lambda: silent(stack, DESTINATION), "the destination to be silent")
            assert shown(stack, vm) == ("unknown", SOURCE)
            for wire in reports:
                wire.reset()
            wait_until(lambda: not silent(stack, DESTINATION), "the destination to be believed again", LATE_LIMIT_S)
            wait_shown(stack, vm, "running", DESTINATION)
            stack.wait_drained()
        assert watching.states <= {"running", "paused", "unknown"}, watching.shown
        assert watching.shown[-1] == ("running", DESTINATION)


def test_a_migration_that_takes_the_definition_along_leaves_no_claim_at_its_source(
    stack: Stack, hypervisors: Hypervisors
) -> None:
    """libvirt tells no `undefined` of it: the source's agent lists soon, not only when its interval is over."""
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    source = stack.start_node(SOURCE, hypervisors.source.uri, heartbeat_interval=HEARTBEAT_S)
    stack.start_node(DESTINATION, hypervisors.destination.uri, heartbeat_interval=HEARTBEAT_S)
    wait_shown(stack, vm, "running", SOURCE)
    wait_until(lambda: domains_listed(source) == 1, "the source's first listing")
    flags = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    with Watching(stack, vm) as watching:
        with Migration(domain, hypervisors.destination, flags=flags) as migration:
            assert migration.finish() == ""
        wait_shown(stack, vm, "running", DESTINATION)
        wait_until(lambda: domains_listed(source) == 0, "the source to list that it has nothing")
        stack.wait_drained()
        arrived = hypervisors.connect(hypervisors.destination).lookupByUUIDString(vm)
        arrived.destroy()
        arrived.undefine()
        wait_until(lambda: shown(stack, vm) is None, "the VM to be gone from the picture")
    assert ("shutoff", SOURCE) not in watching.shown
    assert watching.states <= {"running", "paused", "unknown", "in_shutdown", "shutoff", "none"}


def wait_handed_over(cluster: Stack, hypervisors: Hypervisors, vm: str, migration: Migration) -> None:
    """Let the source's QEMU send all, while the destination's libvirtd hangs and so cannot let the VM run there."""
    migration.wait_under_way()
    hypervisors.destination.freeze()
    migration.speed_up()
    wait_until(lambda: LEFT[0] in told(cluster, vm, SOURCE), "the source to stand still")


def restart_agent(cluster: Stack, node: str) -> None:
    """As the service manager does when it has ended because libvirtd was lost."""
    agent = cluster.nodes[node]
    if agent.process_ended():
        agent.start()
        cluster.wait_listening(agent)


def test_a_hand_over_that_fails_leaves_the_vm_running_on_the_source(cluster: Stack, hypervisors: Hypervisors) -> None:
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    with Watching(cluster, vm) as watching, Migration(domain, hypervisors.destination, slow=True) as migration:
        wait_handed_over(cluster, hypervisors, vm, migration)
        assert migration.finish() != ""
        wait_until(lambda: told(cluster, vm, SOURCE)[-1] == ("resumed", "migrated"), "the source to go on")
        hypervisors.destination.thaw()
        restart_agent(cluster, DESTINATION)
        cluster.wait_drained()
        wait_shown(cluster, vm, "running", SOURCE)
    assert watching.states <= {"running", "paused"}, watching.shown
    assert {seen[1] for seen in watching.shown if seen and seen[0] == "running"} == {SOURCE}


def test_a_vm_of_which_the_source_never_learns_that_it_arrived_runs_on_the_destination(
    cluster: Stack, hypervisors: Hypervisors, short_path: Path
) -> None:
    """The source keeps a QEMU that stands still, until a person destroys it: no duplicate, and no pause of the VM."""
    domain = hypervisors.start("web")
    vm = domain.UUIDString()
    wait_shown(cluster, vm, "running", SOURCE)
    there = hypervisors.destination
    with (
        Wire(str(short_path / "wire"), str(there.sockets / "libvirt-sock")) as wire,
        Watching(cluster, vm) as watching,
        Migration(domain, there, slow=True, uri=f"qemu+unix:///system?socket={wire.at}") as migration,
    ):
        migration.wait_under_way()
        wire.stall_answers()
        migration.speed_up()
        assert migration.finish() != ""
        wait_shown(cluster, vm, "running", DESTINATION)
        assert domain.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION]
        cluster.nodes[SOURCE].restart_after_kill()
        cluster.wait_listening(cluster.nodes[SOURCE])
        cluster.wait_drained()
        wait_shown(cluster, vm, "running", DESTINATION)
        domain.destroy()
        wait_until(lambda: told(cluster, vm, SOURCE)[-1] == ("stopped", "destroyed"), "its end to be told")
        wait_shown(cluster, vm, "running", DESTINATION)
    assert watching.states <= {"running", "paused"}, watching.shown
    assert duplicates(cluster, vm) == []
