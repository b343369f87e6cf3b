"""vmwatch-healthcheck against real services: each way in which they can be ill is provoked for real."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.oddnode import OddNode
from tests.testbed.probe import Answer, found, probe, run_probe, wait_probe
from tests.testbed.proxy import Misbehaviour, Proxy
from tests.testbed.service import Service, command
from tests.testbed.stack import SECRET, Stack, short_folder
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import LOOPBACK, free_port, wait_until
from tests.testbed.wire import Wire
from vmwatch.healthcheck.processes import look_at
from vmwatch.shared.maintenance import Maintenance, write_maintenance
from vmwatch.shared.paths import Paths
from vmwatch.shared.statussocket import read_status

pytestmark = needs_libvirtd()

SLEEPER = "import time; time.sleep(3600)"
LINE = re.compile(r"VMWATCH-(NODE|MASTER) OK - [^|\n]+ \|( [a-z_]+=[-0-9.]+[s%Bc]?(;\S*)?)+\n")


@dataclass
class Site:
    """A stack of one node, with what a test takes away between its parts."""

    stack: Stack
    node: Service
    daemon: TestDriverDaemon
    proxy: Proxy
    """Between the workers and the panel."""
    ack_wire: Wire
    """Between the node and the master's acknowledgements."""

    def node_says(self, *options: str) -> Answer:
        return probe("node", self.node.prefix, *options)

    def master_says(self, *options: str) -> Answer:
        return probe("master", self.stack.prefix, *options)

    def assert_well(self) -> None:
        """Wait until both are OK."""
        for service, prefix in (("master", self.stack.prefix), ("node", self.node.prefix)):
            done = run_probe(service, prefix, "--wait", "180")
            assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    folder = short_folder()
    folder.mkdir(mode=0o755)
    ack_port = free_port()
    try:
        stack = Stack(folder)
        proxy = Proxy(stack.panel.url)
        proxy.forward_first = False
        stack.write_master(panel_url=proxy.url, workers="2")
        with TestDriverDaemon(folder / "libvirt", domains=("vm1",)) as daemon, proxy, stack:
            wire = Wire((LOOPBACK, ack_port), (LOOPBACK, stack.port + 1))
            with wire:
                node = stack.start_node("kvm-1", daemon.uri, ack_connect=f"tcp://{LOOPBACK}:{ack_port}")
                yield Site(stack, node, daemon, proxy, wire)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(running: Site) -> Site:
    """Everything is well when a test begins: it was not left ill by the one before."""
    running.assert_well()
    return running


class TestWell:
    def test_both_are_ok_in_one_line_with_performance_data(self, site: Site) -> None:
        for service, prefix in (("master", site.stack.prefix), ("node", site.node.prefix)):
            done = run_probe(service, prefix)
            assert done.returncode == 0
            assert LINE.fullmatch(done.stdout), done.stdout
            assert not done.stderr

    def test_the_figures_of_the_issue_are_measured(self, site: Site) -> None:
        master, node = site.master_says(), site.node_says()
        of_both = {"turn_age", "uptime", "memory", "descriptors"}
        of_master = {"workers", "worker_busy", "worker_silent", "queue", "in_flight", "panel_answer", "clock_skew"}
        of_node = {"libvirt_tick", "outbox_age", "outbox_depth", "inventory_age", "master_heard", "master_seen"}
        assert of_both | of_master <= set(master["figures"])
        assert of_both | of_node <= set(node["figures"])
        assert master["figures"]["workers"]["value"] == 2
        assert node["pid"] == site.node.pid
        assert node["libvirt_daemon"]["name"] == "libvirtd"
        assert "libvirt answers (libvirtd, " in node["text"]

    def test_thresholds_of_the_command_line_count(self, site: Site) -> None:
        assert found(site.node_says("-w", "memory=~:1")) == {"memory": "WARNING"}
        answer = site.node_says("-w", "memory=~:1", "-c", "memory=~:1", "-c", "uptime=@0:")
        assert found(answer) == {"memory": "CRITICAL", "uptime": "CRITICAL"}
        assert answer["state"] == "ill"

    def test_a_wrong_command_line_is_unknown_and_says_what_is_allowed(self, site: Site) -> None:
        for options in (["node", "-w", "memory=x"], ["node", "-w", "x=1"], ["master", "--canary"], ["all"], []):
            done = subprocess.run(
                [command("vmwatch-healthcheck"), *options], capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 3
            assert "UNKNOWN" in done.stdout

    def test_a_canary_goes_to_the_panel_and_leaves_nothing_there(self, site: Site) -> None:
        before = site.stack.panel.events(), site.stack.panel.rows("vm")
        answer = site.node_says("--canary")
        assert answer["canary"]["state"] == "acknowledged"
        assert answer["level"] == "OK"
        assert (site.stack.panel.events(), site.stack.panel.rows("vm")) == before

    def test_in_maintenance_a_dead_service_is_ok_until_the_end(self, site: Site) -> None:
        mark = site.node.prefix / "var" / "run" / "vmwatch-node.maintenance"
        write_maintenance(mark, Maintenance(time.time() + 3600, "anna", "new disk"))
        try:
            site.node.kill()
            answer = site.node_says()
            assert (answer["level"], answer["state"], answer["underlying"]) == ("OK", "maintenance", "crashed")
            write_maintenance(mark, Maintenance(time.time() - 1, "anna", "new disk"))
            assert site.node_says()["state"] == "crashed"
        finally:
            mark.unlink()
            site.node.start()


class TestProcess:
    def test_killed_is_crashed_and_ended_in_order_is_stopped(self, site: Site) -> None:
        site.node.signal(signal.SIGKILL)
        # Nobody has taken notice of its end yet: a zombie is no process that works.
        wait_probe("node", site.node.prefix, lambda answer: answer["state"] == "crashed", "the crash")
        site.node.kill()
        assert site.node_says()["state"] == "crashed"
        site.node.start()
        assert site.node.terminate() == 0
        answer = site.node_says()
        assert (answer["level"], answer["state"]) == ("CRITICAL", "stopped")
        site.node.start()

    def test_a_stopped_service_is_told_from_a_disabled_and_a_misconfigured_one(self, site: Site) -> None:
        config = site.node.prefix / "etc" / "vmwatch-node.conf"
        text = config.read_text()
        site.node.terminate()
        try:
            for more, state, code in (("disabled=yes\n", "disabled", 0), ("oops\n", "misconfigured", 2)):
                config.write_text(text + more)
                answer = site.node_says()
                assert (answer["state"], answer["code"]) == (state, code)
            config.unlink()
            assert site.node_says()["state"] == "misconfigured"
        finally:
            config.write_text(text)
            config.chmod(0o600)
            site.node.start()

    def test_a_pid_file_with_the_number_of_another_process_is_not_believed(self, site: Site) -> None:
        pid_file = site.node.prefix / "var" / "run" / "vmwatch-node.pid"
        site.node.kill()
        for argument in ("sleeper", "vmwatch-node"):  # the second looks like ours
            other = subprocess.Popen([sys.executable, "-c", SLEEPER, argument])
            try:
                pid_file.write_text(f"{other.pid}\n")
                answer = site.node_says()
                assert answer["state"] == "crashed", answer
                assert str(other.pid) in answer["text"]
            finally:
                other.kill()
                other.wait()
        site.node.start()

    def test_a_lost_pid_file_is_a_warning(self, site: Site) -> None:
        pid_file = site.node.prefix / "var" / "run" / "vmwatch-node.pid"
        text = pid_file.read_text()
        pid_file.unlink()
        answer = site.node_says()
        assert found(answer) == {"pid_file": "WARNING"}
        assert answer["pid"] == site.node.pid
        site.node.restart_after_kill()
        assert pid_file.read_text() != text

    @pytest.mark.parametrize("service", ["node", "master"])
    def test_a_suspended_service_is_stuck_and_the_probe_ends_in_time(self, site: Site, service: str) -> None:
        program = site.node if service == "node" else site.stack.master
        program.signal(signal.SIGSTOP)
        try:
            answer = probe(service, program.prefix, "--timeout", "10")
            assert (answer["level"], answer["state"]) == ("CRITICAL", "stuck")
            assert found(answer) == {"suspended": "CRITICAL", "stuck": "CRITICAL"}
        finally:
            program.signal(signal.SIGCONT)

    def test_who_waits_is_told_when_the_service_has_come(self, site: Site) -> None:
        site.node.kill()
        waiting = subprocess.Popen(
            [command("vmwatch-healthcheck"), "node", "--prefix", str(site.node.prefix), "--wait", "180"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            site.node.start()
            output, _ = waiting.communicate(timeout=300)
            assert waiting.returncode == 0, output
        finally:
            waiting.kill()
            waiting.communicate()

    def test_children_that_nobody_takes_notice_of_are_seen(self, tmp_path: Path) -> None:
        forks = (
            "import os, time\nchild = os.fork()\nif child == 0: os._exit(0)\n"
            "os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\nprint(flush=True)\ntime.sleep(3600)"
        )
        parent = subprocess.Popen([sys.executable, "-c", forks], stdout=subprocess.PIPE)
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            seen = look_at(parent.pid, tmp_path / "none")
            assert seen is not None
            assert [child.state for child in seen.children] == ["zombie"]
        finally:
            parent.kill()
            parent.communicate()


class TestMaster:
    def test_a_worker_that_hangs_is_seen(self, site: Site) -> None:
        worker = site.stack.master.status["workers"][0]["pid"]
        os.kill(worker, signal.SIGSTOP)
        try:
            answer = site.master_says()
            assert found(answer) == {"child": "WARNING"}
            assert str(worker) in answer["text"]
            # Nothing else tells of one that hangs inside: its silence. (Its time limit is shortened here.)
            wait_probe(
                "master",
                site.stack.prefix,
                lambda answer: found(answer).get("worker_silent") == "CRITICAL" or not psutil.pid_exists(worker),
                "the silence of the worker",
                *("-c", "worker_silent=~:2"),
            )
        finally:
            if psutil.pid_exists(worker):
                os.kill(worker, signal.SIGCONT)

    def test_a_worker_that_is_busy_for_too_long_is_seen(self, site: Site) -> None:
        site.stack.panel.signal(signal.SIGSTOP)
        try:
            wait_probe(
                "master",
                site.stack.prefix,
                lambda answer: found(answer).get("worker_busy") == "WARNING",
                "a busy worker",
                *("-w", "worker_busy=~:1"),
            )
        finally:
            site.stack.panel.signal(signal.SIGCONT)

    def test_a_panel_that_is_down_is_told_and_stops_the_canary(self, site: Site) -> None:
        site.stack.panel.kill()
        try:
            answer = wait_probe(
                "master",
                site.stack.prefix,
                lambda answer: {"panel", "panel_answer"} <= set(found(answer)),
                "the panel's absence",
                *("-c", "panel_answer=~:6"),
            )
            assert found(answer)["panel"] == "WARNING"
            assert found(answer)["panel_answer"] == "CRITICAL"
            lost = site.node_says("--canary", "--timeout", "10")
            assert found(lost)["canary"] == "CRITICAL"
            assert lost["canary"]["state"] == "under way"
            # And none of them stays in the way: the next probe waits for the same one.
            sung = site.node.status["canary"]
            again = read_status(Paths.of("vmwatch-node", str(site.node.prefix)).ping)
            assert again == {"epoch": sung["epoch"], "seq": sung["seq"]}
            stalled = site.master_says("-c", "stall=~:1")
            assert found(stalled)["stall"] == "CRITICAL"
        finally:
            site.stack.panel.start()
        wait_until(
            lambda: site.node.status["canary"]["state"] == "acknowledged", "the canary to arrive", timeout_s=180
        )

    def test_what_a_person_must_mend_is_critical(self, site: Site) -> None:
        site.proxy.misbehave = Misbehaviour.forbidden
        try:
            wait_probe(
                "master",
                site.stack.prefix,
                lambda answer: found(answer).get("panel") == "CRITICAL" and "person" in answer["text"],
                "the call for a person",
            )
        finally:
            site.proxy.misbehave = None


    def test_a_nodes_wrong_clock_and_dead_letters_that_cannot_be_written_are_seen(self, site: Site) -> None:
        blocked = site.stack.prefix / "var" / "vmwatch-master.dead"
        blocked.mkdir()
        try:
            with OddNode(site.stack.port, "kvm-odd", behind_s=1000.0, payload=b'{"type":"odd"}'):
                answer = wait_probe(
                    "master",
                    site.stack.prefix,
                    lambda answer: {"clock_skew", "dead_letters"} <= set(found(answer)),
                    "both to be seen",
                )
                assert found(answer)["clock_skew"] == "WARNING"
                assert answer["figures"]["clock_skew"]["value"] > 900
                assert found(answer)["dead_letters"] == "CRITICAL"
                blocked.rmdir()
                wait_until(blocked.is_file, "the dead letter to be written")
        finally:
            if blocked.is_dir():
                blocked.rmdir()
        wait_probe(
            "master",
            site.stack.prefix,
            lambda answer: "clock_skew" not in found(answer),
            "the odd node to be silent for three of its intervals",
        )


class TestNode:
    def test_another_secret_is_told_from_an_absent_master(self, site: Site) -> None:
        config = site.node.prefix / "etc" / "vmwatch-node.conf"
        text = config.read_text()
        config.write_text(text.replace(SECRET, "ANOTHERSECRETANOTHERSECRET"))
        site.node.signal(signal.SIGHUP)
        try:
            wait_probe(
                "node",
                site.node.prefix,
                lambda answer: bool({"master_unanswered", "acknowledgements_invalid"} & set(found(answer))),
                "the secret to be suspected",
            )
        finally:
            config.write_text(text)
            site.node.signal(signal.SIGHUP)

    def test_master_gone_and_acknowledgements_blocked_are_told_apart(self, site: Site) -> None:
        site.stack.master.kill()
        try:
            answer = wait_probe(
                "node",
                site.node.prefix,
                lambda answer: found(answer).get("master_unreachable") == "CRITICAL",
                "the master to be missed",
            )
            assert "not reachable" in answer["text"]
        finally:
            site.stack.master.start()
        site.assert_well()
        site.ack_wire.stall()  # as a firewall does that drops: nobody is told
        try:
            answer = wait_probe(
                "node",
                site.node.prefix,
                lambda answer: found(answer).get("acknowledgements_blocked") == "CRITICAL",
                "acknowledgements to be missed",
            )
            assert "acknowledgements do not" in answer["text"]
            assert "master_unreachable" not in found(answer)
        finally:
            site.ack_wire.reset()

    def test_an_outbox_that_cannot_be_written_is_seen(self, site: Site) -> None:
        holder = sqlite3.connect(site.node.prefix / "var" / "vmwatch-node.db", isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            answer = wait_probe(
                "node",
                site.node.prefix,
                lambda answer: found(answer).get("outbox") == "CRITICAL",
                "the lock to be noticed",
                "--canary",
            )
            assert found(answer)["canary"] == "CRITICAL"
        finally:
            holder.close()

    def test_libvirtd_frozen_and_gone_are_seen(self, site: Site) -> None:
        site.daemon.freeze()
        try:
            # It cannot go on without libvirtd: it ends, for its service manager to start it again.
            assert site.node.wait(180) == 69
            assert site.node_says()["state"] == "stopped"
            site.node.launch()
            answer = wait_probe(
                "node", site.node.prefix, lambda answer: "libvirt" in found(answer), "libvirtd to be missed"
            )
            assert answer["state"] in ("ill", "starting")
        finally:
            site.daemon.thaw()
        site.daemon.kill()
        try:
            site.node.restart_after_kill()
            wait_probe(
                "node",
                site.node.prefix,
                lambda answer: found(answer).get("libvirt") == "CRITICAL",
                "libvirtd to be missed",
            )
        finally:
            site.daemon.start()
