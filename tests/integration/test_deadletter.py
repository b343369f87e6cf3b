"""`vmwatch deadletter` beside a real master and panel: listed, sent again, given up; nothing lost, nothing twice."""

import json
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.testbed.scriptedmaster import (  # noqa: F401 - fixtures
    EPOCH,
    Master,
    Node,
    event,
    plain_node,
    scripted_master,
    scripted_panel,
)
from tests.testbed.scriptedpanel import ScriptedPanel
from tests.testbed.service import command
from tests.testbed.stack import SECRET, Stack
from tests.testbed.waiting import wait_until
from vmwatch.shared import letters
from vmwatch.shared.keys import up_mac
from vmwatch.shared.messages import VERSION, Envelope, join_envelope


def run(prefix: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("vmwatch"), "deadletter", *arguments, "--prefix", str(prefix)],
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("what", ["list", "replay", "discard"])
def test_a_prefix_that_is_not_there_is_no_empty_list(tmp_path: Path, what: str) -> None:
    done = run(tmp_path / "typo", what, *(() if what == "list" else ("--all",)))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path}/typo/var is no folder" in done.stderr


def listed(prefix: Path) -> list[str]:
    return sorted(row.split("\t")[0] for row in run(prefix, "list").stdout.splitlines())


def key(seq: int) -> str:
    return f"n1/{EPOCH}/{seq}"


def refuse(master: Master, panel: ScriptedPanel, node: Node, *seqs: int) -> None:
    """Four events, of which these become dead letters, in whatever order."""
    panel.refuse = lambda found: found[2] in seqs
    master.start()
    node.send(*(event(seq, vm=seq) for seq in range(1, 5)))
    node.wait_completed(4)
    assert listed(master.prefix) == [key(seq) for seq in seqs]


def test_what_is_sent_again_reaches_the_panel_and_is_no_dead_letter_any_more(
    master: Master, panel: ScriptedPanel, node: Node
) -> None:
    refuse(master, panel, node, 2, 3)
    panel.refuse = lambda found: False
    shown = json.loads(run(master.prefix, "show", key(2)).stdout)
    assert (shown["reason"], shown["message"]["vm"]["name"]) == ("value state: no such state", "vm2")
    done = run(master.prefix, "replay", key(2), "--wait", "120")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 taken by the panel, 0 refused again")
    assert listed(master.prefix) == [key(3)]
    assert ("n1", EPOCH, 2) in panel.registered
    reports = [entry for call in panel.calls("vmwatch.report") for entry in call.report.nodes if entry.returned]
    # A worker that has to sign in again calls again.
    assert {(entry.node, entry.epoch, *entry.returned, entry.base, entry.live) for entry in reports} == {
        ("n1", EPOCH, 2, 0, False)
    }
    wait_until(lambda: master.status()["dead_letters"]["returned"] == 1, "it in the status")
    assert master.status()["dead_letters"]["in_file"] == 1
    node.send(event(5), base=5)
    node.wait_completed(5)


def test_what_the_panel_refuses_again_is_a_dead_letter_again(
    master: Master, panel: ScriptedPanel, node: Node
) -> None:
    refuse(master, panel, node, 2, 3)
    panel.refuse = lambda found: found[2] == 3
    done = run(master.prefix, "replay", "--all", "--wait", "120")
    assert done.returncode == 1
    assert "1 taken by the panel, 1 refused again" in done.stdout
    assert f"{key(3)}: value state: no such state" in done.stdout
    assert listed(master.prefix) == [key(3)]


def test_what_was_handed_over_survives_the_death_of_the_master_and_a_panel_that_is_away(
    master: Master, panel: ScriptedPanel, node: Node
) -> None:
    refuse(master, panel, node, 2, 3)
    assert master.process is not None
    master.process.kill()
    master.process.communicate()
    done = run(master.prefix, "replay", "--node", "n1")
    assert done.returncode == 0
    assert "does not run: they are sent when it does" in done.stdout
    assert listed(master.prefix) == []
    panel.refuse = lambda found: False
    away = panel.script
    panel.script = lambda request: (_ for _ in ()).throw(ConnectionError()) if request.func else None
    master.start()
    wait_until(lambda: master.status()["dead_letters"]["returning"] == 2, "the letters to be in hand")
    master.process.kill()
    master.process.communicate()
    panel.script = away
    master.start()
    for seq in (2, 3):
        wait_until(lambda seq=seq: ("n1", EPOCH, seq) in panel.registered, "the letter at the panel")  # type: ignore[misc]
    returned = master.prefix / "var/vmwatch-master.returned"
    wait_until(lambda: returned.stat().st_size == 0, "the file to be empty")


def test_what_is_discarded_is_counted_and_logged_with_who_did_it(
    master: Master, panel: ScriptedPanel, node: Node
) -> None:
    refuse(master, panel, node, 1, 2, 3)
    refused = run(master.prefix, "discard", key(2))
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert len(listed(master.prefix)) == 3
    assert run(master.prefix, "discard", key(2), "--yes").stdout == "1 discarded\n"
    assert listed(master.prefix) == [key(1), key(3)]
    record = json.loads((master.prefix / "var/vmwatch-master.discarded").read_text())
    assert (record["node"], record["epoch"], record["seq"]) == ("n1", EPOCH, 2)
    assert record["by"]
    assert "message" not in record
    assert f"dead letter {key(2)} was discarded by {record['by']}" in master.log
    wait_until(lambda: master.status()["dead_letters"]["discarded"] == 1, "it in the status")
    assert run(master.prefix, "discard", "--all", "--yes").stdout == "2 discarded\n"
    wait_until(lambda: master.status()["dead_letters"]["discarded"] == 3, "all in the status")
    assert run(master.prefix, "discard", "--all", "--yes").stdout == "there is none\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["show", "n1/1/1"], "there is no dead letter n1/1/1"),
        (["replay", "n1"], "NODE/EPOCH/SEQ is"),
        (["replay"], "--all is allowed"),
        (["discard", "n1/1/1", "--all", "--yes"], "--all is allowed"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(tmp_path: Path, arguments: list[str], named: str) -> None:
    (tmp_path / "var").mkdir()
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "var").iterdir()) == []


def test_what_could_not_be_read_is_said_not_to_be_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "var" / "vmwatch-master.dead"
    path.parent.mkdir()
    for seq, message in ((1, '"a text"'), (2, '{"seq":2,"prev":1,"type":"unreadable"}')):
        line = f'{{"time":"t","node":"n1","epoch":1,"seq":{seq},"reason":"no","message":{message}}}\n'
        letters.append(path, line.encode())
        done = run(tmp_path, "replay", f"n1/1/{seq}")
        assert done.returncode == 1
        assert "cannot be sent again" in done.stderr
    assert len(letters.read(path)) == 2


def test_a_letter_of_a_closed_epoch_is_registered_once_by_the_real_panel_and_leaves_the_picture(stack: Stack) -> None:
    node = Node(stack.port, "n1", SECRET)
    try:
        send(node, EPOCH, 1, event(1))
        node.wait_completed(1)
        stack.panel.terminate()
        with sqlite3.connect(stack.prefix / "var" / "vmwatch-panel.db") as database:
            database.execute("UPDATE epochs SET last_activity = 1")
        database.close()
        stack.panel.start()
        send(node, EPOCH + 1, 1, event(1).replace(b"started", b"stopped"))
        wait_until(lambda: len(stack.panel.events()) == 2, "the newer epoch's event")
        send(node, EPOCH, 1, event(1), event(2))
        wait_until(lambda: listed(stack.prefix) == [key(2)], "a dead letter")
        refused = {"type": "messages_refused", "object": "n1", "state": "unsolved"}
        (told,) = stack.panel.rows("problems", **refused)
        assert told["description"].startswith("n1: 1 message refused; the last one, seq 2: epoch: ")
        for _ in range(2):
            before = (stack.prefix / "var" / "vmwatch-master.dead").read_bytes()
            done = run(stack.prefix, "replay", key(2), "--wait", "120")
            assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 taken by the panel, 0 refused again")
            # Again, as after a crash between the two files.
            letters.append(stack.prefix / "var" / "vmwatch-master.dead", before)
        wait_until(lambda: stack.panel.rows("problems", **refused), "the letter to be a problem")
        assert run(stack.prefix, "discard", "--all", "--yes").returncode == 0
        wait_until(lambda: not stack.panel.rows("problems", **refused), "the problem to be over", 120)
        rows = [(row["epoch"], row["seq"]) for row in stack.panel.events()]
        assert sorted(rows) == [(str(EPOCH), "1"), (str(EPOCH), "2"), (str(EPOCH + 1), "1")]
        (vm,) = stack.panel.vms().values()
        assert vm["name"] == "vm1"
    finally:
        node.close()


def send(node: Node, epoch: int, base: int, *messages: bytes) -> None:
    body = join_envelope(Envelope(epoch, base, 10.0, time.time(), "test/1", node.heard), messages)
    node.send_raw(VERSION, node.name, up_mac(node.key, node.name, body), body)
