"""From a service that was killed to one that works: found at the next check, solved by a person's word."""

import os
import signal
import subprocess
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.xmlrpc import SupervisorTransport

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.service import command
from tests.testbed.stack import Row
from tests.testbed.supervised import PanelHost, environment
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.shared.services import ServiceState

pytestmark = needs_libvirtd()

LIMIT_S = 120.0


@pytest.fixture
def host(short_path: Path, tmp_path: Path) -> Iterator[PanelHost]:
    with TestDriverDaemon(tmp_path / "libvirt", domains=("web",)) as daemon, PanelHost(short_path, daemon.uri) as made:
        made.wait_panel()
        made.vmwatch("node", "add", "kvm-01", "--local")
        yield made


def kill_for_good(host: PanelHost, service: str) -> None:
    """kill -9, and no new start."""
    path = host.prefix / "conf.d" / f"{service}.conf"
    path.write_text(path.read_text().replace("autorestart=unexpected", "autorestart=false"))
    transport = SupervisorTransport(None, None, f"unix://{host.socket}")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
        proxy.supervisor.reloadConfig()
        proxy.supervisor.stopProcess(service)
        proxy.supervisor.removeProcessGroup(service)
        proxy.supervisor.addProcessGroup(service)
    wait_until(lambda: host.status(service), f"{service} to answer")
    os.kill(int((host.prefix / "var" / "run" / f"{service}.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: host.state(service).state is ServiceState.ENDED, f"{service} to be gone")


def periodic(host: PanelHost, what: str) -> str:
    done = subprocess.run(
        [command("vmwatch-periodic"), what, "--verbose"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(host.prefix),
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def unsolved(host: PanelHost, kind: str) -> list[Row]:
    return host.panel.rows("problems", type=kind, state="unsolved")


@pytest.mark.parametrize(
    ("service", "what", "kind"),
    [
        ("vmwatch-master", "master", "vmwatch_master_stopped"),
        ("vmwatch-node", "node", "vmwatch_node_stopped"),
    ],
)
def test_what_was_killed_for_good_is_found_by_the_next_check_and_brought_back_by_solving(
    host: PanelHost, service: str, what: str, kind: str
) -> None:
    kill_for_good(host, service)
    assert ": crashed: " in periodic(host, what)
    (problem,) = unsolved(host, kind)
    host.vmwatch("solve", problem["id"])
    assert host.state(service).is_up
    wait_until(lambda: ": ok: " in periodic(host, what), "all to be well", LIMIT_S)
    wait_until(lambda: not unsolved(host, kind), "the problem to be solved", LIMIT_S)
