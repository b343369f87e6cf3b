"""The Debian packages in a clean Debian 12: installed, upgraded under load, removed, purged; and beside others."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.packages.conftest import NEWER, Packages
from tests.testbed.cleanroot import needs_clean_root
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.installed import HOST_FILE, PREFIX, Installed, described
from tests.testbed.stream import Stream, assert_whole_within_runs
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.panel.libvirtssh import SCRIPT
from vmwatch.panel.ssh import CONTROL, INSTALL
from vmwatch.shared.exits import Exit

pytestmark = [needs_libvirtd(), *needs_clean_root()]

ETC, VAR = f"{PREFIX}/etc", f"{PREFIX}/var"
OTHERS = (f"{PREFIX}/addon/module.so", f"{ETC}/other.conf", f"{VAR}/other.db", f"{VAR}/run/other.pid")
VMMANAGER = (
    *(f"{PREFIX}/bin/core", f"{PREFIX}/sbin/mgrctl", f"{PREFIX}/lib/libvmmgr.so", f"{VAR}/vmmgr.log"),
    # Its own subsystem has the names that ours has.
    *(f"{ETC}/vmmgr.conf", f"{ETC}/vmwatch-master.conf", f"{VAR}/vmwatch-master.log"),
)
ALL_SERVICES = {"vmwatch-panel": "vmwatch", "vmwatch-master": "vmwatch", "vmwatch-node": "vmwatch-node"}


def plant(machine: Installed, *names: str) -> dict[str, tuple[int, int, int, str]]:
    """Files that somebody else has put there; their folders too must stay as they are."""
    for name in names:
        path = machine.file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"not of vmwatch: {name}\n")
        path.chmod(0o640)
    folders = {str(path) for name in names for path in Path(name).parents if str(path).startswith(PREFIX)}
    return {name: described(machine.file(name)) for name in (*names, *folders)}


def plant_keys(machine: Installed) -> None:
    """What the panel makes for nodes over SSH, by its own names."""
    for name in (CONTROL.key, INSTALL.key, SCRIPT):
        for suffix in ("", ".pub"):
            machine.file(f"{ETC}/{name}{suffix}").touch()


def assert_unchanged(machine: Installed, planted: dict[str, tuple[int, int, int, str]]) -> None:
    assert {name: described(machine.file(name)) for name in planted} == planted


def uproot(machine: Installed) -> None:
    machine.root.run("rm", "-rf", f"/{PREFIX}")


def assert_runs(machine: Installed, *services: str) -> None:
    """Exactly these, each as its own user alone."""
    found = {name: set(users) for name, users in machine.processes().items()}
    assert found == {name: {ALL_SERVICES[name]} for name in services}


def assert_logs_rotate(machine: Installed) -> None:
    """As the services' own users, and each goes on in a new file."""
    machine.root.run("logrotate", "--force", "/etc/logrotate.d/vmwatch-master", "/etc/logrotate.d/vmwatch-node")
    for name, user in ALL_SERVICES.items():
        old, new = machine.file(f"{VAR}/{name}.log.1"), machine.file(f"{VAR}/{name}.log")
        assert machine.user_name(old.stat().st_uid) == user
        # It writes to the file that was moved until it has something to say.
        machine.root.run("sh", "-c", f"kill -HUP $(cat /{VAR}/run/{name}.pid)")
        wait_until(new.exists, f"{name} to write to a new log")


def test_packages_install_upgrade_under_load_without_a_lost_event_and_purge_to_nothing(
    machine: Installed, packages: Packages, daemon: TestDriverDaemon
) -> None:
    before = machine.files()
    accounts = machine.file("etc/passwd").read_text(), machine.file("etc/group").read_text()
    machine.dpkg(packages.master, packages.node)
    wait_until(lambda: "vmwatch-panel" in machine.processes(), "the panel to run")
    assert_runs(machine, "vmwatch-panel")
    assert not machine.file(f"{ETC}/vmwatch-node.conf").exists()
    machine.begin()
    assert_runs(machine, *ALL_SERVICES)
    assert_logs_rotate(machine)
    files = (f"{ETC}/vmwatch-master.conf", f"{ETC}/vmwatch-node.conf")
    written = [machine.file(name).read_text() for name in files]
    with Stream(daemon) as stream:
        stream.more(20)
        machine.dpkg(packages.newer_master)
        stream.more(20)
        machine.dpkg(packages.newer_node)
        wait_until(lambda: NEWER in machine.vmwatch("node", "list"), "the newer agent to be heard of")
        stream.more(20)
        stream.end()
    last = stream.told[-1]
    machine.wait_for_event(last[0], last[1])
    rows = machine.events()
    assert_whole_within_runs(rows, stream)
    assert len({row["epoch"] for row in rows}) == 2, "the upgrade of the master must not start the agent again"
    assert [machine.file(name).read_text() for name in files] == written
    assert_runs(machine, *ALL_SERVICES)

    machine.remove()
    assert machine.processes() == {}
    # What was configured before runs again when its package comes back.
    machine.dpkg(packages.newer_node)
    assert_runs(machine, "vmwatch-node")
    plant_keys(machine)
    machine.purge()
    assert machine.installed() == []
    after = machine.files()
    assert sorted(after.keys() - before.keys()) == []
    assert {name: after.get(name) for name in before if after.get(name) != before[name]} == {}
    assert (machine.file("etc/passwd").read_text(), machine.file("etc/group").read_text()) == accounts


def upgrade_without_configuration(machine: Installed, packages: Packages) -> None:
    """The new panel has a node, and finds no file of the master: it configures the services by itself."""
    machine.dpkg(packages.master, packages.node)
    machine.begin()
    machine.root.run("sh", "-c", f"rm -f /{ETC}/vmwatch-master.conf*")
    machine.dpkg(packages.newer_master)


def test_an_upgrade_configures_the_services_of_a_panel_that_has_a_node_and_no_configuration_of_them(
    machine: Installed, packages: Packages
) -> None:
    upgrade_without_configuration(machine, packages)
    wait_until(machine.file(f"{ETC}/vmwatch-master.conf").exists, "the master's file to be written")
    wait_until(lambda: "active" in machine.vmwatch("node", "list"), "the node to be heard", timeout_s=120)


def test_a_removal_while_the_panel_has_the_master_started_leaves_nothing_that_runs(
    machine: Installed, packages: Packages
) -> None:
    upgrade_without_configuration(machine, packages)
    wait_until(lambda: "vmwatch-servicectl" in machine.command_lines(), "the panel to have something started")
    machine.purge()
    assert "vmwatch" not in machine.command_lines()


def test_a_purge_removes_what_a_master_that_was_killed_left(machine: Installed, packages: Packages) -> None:
    machine.dpkg(packages.master, packages.node)
    machine.begin()
    sockets = machine.file(f"{VAR}/run/vmwatch-master.ipc")
    wait_until(sockets.exists, "the master's own sockets")
    machine.root.run("sh", "-c", "kill -9 -$(cat /run/vmwatch-master.pid)")
    assert list(sockets.iterdir())
    machine.purge()  # the fixture looks for what is left


def test_a_purge_of_the_master_leaves_the_folders_of_an_agent_that_is_not_configured_yet(
    machine: Installed, packages: Packages
) -> None:
    machine.dpkg(packages.master, packages.node)
    machine.root.run("dpkg", "--purge", "vmwatch-master")
    for name in (ETC, VAR, f"{VAR}/run"):
        assert machine.file(name).is_dir(), name
    write = ("setpriv", "--reuid=vmwatch-node", "--regid=vmwatch-node", "--init-groups", "touch")
    machine.root.run(*write, f"/{VAR}/vmwatch-node.log", f"/{VAR}/run/vmwatch-node.pid")


def test_others_files_in_the_prefix_stay_unchanged_from_installation_to_purge(
    machine: Installed, packages: Packages, daemon: TestDriverDaemon
) -> None:
    planted = plant(machine, *OTHERS)
    try:
        machine.dpkg(packages.master, packages.node)
        machine.begin()
        daemon.connection.lookupByName("web").create()
        machine.wait_for_event("web", "started")
        daemon.connection.lookupByName("web").destroy()
        machine.purge()
        assert_unchanged(machine, planted)
        assert {name for name in machine.files() if name.startswith(PREFIX)} == planted.keys()
    finally:
        machine.purge()
        uproot(machine)


def test_packages_refuse_a_machine_with_vmmanager_and_install_beside_it_without_a_panel_when_told(
    machine: Installed, packages: Packages
) -> None:
    planted = plant(machine, *VMMANAGER)
    try:
        for package in (packages.master, packages.node):
            told = machine.dpkg(package, code=1)
            assert f"{PREFIX}/bin/core is VMmanager's" in told
            assert "panel=external" in told
            assert "Traceback" not in told
        assert_unchanged(machine, planted)
        machine.say_of_machine(panel="external")
        machine.dpkg(packages.master, packages.node)
        assert "vmwatch-panel" not in machine.processes()
        told = machine.root.run("vmwatch-panel", code=Exit.CONFIGURATION)
        assert "another panel is in charge" in told
        assert_unchanged(machine, {name: planted[name] for name in VMMANAGER})
        machine.purge()
        assert_unchanged(machine, planted)
    finally:
        machine.purge()
        uproot(machine)


def test_with_the_prefix_of_the_system_configuration_is_in_etc_and_state_in_var_lib(
    machine: Installed, packages: Packages, daemon: TestDriverDaemon
) -> None:
    machine.say_of_machine(prefix="/")
    machine.dpkg(packages.master, packages.node)
    machine.begin("etc/vmwatch")
    daemon.connection.lookupByName("web").create()
    machine.wait_for_event("web", "started")
    daemon.connection.lookupByName("web").destroy()
    assert machine.file("etc/vmwatch/vmwatch-master.conf").exists()
    assert machine.file("var/lib/vmwatch/vmwatch-panel.db").exists()
    assert sorted(path.name for path in machine.file(PREFIX).iterdir()) == ["lib"]
    machine.purge()
    assert [name for name in machine.files() if "vmwatch" in name and name != HOST_FILE] == []


@pytest.mark.parametrize(
    ("values", "named"),
    [({"panel": "both"}, "panel=both is not allowed"), ({"prefix": "srv"}, "prefix=srv is not allowed")],
)
def test_a_wrong_file_of_the_machine_is_named_and_nothing_is_installed(
    machine: Installed, packages: Packages, values: dict[str, str], named: str
) -> None:
    machine.say_of_machine(**values)
    assert f"/{HOST_FILE}: {named}" in machine.dpkg(packages.node, code=1)
    assert machine.installed() == []


def test_where_policy_forbids_starting_services_an_installation_starts_none(
    machine: Installed, packages: Packages
) -> None:
    policy = machine.file("usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        machine.dpkg(packages.master)
        assert machine.processes() == {}
    finally:
        policy.unlink()


def test_the_units_and_rules_in_the_packages_are_right(packages: Packages, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for package in (packages.master, packages.node):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(tree)], check=True)
    units = []
    for path in sorted((tree / "lib" / "systemd" / "system").iterdir()):
        text = path.read_text()
        for program in tree.glob(f"{PREFIX}/lib/*/bin/vmwatch-*"):
            text = re.sub(rf"=/usr/sbin/{program.name}(?=\s)", f"={program}", text)
        assert "lib/vmwatch/bin" not in text
        unit = tmp_path / path.name
        unit.write_text(text)
        units.append(str(unit))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    subprocess.run(["visudo", "--check", "--file", str(tree / "etc/sudoers.d/vmwatch")], check=True)
    for script in (tree / "etc/init.d").iterdir():
        subprocess.run(["sh", "-n", str(script)], check=True)
        assert "lib/vmwatch/bin" not in script.read_text()
