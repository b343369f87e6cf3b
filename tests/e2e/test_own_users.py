"""Panel, master and agent as users of their own, and a panel that has root do two things and no more, by real sudo."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import can_mask, needs_libvirtd
from tests.testbed.ownusers import ROOT, enter, lacking, sudoers, within
from tests.testbed.service import command
from tests.testbed.stack import Row, plain, short_folder
from tests.testbed.supervised import PanelHost
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.shared.services import ServiceState

pytestmark = [
    needs_libvirtd(),
    pytest.mark.skipif(not can_mask(), reason="needs root and mount namespaces"),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]
USERS = {"vmwatch-panel": "vmwatch", "vmwatch-master": "vmwatch", "vmwatch-node": "vmwatch-node"}
OWNERS = {
    "etc/vmwatch-master.conf": ("vmwatch", 0o600),
    "etc/vmwatch-node.conf": ("vmwatch-node", 0o600),
    "var/vmwatch-panel.db": ("vmwatch", 0o600),
    "var/vmwatch-node.db": ("vmwatch-node", 0o600),
    "var/vmwatch-master.log": ("vmwatch", None),
    "var/vmwatch-node.log": ("vmwatch-node", None),
    "var/run/vmwatch-master.sock": ("vmwatch", 0o600),
    "var/run/vmwatch-node.sock": ("vmwatch-node", 0o600),
    "var/run/vmwatch-node.pid": ("vmwatch-node", None),
    "etc": ("root", 0o1775),
    "var": ("root", 0o1775),
    "var/run": ("root", 0o1775),
}


class Apart(PanelHost):
    """A panel's host that is a node, too, with the users that the packages make."""

    def __init__(self, folder: Path, state: Path, daemon: TestDriverDaemon) -> None:
        self.daemon = daemon
        super().__init__(folder, daemon.uri, prefixed=enter(state, folder, "master", "node"))

    @property
    def pid(self) -> int:
        """Of supervisord, which is in the namespace."""
        return int((self.prefix / "supervisord.pid").read_text())

    def users(self) -> dict[int, str]:
        """Names by number, as they are there."""
        lines = Path(f"/proc/{self.pid}/root/etc/passwd").read_text().splitlines()
        return {int(fields[2]): fields[0] for fields in (line.split(":") for line in lines)}

    def runs_as(self, service: str) -> str:
        """All four of a process's user numbers are one name's."""
        lines = Path(f"/proc/{self.state(service).pid}/status").read_text().splitlines()
        numbers = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
        assert len(set(numbers)) == 1
        return self.users()[int(numbers[0])]

    def owner(self, name: str) -> tuple[str, int]:
        found = (self.prefix / name).lstat()
        return self.users()[found.st_uid], found.st_mode & 0o7777


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """With a node that the panel has configured."""
    folder, state = short_folder(), tmp_path_factory.mktemp("users")
    daemon = TestDriverDaemon(state / "libvirt", domains=("web",))
    try:
        with Apart(folder, state, daemon) as made:
            made.wait_panel()
            # libvirtd asks who a client's user is: it has to be where there are such users.
            daemon.prefix = ("nsenter", f"--mount=/proc/{made.pid}/ns/mnt", "--")  # type: ignore[misc]
            with daemon:
                made.vmwatch("node", "add", "kvm-01", "--local")
                yield made
    finally:
        daemon.close()
        shutil.rmtree(folder, ignore_errors=True)


def problems(host: Apart) -> list[Row]:
    return host.panel.rows("problems", state="unsolved")


def kill_for_good(host: Apart, name: str) -> None:
    """And it is not started again: a stop that comes between its end and its next start is none."""

    def stopped() -> bool:
        host.manager.stop(name)
        return host.state(name).state is ServiceState.STOPPED

    os.kill(host.state(name).pid, signal.SIGKILL)
    wait_until(stopped, f"{name} to be stopped")


def configured(host: Apart) -> list[tuple[str, str]]:
    return [(row["name"], row["ok"]) for row in map(plain, host.panel.change("vmwatch.configure", solve="on")["elem"])]


def test_each_service_runs_as_its_own_user_and_its_files_are_its_own(host: Apart) -> None:
    assert {name: host.runs_as(name) for name in USERS} == USERS
    for name, (owner, mode) in OWNERS.items():
        found = host.owner(name)
        assert found == (owner, mode if mode is not None else found[1]), name
    agent = Path(f"/proc/{host.state('vmwatch-node').pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in agent
    wait_until(lambda: [row["name"] for row in host.panel.rows("vm")] == ["web"], "the VM to be known")
    host.daemon.connection.lookupByName("web").create()
    wait_until(lambda: [row["event"] for row in host.panel.events()] == ["started"], "the event to be registered")


def test_a_panel_that_is_not_root_checks_and_solves_master_and_node(host: Apart) -> None:
    for name in ("vmwatch-master", "vmwatch-node"):
        kill_for_good(host, name)
    host.panel.change("periodic", interval="5")
    host.panel.change("periodic", interval="60")
    wait_until(
        lambda: {row["type"] for row in problems(host)} >= {"vmwatch_master_stopped", "vmwatch_node_stopped"},
        "both to be found",
    )
    assert configured(host) == [("vmwatch-master", "yes"), ("kvm-01", "yes")]
    host.panel.change("periodic", interval="5")
    host.panel.change("periodic", interval="60")
    wait_until(lambda: not problems(host), "both to be over")
    assert {name: host.runs_as(name) for name in USERS} == USERS


def test_a_second_run_writes_nothing_and_a_rotation_reaches_both(host: Apart) -> None:
    before = host.values("vmwatch-master"), [host.starts(name) for name in USERS]
    assert host.vmwatch("configure").count("is right already") == 2
    assert (host.values("vmwatch-master"), [host.starts(name) for name in USERS]) == before
    host.vmwatch("configure", "--rotate-secret")
    assert host.values("vmwatch-master")["secret_previous"] == before[0]["secret"]
    assert host.owner("etc/vmwatch-node.conf") == ("vmwatch-node", 0o600)
    assert host.owner("etc/vmwatch-node.conf.good") == ("vmwatch-node", 0o600)
    assert host.owner("etc/vmwatch-master.conf.good") == ("vmwatch", 0o600)


def test_what_root_does_by_hand_is_the_services_own(host: Apart) -> None:
    for program, words in (("vmwatch-panel", ("user", "list")), ("vmwatch-periodic", ("node",))):
        done = within(host.pid, command(program), "--prefix", str(host.prefix), *words)
        assert done.returncode == 0, done.stderr
    assert host.owner("var/vmwatch-periodic.log")[0] == "vmwatch"
    for program in ("vmwatch-healthcheck",):
        for service in ("master", "node"):
            done = within(host.pid, command(program), service, "--prefix", str(host.prefix), "--wait", "60")
            assert done.returncode == 0, done.stdout


def test_sudo_lets_the_panels_user_do_two_things_and_nobody_else_any(host: Apart, tmp_path: Path) -> None:
    prefix = str(host.prefix)
    nodectl, servicectl = command("vmwatch-nodectl"), command("vmwatch-servicectl")
    asked = '{"verb": "status"}\n'

    def sudo(user: str, *words: str, given: str = asked) -> tuple[int, str]:
        done = within(host.pid, "sudo", "-n", *words, user=user, given=given)
        return done.returncode, done.stdout + done.stderr

    code, told = sudo("vmwatch", servicectl, "--prefix", prefix)
    assert (code, '"state":"running"' in told) == (0, True), told
    assert sudo("vmwatch", nodectl, "--prefix", prefix, given='{"verb": "probe"}\n')[0] == 0
    for words in (
        (nodectl, "--prefix", str(tmp_path)),
        (nodectl,),
        (servicectl, "--prefix", prefix, "--help"),
        ("sh", "-c", "id"),
        (command("vmwatch-panel"), "--prefix", prefix, "user", "list"),
    ):
        code, told = sudo("vmwatch", *words)
        assert (code, "sudo: a password is required" in told) == (1, True), words
    assert sudo("vmwatch-node", servicectl, "--prefix", prefix)[0] == 1
    told = sudo("vmwatch", servicectl, "--prefix", prefix, given='{"verb": "destroy"}\n')[1]
    assert "one of status, start, stop, restart, enable, disable is" in told
    # the helper sets no name that could name a program, however it is asked
    values = '{"verb": "configure", "values": {"libvirt_uri": "qemu+ext:///system?command=/bin/sh"}}\n'
    assert "libvirt_uri: is not set from outside" in sudo("vmwatch", nodectl, "--prefix", prefix, given=values)[1]


def test_without_its_rule_the_panel_says_what_it_lacks(host: Apart) -> None:
    rules = Path(f"/proc/{host.pid}/root/etc/sudoers.d/vmwatch")
    text = rules.read_text()
    rules.write_text("")
    try:
        printed = host.vmwatch("configure", code=1)
        assert "packaging/sudoers/vmwatch" in printed
        assert printed.count("a password is required") >= 2
    finally:
        rules.write_text(text)
    assert host.vmwatch("configure").count("is right already") == 2


def test_where_sudo_gives_nothing_sockets_stand_for_both_commands(host: Apart) -> None:
    """As the units have it: root with few capabilities. systemd's own tool listens."""
    rules = Path(f"/proc/{host.pid}/root/etc/sudoers.d/vmwatch")
    text, listeners = rules.read_text(), []
    rules.unlink()
    try:
        listeners = [listen(host, name) for name in ("vmwatch-nodectl", "vmwatch-servicectl")]
        assert configured(host) == [("vmwatch-master", "yes"), ("kvm-01", "yes")]
        host.vmwatch("configure", "--rotate-secret")
        assert host.owner("etc/vmwatch-node.conf") == ("vmwatch-node", 0o600)
        host.panel.change("periodic", interval="5")
        assert problems(host) == []
    finally:
        for listener in listeners:
            listener.kill()
            listener.wait()
        for name in ("vmwatch-nodectl", "vmwatch-servicectl"):
            Path(f"/proc/{host.pid}/root/run/vmwatch/{name}.sock").unlink(missing_ok=True)
        rules.write_text(text)
        rules.chmod(0o440)


def listen(host: Apart, name: str) -> "subprocess.Popen[bytes]":
    """What the socket unit of this name does, by systemd-socket-activate."""
    unit = (ROOT / "packaging" / "systemd" / f"{name}@.service").read_text()
    told = next(line.partition("=")[2] for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    kept = ",".join(f"+{one.removeprefix('CAP_').lower()}" for one in told.split())
    root = Path(f"/proc/{host.pid}/root")
    socket = root / "run" / "vmwatch" / f"{name}.sock"
    socket.parent.mkdir(exist_ok=True)
    listener = subprocess.Popen(
        [
            *("nsenter", f"--mount=/proc/{host.pid}/ns/mnt", "--"),
            *("systemd-socket-activate", "--accept", "--inetd", "-l", f"/run/vmwatch/{name}.sock"),
            *("setpriv", f"--bounding-set=-all,{kept}", command(name), "--prefix", str(host.prefix)),
        ],
        stderr=subprocess.DEVNULL,
    )
    wait_until(socket.exists, f"{socket} to be there")
    number = next(number for number, user in host.users().items() if user == "vmwatch")
    os.chown(socket, number, number)
    return listener


def test_no_program_that_the_agents_user_names_is_run_by_root(host: Apart) -> None:
    """Its file is its own: it may write any address of libvirt there."""
    conf, made = host.conf("vmwatch-node"), host.prefix / "var" / "made"
    right = conf.read_text()
    program = host.prefix / "var" / "program"
    program.write_text(f"#!/bin/sh\nid -un >{made}\n")
    program.chmod(0o755)
    address = f"test+ext:///default?command={program}"
    conf.write_text("".join(f"{line}\n" for line in right.splitlines() if not line.startswith("libvirt_uri")))
    with conf.open("a") as file:
        file.write(f"libvirt_uri={address}\n")
    try:
        wrong = within(
            host.pid, "sudo", "-n", command("vmwatch-nodectl"), "--prefix", str(host.prefix),
            user="vmwatch", given='{"verb": "look"}\n',
        )
        assert '"ok":false' in wrong.stdout
        assert made.read_text() == "vmwatch-node\n"
    finally:
        conf.write_text(right)
        made.unlink(missing_ok=True)
        program.unlink()


def test_root_asks_no_supervisord_but_its_own(host: Apart) -> None:
    conf, planted = host.conf("vmwatch-node"), host.prefix / "var" / "planted.sock"
    right = conf.read_text()
    planted.symlink_to(host.socket)
    number = next(number for number, name in host.users().items() if name == "vmwatch-node")
    owner = host.socket.stat().st_uid
    conf.write_text(f"{right}service_manager=supervisord:{planted}\n")
    try:
        assert configured(host)[1] == ("kvm-01", "yes")
        os.chown(host.socket, number, number)
        assert configured(host)[1] == ("kvm-01", "no")
        assert "only root's supervisord is asked by root" in host.vmwatch("configure", code=1)
        upgrade = (sys.executable, "-I", "-m", "vmwatch.shared.upkeep", "restart", "vmwatch-node")
        upgraded = within(host.pid, *upgrade, "--prefix", str(host.prefix))
        assert "only root's supervisord is asked by root" in upgraded.stderr
    finally:
        os.chown(host.socket, owner, owner)
        conf.write_text(right)
        planted.unlink()
    assert configured(host) == [("vmwatch-master", "yes"), ("kvm-01", "yes")]


def test_a_link_in_place_of_the_nodes_file_is_not_followed_by_root(host: Apart, tmp_path: Path) -> None:
    conf, kept = host.conf("vmwatch-node"), tmp_path / "kept"
    conf.rename(kept)
    try:
        done = within(host.pid, "ln", "-s", "/etc/shadow", str(conf), user="vmwatch")
        assert done.returncode == 0
        printed = host.vmwatch("configure", code=1)
        assert f"{conf}: is no file of its own" in printed
        assert "root:" not in printed
    finally:
        conf.unlink(missing_ok=True)
        shutil.move(kept, conf)
        shutil.chown(conf, *(next(n for n, name in host.users().items() if name == "vmwatch-node"),) * 2)
    assert configured(host)[1] == ("kvm-01", "yes")


def test_root_discards_a_dead_letter_as_the_masters_user_and_follows_no_link(host: Apart) -> None:
    var, victim = host.prefix / "var", host.prefix / "victim"
    dead, discarded, log = (var / f"vmwatch-master.{end}" for end in ("dead", "discarded", "log"))
    kept = log.rename(log.with_suffix(".kept"))  # as logrotate leaves it
    letter = {"time": "t", "node": "kvm-01", "epoch": 1, "seq": 1, "reason": "no", "message": {}}
    discard = (command("vmwatch"), "deadletter", "discard", "--all", "--yes", "--prefix", str(host.prefix))
    dead.write_text(json.dumps(letter) + "\n")
    dead.chmod(0o600)
    shutil.chown(dead, *(next(n for n, name in host.users().items() if name == "vmwatch"),) * 2)
    victim.touch()
    discarded.symlink_to(victim)
    try:
        refused = within(host.pid, *discard)
        assert refused.returncode == 1, refused.stdout
        assert f"{discarded}: cannot be written" in refused.stderr
        assert (victim.read_text(), victim.stat().st_uid) == ("", 0)
        discarded.unlink()
        done = within(host.pid, *discard)
        assert (done.returncode, done.stdout) == (0, "1 discarded\n"), done.stderr
        assert [host.owner(f"var/{path.name}")[0] for path in (dead, discarded, log)] == ["vmwatch"] * 3
        assert json.loads(discarded.read_text())["by"] == "root as vmwatch"
    finally:
        for path in (dead, discarded, victim):
            path.unlink(missing_ok=True)
        kept.rename(log)


def test_roots_event_listener_appends_to_no_file_that_a_services_user_links_to(host: Apart) -> None:
    """supervisord starts it as itself; here it is started without one, which it complains of."""
    planted, victim = host.prefix / "var" / "vmwatch-eventlistener.log", host.prefix / "victim"
    victim.touch()
    assert within(host.pid, "ln", "-s", str(victim), str(planted), user="vmwatch-node").returncode == 0
    try:
        done = within(host.pid, command("vmwatch-eventlistener"), "--prefix", str(host.prefix))
        assert (done.returncode, done.stdout) == (0, "READY\n")
        assert "supervisord serves nothing" in done.stderr
        assert victim.read_text() == ""
    finally:
        planted.unlink()
        victim.unlink()


@pytest.mark.parametrize(
    ("service", "spoil", "told"),
    [
        ("vmwatch-node", "chmod 644 etc/vmwatch-node.conf", "mode 0644 lets others read or change its secrets"),
        ("vmwatch-node", "chown root etc/vmwatch-node.conf", "belongs to root, and vmwatch-node may not read it"),
        ("vmwatch-node", "chown root var/vmwatch-node.db", "belongs to root, and vmwatch-node may not read and"),
        ("vmwatch-node", "chmod 755 var", "vmwatch-node may not write into it"),
        ("vmwatch-node", "chgrp root var/run", "vmwatch-node may not write into it"),
        ("vmwatch-master", "chmod 640 etc/vmwatch-master.conf", "mode 0640 lets others read or change its secrets"),
        ("vmwatch-master", "chown root etc/vmwatch-master.conf", "belongs to root, and vmwatch may not read it"),
        ("vmwatch-panel", "chmod 644 var/vmwatch-panel.db", "mode 0644 lets others read or change its secrets"),
        ("vmwatch-panel", "chmod 666 etc/vmmgr.conf", "mode 0666 lets others change it"),
        ("vmwatch-panel", "chown root var/vmwatch-panel.log", "belongs to root, and vmwatch may not read and write it"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_the_command_that_mends_it(
    host: Apart, service: str, spoil: str, told: str
) -> None:
    """The service does not start, the command of the message is run as it stands, and then all is right."""
    prefix, check = str(host.prefix), (command(service), "--prefix", str(host.prefix), "--check")
    verb, how, name = spoil.split()
    path = host.prefix / name
    before = path.stat()
    assert within(host.pid, verb, how, str(path)).returncode == 0
    try:
        done = within(host.pid, *check)
        assert done.returncode == 78, done.stdout + done.stderr
        line = next(line for line in done.stderr.splitlines() if f"{path}: " in line)
        assert told in line
        mending = line.partition("; mend it with: ")[2]
        assert mending.split()[0] == verb or verb == "chmod", line
        assert within(host.pid, "sh", "-c", mending, user="").returncode == 0
        done = within(host.pid, *check)
        assert done.returncode == 0, done.stderr
        assert prefix in done.stdout
    finally:
        os.chown(path, before.st_uid, before.st_gid)
        path.chmod(before.st_mode & 0o7777)


def test_a_service_whose_file_others_may_read_does_not_start_and_the_probe_says_why(host: Apart) -> None:
    conf = host.conf("vmwatch-node")
    host.manager.stop("vmwatch-node")
    conf.chmod(0o644)
    try:
        host.manager.start("vmwatch-node")
        wait_until(lambda: host.state("vmwatch-node").state is ServiceState.ENDED, "the agent to end")
        assert host.state("vmwatch-node").code == 78
        assert f"{conf}: mode 0644 lets others read or change its secrets" in host.log("vmwatch-node")
        done = within(host.pid, command("vmwatch-healthcheck"), "node", "--prefix", str(host.prefix))
        assert done.returncode == 2
        assert "chmod 600" in done.stdout
    finally:
        conf.chmod(0o600)
    assert configured(host)[1] == ("kvm-01", "yes")


def test_sudos_own_checker_takes_the_rules(host: Apart, tmp_path: Path) -> None:
    for text in (sudoers(host.prefix), (ROOT / "packaging" / "sudoers" / "vmwatch").read_text()):
        path = tmp_path / "sudoers"
        path.write_text(text)
        path.chmod(0o440)
        done = within(host.pid, "visudo", "-cf", str(path))
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_user_of_the_namespace_is_seen_outside(host: Apart) -> None:
    there = set(host.users().values())
    assert {"vmwatch", "vmwatch-node"} <= there
    assert not any(entry.pw_dir == f"{host.prefix}/var" for entry in pwd.getpwall())


def test_the_last_node_that_goes_takes_master_and_file_with_it(host: Apart) -> None:
    assert "vmwatch-node is stopped" in host.vmwatch("node", "remove", "kvm-01")
    assert not host.conf("vmwatch-node").exists()
    assert host.values("vmwatch-master")["disabled"] == "yes"
    assert host.state("vmwatch-master").state is ServiceState.STOPPED
