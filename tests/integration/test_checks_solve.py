"""From a service that was killed to one that works: found at the next check, solved by a person's word.

On the page, and behind an sshd: `e2e/test_configure_cluster`.
"""

import shutil
from collections.abc import Iterator

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.stack import Row, short_folder
from tests.testbed.supervised import PanelHost
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

pytestmark = needs_libvirtd()

LIMIT_S = 120.0


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelHost]:
    """A panel with a node; no service starts again by itself."""
    folder = short_folder()
    try:
        with (
            TestDriverDaemon(tmp_path_factory.mktemp("libvirt"), domains=("web",)) as daemon,
            PanelHost(folder, daemon.uri) as made,
        ):
            made.wait_panel()
            made.never_restart("vmwatch-master", "vmwatch-node")
            made.vmwatch("node", "add", "kvm-01", "--local")
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    host.kill_for_good(service)
    assert ": crashed: " in host.periodic(what)
    (problem,) = unsolved(host, kind)
    host.vmwatch("solve", problem["id"])
    assert host.state(service).is_up
    wait_until(lambda: ": ok: " in host.periodic(what), "all to be well", LIMIT_S)
    wait_until(lambda: not unsolved(host, kind), "the problem to be solved", LIMIT_S)
