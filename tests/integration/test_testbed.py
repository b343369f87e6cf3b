"""The test bed itself: private daemons that do what a libvirt does, and of which nothing stays."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import libvirt
import pytest

from tests.testbed import guests
from tests.testbed.daemon import PrivateDaemon, needs_libvirtd, quiet_libvirt
from tests.testbed.observer import Observed, Observer, parse
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import LOOPBACK, free_port, free_port_pair, wait_until
from tests.testbed.wire import Wire

REPOSITORY = Path(__file__).parents[2]

NOBODY = 65534
READS_EVERYTHING = "-all,+dac_read_search"
"""The interpreter may lie where only root can read; a user without privileges is otherwise what `setpriv` makes."""

SESSION_SCRIPT = """
import os, sys
from pathlib import Path
from tests.testbed.testdriver import TestDriverDaemon

with TestDriverDaemon(Path(sys.argv[1]), domains=("vm1",)) as daemon:
    daemon.kill()
    daemon.start()
    print(os.geteuid(), daemon.connection.listDefinedDomains(), daemon.sockets)
"""

ABANDONING_SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.testbed.testdriver import TestDriverDaemon

daemon = TestDriverDaemon(Path(sys.argv[1]))
daemon.start()
print(daemon.sockets, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def virsh(uri: str, *arguments: str) -> str:
    return subprocess.run(
        ["virsh", "-c", uri, *arguments], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def names(uri: str) -> list[str]:
    return sorted(virsh(uri, "list", "--all", "--name").split())


def can_open(uri: str) -> bool:
    try:
        with quiet_libvirt():
            libvirt.open(uri).close()
    except libvirt.libvirtError:
        return False
    return True


def processes_naming(text: str) -> list[str]:
    """The command lines that hold `text`, on the whole machine. A pid says less: it may have a new owner."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended in between
            continue
        if text in command:
            found.append(command)
    return found


def mounts_over_libvirt() -> list[str]:
    """What this process's own mount namespace has at the folders that a private daemon sees empty."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[1] in QemuDaemon.masked]


def assert_nothing_left(daemon: PrivateDaemon) -> None:
    assert not daemon.sockets.exists()
    assert str(daemon.sockets) not in Path("/proc/net/unix").read_text()
    assert processes_naming(str(daemon.sockets)) == []


@pytest.fixture
def test_daemon(tmp_path: Path) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path / "libvirt", domains=("vm1",)) as daemon:
        yield daemon


@needs_libvirtd()
class TestTestDriver:
    def test_serves_only_its_own_domains(self, test_daemon: TestDriverDaemon) -> None:
        test_daemon.define("vm2", str(uuid4()))
        assert names(test_daemon.uri) == ["vm1", "vm2"]
        assert names(test_daemon.uri_readonly) == ["vm1", "vm2"]

    def test_two_daemons_share_no_uuid(self, tmp_path: Path) -> None:
        with TestDriverDaemon(tmp_path / "a") as one, TestDriverDaemon(tmp_path / "b") as other:
            assert one.define("vm1").UUIDString() != other.define("vm1").UUIDString()
            assert one.define("vm1").UUIDString() == one.uuid_of("vm1")

    def test_events_reach_an_observer_in_order(self, test_daemon: TestDriverDaemon, tmp_path: Path) -> None:
        domain = test_daemon.connection.lookupByName("vm1")
        with Observer(test_daemon.uri, tmp_path / "observer") as observer:
            domain.create()
            domain.suspend()
            virsh(test_daemon.uri, "resume", "vm1")
            domain.destroy()
            observer.wait_for("vm1", "stopped", "destroyed")
            domain.rename("vm2")
            observer.wait_for("vm2", "defined", "renamed")
        assert observer.events == [
            Observed("vm1", "started", "booted"),
            Observed("vm1", "suspended", "paused"),
            Observed("vm1", "resumed", "unpaused"),
            Observed("vm1", "stopped", "destroyed"),
            Observed("vm1", "undefined", "renamed"),
            Observed("vm2", "defined", "renamed"),
        ]

    def test_a_killed_daemon_is_gone_and_comes_back(self, test_daemon: TestDriverDaemon, tmp_path: Path) -> None:
        test_daemon.define("forgotten").create()
        killed = test_daemon.pid
        with Observer(test_daemon.uri, tmp_path / "observer") as observer:
            test_daemon.kill()
            wait_until(lambda: not observer.is_running, "the observer to notice")
        assert not Path(f"/proc/{killed}").exists()
        assert not can_open(test_daemon.uri)
        test_daemon.start()
        assert test_daemon.pid != killed
        assert names(test_daemon.uri) == ["vm1"]
        assert test_daemon.connection.lookupByName("vm1").UUIDString() == test_daemon.uuid_of("vm1")

    @pytest.mark.parametrize("graceful", [True, False])
    def test_stop_and_start(self, test_daemon: TestDriverDaemon, graceful: bool) -> None:
        test_daemon.stop(graceful)
        assert not test_daemon.is_running
        assert not can_open(test_daemon.uri)
        test_daemon.start()
        assert can_open(test_daemon.uri)

    def test_a_frozen_daemon_answers_only_when_thawed(self, test_daemon: TestDriverDaemon) -> None:
        test_daemon.freeze()
        with subprocess.Popen(
            ["virsh", "-c", test_daemon.uri, "list", "--all", "--name"], stdout=subprocess.PIPE
        ) as asking:
            with pytest.raises(subprocess.TimeoutExpired):
                asking.wait(0.5)
            test_daemon.thaw()
            answer, _ = asking.communicate(timeout=60)
        assert answer.split() == [b"vm1"]

    @pytest.mark.parametrize("state", ["running", "killed", "frozen"])
    def test_nothing_is_left_in_whatever_state_it_ends(self, tmp_path: Path, state: str) -> None:
        token_folder = Path("/run/libvirt")
        had_token_folder = token_folder.exists()
        with TestDriverDaemon(tmp_path / "libvirt") as daemon:
            if state == "killed":
                daemon.kill()
            elif state == "frozen":
                daemon.freeze()
        assert_nothing_left(daemon)
        daemon.close()  # a second time does no harm
        if os.geteuid() == 0:
            assert token_folder.exists() == had_token_folder

    def test_nothing_is_left_when_the_start_fails(self, tmp_path: Path) -> None:
        daemon = TestDriverDaemon(tmp_path / "libvirt", domains=("not a name/",))
        with pytest.raises(libvirt.libvirtError), quiet_libvirt(), daemon:
            pytest.fail("started")
        assert_nothing_left(daemon)

    def test_nothing_is_left_when_never_started(self, tmp_path: Path) -> None:
        daemon = TestDriverDaemon(tmp_path / "libvirt")
        daemon.close()
        assert_nothing_left(daemon)

    def test_nothing_is_left_when_the_test_process_is_killed(self, tmp_path: Path) -> None:
        run = subprocess.run(
            [sys.executable, "-c", ABANDONING_SCRIPT, str(tmp_path / "libvirt")],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        assert run.returncode == -signal.SIGKILL
        sockets = run.stdout.strip()
        wait_until(lambda: not processes_naming(sockets), "the keeper to clean up")
        assert not Path(sockets).exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="without root every test here is this one")
    def test_works_without_privileges(self) -> None:
        folder = Path("/tmp") / f"vmwatch-{uuid4()}"
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        unprivileged = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        unprivileged += [f"--inh-caps={READS_EVERYTHING}", f"--ambient-caps={READS_EVERYTHING}"]
        try:
            run = subprocess.run(
                [*unprivileged, sys.executable, "-c", SESSION_SCRIPT, str(folder)],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                text=True,
                timeout=120,
            )
        finally:
            shutil.rmtree(folder)
        user, defined, sockets = run.stdout.split()
        assert (user, defined) == (str(NOBODY), "['vm1']")
        assert not Path(sockets).exists()
        assert processes_naming(sockets) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
    def test_another_user_reaches_both_sockets(self, test_daemon: TestDriverDaemon) -> None:
        for uri in (test_daemon.uri, test_daemon.uri_readonly):
            listing = subprocess.run(
                ["virsh", "-c", uri, "list", "--all", "--name"],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                check=True,
                capture_output=True,
                timeout=60,
            )
            assert listing.stdout.split() == [b"vm1"]


class Hypervisor:
    """A hypervisor, its connection, its observer, and VMs made from boot sectors."""

    def __init__(self, daemon: QemuDaemon, observer: Observer, folder: Path) -> None:
        self.daemon = daemon
        self.observer = observer
        self.folder = folder
        self.connection = libvirt.open(daemon.uri)

    def start(self, name: str, sector: bytes, on_reboot: str = "restart") -> libvirt.virDomain:
        image = guests.write_disk(self.folder / f"{name}.img", sector)
        domain = self.connection.defineXML(guests.domain_xml(name, str(uuid4()), image, on_reboot=on_reboot))
        domain.create()
        return domain


@pytest.fixture
def hypervisor(tmp_path: Path) -> Iterator[Hypervisor]:
    with QemuDaemon(tmp_path / "libvirt") as daemon, Observer(daemon.uri, tmp_path / "observer") as observer:
        yield Hypervisor(daemon, observer, tmp_path)


@needs_root()
class TestQemu:
    def test_start_and_destroy(self, hypervisor: Hypervisor) -> None:
        domain = hypervisor.start("vm1", guests.idle())
        assert "qemu-system" in Path(f"/proc/{hypervisor.daemon.qemu_pid('vm1')}/exe").readlink().name
        domain.destroy()
        hypervisor.observer.wait_for("vm1", "stopped", "destroyed")
        assert hypervisor.observer.events_of("vm1") == [
            ("defined", "added"),
            ("resumed", "unpaused"),
            ("started", "booted"),
            ("shutdown", "host"),
            ("stopped", "destroyed"),
        ]

    def test_a_guest_resets_itself(self, hypervisor: Hypervisor) -> None:
        hypervisor.start("vm1", guests.resets_after(5))
        hypervisor.observer.wait_for("vm1", "reboot")
        assert virsh(hypervisor.daemon.uri, "domstate", "vm1").strip() == "running"

    def test_a_guest_that_may_not_reset_stops(self, hypervisor: Hypervisor) -> None:
        hypervisor.start("vm1", guests.resets_after(5), on_reboot="destroy")
        hypervisor.observer.wait_for("vm1", "stopped", "shutdown")
        assert ("reboot", "") not in hypervisor.observer.events_of("vm1")

    def test_a_guest_powers_itself_off(self, hypervisor: Hypervisor) -> None:
        hypervisor.start("vm1", guests.powers_off_after(5))
        hypervisor.observer.wait_for("vm1", "stopped", "shutdown")
        assert hypervisor.observer.events_of("vm1")[-2:] == [("shutdown", "guest"), ("stopped", "shutdown")]

    def test_a_killed_qemu(self, hypervisor: Hypervisor) -> None:
        hypervisor.start("vm1", guests.idle())
        os.kill(hypervisor.daemon.qemu_pid("vm1"), signal.SIGKILL)
        hypervisor.observer.wait_for("vm1", "stopped", "failed")

    def test_vms_outlive_libvirtd(self, hypervisor: Hypervisor) -> None:
        hypervisor.start("vm1", guests.idle())
        qemu = hypervisor.daemon.qemu_pid("vm1")
        hypervisor.daemon.kill()
        assert not can_open(hypervisor.daemon.uri)
        hypervisor.daemon.restart()
        assert virsh(hypervisor.daemon.uri, "domstate", "vm1").strip() == "running"
        hypervisor.daemon.restart()
        assert virsh(hypervisor.daemon.uri, "domstate", "vm1").strip() == "running"
        assert hypervisor.daemon.qemu_pid("vm1") == qemu

    def test_two_are_two_hypervisors(self, tmp_path: Path) -> None:
        uuids = [str(uuid4()), str(uuid4())]
        with (
            QemuDaemon(tmp_path / "a", host_uuid=uuids[0]) as one,
            QemuDaemon(tmp_path / "b", host_uuid=uuids[1]) as other,
        ):
            for daemon, host_uuid in zip((one, other), uuids, strict=True):
                assert host_uuid in virsh(daemon.uri, "capabilities")
            image = guests.write_disk(tmp_path / "vm1.img", guests.idle())
            libvirt.open(one.uri).defineXML(guests.domain_xml("vm1", str(uuid4()), image))
            assert names(one.uri) == ["vm1"]
            assert names(other.uri) == []

    @pytest.mark.parametrize("libvirtd_lives", [True, False])
    def test_nothing_is_left(self, tmp_path: Path, libvirtd_lives: bool) -> None:
        mounts = mounts_over_libvirt()
        with QemuDaemon(tmp_path / "libvirt") as daemon, Observer(daemon.uri, tmp_path) as observer:
            Hypervisor(daemon, observer, tmp_path).start("vm1", guests.idle())
            if not libvirtd_lives:
                daemon.kill()
            assert processes_naming(str(tmp_path / "vm1.img")) != []
            daemon.stop()
            assert processes_naming(str(tmp_path / "vm1.img")) == []
        assert_nothing_left(daemon)
        assert mounts_over_libvirt() == mounts
        assert (tmp_path / "libvirt" / "qemu" / "vm1.log").exists()


class TestObserverLines:
    @pytest.mark.parametrize(
        ("line", "event"),
        [
            ("event 'lifecycle' for domain 'vm1': Started Booted", ("vm1", "started", "booted")),
            ("event 'lifecycle' for domain 'a b': Suspended I/O Error", ("a b", "suspended", "ioerror")),
            (
                "event 'lifecycle' for domain 'vm1': Shutdown Finished after guest request",
                ("vm1", "shutdown", "guest"),
            ),
            ("event 'reboot' for domain 'vm1'", ("vm1", "reboot", "")),
            ("event 'device-removed' for domain 'it's': disk0", ("it's", "device_removed", "disk0")),
            ("events received: 7", None),
        ],
    )
    def test_parse(self, line: str, event: tuple[str, str, str] | None) -> None:
        assert parse(f"2026-01-02 03:04:05.678+0000: {line}") == event


class TestWire:
    def test_a_reset_breaks_also_what_nobody_has_accepted_yet(self) -> None:
        """The kernel connects whoever calls, long before the wire's thread may have its turn."""
        port = free_port()
        wire = Wire((LOOPBACK, port), (LOOPBACK, port))
        with socket.create_connection((LOOPBACK, port), 60) as caller:
            wire.reset()
            with contextlib.suppress(ConnectionResetError):
                assert caller.recv(1) == b""
        with wire:
            assert wire.carried == 0


class TestWaiting:
    def test_returns_the_answer(self) -> None:
        answers = iter([0, 0, 7])
        assert wait_until(lambda: next(answers), "a number") == 7

    def test_names_what_never_came(self) -> None:
        with pytest.raises(AssertionError, match=r"waited 0\.05 s in vain for the moon; the last answer was \[\]"):
            wait_until(list, "the moon", timeout_s=0.05)

    def test_ports_can_be_bound(self) -> None:
        first = free_port_pair()
        for port in (first, first + 1, free_port()):
            with socket.create_server((LOOPBACK, port)):
                pass

    def test_a_busy_neighbour_makes_no_pair(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = free_port_pair()
        with socket.create_server((LOOPBACK, first + 1)):
            monkeypatch.setattr("random.randint", lambda low, high: first)
            with pytest.raises(AssertionError, match="found no 2 neighbouring free TCP ports"):
                free_port_pair()
