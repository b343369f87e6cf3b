"""Checks of services with real commands, on a real store: who is ill is found, and a hung node delays nobody."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.testdriver import TestDriverDaemon
from tests.unit.panel.clock import FakeClock
from vmwatch.panel.board import Board
from vmwatch.panel.checks import Checks, CheckUnderWay
from vmwatch.panel.checkup import NOT_CONFIGURED, Looked, Probed, Result
from vmwatch.panel.knowledge import Node
from vmwatch.panel.maintenance import MASTER, Maintenance, begin
from vmwatch.panel.problems import Kind, Level, close_problem, raise_problem
from vmwatch.panel.removal import forget
from vmwatch.panel.removed import came_back
from vmwatch.panel.store import Host, Store
from vmwatch.panel.ways import ThisMachine, probed, run
from vmwatch.panel.writer import Work, Writer
from vmwatch.shared import conffile

HANGS = "exec sleep 600"
WELL = """echo '{"code": 0, "state": "ok", "text": "all is well"}'"""


def says(code: int, state: str, text: str) -> str:
    """A script that answers as vmwatch-healthcheck does."""
    return f"echo '{json.dumps({'code': code, 'state': state, 'text': text})}'; exit {code}"


class Scripts:
    """A way to nodes on which two small scripts stand for the machine and the probe; `exit 255` is ssh's failure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.looks = 0

    def write(self, name: str, look: str = "exit 0", probe: str = WELL) -> None:
        (self._folder / f"{name}.look").write_text(look)
        (self._folder / f"{name}.probe").write_text(probe)

    async def look(self, host: Host, limit_s: float) -> Looked:
        self.looks += 1
        ran = await run(["/bin/sh", str(self._folder / f"{host.name}.look")], limit_s)
        if ran.code is None or ran.code == 255:
            return Looked(reachable=False, libvirt=False, text=ran.error or "no route to host")
        text = ran.said.decode().strip()
        return Looked(reachable=True, libvirt=ran.code == 0, text=text)

    async def probe(self, host: Host, limit_s: float) -> Probed:
        return probed(await run(["/bin/sh", str(self._folder / f"{host.name}.probe")], limit_s))


class Bench:
    """The panel's parts that checks need."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(1_800_000_000.0)
        self.store = Store(f"sqlite:///{folder / 'panel.db'}")
        self.store.open()
        stored = self.store.load()
        self.board = Board()
        self.board.fill(stored)
        self.writer = Writer(self.store, stored, self.board, self.clock)
        self.writer.start()
        self.scripts = Scripts(folder)
        self.master = folder / "master"
        here = ThisMachine(folder, healthcheck=("/bin/sh", str(self.master)), libvirt_look=("/bin/true",))
        self.checks = Checks(self.board, self.writer, self.clock, here, {"ssh": self.scripts})

    def add(self, name: str, reach: str = "ssh", seen: float = 1.0, doubt: str = "") -> None:
        def job(work: Work) -> None:
            work.draft.nodes[name] = Node(seen=seen, doubt=doubt, doubted=1.0 if doubt else 0.0)
            # the draft has made the row
            work.writes.append(lambda recorder: recorder.save_host(replace(work.hosts[name], reach=reach)))

        asyncio.run(self.writer.do(job))

    def nodes(self) -> Mapping[str, Result]:
        return {result.object: result for result in asyncio.run(self.checks.nodes())}

    def open_ones(self) -> set[tuple[str, str]]:
        return {one.key for one in self.board.problems() if one.is_open}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.writer.stop(10)
    bench.store.close()


def test_each_illness_is_told_apart_and_solved_by_itself_when_its_cause_is_gone(bench: Bench) -> None:
    states = ("stopped", "crashed", "stuck", "missing", "misconfigured")
    for state in states:
        bench.add(state)
        bench.scripts.write(state, probe=says(2, state, "as it says"))
    for name, look, probe in (
        ("well", "exit 0", WELL),
        ("off", "exit 0", says(0, "disabled", "disabled by its configuration")),
        ("away", "exit 255", WELL),
        ("dull", "echo its libvirt does not answer: refused; exit 1", WELL),
        ("odd", "exit 0", "echo no JSON; exit 3"),
        ("bare", "exit 0", "exit 127"),
    ):
        bench.add(name)
        bench.scripts.write(name, look, probe)
    found = bench.nodes()
    assert {name: result.state for name, result in found.items()} == {
        **{state: state for state in states},
        "well": "ok", "off": "disabled", "away": "unreachable", "dull": "no_libvirt", "odd": "unknown",
        "bare": "missing",
    }
    assert bench.open_ones() == {
        *((Kind.NODE_STOPPED.value, state) for state in (*states, "bare")),
        *((Kind.NODE_UNAVAILABLE.value, name) for name in ("away", "dull")),
    }
    for name in found:
        bench.scripts.write(name)
    assert all(result.is_well for result in bench.nodes().values())
    assert bench.open_ones() == set()


def test_the_same_illness_at_the_next_check_counts_up_and_is_one_problem(bench: Bench) -> None:
    bench.add("kvm-01")
    bench.scripts.write("kvm-01", probe=says(2, "crashed", "gone"))
    for _ in range(3):
        bench.nodes()
    (problem,) = bench.board.problems()
    assert (problem.count, problem.text) == (3, "kvm-01: crashed: gone")


def test_what_configuring_left_undone_is_over_only_when_it_is_configured(bench: Bench) -> None:
    """Its service may work with what it had before: a check, and a master's reports, say nothing of it."""
    bench.add("kvm-01")
    bench.scripts.write("kvm-01")
    bench.master.write_text(WELL)
    unfinished = {(Kind.NODE_STOPPED.value, "kvm-01"), (Kind.MASTER_STOPPED.value, MASTER)}

    def fail(work: Work) -> None:
        for kind, subject in unfinished:
            raise_problem(work.draft, work.now, kind, subject, Level.ERROR, f"{NOT_CONFIGURED}: no room")

    def hear(work: Work) -> None:
        work.watch.reported(work.monotonic, [])
        work.watch.turn(work.draft, ["kvm-01"], work.monotonic, work.now, str)

    asyncio.run(bench.writer.do(fail))
    for answer, open_at_last in ((WELL, unfinished), (says(2, "crashed", "gone"), unfinished), (WELL, unfinished)):
        bench.scripts.write("kvm-01", probe=answer)
        bench.master.write_text(answer)
        bench.clock.now += 1.0
        asyncio.run(bench.writer.do(hear))
        bench.nodes()
        asyncio.run(bench.checks.master())
        assert bench.open_ones() == open_at_last
    texts = {one.object: one.text for one in bench.board.problems()}
    assert texts == {name: f"{name}: not configured; crashed: gone" for name in ("kvm-01", MASTER)}

    def configured(work: Work) -> None:
        for kind, subject in unfinished:
            close_problem(work.draft, work.now, kind, subject)

    asyncio.run(bench.writer.do(configured))
    assert bench.open_ones() == set()


def test_a_node_that_was_removed_and_reports_is_not_looked_at(bench: Bench) -> None:
    bench.add("kvm-01")
    bench.scripts.write("kvm-01", "exit 255")

    def back(work: Work) -> None:
        work.draft.nodes["kvm-01"] = Node(seen=1.0)
        came_back(work.draft, work.now, "kvm-01")

    asyncio.run(bench.writer.do(back))
    assert bench.nodes()["kvm-01"].state == "removed"
    assert bench.scripts.looks == 0
    assert bench.open_ones() == {(Kind.RETURNED.value, "kvm-01")}


def test_a_node_that_is_removed_while_it_is_looked_at_has_no_problem(bench: Bench, tmp_path: Path) -> None:
    bench.add("kvm-01")
    begun, removed = tmp_path / "begun", tmp_path / "removed"
    bench.scripts.write("kvm-01", f"touch {begun}; until [ -e {removed} ]; do sleep 0.05; done; exit 255")
    bench.checks.look_limit_s = 100.0

    async def remove_meanwhile() -> None:
        check = asyncio.create_task(bench.checks.nodes())
        while not begun.exists():
            await asyncio.sleep(0.01)
        await bench.writer.do(lambda work: forget(work, "kvm-01"))
        removed.touch()
        await check

    asyncio.run(remove_meanwhile())
    assert bench.open_ones() == set()


def test_nodes_that_take_long_delay_no_other(bench: Bench, tmp_path: Path) -> None:
    """The slow ones wait for the quick ones: were these looked at after them, no one would come to an end."""
    quick = [f"quick-{number}" for number in range(4)]
    done = " && ".join(f"[ -e {tmp_path}/{name}.done ]" for name in quick)
    for number in range(4):
        bench.add(f"slow-{number}")
        waits = f"until {done}; do sleep 0.05; done"
        bench.scripts.write(f"slow-{number}", waits if number % 2 else "exit 0", f"{waits}; {WELL}")
    for name in quick:
        bench.add(name)
        bench.scripts.write(name, probe=f"touch {tmp_path}/{name}.done; {WELL}")
    bench.checks.look_limit_s = bench.checks.probe_limit_s = 100.0
    assert {result.state for result in bench.nodes().values()} == {"ok"}


def test_hung_nodes_are_given_up_after_their_limit_and_leave_no_process(bench: Bench, tmp_path: Path) -> None:
    bench.checks.look_limit_s = bench.checks.probe_limit_s = 1.0
    for name, look in (("machine", True), ("probe", False)):
        bench.add(name)
        hangs = f"echo $$ > {tmp_path}/{name}.pid; sleep 600; exit 0"
        bench.scripts.write(name, *((hangs,) if look else ("exit 0", hangs)))
    found = bench.nodes()
    for name in ("machine", "probe"):
        assert found[name].state == "unreachable"
        assert "did not end within 1 s" in found[name].text
        pid = Path(tmp_path / f"{name}.pid")
        assert not pid.exists() or not Path(f"/proc/{int(pid.read_text())}").exists()
    assert bench.open_ones() == {(Kind.NODE_UNAVAILABLE.value, name) for name in ("machine", "probe")}


def test_nodes_that_had_no_turn_are_told_so_and_keep_their_problems(bench: Bench) -> None:
    bench.add("kvm-01")
    bench.scripts.write("kvm-01", probe=says(2, "crashed", "gone"))
    bench.nodes()
    bench.checks.run_limit_s = 0.5
    bench.scripts.write("kvm-01", HANGS)
    found = bench.nodes()["kvm-01"]
    assert (found.state, found.text) == ("unknown", "there was no time left to look at it")
    assert bench.open_ones() == {(Kind.NODE_STOPPED.value, "kvm-01")}


def test_a_node_without_a_way_is_judged_by_its_signs_of_life(bench: Bench) -> None:
    bench.add("manual", reach="manual")
    bench.add("unknown", reach="")
    bench.add("quiet", reach="manual", doubt="it gives no sign of life")
    found = bench.nodes()
    assert {name: result.state for name, result in found.items()} == {
        "manual": "ok",
        "unknown": "ok",
        "quiet": "silent",
    }
    assert found["manual"].text == "by its signs of life"
    assert bench.scripts.looks == 0


def test_what_is_in_maintenance_is_not_looked_at(bench: Bench) -> None:
    bench.add("kvm-01")
    bench.scripts.write("kvm-01", "exit 255")
    for subject in ("kvm-01", "vmwatch-master"):
        mark = Maintenance(subject, 0.0, bench.clock.wall() + 60.0)
        asyncio.run(bench.writer.do(lambda work, mark=mark: begin(work.draft, mark)))  # type: ignore[misc]
    assert bench.nodes()["kvm-01"].state == "maintenance"
    (master,) = asyncio.run(bench.checks.master())
    assert master.state == "maintenance"
    assert bench.scripts.looks == 0
    assert bench.open_ones() == set()


def test_the_master_is_probed_on_this_machine(bench: Bench) -> None:
    bench.master.write_text('[ "$1 $2" = "master --json" ] || exit 3\n' + says(2, "crashed", "process 7 is gone"))
    (found,) = asyncio.run(bench.checks.master())
    assert (found.object, found.state) == ("vmwatch-master", "crashed")
    assert bench.open_ones() == {(Kind.MASTER_STOPPED.value, "vmwatch-master")}
    bench.master.write_text(WELL)
    assert asyncio.run(bench.checks.master())[0].is_well
    assert bench.open_ones() != set(), "the panel hears nothing of it yet"
    asyncio.run(bench.writer.do(lambda work: work.watch.reported(work.monotonic, [])))
    asyncio.run(bench.checks.master())
    assert bench.open_ones() == set()
    assert bench.checks.last["vmwatch-master"].result.state == "ok"


def test_one_check_of_a_kind_at_a_time(bench: Bench) -> None:
    bench.add("kvm-01")
    bench.scripts.write("kvm-01", "sleep 1")
    bench.master.write_text(WELL)

    async def both() -> None:
        first = asyncio.create_task(bench.checks.nodes())
        await asyncio.sleep(0)
        with pytest.raises(CheckUnderWay, match="under way"):
            await bench.checks.nodes()
        await bench.checks.master()
        await first
        await bench.checks.nodes()

    asyncio.run(both())


@needs_libvirtd()
def test_a_libvirt_here_that_does_not_answer_is_the_machines_illness(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with TestDriverDaemon(tmp_path / "libvirt") as libvirtd:
        values = {"connect": "tcp://127.0.0.1:1515", "secret": "A" * 32, "node_id": "kvm-01"}
        conffile.write(tmp_path / "etc" / "vmwatch-node.conf", values | {"libvirt_uri": libvirtd.uri})
        here, host = ThisMachine(tmp_path), Host(1, "kvm-01", reach="local")
        assert asyncio.run(here.look(host, 60.0)) == Looked(reachable=True, libvirt=True)
        libvirtd.kill()
        looked = asyncio.run(here.look(host, 60.0))
        assert (looked.reachable, looked.libvirt) == (True, False)
        assert "its libvirt does not answer: " in looked.text
        libvirtd.start()
        libvirtd.freeze()
        try:
            assert "did not end within" in asyncio.run(here.look(host, 2.0)).text
        finally:
            libvirtd.thaw()
