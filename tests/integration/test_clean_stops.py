"""SIGTERM at any moment of a stream (design 04, *Commands*): in order, in time, nothing left running, nothing lost."""

import base64
import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.test_supervisord import SERVICES, Supervisord
from tests.testbed.backlog import NO_LIBVIRT, assert_all_registered, fill, registered
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.service import Service, command
from tests.testbed.stack import SERVICE, Panel, Stack
from tests.testbed.stream import Stream, assert_whole, assert_whole_within_runs, told_by
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.shared.exits import Exit
from vmwatch.shared.statussocket import read_status

pytestmark = needs_libvirtd()

PROMISED_S = 10.0
"""From the signal to the end."""
ROUNDS = 15
BROKEN = 'raise ImportError("this installation is broken")\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path / "libvirt") as made:
        yield made


def processes(service: Service) -> list[psutil.Process]:
    """The program and everything that it has started."""
    program = psutil.Process(service.pid)
    return [program, *program.children(recursive=True)]


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop(service: Service) -> float:
    """SIGTERM; it ends as promised. Returns how long that took, seconds."""
    all_of_it = processes(service)
    begin = time.monotonic()
    service.signal(signal.SIGTERM)
    code = service.wait()
    took_s = time.monotonic() - begin
    assert code == Exit.OK, service.log[-3000:]
    assert took_s < PROMISED_S
    assert not [process for process in all_of_it if runs(process)]
    left = [path.name for path in (service.prefix / "var" / "run").iterdir() if path.name.startswith(service.program)]
    assert left == []
    assert "Traceback" not in service.log, service.log[-6000:]
    return took_s


def frozen(*services: Service) -> contextlib.ExitStack:
    """These services stand still while the `with` block runs."""
    thawing = contextlib.ExitStack()
    for service in services:
        service.signal(signal.SIGSTOP)
        thawing.callback(service.signal, signal.SIGCONT)
    return thawing


class TestInAStream:
    @pytest.mark.parametrize("seed", [1])
    @pytest.mark.parametrize("program", ["master", "panel"])
    def test_a_stop_at_a_random_moment_loses_and_doubles_nothing(
        self, stack: Stack, daemon: TestDriverDaemon, program: str, seed: int
    ) -> None:
        chance = random.Random(seed)
        service: Service = {"master": stack.master, "panel": stack.panel}[program]
        stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            for _ in range(ROUNDS):
                stream.more(chance.choice([0, 1, 5, 30]))
                time.sleep(chance.uniform(0, 0.1))  # the moment within a life
                stop(service)
                stream.more(chance.choice([0, 10]))
                service.start()
            stream.more(10)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    @pytest.mark.parametrize("seed", [1])
    def test_a_node_stopped_at_a_random_moment_has_lost_nothing_that_it_was_told(
        self, stack: Stack, daemon: TestDriverDaemon, seed: int
    ) -> None:
        chance = random.Random(seed)
        # A node that suddenly lists nothing is believed a minute later; one that still has a VM, at once.
        daemon.define("stays")
        node = stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            for _ in range(ROUNDS):
                stream.more(chance.choice([1, 5, 30]))
                time.sleep(chance.uniform(0, 0.1))
                stop(node)
                node.start()
                if chance.random() < 0.5:  # else the next signal comes while it still connects
                    stack.wait_listening(node)
            stack.wait_listening(node)
            stream.more(10)
        stack.wait_drained()
        rows = stack.panel.events()
        assert len({row["epoch"] for row in rows}) > ROUNDS // 2
        assert_whole_within_runs(rows, stream)
        wait_until(
            lambda: [(vm["name"], vm["vmstatus"]) for vm in stack.panel.vms().values()] == [("stays", "shutoff")],
            "the picture to be right",
            timeout_s=300,
        )

    def test_all_three_at_once_and_back_again(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        chance = random.Random(3)
        node = stack.start_node("n", daemon.uri)
        services = [stack.panel, stack.master, node]
        with Stream(daemon) as stream:
            for _ in range(5):
                stream.more(chance.choice([5, 30]))
                all_of_it = [process for service in services for process in processes(service)]
                begin = time.monotonic()
                for service in services:
                    service.signal(signal.SIGTERM)
                assert [service.wait() for service in services] == [Exit.OK] * 3
                assert time.monotonic() - begin < PROMISED_S
                assert not [process for process in all_of_it if runs(process)]
                chance.shuffle(services)
                for service in services:
                    service.start()
                stack.wait_listening(node)
        stack.wait_drained()
        assert_whole_within_runs(stack.panel.events(), stream)

    def test_a_signal_to_the_whole_process_group_loses_nothing(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        """As a service manager that signals all processes at once does; the workers then end by themselves."""
        stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            for _ in range(5):
                stream.more(10)
                all_of_it = processes(stack.master)
                for process in all_of_it:
                    process.send_signal(signal.SIGTERM)
                assert stack.master.wait() == Exit.OK
                assert not [process for process in all_of_it if runs(process)]
                stack.master.start()
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    def test_a_worker_that_is_asked_to_end_is_replaced_and_loses_nothing(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            for _ in range(5):
                stream.more(10)
                worker = processes(stack.master)[1]
                worker.terminate()
                wait_until(lambda worker=worker: not runs(worker), "its end")  # type: ignore[misc]
                wait_until(lambda: len(processes(stack.master)) == 3, "another one")
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)


class TestWhileABacklogDrains:
    """Thousands of messages in each worker's hands, and as many on the way."""

    COUNT = 25_000

    @pytest.mark.parametrize("program", ["node", "master", "panel"])
    def test_a_stop_at_a_random_moment_loses_and_doubles_nothing(self, stack: Stack, program: str) -> None:
        chance = random.Random(5)
        node = stack.node("n", NO_LIBVIRT)
        fill(node.prefix, "n", self.COUNT)
        node.start()
        service: Service = {"node": node, "master": stack.master, "panel": stack.panel}[program]
        stops = 0
        while registered(stack.prefix) < self.COUNT:
            goal = min(self.COUNT, registered(stack.prefix) + chance.randint(1, self.COUNT // 15))
            wait_until(lambda: registered(stack.prefix) >= goal, "the drain to go on")  # noqa: B023
            # A node that stops goes on sending for two seconds, and would be through with all of it.
            with frozen(*([stack.panel] if service is node else [])):
                stop(service)
            service.start()
            stops += 1
        stack.wait_drained()
        assert_all_registered(stack.panel.events(), self.COUNT)
        assert stops >= (1 if service is node else 3)


class TestOnABadDay:
    def test_a_master_whose_panel_hangs_ends_in_time_and_its_nodes_keep_everything(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        stack.write_master(panel_timeout="600")
        stop(stack.master)
        stack.master.start()
        stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream, frozen(stack.panel):
            stream.more(20)
            wait_until(lambda: stack.master.status["in_flight"] > 0, "messages in flight")
            assert stop(stack.master) > 1  # it has given the workers time
            assert "are not settled: their nodes keep them" in stack.master.log
        stack.master.start()
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    def test_a_node_whose_master_hangs_ends_in_time_and_keeps_everything(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        node = stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            with frozen(stack.master):
                stream.more(20)
                stop(node)
            node.start()
            stack.wait_listening(node)
            stream.more(5)
        stack.wait_drained()
        assert_whole_within_runs(stack.panel.events(), stream)

    def test_a_node_stops_in_time_while_libvirt_hangs(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        node = stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            stream.more(10)
        daemon.freeze()
        stop(node)

    def test_a_panel_whose_database_is_locked_ends_in_time_and_has_acknowledged_nothing_of_it(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        stack.start_node("n", daemon.uri)
        database = sqlite3.connect(stack.prefix / "var" / "vmwatch-panel.db", isolation_level=None)
        with contextlib.closing(database), Stream(daemon) as stream:
            stream.more(10)
            database.execute("BEGIN IMMEDIATE")
            stream.more(10)
            stop(stack.panel)
            database.execute("ROLLBACK")
            stack.panel.start()
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    def test_a_panel_ends_in_time_while_a_client_is_in_the_middle_of_a_call(self, stack: Stack) -> None:
        """A hypervisor's host that lost its power in mid-sentence, or a client that means no good."""
        credentials = base64.b64encode(":".join(SERVICE).encode()).decode()
        head = (
            "POST /vmmgr?func=vmwatch.report&out=json HTTP/1.1\r\nHost: panel\r\nContent-Type: application/json\r\n"
            f"Authorization: Basic {credentials}\r\nContent-Length: 1000\r\n\r\n{{"
        )
        with socket.create_connection(("127.0.0.1", stack.panel.port)) as client:
            client.sendall(head.encode())
            client.settimeout(1)
            with pytest.raises(TimeoutError):  # it waits for the rest
                client.recv(1)
            stop(stack.panel)  # no traceback either
        assert "a call did not end in time and is not answered" in stack.panel.log

    def test_a_second_signal_ends_each_at_once(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        stack.write_master(panel_timeout="600")
        stop(stack.master)
        stack.master.start()
        node = stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            with frozen(stack.panel):
                stream.more(10)
                for service, begun in ((node, "asked to stop"), (stack.master, "stopping:")):
                    all_of_it = processes(service)
                    service.signal(signal.SIGTERM)
                    wait_until(lambda s=service, b=begun: b in s.log, "the begin of the end")  # type: ignore[misc]
                    service.signal(signal.SIGINT)
                    assert service.wait() == Exit.OK
                    wait_until(lambda a=all_of_it: not any(map(runs, a)), "the end of all")  # type: ignore[misc]
            for service in (stack.master, node):
                service.start()
            stack.wait_listening(node)
        stack.wait_drained()
        assert_whole_within_runs(stack.panel.events(), stream)


class TestAWorkerThatCannotBoot:
    @pytest.fixture
    def module(self, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where a module would be found before the installed one, of a name that only workers import."""
        module = short_path / "modules" / "requests.py"
        module.parent.mkdir()
        monkeypatch.setenv("PYTHONPATH", str(module.parent))
        return module

    def test_the_master_says_so_keeps_what_nodes_send_and_goes_on_when_it_is_mended(
        self, module: Path, short_path: Path, daemon: TestDriverDaemon
    ) -> None:
        module.write_text(BROKEN)
        with Stack(short_path) as stack:
            master = stack.master
            with Stream(daemon) as stream:
                stack.start_node("n", daemon.uri)
                first = stream.lives
                wait_until(lambda: self.failures(master) >= 4, "both workers to fail twice")
                failures = [line for line in master.log.splitlines() if "before it was ready; a new one" in line]
                assert "ended with exit code 1 (Python could not run it: standard error says why)" in failures[0]
                assert "this installation is broken" in master.log
                assert {worker["state"] for worker in master.status["workers"]} <= {"backoff", "booting"}
                assert stack.panel.events() == []
                module.unlink()
                stack.wait_drained()
                stream.more(5)
            stack.wait_drained()
            assert_whole_within_runs(stack.panel.events(), stream)
            assert told_by(stack.panel.events())[-1] == stream.told[-1]
            assert len(stack.panel.events()) >= 4 * (stream.lives - first - 1)
            assert master.terminate() == Exit.OK

    def test_settings_with_which_none_boots_leave_the_old_workers_at_work(
        self, module: Path, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        stack.start_node("n", daemon.uri)
        wait_until(lambda: self.booted(stack.master) == 2, "both workers to be ready")
        before = {process.pid for process in processes(stack.master)}
        assert len(before) == 3
        with Stream(daemon) as stream:
            module.write_text(BROKEN)
            stack.write_master(panel_timeout="7")
            stack.master.signal(signal.SIGHUP)
            wait_until(lambda: self.failures(stack.master) >= 2, "a successor that fails twice")
            stream.more(10)
            assert before <= {process.pid for process in processes(stack.master)}
            module.unlink()
            wait_until(lambda: stack.master.log.count("left: it ended with exit code 0") == 2, "new workers")
            assert not before & {process.pid for process in processes(stack.master)[1:]}
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    @pytest.mark.parametrize(
        ("told", "code", "why"),
        [
            (b"no settings at all\n", Exit.CONFIGURATION, "not understood"),
            (b"{}\n", Exit.CONFIGURATION, "not understood"),
            (b"", Exit.OK, ""),
        ],
        ids=["garbage", "nothing in it", "the supervisor is gone"],
    )
    def test_what_it_is_told_decides_its_exit_code(self, told: bytes, code: int, why: str) -> None:
        python = command("python")
        arguments = ["--slot", "1", "--generation", "1", "--parent", str(os.getpid())]
        done = subprocess.run(
            [python, "-P", "-m", "vmwatch.workers.main", *arguments], input=told, capture_output=True, timeout=60
        )
        assert done.returncode == code
        assert why in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()

    @staticmethod
    def booted(master: Service) -> int:
        return sum(worker["state"] not in ("booting", "backoff") for worker in master.status.get("workers", ()))

    @staticmethod
    def failures(master: Service) -> int:
        return sum(worker["boot_failures"] for worker in master.status.get("workers", ()))


class Group(Supervisord):
    """The three programs under supervisord, with accounts and a libvirtd of their own."""

    def __init__(self, prefix: Path, uri: str) -> None:
        super().__init__(prefix)
        self.panel = Panel(prefix)
        self.configure_master(panel_url=self.panel.url, panel_user=SERVICE[0], panel_password=SERVICE[1])
        self.configure_node(libvirt_uri=uri, node_id="n", heartbeat_interval="1")
        self.kept.start()
        self.wait_all_serving()

    def wait_all_serving(self) -> None:
        for name in SERVICES:
            self.wait_serving(name)
        wait_until(self.node_is_connected, "the node to be connected")

    def control(self, *words: str) -> str:
        """`supervisorctl ...`; what it prints."""
        own = self.prefix / "supervisorctl.conf"
        own.write_text(f"[supervisorctl]\nserverurl = unix://{self.prefix}/s.sock\n")
        ctl = [sys.executable, "-I", "-m", "supervisor.supervisorctl", "-c", str(own)]
        done = subprocess.run([*ctl, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ended(self, name: str) -> list[str]:
        """How supervisord says that the program ended when it was asked to, each time."""
        return re.findall(rf"stopped: {name} \((.*)\)", self.log)

    def wait_drained(self) -> None:
        def drained() -> bool:
            try:
                outbox = read_status(self.prefix / "var" / "run" / "vmwatch-node.sock")["outbox"]
            except (OSError, ValueError, KeyError):
                return False
            return bool(outbox["depth"] == 0)

        wait_until(drained, "the outbox to drain", timeout_s=180)


@pytest.fixture
def group(short_path: Path, daemon: TestDriverDaemon) -> Iterator[Group]:
    made = Group(short_path, daemon.uri)
    try:
        yield made
    finally:
        made.kept.close()


class TestSupervisord:
    def test_stopping_and_starting_all_loses_nothing(self, group: Group, daemon: TestDriverDaemon) -> None:
        with Stream(daemon) as stream:
            for _ in range(3):
                stream.more(10)
                started = [psutil.Process(group.pid(name)) for name in SERVICES]
                started += [child for process in started for child in process.children(recursive=True)]
                begin = time.monotonic()
                group.control("stop", "all")
                assert time.monotonic() - begin < len(SERVICES) * PROMISED_S  # one after the other
                assert not [process for process in started if runs(process)]
                group.control("start", "all")
                group.wait_all_serving()
            stream.more(10)
        group.wait_drained()
        assert_whole_within_runs(group.panel.events(), stream)
        for name in SERVICES:
            assert group.ended(name) == ["exit status 0"] * 3
        assert "killing" not in group.log

    @pytest.mark.parametrize("name", ["vmwatch-master", "vmwatch-panel"])
    def test_restarting_one_of_them_again_and_again_loses_nothing(
        self, group: Group, daemon: TestDriverDaemon, name: str
    ) -> None:
        with Stream(daemon) as stream:
            for _ in range(5):
                stream.more(5)
                group.control("restart", name)
                group.wait_serving(name)
            stream.more(10)
        group.wait_drained()
        assert_whole_within_runs(group.panel.events(), stream)
        assert len({row["epoch"] for row in group.panel.events()}) == 1
        assert group.ended(name) == ["exit status 0"] * 5

    def test_updating_the_group_restarts_what_has_changed_and_loses_nothing(
        self, group: Group, daemon: TestDriverDaemon
    ) -> None:
        conf = group.prefix / "conf.d"
        with Stream(daemon) as stream:
            stream.more(10)
            pids = {name: group.pid(name) for name in SERVICES}
            master = conf / "vmwatch-master.conf"
            changed = re.sub("(?m)^command=.*", r"\g<0> --log-format json", master.read_text())
            master.write_text(changed)
            told = group.control("update")
            assert "vmwatch-master: updated process group" in told
            group.wait_serving("vmwatch-master", other_than=pids["vmwatch-master"])
            assert [group.pid(name) == pids[name] for name in SERVICES] == [False, True, True]
            stream.more(10)
            node = (conf / "vmwatch-node.conf").read_text()
            (conf / "vmwatch-node.conf").unlink()
            assert "vmwatch-node: removed process group" in group.control("update")
            assert not psutil.pid_exists(pids["vmwatch-node"])
            (conf / "vmwatch-node.conf").write_text(node)
            assert "vmwatch-node: added process group" in group.control("update")
            group.wait_all_serving()
            stream.more(10)
        group.wait_drained()
        assert_whole_within_runs(group.panel.events(), stream)
        log = (group.prefix / "var" / "vmwatch-master.log").read_text().splitlines()
        assert json.loads(log[-1])["level"]
        assert group.ended("vmwatch-master") == group.ended("vmwatch-node") == ["exit status 0"]
