"""`vmwatch-nodectl` and the service manager by themselves: what is refused, what is said, what supervisord is told."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.service import command
from tests.testbed.stack import short_folder
from tests.testbed.supervised import Machine, environment
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared.nodectl import Outcome, decode_word
from vmwatch.shared.paths import Paths
from vmwatch.shared.services import ServiceError, ServiceState, find_manager
from vmwatch.shared.supervisord import Supervisord

KEY = "0" * 64


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    folder = short_folder()
    try:
        with Machine(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ask(prefix: Path, request: bytes | dict[str, Any]) -> Outcome:
    """Its outcome, which is its last line."""
    line = request if isinstance(request, bytes) else json.dumps(request).encode()
    told = subprocess.run(
        [command("vmwatch-nodectl"), "--prefix", str(prefix)],
        input=line + b"\n",
        capture_output=True,
        env=environment(),
        timeout=200,
        check=False,
    )
    words = [decode_word(each) for each in told.stdout.splitlines()]
    outcome = words[-1]
    assert isinstance(outcome, Outcome), told
    assert told.returncode == (0 if outcome.ok else 1)
    assert told.stderr == b""
    return outcome


def values(port: int, **changes: str) -> dict[str, str]:
    return {"connect": f"tcp://127.0.0.1:{port}", "node_id": "kvm-01", "node_key": KEY} | changes


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (b"", "no request"),
        (b"rm -rf /", "no request"),
        (b"[1, 2]", "no request"),
        (b'{"verb": "shell"}', "verb: 'shell' is not allowed; one of check, configure, probe, stop, look, health is"),
        (b'{"verb": "configure", "values": {"libvirt_uri": "qemu+ext:///x?command=y"}}', "libvirt_uri: is not set"),
        (b'{"verb": "configure", "values": {"node_id": "a\\nlibvirt_uri=x"}}', "a line break is not allowed"),
        (b'{"verb": "configure", "values": {"connect": "udp://1.2.3.4:5", "node_id": "a"}}', "no other scheme"),
        (b'{"verb": "configure", "values": {"node_id": "a", "node_key": "0"}}', "64 hexadecimal digits"),
    ],
)
def test_what_is_no_request_or_asks_for_too_much_is_refused_and_changes_nothing(
    tmp_path: Path, request_: bytes, told: str
) -> None:
    outcome = ask(tmp_path, request_)
    assert not outcome.ok
    assert told in outcome.text
    assert not (tmp_path / "etc").exists()


def test_without_a_service_manager_the_file_is_written_and_what_is_supported_is_named(tmp_path: Path) -> None:
    outcome = ask(tmp_path, {"verb": "configure", "values": values(free_port_pair())})
    assert not outcome.ok
    assert "no service manager was found" in outcome.text
    assert "install one of supervisord, systemd, sysv" in outcome.text
    assert (tmp_path / "etc" / "vmwatch-node.conf").stat().st_mode & 0o777 == 0o600


def test_another_service_manager_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="'openrc' is not supported; supervisord, systemd, sysv are"):
        find_manager(Paths.of("vmwatch-node", str(tmp_path)), "openrc")


def test_a_check_says_what_there_is_and_what_is_missing(machine: Machine) -> None:
    machine.conf("vmwatch-node").write_text(
        f"libvirt_uri=qemu+unix:///system?socket={machine.prefix}/nobody\noutbox_max_mb=1048576\n"
    )
    began = time.time()
    outcome = ask(machine.prefix, {"verb": "check"})
    machine.conf("vmwatch-node").unlink()
    assert {check.name: check.ok for check in outcome.checks} == {
        "python": True,
        "libvirt": False,
        "disk": shutil.disk_usage(machine.prefix).free > 1048640 * 2**20,
        "rights": True,
        "services": True,
    }
    assert not outcome.ok
    assert "nobody" in outcome.text
    assert began <= outcome.time <= time.time()


def test_a_look_at_libvirt_and_the_healthcheck_can_be_had_with_the_same_key(machine: Machine) -> None:
    uri = f"qemu+unix:///system?socket={machine.prefix}/nobody"
    machine.conf("vmwatch-node").write_text(f"libvirt_uri={uri}\n")
    looked = ask(machine.prefix, {"verb": "look"})
    machine.conf("vmwatch-node").unlink()
    assert not looked.ok
    assert looked.text.startswith(f"{uri} cannot be reached")
    told = ask(machine.prefix, {"verb": "health"})
    assert not told.ok  # nothing runs here
    if Path(command("vmwatch-healthcheck")).exists():
        assert told.code == json.loads(told.text)["code"]
    else:
        assert (told.code, told.text) == (127, "vmwatch-healthcheck is not installed here")


def test_a_master_that_nobody_is_shows_in_the_ports_and_in_the_text(machine: Machine) -> None:
    port = free_port_pair()
    machine.conf("vmwatch-node").write_text(f"libvirt_uri=qemu+unix:///system?socket={machine.prefix}/nobody\n")
    outcome = ask(machine.prefix, {"verb": "configure", "values": values(port)})
    assert not outcome.ok
    assert outcome.action == "started"
    assert outcome.ports == {f"tcp://127.0.0.1:{port}": "refused", f"tcp://127.0.0.1:{port + 1}": "refused"}
    assert f"the master at tcp://127.0.0.1:{port}: " in outcome.text
    # it is up all the same, and delivers as soon as there is a master
    assert machine.state("vmwatch-node").is_up
    probed = ask(machine.prefix, {"verb": "probe"})
    assert [(check.name, check.ok) for check in probed.checks] == [("process", True), ("master", False)]
    assert ask(machine.prefix, {"verb": "stop"}).ok
    assert machine.state("vmwatch-node").state is ServiceState.MISSING


def test_a_machine_whose_node_has_another_name_now_goes_on_when_the_old_one_is_to_be_stopped(machine: Machine) -> None:
    conf = machine.conf("vmwatch-node")
    conf.write_text(
        f"connect=tcp://127.0.0.1:{free_port_pair()}\nnode_id=new\nnode_key={KEY}\n"
        f"libvirt_uri=qemu+unix:///system?socket={machine.prefix}/nobody\n"
    )
    conf.chmod(0o600)
    machine.manager.enable("vmwatch-node")
    wait_until(lambda: machine.state("vmwatch-node").is_up, "it to be started as its program file says")
    outcome = ask(machine.prefix, {"verb": "stop", "values": {"node_id": "old"}})
    assert (outcome.ok, outcome.changed) == (True, False)
    assert outcome.text == f"nothing is done there: {conf} is the one of the node 'new', not of 'old'"
    assert machine.state("vmwatch-node").is_up
    assert ask(machine.prefix, {"verb": "stop", "values": {"node_id": "new"}}).changed
    assert machine.state("vmwatch-node").state is ServiceState.MISSING
    assert not conf.exists()


def test_a_node_that_its_operator_has_disabled_is_configured_and_not_started(machine: Machine) -> None:
    machine.conf("vmwatch-node").write_text("disabled=yes\n")
    outcome = ask(machine.prefix, {"verb": "configure", "values": values(free_port_pair())})
    assert (outcome.ok, outcome.action) == (True, "disabled")
    assert not machine.state("vmwatch-node").is_up
    machine.conf("vmwatch-node").unlink()


def test_supervisord_adds_a_program_while_it_runs_and_starts_and_stops_it(machine: Machine) -> None:
    manager, name = machine.manager, "vmwatch-node"
    assert manager.status(name).state is ServiceState.MISSING
    manager.stop(name)  # no error
    with pytest.raises(ServiceError, match="vmwatch-node could not be started"):
        manager.start(name)
    machine.conf(name).write_text(
        f"connect=tcp://127.0.0.1:{free_port_pair()}\nnode_id=a\nnode_key={KEY}\n"
        f"libvirt_uri=qemu+unix:///system?socket={machine.prefix}/nobody\n"
    )
    machine.conf(name).chmod(0o600)
    manager.enable(name)
    first = wait_until(lambda: manager.status(name).pid, "it to be started as its program file says")
    manager.start(name)
    assert manager.status(name).pid == first
    manager.restart(name)
    second = manager.status(name)
    assert second.is_up
    assert second.pid != first
    manager.stop(name)
    assert manager.status(name).state is ServiceState.STOPPED
    manager.stop(name)
    manager.disable(name)
    assert manager.status(name).state is ServiceState.MISSING
    assert not (machine.prefix / "conf.d" / f"{name}.conf").exists()
    machine.conf(name).unlink()


def test_a_supervisord_that_reads_no_program_files_of_the_prefix_is_told_what_to_include(short_path: Path) -> None:
    with Machine(short_path, include=False) as machine, pytest.raises(ServiceError) as error:
        machine.manager.enable("vmwatch-node")
    assert f"[include] files = {short_path}/conf.d/vmwatch-*.conf" in str(error.value)


def test_a_supervisord_that_is_gone_is_named(tmp_path: Path) -> None:
    manager = Supervisord(tmp_path / "s.sock", tmp_path)
    assert not manager.answers()
    with pytest.raises(ServiceError, match=r"s\.sock\) does not answer"):
        manager.start("vmwatch-node")
