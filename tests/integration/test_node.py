"""vmwatch-node against a real libvirtd and a master that is nothing but the wire protocol (design 02)."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import libvirt
import pytest
import zmq

from tests.testbed import guests
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.service import Service, command
from tests.testbed.testdriver import DOMAIN_XML, TestDriverDaemon
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared.exits import Exit
from vmwatch.shared.keys import down_mac, node_key, topic_of, up_mac
from vmwatch.shared.messages import Acknowledgement, decode_envelope, decode_head, encode

NODE = "kvm-1"
SECRET = "TESTSECRETTESTSECRETTESTSECRET12"
BEACON_S = 0.2
NOBODY = 65534
READS_EVERYTHING = "-all,+dac_read_search"
"""The interpreter may lie where only root can read; a user without privileges is otherwise what `setpriv` makes."""

Message = dict[str, Any]


class PlainMaster:
    """Plain PULL and PUB sockets that follow the protocol's page; what it does wrong, the test has told it to."""

    def __init__(self, port: int = 0, name: str = "plain", ack_port: int = 0) -> None:
        self.port = port or free_port_pair()
        self.name = name
        self.key = node_key(SECRET, NODE)
        self.ack_key = self.key
        self.completes = True
        """Whether the panel behind it takes what it receives."""
        self.silent = False
        self.newest_epoch = 0
        self.want_inventory = ""
        self.messages: list[Message] = []
        """All accepted ones, in the order in which they were accepted; `epoch` and `repeat` are added."""
        self.statuses: list[Message] = []
        self.wrong: list[str] = []
        """What the node should not have sent."""
        self.epochs: list[int] = []
        self._ack_port = ack_port or self.port + 1
        self._received: dict[int, int] = {}
        self._known: set[tuple[int, int]] = set()
        self._base = 1
        self._sent = 0.0
        self._stamp = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pull = self._context.socket(zmq.PULL)
        self._pub = self._context.socket(zmq.PUB)
        for socket in (self._pull, self._pub):
            socket.linger = 0
        self._pull.bind(f"tcp://127.0.0.1:{self.port}")
        self._pub.bind(f"tcp://127.0.0.1:{self._ack_port}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None:
            assert self.wrong == []

    def close(self) -> None:
        """Its host is gone."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._context.destroy(linger=0)

    def of(self, kind: str) -> list[Message]:
        return [message for message in list(self.messages) if message["type"] == kind]

    def events(self, name: str) -> list[tuple[str, str, str | None]]:
        """(event, detail, state) of a VM's events."""
        return [(m["event"], m["detail"], m.get("state")) for m in self.of("event") if m["vm"]["name"] == name]

    def said(self, what: str) -> list[Message]:
        return [message for message in self.of("agent") if message["what"] == what]

    def _run(self) -> None:
        next_beacon = 0.0
        while not self._stop.is_set():
            if self._pull.poll(50):
                self._take(self._pull.recv_multipart())
                self._acknowledge()
            if time.monotonic() >= next_beacon:
                next_beacon = time.monotonic() + BEACON_S
                self._acknowledge()

    def _take(self, frames: list[bytes]) -> None:
        version, node, mac, body = frames
        if (version, node, mac) != (b"VW1", NODE.encode(), up_mac(self.key, node, body)):
            self.wrong.append(f"frame {version!r} {node!r}")
            return
        envelope = decode_envelope(body)
        epoch = envelope.epoch
        if epoch not in self.epochs:
            self.epochs.append(epoch)
        self._base, self._sent = envelope.base, envelope.sent
        received = max(self._received.get(epoch, 0), envelope.base - 1)
        for raw in envelope.messages:
            head = decode_head(raw)
            if (epoch, head.seq) in self._known and head.seq < envelope.base:
                self.wrong.append(f"sent {head.seq} below its base {envelope.base}")
            if head.prev <= received < head.seq:
                received = head.seq
                repeat = (epoch, head.seq) in self._known
                self._known.add((epoch, head.seq))
                self.messages.append({**json.loads(bytes(raw)), "epoch": epoch, "repeat": repeat})
        self._received[epoch] = received
        if envelope.status:
            self.statuses.append(json.loads(bytes(envelope.status)))

    def _acknowledge(self) -> None:
        if not self.epochs or self.silent:
            return
        self._stamp += 1
        epoch = self.epochs[-1]
        received = self._received[epoch]
        ack = Acknowledgement(
            master=self.name,
            stamp=self._stamp,
            epoch=epoch,
            received=received,
            completed=received if self.completes else self._base - 1,
            credit=1_000_000,
            seen=self._sent,
            newest_epoch=self.newest_epoch,
            want_inventory=self.want_inventory,
        )
        topic, body = topic_of(NODE), encode(ack)
        self._pub.send_multipart([topic, b"VW1", down_mac(self.ack_key, topic, body), body])


class Node(Service):
    """The agent under test."""

    def __init__(self, prefix: Path, uri: str, *masters: PlainMaster, **settings: str | float) -> None:
        super().__init__("vmwatch-node", prefix)
        self.settings = {
            "connect": ",".join(f"tcp://127.0.0.1:{master.port}" for master in masters),
            "secret": SECRET,
            "node_id": NODE,
            "libvirt_uri": uri,
            "heartbeat_interval": "1",
            **{name: str(value) for name, value in settings.items()},
        }
        self.configure()

    def configure(self, **settings: str) -> None:
        path = self.prefix / "etc" / "vmwatch-node.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = {**self.settings, **settings}.items()
        path.write_text("".join(f"{name}={value}\n" for name, value in lines))
        path.chmod(0o600)

    def part(self, name: str) -> Message:
        """A part of its status; empty while it cannot be asked."""
        found: Message = self.status.get(name, {})
        return found

    @property
    def depth(self) -> int:
        depth: int = self.part("outbox").get("depth", -1)
        return depth

    def stored(self) -> list[tuple[int, int]]:
        """(epoch, seq) of what its outbox file holds."""
        with contextlib.closing(sqlite3.connect(self.prefix / "var" / "vmwatch-node.db")) as connection:
            return connection.execute("SELECT epoch, seq FROM message ORDER BY epoch, seq").fetchall()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path / "libvirt") as made:
        yield made


@pytest.fixture
def prefix() -> Iterator[Path]:
    """A short path: a UNIX socket lies below it."""
    folder = Path("/tmp") / f"vmwatch-{uuid4().hex[:12]}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def master() -> Iterator[PlainMaster]:
    with PlainMaster() as made:
        yield made


def settle(node: Node, master: PlainMaster) -> None:
    """Wait until the agent knows its hypervisor and has nothing to tell."""
    wait_until(lambda: master.of("inventory") and master.of("stats"), "the first inventory and statistics")
    wait_until(lambda: node.depth == 0, "an empty outbox")


@needs_libvirtd()
class TestEvents:
    def test_what_libvirt_says_arrives_in_its_words_and_order(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            domain = daemon.define("vm1")
            domain.create()
            domain.suspend()
            domain.resume()
            domain.shutdown()
            domain.create()
            domain.destroy()
            domain.rename("vm2")
            daemon.connection.lookupByName("vm2").undefine()
            wait_until(lambda: len(master.events("vm2")) == 2, "the last event")
        assert master.events("vm1") == [
            ("defined", "added", None),
            ("started", "booted", "running"),
            ("suspended", "paused", "paused"),
            ("resumed", "unpaused", "running"),
            ("stopped", "shutdown", "shutoff"),
            ("started", "booted", "running"),
            ("stopped", "destroyed", "shutoff"),
            ("undefined", "renamed", None),
        ]
        assert master.events("vm2") == [("defined", "renamed", None), ("undefined", "removed", None)]
        assert not any(message["repeat"] for message in master.messages)
        assert [message["seq"] for message in master.messages] == list(range(1, len(master.messages) + 1))

    def test_a_name_that_is_no_utf_8_stops_neither_events_nor_listings(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        uuid = str(uuid4())
        domain = daemon.define("vm1", uuid)
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            try:
                subprocess.run(["virsh", "-q", "-c", daemon.uri, "domrename", "vm1", b"\xea\xe2\xec"], check=True)
                wait_until(lambda: ("defined", "renamed", None) in master.events(uuid), "the event")
                master.want_inventory = "again"
                wait_until(lambda: any(m.get("token") == "again" for m in master.of("inventory")), "the listing")
            finally:
                domain.undefine()
        (listed,) = [one for one in master.of("inventory")[-1]["domains"] if one["uuid"] == uuid]
        assert (listed["name"], listed["state"]) == (uuid, "shutoff")

    def test_the_agent_tells_of_itself(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            assert master.messages[0]["what"] == "started"
            wait_until(lambda: master.statuses[-1]["libvirt_answers"], "a heartbeat that says that libvirt answers")
            assert master.statuses[-1]["libvirt_uri"] == daemon.uri
            assert master.statuses[-1]["libvirt_version"].count(".") == 2
            assert node.terminate() == Exit.OK
            assert master.messages[-1]["what"] == "stopping"
            assert node.stored() == []

    def test_thousands_in_a_moment(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            domain = daemon.define("vm1")
            for _ in range(500):
                domain.create()
                domain.destroy()
            wait_until(lambda: len(master.events("vm1")) == 1001, "all events")
            wait_until(lambda: node.depth == 0, "an empty outbox")


@needs_libvirtd()
class TestInventory:
    def test_first_and_at_its_interval(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        daemon.define("vm1")
        daemon.define("vm2").create()
        with Node(prefix, daemon.uri, master, inventory_interval=1):
            wait_until(lambda: len(master.of("inventory")) >= 3, "three inventories")
        first = master.of("inventory")[0]
        assert {(d["name"], d["state"], d.get("persistent", True)) for d in first["domains"]} == {
            ("vm1", "shutoff", True),
            ("vm2", "running", True),
        }
        assert first["as_of"] < first["seq"]

    def test_as_of_is_the_last_seq_before_it(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            daemon.define("vm1")
            wait_until(lambda: master.events("vm1"), "the event")
            last = master.messages[-1]["seq"]
            master.want_inventory = "please"
            asked = wait_until(
                lambda: [m for m in master.of("inventory") if m.get("token") == "please"], "the inventory asked for"
            )[0]
            assert asked["as_of"] == last
            assert [domain["name"] for domain in asked["domains"]] == ["vm1"]

    def test_one_listing_for_one_token(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            master.completes = False
            master.want_inventory = "please"  # again and again, with each acknowledgement
            wait_until(lambda: len(master.of("inventory")) == 2, "the inventory asked for")
            heartbeats = len(master.statuses)
            wait_until(lambda: len(master.statuses) >= heartbeats + 3, "three heartbeats")
            assert len(master.of("inventory")) == 2

    def test_soon_after_a_transient_domain_stopped(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            domain = daemon.connection.createXML(DOMAIN_XML.format(name="passing", uuid=uuid4()))
            wait_until(lambda: master.events("passing"), "the start")
            domain.destroy()
            wait_until(lambda: len(master.of("inventory")) == 2, "the inventory that shows it gone")
            assert master.of("inventory")[-1]["domains"] == []
            assert master.events("passing")[-1] == ("stopped", "destroyed", "shutoff")
            stopped, gone = master.of("event")[-1], master.of("inventory")[-1]
            assert gone["as_of"] >= stopped["seq"]
            assert node.part("inventory")["interval_s"] == 300


@needs_libvirtd()
class TestPromise:
    def test_nothing_is_deleted_before_its_acknowledgement(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            master.completes = False
            domain = daemon.define("vm1")
            domain.create()
            wait_until(lambda: len(master.events("vm1")) == 2, "both events to be received")
            heartbeats = len(master.statuses)
            wait_until(lambda: len(master.statuses) >= heartbeats + 2, "two heartbeats")
            assert len(node.stored()) == node.depth == 2
            master.completes = True
            wait_until(lambda: node.depth == 0, "an empty outbox")
            assert node.stored() == []

    def test_a_killed_agent_sends_again_and_begins_a_new_epoch(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            master.completes = False
            daemon.define("vm1").create()
            wait_until(lambda: len(master.events("vm1")) == 2, "both events to be received")
            node.kill()
            held = node.stored()
            assert len(held) == 2
            master.close()
            with PlainMaster(master.port, "another run") as other:
                node.start()
                settle(node, other)
                assert other.events("vm1") == [("defined", "added", None), ("started", "booted", "running")]
                assert [(m["epoch"], m["seq"]) for m in other.messages[:2]] == held
                assert other.epochs[0] == held[0][0] < other.epochs[1]
                assert other.messages[2]["what"] == "started"
                assert other.messages[2]["seq"] == 1

    def test_what_happens_while_no_master_is_there(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            master.close()
            wait_until(lambda: not node.part("master")["connected"], "the agent to notice")
            domain = daemon.define("vm1")
            for _ in range(5):
                domain.create()
                domain.destroy()
            wait_until(lambda: node.depth == 11, "eleven events in the outbox")
            with PlainMaster(master.port, "another run") as other:
                wait_until(lambda: len(other.events("vm1")) == 11, "all events")
                wait_until(lambda: node.depth == 0, "an empty outbox")

    def test_acknowledgements_with_a_wrong_mac_change_nothing(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            master.ack_key = node_key("ANOTHERSECRET", NODE)
            domain = daemon.define("vm1")
            domain.create()
            wait_until(lambda: len(master.events("vm1")) == 2, "both events")
            wait_until(lambda: node.part("master")["bad_acknowledgements"].get("mac", 0) > 3, "bad ones to be counted")
            assert len(node.stored()) == 2
            master.ack_key = master.key
            wait_until(lambda: node.depth == 0, "an empty outbox")

    def test_a_newer_epoch_at_the_panel(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            inventories = len(master.of("inventory"))
            newest = master.epochs[-1] + 1_000_000_000
            master.newest_epoch = newest
            wait_until(lambda: len(master.of("inventory")) > inventories, "an inventory")
            assert master.of("inventory")[-1]["epoch"] == node.part("outbox")["epoch"] > newest

    def test_two_addresses(self, daemon: TestDriverDaemon, prefix: Path) -> None:
        with PlainMaster(name="one") as one, PlainMaster(name="two") as two, Node(prefix, daemon.uri, one, two) as node:
            settle(node, one)
            one.completes = False
            daemon.define("vm1").create()
            wait_until(lambda: len(one.events("vm1")) == 2, "the events at the first master")
            one.close()
            wait_until(lambda: len(two.events("vm1")) == 2, "the same events at the second one")
            wait_until(lambda: node.depth == 0, "an empty outbox")
            assert node.part("master")["name"] == "two"
            assert node.part("master")["address"] == f"tcp://127.0.0.1:{two.port}"


@needs_libvirtd()
class TestLibvirt:
    def test_waits_for_it_at_the_start_and_says_so(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        daemon.stop()
        with Node(prefix, daemon.uri, master) as node:
            wait_until(lambda: node.part("libvirt").get("open_failures", 0) >= 2, "two failed openings")
            wait_until(lambda: len(master.statuses) >= 2, "two heartbeats")
            assert not master.statuses[-1]["libvirt_answers"]
            assert "waiting for libvirt" in node.log
            daemon.start()
            settle(node, master)

    @pytest.mark.parametrize("graceful", [True, False])
    def test_lost(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path, graceful: bool) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            daemon.stop(graceful)
            assert node.wait() == Exit.LIBVIRT_LOST
            assert master.messages[-1]["what"] == "libvirt_lost"
            assert master.messages[-1]["reason"]
            assert not master.statuses[-1]["libvirt_answers"]
            assert node.stored() == []

    def test_lost_with_no_master_there(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            master.close()
            wait_until(lambda: not node.part("master")["connected"], "the agent to notice")
            daemon.kill()
            assert node.wait() == Exit.LIBVIRT_LOST
            assert len(node.stored()) == 1

    def test_a_frozen_one_delays_nothing_that_was_received(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, master, inventory_interval=1, stats_interval=1) as node:
            settle(node, master)
            master.silent = True
            daemon.define("vm1").create()
            wait_until(lambda: node.depth >= 2 and node.part("libvirt")["events"] == 2, "both events in the outbox")
            daemon.freeze()
            master.silent = False
            wait_until(lambda: len(master.events("vm1")) == 2, "both events")
            heartbeats = len(master.statuses)
            wait_until(lambda: len(master.statuses) >= heartbeats + 3, "heartbeats all the while")
            assert node.status["turn_age_s"] < 5
            wait_until(lambda: not master.statuses[-1]["libvirt_answers"], "a heartbeat that says so")
            assert node.part("libvirt")["tick_age_s"] < 5
            # Its keepalives have no answer: as lost as one that was killed.
            assert node.wait() == Exit.LIBVIRT_LOST
            assert master.messages[-1]["what"] == "libvirt_lost"

    def test_stops_while_it_is_frozen(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        with Node(prefix, daemon.uri, master, inventory_interval=1, stats_interval=1) as node:
            settle(node, master)
            daemon.freeze()
            heartbeats = len(master.statuses)
            wait_until(lambda: len(master.statuses) >= heartbeats + 2, "calls to hang")
            assert node.terminate() == Exit.OK
            assert master.messages[-1]["what"] == "stopping"

    def test_stops_while_its_opening_hangs(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        daemon.freeze()
        with Node(prefix, daemon.uri, master) as node:
            wait_until(lambda: len(master.statuses) >= 2, "heartbeats while the opening hangs")
            assert node.terminate() == Exit.OK

    @pytest.mark.skipif(os.geteuid() != 0, reason="without root every test here is this one")
    def test_without_privileges(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        node = Node(prefix, daemon.uri_readonly, master)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(prefix)], check=True)
        setpriv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        setpriv += [f"--inh-caps={READS_EVERYTHING}", f"--ambient-caps={READS_EVERYTHING}"]
        process = subprocess.Popen([*setpriv, command("vmwatch-node"), "--prefix", str(prefix)])
        try:
            settle(node, master)
            daemon.define("vm1")
            wait_until(lambda: master.events("vm1"), "the event")
        finally:
            process.terminate()
        assert process.wait(60) == Exit.OK


@needs_root()
def test_statistics_of_a_real_guest(tmp_path: Path, master: PlainMaster, prefix: Path) -> None:
    network = "<interface type='user'><model type='rtl8139'/></interface>"
    with QemuDaemon(tmp_path / "libvirt") as daemon:
        connection = libvirt.open(daemon.uri)
        uuids = {name: str(uuid4()) for name in ("runs", "off")}
        for name, uuid in uuids.items():
            image = guests.write_disk(tmp_path / f"{name}.img", guests.idle())
            connection.defineXML(guests.domain_xml(name, uuid, image, extra_devices=network))
        connection.lookupByName("runs").create()
        with Node(prefix, daemon.uri, master, stats_interval=1) as node:
            wait_until(lambda: len(master.of("stats")) >= 3, "statistics")
            connection.lookupByName("runs").destroy()
            wait_until(lambda: ("stopped", "destroyed", "shutoff") in master.events("runs"), "the end of the VM")
            wait_until(lambda: node.depth == 0, "an empty outbox")
            assert master.events("runs")[0] == ("shutdown", "host", "in_shutdown")
        connection.close()
    stats = master.of("stats")[1]
    assert stats["interval"] == 1
    assert stats["taken"] <= stats["time"]
    found = {domain["uuid"]: domain for domain in stats["domains"]}
    assert found[uuids["off"]] == {"uuid": uuids["off"], "state": "shutoff"}
    runs = found[uuids["runs"]]
    assert runs["state"] == "running"
    assert runs["cpu_ns"] > 0
    assert runs["memory_kib"] == 16 * 1024
    assert runs["read_requests"] >= 1
    assert runs["read_bytes"] >= 512
    assert runs["write_requests"] == runs["write_bytes"] == 0


@needs_libvirtd()
class TestWhatTheOperatorSees:
    def test_master_not_reachable(self, daemon: TestDriverDaemon, prefix: Path) -> None:
        with Node(prefix, daemon.uri, PlainMaster()) as node:
            wait_until(lambda: "not reachable" in node.part("master").get("diagnosis", ""), "the diagnosis")
            assert "no acknowledgement comes: master not reachable" in node.log

    def test_events_arrive_and_acknowledgements_do_not(self, daemon: TestDriverDaemon, prefix: Path) -> None:
        with PlainMaster(ack_port=free_port_pair()) as master, Node(prefix, daemon.uri, master) as node:
            wait_until(lambda: "acknowledgements do not" in node.part("master").get("diagnosis", ""), "the diagnosis")
            assert node.depth > 0

    def test_a_wrong_secret(self, daemon: TestDriverDaemon, prefix: Path) -> None:
        with PlainMaster() as master:
            with Node(prefix, daemon.uri, master, secret="ANOTHERSECRETANOTHERSECRET") as node:
                wait_until(lambda: "secret" in node.part("master").get("diagnosis", ""), "the diagnosis")
                assert "SECRET" not in node.log
            assert not master.messages
            assert master.wrong
            master.wrong.clear()

    def test_an_outbox_of_another_node_is_set_aside(
        self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path
    ) -> None:
        with Node(prefix, daemon.uri, PlainMaster(), node_id="kvm-2") as other:
            wait_until(lambda: other.depth >= 3, "messages in its outbox")
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            aside = Path(node.part("outbox")["set_aside"])
            assert aside.exists()
            assert aside.name in master.said("started")[0]["reason"]

    def test_hangup_reads_the_file_again(self, daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:
        with Node(prefix, daemon.uri, master) as node:
            settle(node, master)
            node.configure(inventory_interval="nonsense")
            node.signal(signal.SIGHUP)
            wait_until(lambda: "changes nothing" in node.log, "the mistake to be logged")
            inventories = len(master.of("inventory"))
            node.configure(inventory_interval="1", libvirt_uri="test:///default")
            node.signal(signal.SIGHUP)
            wait_until(lambda: len(master.of("inventory")) >= inventories + 2, "inventories at the new interval")
            assert "libvirt_uri has changed; it takes effect at the next start" in node.log
            with PlainMaster(name="other") as other:
                node.configure(connect=f"tcp://127.0.0.1:{other.port}")
                node.signal(signal.SIGHUP)
                wait_until(lambda: other.statuses, "a heartbeat at the new address")


class TestExitCodes:
    """What the service manager learns; libvirt is not needed for it."""

    URI = "test:///default"

    def run(self, node: Node, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [command("vmwatch-node"), "--prefix", str(node.prefix), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("connect", "ipc:///tmp/x"),
            ("connect", "tcp://127.0.0.1"),
            ("node_id", "a b"),
            ("secret", "lower"),
            ("outbox_max_mb", "0"),
            ("heartbeat_interval", "never"),
            ("ack_connect", "tcp://127.0.0.1:1,tcp://127.0.0.1:2"),
        ],
    )
    def test_a_mistake_in_the_configuration(self, prefix: Path, name: str, value: str) -> None:
        node = Node(prefix, self.URI, PlainMaster())
        node.configure(**{name: value})
        ended = self.run(node)
        assert ended.returncode == Exit.CONFIGURATION
        assert name in ended.stderr
        assert str(prefix / "etc" / "vmwatch-node.conf") in ended.stderr

    def test_check_starts_nothing(self, prefix: Path) -> None:
        node = Node(prefix, "qemu:///session", PlainMaster())
        ended = self.run(node, "--check")
        assert (ended.returncode, ended.stdout.split()[-1]) == (Exit.OK, "correct")
        assert "qemu:///session" in ended.stderr
        assert not (prefix / "var").exists()

    def test_disabled(self, prefix: Path) -> None:
        ended = self.run(Node(prefix, self.URI, PlainMaster(), disabled="yes"))
        assert ended.returncode == Exit.OK
        assert "disabled" in (prefix / "var" / "vmwatch-node.log").read_text()

    def test_usage(self, prefix: Path) -> None:
        assert self.run(Node(prefix, self.URI, PlainMaster()), "--nonsense").returncode == Exit.USAGE

    def test_an_outbox_that_cannot_be_used(self, prefix: Path) -> None:
        node = Node(prefix, self.URI, PlainMaster())
        (prefix / "var").mkdir()
        (prefix / "var" / "vmwatch-node.db").write_text("this is no database " * 100)
        ended = self.run(node)
        assert ended.returncode == Exit.FAILURE
        assert "move the file away" in ended.stderr
        assert Counter(ended.stderr.split())["Traceback"] == 0

    def test_a_second_one(self, prefix: Path) -> None:
        with Node(prefix, self.URI, PlainMaster()) as node:
            assert self.run(node).returncode == Exit.CONFIGURATION

    def test_a_second_signal_ends_at_once(self, prefix: Path) -> None:
        with PlainMaster() as master, Node(prefix, self.URI, master) as node:
            master.completes = False
            wait_until(lambda: master.of("inventory"), "the inventory")
            began = time.monotonic()
            node.signal(signal.SIGTERM)
            node.signal(signal.SIGINT)
            assert node.wait() == Exit.OK
            assert time.monotonic() - began < 30
            assert node.stored() != []
