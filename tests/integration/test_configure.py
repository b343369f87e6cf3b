"""`vmwatch.configure` under a real supervisord: from an empty prefix to services that work, and every change after."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.service import Service
from tests.testbed.stack import ADMIN, Row, plain, short_folder
from tests.testbed.stream import Stream, assert_whole
from tests.testbed.supervised import PanelHost
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import free_port_pair, wait_until
from tests.unit.panel.reports import entry, report
from vmwatch.panel.watch import NO_LIFE
from vmwatch.shared.keys import node_key
from vmwatch.shared.services import ServiceState
from vmwatch.shared.supervisord import program_file

pytestmark = needs_libvirtd()
ENDS = "vmwatch-panel ends with exit code 0"
SERVICES = ("vmwatch-master", "vmwatch-node")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path_factory.mktemp("libvirt"), domains=("web",)) as made:
        yield made


@pytest.fixture
def host(short_path: Path, daemon: TestDriverDaemon) -> Iterator[PanelHost]:
    """A panel that has no node yet."""
    with PanelHost(short_path, daemon.uri) as made:
        made.wait_panel()
        yield made


@pytest.fixture(scope="module")
def up(daemon: TestDriverDaemon) -> Iterator[PanelHost]:
    """A panel with a node that works; each test leaves it so."""
    folder = short_folder()
    try:
        with PanelHost(folder, daemon.uri) as made:
            made.wait_panel()
            # so that a test need not wait long for the end of what it has frozen
            program = program_file("vmwatch-node").read_text().replace("stopwaitsecs=15", "stopwaitsecs=2")
            (folder / "conf.d" / "vmwatch-node.conf").write_text(program)
            made.vmwatch("node", "add", "kvm-01", "--local")
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def traces(host: PanelHost) -> list[tuple[int, int]]:
    """What a run without effect must leave: of each service the number of its starts and its file's time."""
    return [(host.starts(name), host.conf(name).stat().st_mtime_ns) for name in SERVICES]


def open_problems(host: PanelHost, kind: str) -> list[Row]:
    return host.panel.rows("problems", type=kind, state="open")


def test_the_first_node_brings_up_everything_and_the_last_one_takes_it_down(host: PanelHost) -> None:
    assert "hears the master" in host.vmwatch("node", "add", "kvm-01", "--local")
    master, node = host.values("vmwatch-master"), host.values("vmwatch-node")
    assert "disabled" not in master
    assert node["node_key"] == node_key(master["secret"], "kvm-01").hex()
    assert "secret" not in node
    assert all(host.state(name).is_up for name in SERVICES)
    wait_until(lambda: [row["name"] for row in host.panel.rows("vm")] == ["web"], "the VM to be known")
    assert "vmwatch-node is stopped" in host.vmwatch("node", "remove", "kvm-01")
    assert host.values("vmwatch-master")["disabled"] == "yes"
    assert host.values("vmwatch-master")["secret"] == master["secret"]
    assert host.state("vmwatch-master").state is ServiceState.STOPPED
    assert host.state("vmwatch-node").state is ServiceState.MISSING
    assert not host.conf("vmwatch-node").exists()
    assert host.panel.rows("vmhostnode") == []


def test_a_second_run_writes_nothing_and_starts_nothing(up: PanelHost) -> None:
    before = traces(up)
    printed = up.vmwatch("configure")
    assert printed.count("is right already") == 2
    assert "runs as before" in printed
    assert traces(up) == before


def test_a_node_that_lacks_something_is_not_added_and_is_told_what(up: PanelHost, tmp_path: Path) -> None:
    conf = up.conf("vmwatch-node")
    good = conf.read_text()
    conf.write_text(good.replace("libvirt_uri=", f"libvirt_uri=qemu+unix:///system?socket={tmp_path}/nobody#"))
    try:
        printed = up.vmwatch("node", "add", "kvm-09", "--local", code=1)
        assert "libvirt: MISSING: qemu+unix:///system" in printed
        assert "disk: " in printed
        assert "kvm-09 was not added" in printed
        assert [row["name"] for row in up.panel.rows("vmhostnode")] == ["kvm-01"]
    finally:
        conf.write_text(good)


def test_a_second_node_on_one_machine_is_refused_and_leaves_the_first_as_it_is(up: PanelHost) -> None:
    before = traces(up)
    printed = up.vmwatch("node", "add", "kvm-09", "--local", code=1)
    assert "the node kvm-01 is on that machine already" in printed
    manual = up.panel.change("vmhostnode.edit", name="kvm-09")["tparams"]["elid"]["$"]
    assert up.panel.change("vmhostnode.edit", elid=manual, reach="local")["error"]["$object"] == "reach"
    up.panel.change("vmhostnode.delete", elid=manual)
    assert traces(up) == before
    assert [row["name"] for row in up.panel.rows("vmhostnode")] == ["kvm-01"]


def test_services_that_were_stopped_are_problems_that_configuring_solves(up: PanelHost) -> None:
    up.panel.change("problems.register", type="vmwatch_node_stopped", object="kvm-01", description="it is stopped")
    for name in SERVICES:
        os.kill(up.state(name).pid, signal.SIGKILL)
        up.manager.stop(name)
    doc = up.panel.change("vmwatch.configure", solve="on")
    assert [(row["name"]["$"], row["ok"]["$"]) for row in doc["elem"]] == [("vmwatch-master", "yes"), ("kvm-01", "yes")]
    assert all(up.state(name).is_up for name in SERVICES)
    assert open_problems(up, "vmwatch_node_stopped") == []


def test_a_node_that_hangs_is_started_again_although_its_file_is_right(up: PanelHost) -> None:
    before = up.state("vmwatch-node").pid
    os.kill(before, signal.SIGSTOP)
    doc = up.panel.change("vmwatch.configure.node", elid="kvm-01", solve="on", background="on")
    run = doc["tparams"]["elid"]["$"]

    def ended() -> str:
        rows = up.panel.rows("vmwatch.configure.progress", elid=run, wait=10)
        return next((row["state"] for row in rows if row["state"] in ("done", "failed")), "")

    assert wait_until(ended, "the run to end", timeout_s=300) == "done"
    assert up.state("vmwatch-node").pid != before


def test_the_panel_ends_in_order_while_it_configures_and_nothing_answers(up: PanelHost) -> None:
    panel = up.state("vmwatch-panel").pid
    up.kept.signal(signal.SIGSTOP)  # supervisord: it takes calls, and answers none
    try:
        up.panel.change("vmwatch.configure", background="on")
        wait_until(lambda: "vmwatch-master.conf is right already" in up.log("vmwatch-panel"), "the run to get so far")
        os.kill(panel, signal.SIGTERM)
        wait_until(lambda: ENDS in up.log("vmwatch-panel"), "the panel to end")
    finally:
        up.kept.signal(signal.SIGCONT)
    wait_until(lambda: not up.state("vmwatch-panel").is_up, "supervisord to know that")
    up.manager.start("vmwatch-panel")
    up.wait_panel()
    assert "Traceback" not in up.log("vmwatch-panel")


def test_a_removal_that_the_panels_end_cuts_is_not_undone_and_a_person_ends_it(host: PanelHost) -> None:
    host.vmwatch("node", "add", "kvm-01", "--local")
    panel = host.state("vmwatch-panel").pid
    host.kept.signal(signal.SIGSTOP)  # the node is not stopped before the panel has ended
    try:
        with ThreadPoolExecutor() as pool:
            removal = pool.submit(host.panel.change, "vmhostnode.delete", elid="kvm-01")
            wait_until(lambda: open_problems(host, "removed_node_reports"), "the removal to be begun")
            os.kill(panel, signal.SIGTERM)
            wait_until(lambda: ENDS in host.log("vmwatch-panel"), "the panel to end")
            assert removal.exception() is not None
    finally:
        host.kept.signal(signal.SIGCONT)
    wait_until(lambda: not host.state("vmwatch-panel").is_up, "supervisord to know that")
    host.manager.stop("vmwatch-node")  # so far it had come
    host.manager.start("vmwatch-panel")
    host.wait_panel()
    host.periodic("node")
    assert "kvm-01" not in host.vmwatch("configure")
    assert not host.state("vmwatch-node").is_up
    assert open_problems(host, "vmwatch_node_stopped") == []
    (begun,) = open_problems(host, "removed_node_reports")
    assert "its removal was begun and not ended" in begun["description"]
    host.vmwatch("solve", begun["id"])
    assert host.panel.rows("vmhostnode") == open_problems(host, "removed_node_reports") == []


def test_a_spoiled_file_is_mended_from_the_last_good_one_and_kept(up: PanelHost) -> None:
    conf = up.conf("vmwatch-master")
    secret = up.values("vmwatch-master")["secret"]
    conf.write_text(conf.read_text().replace(f"secret={secret}", "secret=oh no") + "workers=many\n")
    printed = up.vmwatch("configure")
    assert "workers: 'many' is not allowed" in printed
    values = up.values("vmwatch-master")
    assert "workers" not in values
    assert "workers=many" in conf.with_name("vmwatch-master.conf.bad").read_text()
    # the last good file may have been one without this secret: then all got a new one together
    assert up.values("vmwatch-node")["node_key"] == node_key(values["secret"], "kvm-01").hex()
    assert all(up.state(name).is_up for name in SERVICES)


def test_what_an_operator_has_set_in_the_files_stays(up: PanelHost) -> None:
    for name, line in (("vmwatch-master", "memory_mb=64"), ("vmwatch-node", "stats_interval=120")):
        conf = up.conf(name)
        conf.write_text(f"# mine\n{line}\n{conf.read_text()}")
    up.vmwatch("configure")
    assert up.conf("vmwatch-node").read_text().startswith("# mine\nstats_interval=120\n")
    assert up.values("vmwatch-master")["memory_mb"] == "64"


def test_with_per_node_keys_off_a_node_gets_the_secret_and_a_named_service_manager_is_used(up: PanelHost) -> None:
    agent, conf = up.state("vmwatch-node").pid, up.conf("vmwatch-master")
    named = f"service_manager=supervisord:{up.socket}\n"
    conf.write_text(f"{conf.read_text()}{named}per_node_keys=no\n")
    up.vmwatch("configure")
    node = up.values("vmwatch-node")
    assert node["secret"] == up.values("vmwatch-master")["secret"]
    assert "node_key" not in node
    conf.write_text(conf.read_text().replace("per_node_keys=no\n", "").replace(named, ""))
    up.vmwatch("configure")
    assert "secret" not in up.values("vmwatch-node")
    assert up.state("vmwatch-node").pid == agent
    conf.write_text(f"{conf.read_text()}service_manager=supervisord:{up.prefix}/nobody\n")
    assert f"does not answer at {up.prefix}/nobody" in up.vmwatch("configure", code=1)
    conf.write_text(conf.read_text().replace(f"service_manager=supervisord:{up.prefix}/nobody\n", ""))
    up.vmwatch("configure")


def test_a_manual_nodes_file_is_printed_and_never_written(up: PanelHost) -> None:
    printed = up.vmwatch("node", "add", "kvm-07", "--manual")
    assert "nothing is written there" in printed
    text = up.vmwatch("node", "config", "kvm-07")
    secret = up.values("vmwatch-master")["secret"]
    assert text == (
        f"connect=tcp://127.0.0.1:{up.port}\nnode_id=kvm-07\nnode_key={node_key(secret, 'kvm-07').hex()}\n"
    )
    assert up.values("vmwatch-node")["node_id"] == "kvm-01"
    up.vmwatch("node", "remove", "kvm-07")
    assert [row["name"] for row in up.panel.rows("vmhostnode")] == ["kvm-01"]


def test_a_node_that_reported_by_itself_is_taken_in_as_it_is(up: PanelHost) -> None:
    body = report(entry(node="kvm-05", live=True))
    headers = {"Content-Type": "application/json"}
    requests.post(
        up.panel.url, params={"func": "vmwatch.report"}, data=body, headers=headers, auth=ADMIN, timeout=60
    ).raise_for_status()
    assert {row["name"]: row["reach"] for row in up.panel.rows("vmhostnode")} == {"kvm-01": "local", "kvm-05": ""}
    assert {row["name"]: row["ok"] for row in configured(up)}["kvm-05"] == "yes"  # nothing is done there
    up.vmwatch("node", "add", "kvm-05", "--manual")
    assert {row["name"]: row["reach"] for row in up.panel.rows("vmhostnode")}["kvm-05"] == "manual"
    assert "there is a node 'kvm-05' already" in up.vmwatch("node", "add", "kvm-05", "--manual", code=1)
    up.vmwatch("node", "remove", "kvm-05")


def test_a_manual_node_that_drifts_is_told_until_it_has_what_its_file_is_to_say(
    up: PanelHost, tmp_path: Path
) -> None:
    up.vmwatch("node", "add", "kvm-08", "--manual")
    conf = tmp_path / "etc" / "vmwatch-node.conf"
    conf.parent.mkdir()

    def write_by_hand() -> None:
        mine = f"libvirt_uri=qemu+unix:///system?socket={tmp_path}/nobody\nheartbeat_interval=1\n"
        conf.write_text(mine + up.vmwatch("node", "config", "kvm-08"))

    def told() -> str:
        rows = {row["name"]: row["text"] for row in configured(up)}
        return rows["kvm-08"]

    write_by_hand()
    with Service("vmwatch-node", tmp_path) as agent:
        wait_until(lambda: agent.status.get("master", {}).get("heard_age_s") is not None, "the master to be heard")
        assert "DRIFT" not in told()
        up.panel.change("vmwatch.configure", rotate_secret="on")
        drift = "DRIFT: it runs with other settings than its file is to say"
        wait_until(lambda: told().startswith(drift), "a heartbeat that tells of the old key")
        assert drift in up.vmwatch("configure", code=1)
        assert open_problems(up, "vmwatch_node_stopped") == []
        write_by_hand()
        agent.signal(signal.SIGHUP)
        wait_until(lambda: "DRIFT" not in told(), "its heartbeat to tell of the new key")
    wait_until(lambda: doubts(up)["kvm-08"] == NO_LIFE, "the panel to have heard its last")
    up.vmwatch("node", "remove", "kvm-08")
    up.vmwatch("configure", "--rotate-secret")
    assert "DRIFT" not in up.vmwatch("node", "add", "kvm-08", "--manual")  # another one, of which nothing is known
    up.vmwatch("node", "remove", "kvm-08")


def doubts(host: PanelHost) -> dict[str, str]:
    """About the nodes, by name."""
    return {row["name"]: row["doubt"] for row in host.panel.rows("vmhostnode")}


def configured(host: PanelHost) -> list[Row]:
    """The rows of `vmwatch.configure`."""
    return [plain(row) for row in host.panel.change("vmwatch.configure")["elem"]]


def test_two_rotations_and_a_move_of_the_port_under_load_lose_nothing(
    host: PanelHost, daemon: TestDriverDaemon
) -> None:
    host.vmwatch("node", "add", "kvm-01", "--local")
    wait_until(lambda: host.status("vmwatch-node").get("inventory", {}).get("age_s") is not None, "the first listing")
    agent = host.state("vmwatch-node").pid
    secrets = [host.values("vmwatch-master")["secret"]]
    with Stream(daemon) as stream:
        for _ in range(2):
            stream.more(3)
            assert "the old one is accepted as well" in host.vmwatch("configure", "--rotate-secret")
            values = host.values("vmwatch-master")
            assert values["secret_previous"] == secrets[-1]
            secrets.append(values["secret"])
            assert host.values("vmwatch-node")["node_key"] == node_key(secrets[-1], "kvm-01").hex()
        stream.more(3)
        host.listen(free_port_pair())
        host.manager.restart("vmwatch-panel")
        host.wait_panel()
        host.vmwatch("configure", "--forget-previous")
        assert "secret_previous" not in host.values("vmwatch-master")
        assert host.values("vmwatch-node")["connect"] == f"tcp://127.0.0.1:{host.port}"
        stream.more(3)
    wait_until(lambda: host.status("vmwatch-node")["outbox"]["depth"] == 0, "the outbox to drain", timeout_s=180)
    assert_whole(host.panel.events(), stream)
    assert len(set(secrets)) == 3
    # no event could be lost: the agent was not even started again
    assert host.state("vmwatch-node").pid == agent
    logs = "".join(host.log(name) for name in (*SERVICES, "vmwatch-panel"))
    assert not any(secret in logs for secret in secrets)


def test_an_upgrade_of_a_panel_that_has_nodes_configures_both_services_by_itself(
    short_path: Path, daemon: TestDriverDaemon
) -> None:
    with PanelHost(short_path, daemon.uri) as host:
        host.wait_panel()
        host.manager.stop("vmwatch-panel")
        database = sqlite3.connect(short_path / "var" / "vmwatch-panel.db")
        with database:
            database.execute("INSERT INTO nodes (id, name, reach) VALUES (1, 'kvm-01', 'local')")
        database.close()
        host.manager.start("vmwatch-panel")
        wait_until(lambda: [row["name"] for row in host.panel.rows("vm")] == ["web"], "the VM to be known", 180)
        wait_until(lambda: all(host.state(name).is_up for name in SERVICES), "both services to be up", 180)
