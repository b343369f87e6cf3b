"""`vmwatch demo` and the other commands of `vmwatch`, run for real; and that the demo leaves nothing behind."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.demo import Demo
from tests.testbed.service import command
from tests.testbed.waiting import LOOPBACK, free_port, wait_until
from vmwatch.shared.exits import Exit

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
READS_EVERYTHING = "-all,+dac_read_search"
"""The interpreter may lie where only root can read; a user without privileges is otherwise what `setpriv` makes."""
NO_FIXUP = "--securebits=+no_setuid_fixup"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"

pytestmark = needs_libvirtd()


def traces(folder: str) -> list[str]:
    """Processes that were started with this folder in their command or their environment, and sockets in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # ended in between, or another user's
            continue
        if folder.encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found + [line for line in Path("/proc/net/unix").read_text().splitlines() if folder in line]


@pytest.fixture
def demo() -> Iterator[Demo]:
    with Demo() as running:
        running.wait_ready()
        yield running


def virsh(uri: str, *arguments: str) -> None:
    subprocess.run(["virsh", "-c", uri, *arguments], check=True, capture_output=True, timeout=60)


def vmwatch(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("vmwatch"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


def assert_nothing_left(folder: str) -> None:
    assert traces(folder) == []
    assert not Path(folder).exists()


class TestDemo:
    def test_an_event_is_printed_and_registered(self, demo: Demo) -> None:
        virsh(demo.uri, "destroy", "web-1")
        demo.wait_for(rf"{TIME}  kvm-01  web-1  stopped/destroyed  shutoff  registered after -?\d+ ms\n")
        rows = vmwatch("events", "--name", "web-1", environment=demo.environment()).stdout.splitlines()
        assert [row.split("\t")[4:8] for row in rows][-1] == ["web-1", "stopped", "destroyed", "shutoff"]
        folder = demo.folder
        assert demo.end(signal.SIGINT) == Exit.OK
        assert "Nothing is left." in demo.printed
        assert_nothing_left(folder)

    def test_the_vms_are_in_their_states(self, demo: Demo) -> None:
        rows = vmwatch("vms", environment=demo.environment()).stdout.splitlines()
        states = {name: state for _, name, _, state, *_ in (row.split("\t") for row in rows)}
        assert states == {
            "web-1": "running",
            "db-1": "running",
            "staging-1": "paused",
            "archive-1": "shutoff",
            "ci-job-1": "running",
        }
        paused = vmwatch("vms", "--state", "paused", environment=demo.environment()).stdout
        assert [row.split("\t")[1] for row in paused.splitlines()] == ["staging-1"]

    def test_every_command_that_it_proposes_works(self, demo: Demo) -> None:
        proposed = re.findall(r"^  ((?:virsh|kill) .*)$", demo.printed, re.MULTILINE)
        assert len(proposed) == 4
        for line in [proposed[3], *proposed[:3]]:  # the master dies first: the events must survive that
            subprocess.run(line, shell=True, check=True, capture_output=True, timeout=60)
        for event in ("web-1  stopped/destroyed", "archive-1  started/booted", "staging-1  resumed/unpaused"):
            demo.wait_for(event)

    def test_it_survives_the_end_of_its_libvirtd(self, demo: Demo) -> None:
        folder = Path(demo.folder)
        agent = int((folder / "var/run/vmwatch-node.pid").read_text())
        os.kill(int((folder / "libvirt/libvirtd.pid").read_text()), signal.SIGKILL)

        def is_connected_again() -> bool:
            log = (folder / "var/vmwatch-node.log").read_text().splitlines()
            return any("connected to libvirt" in line and f"[{agent}]" not in line for line in log)

        wait_until(is_connected_again, "a new agent to be connected to a new libvirtd")
        virsh(demo.uri, "destroy", "db-1")
        demo.wait_for("db-1  stopped/destroyed")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_it_and_nothing_is_left(self, demo: Demo, number: signal.Signals) -> None:
        folder = demo.folder
        assert demo.end(number) == Exit.OK
        assert_nothing_left(folder)

    def test_an_interrupt_while_it_starts(self) -> None:
        with Demo() as demo:
            demo.wait_for("Starting libvirtd")
            folder = demo.folder
            assert demo.end(signal.SIGINT) == Exit.OK
            assert "Traceback" not in demo.printed
        assert_nothing_left(folder)

    def test_nothing_is_left_when_it_is_killed(self, demo: Demo) -> None:
        folder = demo.folder
        demo.end(signal.SIGKILL)
        wait_until(lambda: not traces(folder) and not Path(folder).exists(), "the keeper to clean up")

    def test_nothing_is_left_when_its_keeper_is_killed(self, demo: Demo) -> None:
        folder = demo.folder
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(demo.process.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(children.stdout), signal.SIGKILL)
        assert demo.wait() == Exit.FAILURE
        assert "supervisord has ended" in demo.printed
        assert_nothing_left(folder)

    def test_nothing_is_left_when_nobody_reads_its_output(self) -> None:
        process = subprocess.Popen(
            [command("vmwatch"), "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        process.stdout.close()
        _, errors = process.communicate(timeout=120)
        assert errors == ""
        assert_nothing_left(first.split()[-1])

    def test_taken_ports_are_said_and_others_used(self) -> None:
        with contextlib.ExitStack() as taken:
            for port in (1500, 1516):
                with contextlib.suppress(OSError):  # somebody else has it: just as good
                    taken.enter_context(socket.create_server((LOOPBACK, port)))
            with Demo() as demo:
                other = demo.wait_for(r"Port 1500 is taken: the panel uses (\d+)\.")[1]
                demo.wait_for(r"Port 1515 or 1516 is taken: the master uses \d+ and \d+\.")
                demo.wait_for(rf"page\s+http://127\.0\.0\.1:{other}/vmmgr")

    @pytest.mark.skipif(os.geteuid() != 0, reason="without root every test here is this one")
    def test_works_without_privileges(self) -> None:
        unprivileged = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        # The last one lets access(2), which supervisord asks, count the capabilities of a user who is not root.
        capable = (f"--inh-caps={READS_EVERYTHING}", f"--ambient-caps={READS_EVERYTHING}", NO_FIXUP)
        with Demo(prefix=unprivileged + capable) as demo:
            folder = demo.folder
            virsh(demo.uri, "start", "archive-1")
            demo.wait_for("archive-1  started/booted")
            assert Path(folder).stat().st_uid == NOBODY
            assert demo.end(signal.SIGINT) == Exit.OK
        assert_nothing_left(folder)

    def test_nothing_outside_is_touched(self, demo: Demo) -> None:
        virsh(demo.uri, "destroy", "web-1")
        demo.wait_for("web-1  stopped")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if demo.folder.encode() not in (process / "environ").read_bytes():
                    continue
                opened = [str(entry.readlink()) for entry in (process / "fd").iterdir()]
                mounts = (process / "mounts").read_bytes()
            except OSError:
                continue
            assert mounts == Path("/proc/self/mounts").read_bytes()
            foreign = [path for path in opened if path.startswith(("/run", "/var", "/home", "/root", "/etc"))]
            assert foreign == []


class TestFolder:
    def test_a_chosen_folder_is_kept_and_used_again(self, short_path: Path) -> None:
        shutil.rmtree(short_path)
        for _ in range(2):
            with Demo("--folder", str(short_path)) as demo:
                demo.wait_ready()
                rows = vmwatch("vms", environment=demo.environment()).stdout.splitlines()
                assert len(rows) == 5
                assert demo.end(signal.SIGINT) == Exit.OK
                assert f"Its files are in {short_path}" in demo.printed
            assert traces(str(short_path)) == []
            assert (short_path / "var" / "vmwatch-panel.db").exists()

    def test_the_folder_in_tmp_can_be_kept(self) -> None:
        with Demo("--keep") as demo:
            demo.wait_ready()
            folder = demo.folder
            assert demo.end(signal.SIGINT) == Exit.OK
        assert traces(folder) == []
        assert (Path(folder) / "var" / "vmwatch-node.log").exists()
        shutil.rmtree(folder)

    def test_someone_elses_files_are_refused(self, short_path: Path) -> None:
        (short_path / "mine").touch()
        refused = vmwatch("demo", "--folder", str(short_path))
        assert (refused.returncode, refused.stdout) == (Exit.FAILURE, "")
        assert "is not empty" in refused.stderr
        assert [path.name for path in short_path.iterdir()] == ["mine"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a b", "only letters"),
            ("%s", "only letters"),
            ("x" * 80, "because of UNIX sockets"),
            ("file", "not a folder"),
        ],
    )
    def test_an_unusable_folder_is_refused(self, short_path: Path, name: str, text: str) -> None:
        (short_path / "file").touch()
        refused = vmwatch("demo", "--folder", str(short_path / name))
        assert refused.returncode == Exit.FAILURE
        assert text in refused.stderr
        assert "Traceback" not in refused.stderr

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root's libvirtd runs as another user")
    def test_a_folder_that_libvirtd_cannot_reach_is_refused(self, short_path: Path) -> None:
        short_path.chmod(0o700)
        refused = vmwatch("demo", "--folder", str(short_path / "inner"))
        assert refused.returncode == Exit.FAILURE
        assert f"cannot get through {short_path};" in refused.stderr

    def test_a_part_that_fails_is_named_with_the_tail_of_its_log(self, short_path: Path) -> None:
        (short_path / "vmwatch-demo").touch()
        (short_path / "var").mkdir()
        (short_path / "var" / "vmwatch-node.db").mkdir()
        with Demo("--folder", str(short_path)) as demo:
            assert demo.wait() == Exit.FAILURE
            assert "vmwatch-node has failed (" in demo.printed
            assert re.search(r"vmwatch-node\.db", demo.printed)
            assert "Traceback" not in demo.printed.partition("vmwatch-node has failed")[0]
        assert traces(str(short_path)) == []

    def test_a_panel_that_cannot_start_is_said(self, short_path: Path) -> None:
        (short_path / "vmwatch-demo").touch()
        (short_path / "var").mkdir()
        (short_path / "var" / "vmwatch-panel.db").write_bytes(b"no database" * 100)
        with Demo("--folder", str(short_path)) as demo:
            assert demo.wait() == Exit.FAILURE
            assert "vmwatch-panel could not make its accounts" in demo.printed
        assert traces(str(short_path)) == []


class TestVisitorsLibvirt:
    @pytest.mark.parametrize("uri", ["qemu+nonsense:///system", "no address"])
    def test_an_impossible_address_is_refused(self, uri: str) -> None:
        with Demo("--libvirt-uri", uri) as demo:
            assert demo.wait() == Exit.FAILURE
            assert f"vmwatch: --libvirt-uri {uri}: " in demo.printed
            assert "Traceback" not in demo.printed
        assert_nothing_left(demo.folder)

    def test_a_libvirtd_that_does_not_run_is_waited_for(self, short_path: Path) -> None:
        uri = f"qemu+unix:///system?socket={short_path}/nobody"
        with Demo("--libvirt-uri", uri) as demo:
            demo.wait_for(re.escape(f"It will watch the VMs of {uri}, read-only. Nobody answers there yet:"))
            demo.wait_for("No such file or directory")
            demo.wait_for("The node waits for it")
            folder = demo.folder
            assert demo.end(signal.SIGINT) == Exit.OK
        assert_nothing_left(folder)

    def test_a_running_libvirtd_is_watched_and_not_changed(self, demo: Demo) -> None:
        with Demo("--libvirt-uri", demo.uri) as second:
            second.wait_for("read-only: it changes nothing there")
            second.wait_ready()
            virsh(demo.uri, "suspend", "db-1")
            second.wait_for("db-1  suspended/paused  paused")
            assert "libvirtd" not in second.wait_for("Starting (.*)")[1]


class TestCommands:
    def test_usage(self) -> None:
        for wrong in (["demo", "--nonsense"], ["nonsense"], ["events", "--count", "0"], ["vms", "extra"]):
            said = vmwatch(*wrong)
            assert (said.returncode, said.stdout) == (Exit.USAGE, "")
            assert "Usage: vmwatch" in said.stderr

    def test_version_and_help(self) -> None:
        assert re.fullmatch(r"vmwatch \d+\.\d+\.\d+\n", vmwatch("--version").stdout)
        for arguments in (["--help"], ["demo", "--help"], ["events", "--help"]):
            assert vmwatch(*arguments).returncode == Exit.OK

    def test_a_panel_that_is_not_there(self) -> None:
        environment = {**os.environ, "VMWATCH_PASSWORD": "x"}
        said = vmwatch("vms", "--url", f"http://{LOOPBACK}:{free_port()}/vmmgr", environment=environment)
        assert said.returncode == Exit.FAILURE
        assert "cannot be reached: Connection refused" in said.stderr
        assert len(said.stderr.splitlines()) == 1

    @pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/", "http://", "http://[::1/vmmgr"])
    def test_an_address_that_is_none(self, url: str) -> None:
        said = vmwatch("vms", "--url", url, environment={**os.environ, "VMWATCH_PASSWORD": "x"})
        assert said.returncode == Exit.FAILURE
        assert len(said.stderr.splitlines()) == 1

    def test_without_a_password(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "VMWATCH_PASSWORD"}
        said = vmwatch("vms", environment=environment)
        assert said.returncode == Exit.FAILURE
        assert "set VMWATCH_PASSWORD" in said.stderr

    def test_a_wrong_password_and_a_wrong_filter(self, demo: Demo) -> None:
        said = vmwatch("vms", environment={**demo.environment(), "VMWATCH_PASSWORD": "wrong"})
        assert said.returncode == Exit.FAILURE
        assert "the name or the password is wrong" in said.stderr
        said = vmwatch("vms", "--state", "nonsense", environment=demo.environment())
        assert said.returncode == Exit.FAILURE
        assert "vmstatus" in said.stderr

    def test_following(self, demo: Demo) -> None:
        with subprocess.Popen(
            [command("vmwatch"), "events", "--follow", "--name", "db-1"],
            stdout=subprocess.PIPE,
            text=True,
            env=demo.environment(),
        ) as following:
            assert following.stdout is not None
            virsh(demo.uri, "suspend", "db-1")
            line = following.stdout.readline()
            while "db-1  suspended/paused" not in line:
                assert line, "it has ended"
                line = following.stdout.readline()
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == Exit.OK


def test_the_command_is_what_make_run_runs() -> None:
    assert "$(BIN)/vmwatch demo" in (REPOSITORY / "Makefile").read_text()
    assert Path(sys.executable).with_name("vmwatch").exists()
