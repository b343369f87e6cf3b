"""Each program killed with -9 in the middle of a stream and restarted: nothing missing, nothing twice, in order."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.observer import Observer
from tests.testbed.service import Service
from tests.testbed.stack import Row, Stack
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

pytestmark = needs_libvirtd()

VMS = tuple(f"vm{number}" for number in range(4))


@contextmanager
def stream(daemon: TestDriverDaemon) -> Iterator[Callable[[int], None]]:
    """VMs start and stop as fast as libvirt goes; yields a function that waits for so many more rounds."""
    ending = threading.Event()
    rounds = Counter[str]()

    def work() -> None:
        domains = [daemon.connection.lookupByName(name) for name in VMS]
        while not ending.is_set():
            for domain in domains:
                domain.create()
                domain.suspend()
                domain.resume()
                domain.destroy()
            rounds["all"] += 1
            ending.wait(0.01)

    thread = threading.Thread(target=work, daemon=True)

    def more(count: int) -> None:
        start = rounds["all"]
        wait_until(lambda: rounds["all"] >= start + count, f"{count} more rounds of the stream")

    thread.start()
    try:
        yield more
    finally:
        ending.set()
        thread.join(60)


def in_nodes_order(rows: list[Row]) -> list[tuple[str, str, str]]:
    rows = sorted(rows, key=lambda row: (int(row["epoch"]), int(row["seq"])))
    return [(row["name"], row["event"], row["detail"]) for row in rows]


def assert_each_once_and_in_order(rows: list[Row]) -> None:
    keys = Counter((row["node"], row["epoch"], row["seq"]) for row in rows)
    assert {key: count for key, count in keys.items() if count > 1} == {}
    last: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        vm, place = (row["node"], row["uuid"]), (int(row["epoch"]), int(row["seq"]))
        assert last.get(vm, (0, 0)) < place, f"out of order: {row}"
        last[vm] = place


def kill_a_worker(stack: Stack) -> None:
    children = psutil.Process(stack.master.pid).children()
    assert children
    children[0].kill()


@pytest.mark.parametrize("victim", ["master", "panel", "worker"])
def test_a_kill_in_the_middle_of_a_stream_loses_and_doubles_nothing(
    stack: Stack, tmp_path: Path, victim: str
) -> None:
    kill: dict[str, Callable[[], None]] = {
        "master": stack.master.restart_after_kill,
        "panel": stack.panel.restart_after_kill,
        "worker": lambda: kill_a_worker(stack),
    }
    with TestDriverDaemon(tmp_path / "libvirt", domains=VMS) as daemon:
        stack.start_node("n", daemon.uri)
        with Observer(daemon.uri, tmp_path / "observer") as observer:
            with stream(daemon) as more:
                for _ in range(3):
                    more(15)
                    kill[victim]()
                    more(15)
            stack.wait_drained()
            wait_until(lambda: len(observer.events) >= len(stack.panel.events()), "the observer to have printed all")
            seen = [(one.domain, one.event, one.detail) for one in observer.events]
        rows = stack.panel.events()
        assert_each_once_and_in_order(rows)
        assert in_nodes_order(rows) == seen
        # A node that was away is believed again with its next listing.
        wait_until(lambda: {vm["vmstatus"] for vm in stack.panel.vms().values()} == {"shutoff"}, "the picture")


def committed_events(node: Service) -> int:
    """What lies in its outbox beside listings and its own words."""
    with closing(sqlite3.connect(node.prefix / "var" / "vmwatch-node.db")) as outbox:
        return int(outbox.execute("SELECT count(*) FROM message WHERE type = 'event'").fetchone()[0])


def test_what_a_killed_node_had_committed_is_registered_once_after_its_restart(stack: Stack, tmp_path: Path) -> None:
    with TestDriverDaemon(tmp_path / "libvirt", domains=VMS) as daemon:
        node = stack.start_node("n", daemon.uri)
        stack.wait_drained()
        stack.panel.kill()
        domain = daemon.connection.lookupByName("vm0")
        for _ in range(50):
            domain.create()
            domain.destroy()
        wait_until(lambda: committed_events(node) == 100, "a hundred events in the outbox")
        node.kill()
        domain.create()  # no one tells this one; the inventory after the restart puts the picture right
        node.start()
        stack.panel.start()
        stack.wait_drained()
        rows = stack.panel.events()
        assert_each_once_and_in_order(rows)
        assert [row["event"] for row in rows] == ["started", "stopped"] * 50
        uuid = daemon.uuid_of("vm0")
        wait_until(lambda: stack.panel.vms()[uuid]["vmstatus"] == "running", "the picture to be right again")


def test_libvirtd_killed_ends_the_node_with_69_and_a_restart_puts_the_picture_right(
    stack: Stack, tmp_path: Path
) -> None:
    with TestDriverDaemon(tmp_path / "libvirt", domains=VMS) as daemon:
        node = stack.start_node("n", daemon.uri)
        daemon.connection.lookupByName("vm1").create()
        stack.wait_drained()
        uuid = daemon.uuid_of("vm1")
        wait_until(lambda: stack.panel.vms()[uuid]["vmstatus"] == "running", "the VM to be seen running")
        daemon.kill()
        assert node.wait() == 69
        node.launch()
        wait_until(lambda: node.status, "the node to wait for libvirtd")
        assert stack.panel.vms()[uuid]["vmstatus"] != "shutoff"
        daemon.start()
        wait_until(lambda: stack.panel.vms()[uuid]["vmstatus"] == "shutoff", "the inventory of the new libvirtd")
        assert set(stack.panel.vms()) == {daemon.uuid_of(name) for name in VMS}


def test_two_nodes_with_a_libvirtd_each_keep_their_own_vms(stack: Stack, tmp_path: Path) -> None:
    with (
        TestDriverDaemon(tmp_path / "a", domains=("one", "two")) as first,
        TestDriverDaemon(tmp_path / "b", domains=("one", "three")) as second,
    ):
        stack.start_node("a", first.uri)
        stack.start_node("b", second.uri)
        for daemon in (first, second):
            daemon.connection.lookupByName("one").create()
        first.connection.lookupByName("two").create()
        stack.wait_drained()
        wait_until(lambda: len(stack.panel.vms()) == 4, "four VMs")
        truth = {
            ("a", "one"): "running",
            ("a", "two"): "running",
            ("b", "one"): "running",
            ("b", "three"): "shutoff",
        }

        def picture() -> dict[tuple[str, str], str]:
            return {(vm["hostnode"], vm["name"]): vm["vmstatus"] for vm in stack.panel.vms().values()}

        wait_until(lambda: picture() == truth, "the picture of both nodes")
        nodes = {row["name"] for row in stack.panel.rows("vmhostnode")}
        assert nodes == {"a", "b"}
