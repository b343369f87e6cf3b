"""What an operator changes while events stream (design 04): settings, workers, secrets, logs, versions."""

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.testbed.backlog import NO_LIBVIRT, assert_all_registered, fill, registered
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.oldoutbox import EPOCH, VERSION_1, write_outbox
from tests.testbed.service import Service, command
from tests.testbed.stack import SECRET, SERVICE, Panel, Stack
from tests.testbed.stream import Stream, assert_none_twice_and_in_order, assert_whole, in_nodes_order, told_by
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared import conffile
from vmwatch.shared.exits import Exit
from vmwatch.shared.keys import node_key
from vmwatch.shared.settings import MOST_WORKERS

SECRETS = [SECRET, *(f"{letter}" * 32 for letter in "ABC")]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path / "libvirt") as made:
        yield made


def configuration(service: Service) -> Path:
    name = "vmmgr" if service.program == "vmwatch-panel" else service.program
    return service.prefix / "etc" / f"{name}.conf"


def change(service: Service, **settings: str) -> None:
    """Set these in the NAME=VALUE file of the service; an empty value removes the line."""
    path = configuration(service)
    values = dict(line.partition("=")[::2] for line in path.read_text().splitlines()) | settings
    conffile.write(path, {name: value for name, value in values.items() if value})


def hang_up(service: Service, log: str) -> None:
    """SIGHUP, and wait until a new line with this text is in the log."""
    before = service.log.count(log)
    service.signal(signal.SIGHUP)
    wait_until(lambda: service.log.count(log) > before, f"{log!r} in the log of {service.program}")


def workers(master: Service) -> set[int]:
    """Process ids, from the kernel."""
    return {child.pid for child in psutil.Process(master.pid).children()}


def wait_workers(master: Service, count: int) -> None:
    def settled() -> bool:
        states = [worker["state"] for worker in master.status.get("workers", ())]
        return states == ["ready"] * count and len(workers(master)) == count

    wait_until(settled, f"{count} workers at work and no other")


def set_password(panel: Panel, password: str) -> None:
    subprocess.run(
        [command("vmwatch-panel"), "--prefix", str(panel.prefix), "user", "set", SERVICE[0], "--role", "service"],
        input=password.encode() + b"\n",
        check=True,
        capture_output=True,
    )


def assert_nothing_came_late(master: Service) -> None:
    """What the workers that left had settled was heard: nothing went out a second time for no reason."""
    assert master.status["counters"].get("late_results", 0) == 0


@needs_libvirtd()
class TestSettingsOfTheMaster:
    def test_all_workers_are_replaced_again_and_again_without_a_loss(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        chance = random.Random(1)
        stack.start_node("n", daemon.uri)
        wait_workers(stack.master, 2)
        seen = workers(stack.master)
        with Stream(daemon) as stream:
            for number in range(6):
                stream.more(chance.choice([1, 5, 20]))
                change(stack.master, panel_timeout=str(10 + number))
                hang_up(stack.master, "the workers are replaced")
                if chance.random() < 0.5:
                    wait_workers(stack.master, 2)
            wait_workers(stack.master, 2)
            stream.more(5)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)
        assert_nothing_came_late(stack.master)
        assert not seen & workers(stack.master)

    def test_a_new_password_of_the_panels_account_takes_effect(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            set_password(stack.panel, "another password")
            stack.panel.restart_after_kill()  # sessions are gone with it: the old password opens none
            wait_until(lambda: stack.master.status["panel_needs_person"], "the workers to be refused")
            stream.more(5)
            change(stack.master, panel_password="another password")
            hang_up(stack.master, "panel_password has changed")
            wait_until(lambda: not stack.master.status["panel_trouble"], "the workers to be let in")
            wait_workers(stack.master, 2)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)
        assert "another password" not in stack.master.log

    def test_a_wrong_file_changes_nothing_and_is_named_with_its_line(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        stack.start_node("n", daemon.uri)
        wait_workers(stack.master, 2)
        before = workers(stack.master)
        path = configuration(stack.master)
        good = path.read_text()
        with Stream(daemon) as stream:
            stream.more(5)
            path.write_text("workers=3\n" + good.replace("workers=2\n", "") + "batch_max=many\n")
            line = len(path.read_text().splitlines())
            hang_up(stack.master, f"changes nothing: {path}:{line}: batch_max: 'many' is not allowed")
            path.unlink()
            hang_up(stack.master, f"changes nothing: {path}: cannot be read: No such file or directory")
            stream.more(5)
            conffile.write_atomically(path, good)
            hang_up(stack.master, "was read again; 0 settings change")
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)
        assert workers(stack.master) == before

    def test_an_address_waits_for_the_next_start(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        node = stack.start_node("n", daemon.uri)
        other = free_port_pair()
        with Stream(daemon) as stream:
            stream.more(5)
            change(stack.master, listen=f"tcp://127.0.0.1:{other}", memory_mb="64", workers="1")
            hang_up(stack.master, "listen has changed; it takes effect at the next start")
            assert "memory_mb has changed; it takes effect at the next start" in stack.master.log
            wait_workers(stack.master, 1)
            stream.more(5)
            stack.wait_drained()
            assert stack.master.terminate() == Exit.OK
            stack.master.start()
            change(node, connect=f"tcp://127.0.0.1:{other}")
            hang_up(node, "connect has changed")
            stream.more(5)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    def test_workers_are_added_and_removed_without_a_loss(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        chance = random.Random(2)
        stack.start_node("n", daemon.uri)
        count = 2
        with Stream(daemon) as stream:
            for _ in range(12):
                stream.more(chance.choice([0, 1, 5]))
                number = chance.choice([signal.SIGTTIN, signal.SIGTTOU]) if 1 < count < 4 else None
                number = number or (signal.SIGTTIN if count == 1 else signal.SIGTTOU)
                stack.master.signal(number)
                count += 1 if number == signal.SIGTTIN else -1
                wait_until(lambda: stack.master.status["workers_wanted"] == count, f"{count} workers wanted")  # noqa: B023
                if chance.random() < 0.5:
                    wait_workers(stack.master, count)
            wait_workers(stack.master, count)
            stream.more(5)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)
        assert_nothing_came_late(stack.master)

    def test_the_last_worker_is_not_removed_and_there_is_a_most(self, stack: Stack) -> None:
        for count in (1, 1):
            stack.master.signal(signal.SIGTTOU)
            wait_workers(stack.master, count)
        wait_until(lambda: f"0 workers are not allowed: from 1 to {MOST_WORKERS} are" in stack.master.log, "a word")
        change(stack.master, workers=str(MOST_WORKERS + 1))
        hang_up(stack.master, f"{MOST_WORKERS + 1}' is not allowed")
        change(stack.master, workers="2")
        hang_up(stack.master, "2 workers instead of 1")
        wait_workers(stack.master, 2)


@needs_libvirtd()
class TestSettingsOfTheOthers:
    def test_a_nodes_file_good_and_bad(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        node = stack.start_node("n", daemon.uri)
        path = configuration(node)
        good = path.read_text()
        with Stream(daemon) as stream:
            for number in range(10):
                path.write_text(f"stats_interval=often{number}\n{good}")
                hang_up(node, f"changes nothing: {path}:1: stats_interval: 'often{number}' is not allowed")
                conffile.write_atomically(path, f"{good}inventory_interval={60 + number}\nunknown_name=1\n")
                hang_up(node, "unknown name 'unknown_name' is ignored")
                wait_until(lambda: node.status["inventory"]["interval_s"] == 60 + number, "the new interval")  # noqa: B023
                stream.more(2)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    def test_another_node_id_waits_for_the_next_start_and_keeps_the_key(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        node = stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            stream.more(5)
            change(node, node_id="m")
            hang_up(node, "node_id has changed; it takes effect at the next start")
            change(node, heartbeat_interval="2")
            hang_up(node, "heartbeat_interval has changed")
            assert node.log.count("node_id has changed; it takes effect at the next start") == 2
            stream.more(5)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)
        assert stack.master.status["rejects"]["by_reason"] == {}
        assert node.status["node_id"] == "n"

    def test_a_panels_file_good_bad_and_gone(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        stack.start_node("n", daemon.uri)
        path = configuration(stack.panel)
        good = path.read_text()
        with Stream(daemon) as stream:
            stream.more(5)
            path.write_text(f"{good}EventRetentionDays ever\n")
            hang_up(stack.panel, f"nothing changes, the configuration is wrong: {path}:2: EventRetentionDays")
            path.write_text(f"{good}EventRetentionDays 3650\nPanelDatabase sqlite:////nowhere/else.db\n")
            hang_up(stack.panel, "changed: EventRetentionDays")
            assert "effective only after a restart: PanelDatabase" in stack.panel.log
            path.unlink()  # to the defaults would be to 365 days, and to delete what is older
            hang_up(stack.panel, f"nothing changes, the configuration is wrong: {path}: cannot be read")
            stream.more(5)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    def test_signals_that_are_for_workers_suspend_no_other_program(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        node = stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            for number in (signal.SIGTTIN, signal.SIGTTOU):
                for service in (node, stack.panel):
                    service.signal(number)
                for worker in workers(stack.master):
                    os.kill(worker, number)
            stream.more(5)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)
        wait_workers(stack.master, 2)

    def test_a_hangup_that_reaches_workers_too_ends_none(self, stack: Stack) -> None:
        """As `killall -HUP` does, at any moment: also while they boot."""
        for _ in range(5):
            change(stack.master, panel_timeout=str(random.randint(10, 600)))
            hang_up(stack.master, "the workers are replaced")
            for _ in range(10):
                for worker in workers(stack.master):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGHUP)
                time.sleep(0.02)
        wait_workers(stack.master, 2)
        assert "SIGHUP" not in stack.master.log
        assert sum(worker["restarts"] + worker["boot_failures"] for worker in stack.master.status["workers"]) == 0


@needs_libvirtd()
class TestSecrets:
    def test_a_secret_is_rotated_in_the_orderly_way_again_and_again(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        node = stack.start_node("n", daemon.uri, heartbeat_interval="10")
        with Stream(daemon) as stream:
            for old, new in pairwise(SECRETS):
                change(stack.master, secret=new, secret_previous=old)
                hang_up(stack.master, "secret has changed")
                self.wait_acknowledged(stack, stream)  # with the old key, which the node still has
                change(node, secret=new)
                hang_up(node, "secret has changed")
                self.wait_acknowledged(stack, stream)
                change(stack.master, secret_previous="")
                hang_up(stack.master, "secret_previous has changed")
                self.wait_acknowledged(stack, stream)
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)
        assert stack.master.status["rejects"]["by_reason"] == {}
        assert not any(secret in service.log for secret in SECRETS for service in (node, stack.master))

    def test_a_node_that_is_ahead_of_its_master_loses_nothing(self, stack: Stack, daemon: TestDriverDaemon) -> None:
        node = stack.start_node("n", daemon.uri)
        old, new = SECRETS[:2]
        with Stream(daemon) as stream:
            stream.more(5)
            change(node, secret=new)
            hang_up(node, "secret has changed")
            wait_until(lambda: stack.master.status["rejects"]["by_reason"].get("mac"), "the master to refuse it")
            stream.more(5)
            change(stack.master, secret=new, secret_previous=old)
            hang_up(stack.master, "secret has changed")
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    def test_a_node_that_lags_behind_keeps_everything_until_it_has_the_new_secret(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        node = stack.start_node("n", daemon.uri)
        with Stream(daemon) as stream:
            stream.more(5)
            change(stack.master, secret=SECRETS[1])
            hang_up(stack.master, "secret has changed")
            wait_until(lambda: stack.master.status["rejects"]["by_reason"].get("mac"), "the old key to be refused")
            stream.more(5)
            held = node.status["outbox"]["depth"]
            assert held > 0
            # Its own key alone, as for a hypervisor that shall not be able to speak for another.
            change(node, secret="", node_key=node_key(SECRETS[1], "n").hex())
            hang_up(node, "node_key has changed")
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)

    @staticmethod
    def wait_acknowledged(stack: Stack, stream: Stream) -> None:
        """Wait until all that the stream has told by now has come back as acknowledged."""
        stream.more(3)
        node = stack.nodes["n"].status["outbox"]
        epoch, last = node["epoch"], node["last_seq"]

        def acknowledged() -> bool:
            streams = stack.master.status["streams"]
            return any(each["epoch"] == epoch and each["base"] > last for each in streams)

        wait_until(acknowledged, f"the node's base above {last}")


class TestWhileABacklogDrains:
    """Thousands of messages in each worker's hands, and as many on the way."""

    COUNT = 40_000
    SLICE = 1_500

    def test_everything_that_can_change_changes_and_nothing_is_lost_or_doubled(self, stack: Stack) -> None:
        node = stack.node("n", NO_LIBVIRT)
        fill(node.prefix, "n", self.COUNT)
        chance = random.Random(4)
        wait_workers(stack.master, 2)
        node.start()
        done, secrets = 0, [SECRETS[0]]
        while registered(stack.prefix) < self.COUNT:
            goal = min(self.COUNT, registered(stack.prefix) + chance.randint(1, self.SLICE))
            wait_until(lambda: registered(stack.prefix) >= goal, "the drain to go on")  # noqa: B023
            done += 1
            if done % 3 == 0:
                self.rotate(stack, node, secrets)
            elif done % 3 == 1:
                change(stack.master, panel_timeout=str(20 + done))
                hang_up(stack.master, "the workers are replaced")
            else:
                stack.master.signal(chance.choice([signal.SIGTTIN, signal.SIGTTOU]))
        stack.wait_drained()
        assert_all_registered(stack.panel.events(), self.COUNT)
        assert done > 9
        assert_nothing_came_late(stack.master)
        assert "Traceback" not in stack.master.log + node.log + stack.panel.log

    @staticmethod
    def rotate(stack: Stack, node: Service, secrets: list[str]) -> None:
        """One step of it: the master has both, then the node has the new one; the old one goes with the next."""
        if len(secrets) % 2:
            secrets.append(f"S{len(secrets)}" * 16)
            change(stack.master, secret=secrets[-1], secret_previous=secrets[-2])
            hang_up(stack.master, "secret has changed")
        else:
            secrets.append(secrets[-1])
            change(node, secret=secrets[-1])
            hang_up(node, "secret has changed")


class Rotation:
    """Renames a log while it is written, as logrotate does, with `create` and without; nothing is thrown away."""

    def __init__(self, log: Path, seed: int) -> None:
        self.log = log
        self.count = 0
        self._chance = random.Random(seed)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Rotation":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(60)

    @property
    def files(self) -> list[Path]:
        """All that there is of the log."""
        return [path for path in self.log.parent.iterdir() if path.name.startswith(self.log.name)]

    @property
    def lines(self) -> list[str]:
        return [line for path in self.files for line in path.read_text().splitlines()]

    def _run(self) -> None:
        while not self._ending.wait(self._chance.uniform(0, 0.02)):
            with contextlib.suppress(FileNotFoundError):  # nothing was written since the last time
                self.log.rename(self.log.with_name(f"{self.log.name}.{self.count + 1}"))
                self.count += 1
                if self._chance.random() < 0.5:
                    with contextlib.suppress(FileExistsError):  # its writer was faster
                        self.log.touch(0o600, exist_ok=False)


class TestLogs:
    WRITER = """
import logging, pathlib, sys
from vmwatch.shared import logs
logs.set_up(sys.argv[1], "info")
number, least, stop = 0, int(sys.argv[3]), pathlib.Path(sys.argv[4])
while number < least or not stop.exists():
    logging.getLogger("load").info("line %s-%d of the load", sys.argv[2], number)
    number += 1
print(number)
"""

    def test_no_line_of_several_processes_is_lost_torn_or_doubled_by_rotation(self, tmp_path: Path) -> None:
        """The master and its workers share a file, as these do."""
        log, least, stop = tmp_path / "var" / "x.log", 4000, tmp_path / "stop"
        with Rotation(log, seed=1) as rotation, contextlib.ExitStack() as running:
            log.parent.mkdir()
            writers = {}
            for name in ("a", "b", "c"):
                line = [sys.executable, "-c", self.WRITER, str(log), name, str(least), str(stop)]
                writers[name] = running.enter_context(subprocess.Popen(line, stdout=subprocess.PIPE, text=True))
            try:
                wait_until(lambda: rotation.count > 10, "more than ten rotations")
            finally:
                stop.touch()
            counts = {name: int(writer.communicate(timeout=120)[0]) for name, writer in writers.items()}
        whole = re.compile(r"\d{4}-\d\d-\d\dT\S+ info load\[\d+\]: line (\w-\d+) of the load")
        matches = [whole.fullmatch(line) for line in rotation.lines]
        found = Counter(match[1] for match in matches if match)
        assert all(matches)
        assert found == Counter(f"{name}-{number}" for name, count in counts.items() for number in range(count))

    def test_a_log_that_is_cut_where_it_is_goes_on_without_a_hole(self, tmp_path: Path) -> None:
        """logrotate's `copytruncate`: what it does not copy in time it loses, but nothing is written into nowhere."""
        log = tmp_path / "x.log"
        line = [sys.executable, "-c", self.WRITER, str(log), "a", "20000", str(tmp_path)]  # it is there: stop at once
        writer = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        cuts = 0
        while writer.poll() is None:
            if log.exists() and log.stat().st_size > 10_000:
                os.truncate(log, 0)
                cuts += 1
            time.sleep(0.005)
        assert writer.wait(60) == 0
        assert cuts > 2
        assert b"\0" not in log.read_bytes()

    @needs_libvirtd()
    def test_no_line_of_the_services_is_lost_by_rotation_in_a_stream(
        self, stack: Stack, daemon: TestDriverDaemon
    ) -> None:
        node = stack.start_node("n", daemon.uri)
        services = (stack.panel, stack.master, node)
        wrong = ("EventRetentionDays wrong{}", "workers=wrong{}", "stats_interval=wrong{}")
        good = [configuration(service).read_text() for service in services]
        count = 25
        with contextlib.ExitStack() as opened:
            logs = [service.prefix / "var" / f"{service.program}.log" for service in services]
            rotations = [opened.enter_context(Rotation(log, seed)) for seed, log in enumerate(logs)]
            stream = opened.enter_context(Stream(daemon))
            for number in range(count):
                for service, line, rest in zip(services, wrong, good, strict=True):
                    conffile.write_atomically(configuration(service), f"{line.format(number)}\n{rest}")
                    service.signal(signal.SIGHUP)
                for rotation in rotations:
                    wait_until(lambda r=rotation: said(r).get(number), f"line {number} of {rotation.log}")  # type: ignore[misc] # noqa: B023
                if number % 5 == 0:  # workers come and go, and write into the same file
                    wait_workers(stack.master, 2)
                    os.kill(min(workers(stack.master)), signal.SIGTERM)
        for rotation in rotations:
            assert rotation.count > 3
            assert said(rotation) == dict.fromkeys(range(count), 1)
            assert all(re.match(r"\d{4}-\d\d-\d\dT|    ", line) for line in rotation.lines)
        begun = {match for line in rotations[1].lines for match in re.findall(r"generation (\d+)\)", line)}
        assert begun == {str(number) for number in range(1, len(begun) + 1)}
        stack.wait_drained()
        assert_whole(stack.panel.events(), stream)


def said(rotation: Rotation) -> dict[int, int]:
    """How often each numbered mistake is in the log; a file may be renamed while this looks."""
    while True:
        try:
            text = "\n".join(rotation.lines)
        except FileNotFoundError:
            continue
        return dict(Counter(int(number) for number in re.findall(r"'wrong(\d+)' is not allowed", text)))


TOMORROW = """
import sys
from vmwatch.node import schema
schema.MIGRATIONS += (
    ("ALTER TABLE message ADD COLUMN weight INTEGER NOT NULL DEFAULT 1", "CREATE INDEX heavy ON message (weight)"),
)
schema.VERSION = len(schema.MIGRATIONS)
from vmwatch.node.main import main
sys.exit(main(sys.argv[1:]))
"""
"""A vmwatch-node of a later version, which knows one more step."""


def content(path: Path) -> tuple[int, list[tuple[object, ...]]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return version, connection.execute("SELECT * FROM message ORDER BY epoch, seq").fetchall()


class TestOutboxOfAnotherVersion:
    @pytest.mark.parametrize("program", ["today's", "tomorrow's"])
    def test_the_rows_of_an_older_version_are_delivered_once_and_in_order(self, stack: Stack, program: str) -> None:
        node = stack.node("n", NO_LIBVIRT)
        path = node.prefix / "var" / "vmwatch-node.db"
        write_outbox(path, VERSION_1, rows=40)
        if program == "today's":
            node.start()
            stack.wait_drained()
            assert node.terminate() == Exit.OK
        else:
            with self.tomorrows(node.prefix) as later:
                wait_until(lambda: node.status.get("outbox", {}).get("depth") == 0, "the old rows to be delivered")
                later.terminate()
                assert later.wait(60) == Exit.OK
        rows = stack.panel.events()
        assert_none_twice_and_in_order(rows)
        assert told_by(in_nodes_order(rows)) == [(f"old{number}", "started", "booted") for number in range(1, 41)]
        assert {int(row["epoch"]) for row in rows} == {EPOCH}
        assert content(path)[0] == (1 if program == "today's" else 2)

    def test_a_newer_one_is_refused_in_words_and_left_for_the_newer_program(self, stack: Stack) -> None:
        node = stack.node("n", NO_LIBVIRT)
        path = node.prefix / "var" / "vmwatch-node.db"
        write_outbox(path, VERSION_1, rows=40)
        assert stack.master.terminate() == Exit.OK  # the rows stay where they are
        with self.tomorrows(node.prefix) as later:
            wait_until(lambda: node.status.get("outbox", {}).get("depth", 0) >= 40, "the newer program to run")
            later.terminate()
            assert later.wait(60) == Exit.OK
        before, kept = content(path), path.read_bytes()
        assert before[0] == 2
        node.launch()
        assert node.wait() == Exit.FAILURE
        assert f"{path}: has schema version 2, and this vmwatch-node knows 1" in node.log
        assert "install that version again" in node.log
        assert (content(path), path.read_bytes()) == (before, kept)
        stack.master.start()
        with self.tomorrows(node.prefix) as later:
            wait_until(lambda: node.status.get("outbox", {}).get("depth") == 0, "the rows to be delivered after all")
            later.terminate()
            assert later.wait(60) == Exit.OK
        assert len(stack.panel.events()) == 40

    def test_a_step_that_is_killed_leaves_the_older_version_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox.db"
        write_outbox(path, VERSION_1, rows=40)
        before = content(path)
        script = """
import os, sqlite3, sys
from vmwatch.node import schema
schema.MIGRATIONS += (("ALTER TABLE message ADD COLUMN weight INTEGER", "SELECT die()"),)
schema.VERSION = 2
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.create_function("die", 0, lambda: os.kill(os.getpid(), 9))
schema.migrate(connection)
"""
        done = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60)
        assert done.returncode == -signal.SIGKILL
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE").connection.rollback()  # what the killed one left is cleared away
        assert content(path) == before

    @staticmethod
    @contextlib.contextmanager
    def tomorrows(prefix: Path) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen([sys.executable, "-c", TOMORROW, "--prefix", str(prefix)])
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(prefix / "var" / "run", ignore_errors=True)
