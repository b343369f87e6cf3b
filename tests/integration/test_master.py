"""The real vmwatch-master process between a node that is a plain ZeroMQ client and a panel that is scripted."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.testbed.scriptedmaster import (  # noqa: F401 - fixtures
    EPOCH,
    SECRET,
    Master,
    Node,
    event,
    feed_until_a_dead_letter,
    plain_node,
    scripted,
    scripted_master,
    scripted_panel,
)
from tests.testbed.scriptedpanel import PASSWORD, Reply, Request, ScriptedPanel
from tests.testbed.service import command
from tests.testbed.stack import Panel as RealPanel
from tests.testbed.waiting import LOOPBACK, wait_until
from vmwatch.shared.exits import Exit
from vmwatch.shared.keys import up_mac
from vmwatch.shared.messages import (
    VERSION,
)
from vmwatch.supervisor.ledger import LEAST_CHARGE

PREVIOUS = "OLDOLDOLDOLDOLD1"
MASTER = command("vmwatch-master")


def runs(pid: int) -> bool:
    """The process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Gate:
    """A script that holds reports with messages until it is opened."""

    def __init__(self, panel: ScriptedPanel) -> None:
        self._open = threading.Event()
        panel.script = self

    def __call__(self, request: Request) -> Reply | None:
        if request.func == "vmwatch.report" and request.keys:
            self._open.wait(60)
        return None

    def open(self) -> None:
        self._open.set()


def is_a_problem_until_it_is_discarded(prefix: Path, text: str) -> None:
    """For a real panel on the same host, which never saw the message."""
    with RealPanel(prefix) as panel:
        refused = {"type": "messages_refused", "object": "n1", "state": "unsolved"}
        (told,) = wait_until(lambda: panel.rows("problems", **refused), "the letter to be a problem")
        assert told["description"] == text
        discard = [command("vmwatch"), "deadletter", "discard", "--all", "--yes", "--prefix", str(prefix)]
        subprocess.run(discard, check=True, capture_output=True, timeout=300, stdin=subprocess.DEVNULL)
        wait_until(lambda: not panel.rows("problems", **refused), "the problem to be over", 120)


class TestPromise:
    def test_an_event_is_acknowledged_only_after_the_panel_has_answered(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        gate = Gate(panel)
        master.start(panel_timeout=60)
        node.send(event(1), event(2))
        node.wait_received(2)
        master.wait_calling()
        node.beacons(2)
        assert node.completed == 0
        gate.open()
        node.wait_completed(2)
        assert panel.registered == [("n1", EPOCH, 1), ("n1", EPOCH, 2)]

    @pytest.mark.parametrize(
        "reply",
        [Reply(status=500), Reply(b"<html>", status=200), Reply(status=404), Reply(status=302)],
        ids=["500", "html", "404", "redirect"],
    )
    def test_nothing_is_acknowledged_while_the_panel_gives_no_answer_of_its_own(
        self, master: Master, panel: ScriptedPanel, node: Node, reply: Reply
    ) -> None:
        scripted(panel, lambda request: reply)
        master.start()
        node.send(event(1))
        wait_until(lambda: len([r for r in panel.calls("vmwatch.report") if r.keys]) >= 3, "three attempts")
        wait_until(
            lambda: f"HTTP {reply.status}" in str(master.status()) or "page" in str(master.status()), "the trouble"
        )
        node.beacons(1)
        assert node.completed == 0
        scripted(panel, lambda request: None)
        node.wait_completed(1)

    def test_a_message_that_the_panel_always_fails_on_is_refused_and_all_others_are_delivered(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        poison = ("n1", EPOCH, 2)
        scripted(panel, lambda request: Reply(status=500) if poison in request.keys else None)
        master.start(workers=1)
        node.send(*(event(seq, vm=seq) for seq in range(1, 6)))
        last = feed_until_a_dead_letter(master, node, last=5)
        node.wait_completed(last)
        (letter,) = [json.loads(line) for line in master.dead_letters.read_text().splitlines()]
        assert (letter["node"], letter["epoch"], letter["seq"]) == poison
        assert "failed alone" in letter["reason"]
        assert {key[2] for key in panel.registered} == set(range(1, last + 1)) - {2}
        told = f"n1: dead letters: 1; the last one, seq 2: {letter['reason']}"
        is_a_problem_until_it_is_discarded(master.prefix, told)

    def test_each_vms_events_reach_the_panel_in_order(self, master: Master, panel: ScriptedPanel, node: Node) -> None:
        master.start(batch_max=7, workers=3)
        count = 400
        node.send(*(event(seq, vm=seq % 5) for seq in range(1, count + 1)))
        node.wait_completed(count)
        for vm in range(5):
            seqs = [seq for _, _, seq in panel.registered if seq % 5 == vm]
            assert seqs == sorted(seqs)
        assert len(panel.registered) == count

    def test_a_node_that_still_has_the_previous_secret_is_answered_with_it(
        self, master: Master, panel: ScriptedPanel
    ) -> None:
        master.start(secret_previous=PREVIOUS)
        node = Node(master.port, secret=PREVIOUS)
        node.send(event(1))
        node.wait_completed(1)
        node.close()


class TestWorkers:
    @pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP])
    def test_a_worker_that_dies_or_hangs_in_a_call_is_replaced_and_its_messages_are_delivered(
        self, master: Master, panel: ScriptedPanel, node: Node, death: signal.Signals
    ) -> None:
        gate = Gate(panel)
        master.start(panel_timeout=1)
        node.send(event(1), event(2), event(3, vm=2))
        pid = master.wait_calling()["pid"]
        os.kill(pid, death)
        gate.open()
        node.wait_completed(3)
        wait_until(lambda: not runs(pid), "the end of the old worker")

        def replaced() -> bool:
            return [sum(worker["restarts"] for worker in master.ready_workers), len(master.ready_workers)] == [1, 2]

        wait_until(replaced, "a new worker")
        assert sorted(panel.registered) == [("n1", EPOCH, seq) for seq in (1, 2, 3)]

    def test_a_message_that_kills_its_worker_is_refused_and_all_others_are_delivered(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        deadly = ("n1", EPOCH, 2)

        def kill(request: Request) -> Reply | None:
            if deadly not in request.keys:
                return None
            for pid in master.children():
                os.kill(pid, signal.SIGKILL)
            return Reply(status=500)

        scripted(panel, kill)
        master.start(workers=1)
        node.send(*(event(seq, vm=seq) for seq in range(1, 6)))
        last = feed_until_a_dead_letter(master, node, last=5)
        node.wait_completed(last)
        (letter,) = [json.loads(line) for line in master.dead_letters.read_text().splitlines()]
        assert (letter["node"], letter["epoch"], letter["seq"]) == deadly
        assert "workers ended in calls with it" in letter["reason"]
        assert {key[2] for key in panel.registered} == set(range(1, last + 1)) - {2}

    def test_no_secret_is_in_a_workers_arguments_or_environment(self, master: Master, panel: ScriptedPanel) -> None:
        master.start()
        for pid in [master.pid, *master.children()]:
            seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            assert SECRET.encode() not in seen
            assert PASSWORD.encode() not in seen
        worker = Path(f"/proc/{master.children()[0]}/cmdline").read_bytes()
        assert b"vmwatch.workers.main\0--slot\0" in worker

    def test_a_master_killed_leaves_no_worker_also_in_a_call(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        gate = Gate(panel)
        master.start(panel_timeout=60)
        node.send(event(1))
        master.wait_calling()
        pids = master.children()
        assert len(pids) == 2
        os.kill(master.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(runs, pids)), "the end of all workers")
        gate.open()

    def test_a_master_killed_leaves_nothing_that_hinders_the_next_one(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        master.start()
        os.kill(master.pid, signal.SIGKILL)
        master.close()
        master.start()
        node.send(event(1))
        node.wait_completed(1)
        sockets = [path.name for path in (master.prefix / "var/run/vmwatch-master.ipc").iterdir()]
        assert sorted(name[0] for name in sockets) == ["r", "w", "w"]

    def test_a_prefix_too_long_for_a_socket_works_too(self, tmp_path: Path, panel: ScriptedPanel) -> None:
        # The status socket's own path must fit; the workers' sockets have longer names.
        longest = 107 - len("/var/run/vmwatch-master.sock")
        prefix = tmp_path / ("x" * (longest - len(str(tmp_path)) - 1))
        master = Master(prefix, panel.url)
        folder = tmp_path
        try:
            master.start()
            folder = (prefix / "var/run/vmwatch-master.ipc").readlink()
            assert folder.stat().st_mode & 0o777 == 0o700
            node = Node(master.port)
            node.send(event(1))
            node.wait_completed(1)
            node.close()
            os.kill(master.pid, signal.SIGKILL)
            master.close()
            master.start()
            assert not folder.exists(), "what a killed run left is removed by the next"
            folder = (prefix / "var/run/vmwatch-master.ipc").readlink()
            os.kill(master.pid, signal.SIGTERM)
            assert master.wait_end() == Exit.OK
            assert not folder.exists()
        finally:
            master.close()
            shutil.rmtree(folder, ignore_errors=True)


class TestDeadLetters:
    def test_a_refused_message_lies_in_the_dead_letters_and_is_acknowledged(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        panel.refuse = lambda key: key[2] == 2
        master.start()
        node.send(event(1), event(2), event(3))
        node.wait_completed(3)
        (letter,) = [json.loads(line) for line in master.dead_letters.read_text().splitlines()]
        assert (letter["node"], letter["epoch"], letter["seq"]) == ("n1", EPOCH, 2)
        assert letter["reason"] == "value state: no such state"
        assert letter["message"] == json.loads(event(2))
        assert master.dead_letters.stat().st_mode & 0o777 == 0o600
        wait_until(lambda: master.status()["dead_letters"]["written"] == 1, "it in the status")

    def test_while_it_cannot_be_written_nothing_refused_is_acknowledged(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        panel.refuse = lambda key: key[2] == 1
        master.dead_letters.mkdir(parents=True)
        master.start()
        node.send(event(1), event(2, vm=2))
        wait_until(lambda: master.status()["dead_letters"]["waiting"] == 1, "a letter that waits")
        assert "Is a directory" in master.status()["dead_letters"]["failure"]
        wait_until(lambda: ("n1", EPOCH, 2) in panel.registered, "the other message at the panel")
        node.beacons(2)
        assert node.completed == 0
        master.dead_letters.rmdir()
        node.wait_completed(2)
        assert len(master.dead_letters.read_text().splitlines()) == 1


class TestRejects:
    def test_each_malformed_frame_has_its_own_counter(self, master: Master, panel: ScriptedPanel, node: Node) -> None:
        master.start()
        name, body = b"n1", b'{"epoch":1,"base":1,"interval":10,"sent":0}'
        mac = up_mac(node.key, name, body)
        bad_body = b'{"epoch":-1}'
        node.send_raw(b"alone")
        node.send_raw(VERSION, name, mac, body, b"fifth")
        node.send_raw(b"VW2", name, mac, body)
        node.send_raw(VERSION, b"no such name!", mac, body)
        node.send_raw(VERSION, name, mac[:-1], body)
        node.send_raw(VERSION, b"n2", mac, body)
        node.send_raw(VERSION, name, mac, body.replace(b"10", b"11"))
        node.send_raw(VERSION, name, up_mac(node.key, name, bad_body), bad_body)
        node.send(event(1), b'{"type":"event"}', event(2))
        node.wait_completed(2)
        wanted = {"frames": 2, "version": 1, "node": 1, "mac": 3, "envelope": 1}
        wait_until(lambda: master.status()["rejects"]["by_reason"] == wanted, "the rejects in the status")
        assert list(master.status()["rejects"]["by_peer"]) == [LOOPBACK]
        assert master.status()["counters"]["message"] == 1


class TestStatus:
    def test_signs_of_life_reach_the_panel_and_its_wishes_the_node(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        panel.want_inventory = "t-17"
        master.start()
        node.send()
        node.beacons(1)
        node.send(status=b'{"rows":0}')

        def told() -> bool:
            entries = [entry for call in panel.calls("vmwatch.report") for entry in call.report.nodes]
            return any(entry.live and bytes(entry.status) == b'{"rows":0}' for entry in entries)

        wait_until(told, "the sign of life at the panel")
        wait_until(lambda: node.read()[-1].want_inventory == "t-17", "the panel's wish")
        wait_until(lambda: master.status()["nodes"]["n1"]["alive"], "the node alive in the status")

    def test_signs_of_life_are_told_also_while_messages_wait_for_a_better_time(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        scripted(panel, lambda request: Reply(status=503, headers={"Retry-After": "300"}))
        master.start(workers=1)
        node.send(event(1))
        wait_until(lambda: [w for w in master.ready_workers if w["doing"] == "backing off"], "a worker that backs off")
        before = len(panel.calls("vmwatch.report"))
        node.beacons(1)
        node.send()
        wait_until(
            lambda: [e for call in panel.calls("vmwatch.report")[before:] for e in call.report.nodes if e.live],
            "the sign of life at the panel",
        )
        assert node.completed == 0

    def test_a_wrong_password_is_said_and_nothing_is_acknowledged(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        master.start(panel_password="wrong")
        node.send(event(1))
        wait_until(lambda: master.status().get("panel_needs_person"), "a trouble that needs a person")
        assert "signing in as" in master.status()["panel_trouble"]
        node.beacons(1)
        assert node.completed == 0

    def test_it_tells_what_each_worker_does(self, master: Master, panel: ScriptedPanel, node: Node) -> None:
        gate = Gate(panel)
        master.start(panel_timeout=60)
        node.send(event(1), event(2))
        worker = master.wait_calling()
        assert (worker["doing"], worker["in_hand"], worker["restarts"]) == ("calling", 2, 0)
        status = master.status()
        assert status["turn_age_s"] < 30
        assert status["nodes"]["n1"]["unsettled_bytes"] == 2 * LEAST_CHARGE >= len(event(1) + event(2))
        gate.open()


class TestEnds:
    @pytest.mark.parametrize("other", [signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU])
    def test_other_signals_do_not_end_or_suspend_it(
        self, master: Master, panel: ScriptedPanel, node: Node, other: signal.Signals
    ) -> None:
        master.start()
        os.kill(master.pid, other)
        node.send(event(1))
        node.wait_completed(1)

    def test_disabled_it_says_so_and_ends_with_0(self, master: Master) -> None:
        master.configure(disabled="yes")
        done = subprocess.run([MASTER, "--prefix", master.prefix], timeout=60, check=False)
        assert done.returncode == Exit.OK
        assert "disabled" in master.log

    @pytest.mark.parametrize("offset", [0, 1], ids=["listen", "ack_listen"])
    def test_a_used_port_ends_with_78_and_names_the_address(self, master: Master, offset: int) -> None:
        master.configure()
        with socket.create_server((LOOPBACK, master.port + offset)):
            done = subprocess.run(
                [MASTER, "--prefix", master.prefix], timeout=60, check=False, capture_output=True, text=True
            )
        assert done.returncode == Exit.CONFIGURATION
        assert f"tcp://{LOOPBACK}:{master.port + offset} cannot be used: Address already in use" in done.stderr
        assert "Traceback" not in done.stderr + master.log

    def test_an_authority_file_that_is_not_there_ends_with_78(self, master: Master) -> None:
        master.configure(panel_ca="/nowhere/ca.pem")
        done = subprocess.run(
            [MASTER, "--prefix", master.prefix, "--check"], timeout=60, check=False, capture_output=True, text=True
        )
        assert done.returncode == Exit.CONFIGURATION
        assert "panel_ca: /nowhere/ca.pem is no file" in done.stderr

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_lets_the_present_call_finish_and_acknowledges_it(
        self, master: Master, panel: ScriptedPanel, node: Node, stop: signal.Signals
    ) -> None:
        gate = Gate(panel)
        master.start(panel_timeout=60)
        node.send(event(1))
        master.wait_calling()
        pids = master.children()
        os.kill(master.pid, stop)
        wait_until(lambda: "stopping" in master.log, "the begin of the end")
        gate.open()
        assert master.wait_end() == Exit.OK
        node.wait_completed(1)
        assert not any(map(runs, pids))
        assert not (master.prefix / "var/run/vmwatch-master.sock").exists()
        assert not (master.prefix / "var/run/vmwatch-master.ipc").exists()
        assert "Traceback" not in master.log

    def test_a_call_that_does_not_end_keeps_nobody_waiting(
        self, master: Master, panel: ScriptedPanel, node: Node
    ) -> None:
        Gate(panel)
        master.start(panel_timeout=600)
        node.send(event(1))
        master.wait_calling()
        pids = master.children()
        begin = time.monotonic()
        os.kill(master.pid, signal.SIGTERM)
        assert master.wait_end() == Exit.OK
        assert time.monotonic() - begin < 30  # 10 are promised; a machine may be slow
        assert node.completed == 0
        assert not any(map(runs, pids))

    def test_a_second_signal_ends_it_at_once(self, master: Master, panel: ScriptedPanel, node: Node) -> None:
        Gate(panel)
        master.start(panel_timeout=600)
        node.send(event(1))
        master.wait_calling()
        pids = master.children()
        os.kill(master.pid, signal.SIGTERM)
        wait_until(lambda: "stopping" in master.log, "the begin of the end")
        os.kill(master.pid, signal.SIGTERM)
        assert master.wait_end() == Exit.OK
        assert not any(map(runs, pids))
        assert "a second signal: nobody is waited for" in master.log
