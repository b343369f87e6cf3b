"""A cluster from nothing: a node here, one behind a real sshd in a network of its own; and what befalls it, by the
public commands and in a real browser. Each test leaves both nodes well, but the last one, which removes one."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e import test_pages
from tests.e2e.test_pages import PHONE, browser, is_live, page, sign_in  # noqa: F401 - fixtures
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.netns import Namespace, needs_namespaces, program
from tests.testbed.sshd import Sshd, needs_sshd
from tests.testbed.stack import Row, short_folder
from tests.testbed.supervised import Machine, PanelHost
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.shared.services import ServiceState

pytestmark = [needs_libvirtd(), needs_sshd(), needs_namespaces("iptables")]
on_pages = test_pages.pytestmark
SSH_PORT = 2222
HEARTBEAT_S = 1
SILENT_HEARTBEATS = 3
LIMIT_S = 120.0
LIMIT_MS = 120_000
HERE, THERE = "kvm-01", "kvm-02"


class Cluster:
    """Two machines, of which the second is reached through its network alone. No service starts again by itself."""

    def __init__(self, folder: Path, one: TestDriverDaemon, two: TestDriverDaemon, elsewhere: Namespace) -> None:
        self.elsewhere = elsewhere
        self.daemons = {HERE: one, THERE: two}
        self.here = PanelHost(folder / "a", one.uri, elsewhere.here)
        self.there = Machine(folder / "b", prefixed=elsewhere.prefix)
        self.there.conf("vmwatch-node").write_text(f"libvirt_uri={two.uri}\nheartbeat_interval={HEARTBEAT_S}\n")
        self.sshd = Sshd(
            *(folder / "s", folder / "b"), address=elsewhere.there, port=SSH_PORT, prefixed=elsewhere.prefix
        )

    def problem(self, kind: str, subject: str) -> Row | None:
        """The one that is open."""
        rows = self.here.panel.rows("problems", type=kind, object=subject, state="unsolved")
        return rows[0] if rows else None

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.here.panel.rows("vmhostnode")}

    def last_sign(self, node: str) -> float:
        """When the panel heard last of it, by its own clock."""
        (row,) = [row for row in self.here.panel.rows("vmhostnode") if row["name"] == node]
        return moment(row["last_seen"])

    def vms(self) -> dict[str, str]:
        return {row["name"]: row["vmstatus"] for row in self.here.panel.rows("vm")}

    def settle(self) -> None:
        """Wait until all is well."""
        wait_until(lambda: self.states() == {HERE: "active", THERE: "active"}, "both nodes", LIMIT_S)
        wait_until(lambda: not self.here.panel.rows("problems", state="unsolved"), "no problem to be left", LIMIT_S)

    def events_flow(self, node: str, name: str) -> None:
        """A VM is started and destroyed there, and the panel knows."""
        domain = self.daemons[node].connection.lookupByName(name)
        for act, state in ((domain.create, "running"), (domain.destroy, "shutoff")):
            act()
            wait_until(lambda state=state: self.vms().get(name) == state, f"{name} to be {state}", LIMIT_S)  # type: ignore[misc]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder, tmp_path = short_folder(), tmp_path_factory.mktemp("libvirt")
    try:
        with ExitStack() as stack:
            one = stack.enter_context(TestDriverDaemon(tmp_path / "one", domains=("web",)))
            two = stack.enter_context(TestDriverDaemon(tmp_path / "two", domains=("db",)))
            made = Cluster(folder, one, two, stack.enter_context(Namespace()))
            for part in (made.here, made.there, made.sshd):
                stack.enter_context(part)
            made.here.wait_panel()
            made.here.never_restart("vmwatch-master", "vmwatch-node")
            made.there.never_restart("vmwatch-node")
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_both_nodes_come_up_and_a_closed_port_is_told_with_the_command_that_opens_it(cluster: Cluster) -> None:
    here, elsewhere, sshd = cluster.here, cluster.elsewhere, cluster.sshd
    here.vmwatch("node", "add", HERE, "--local")
    sshd.authorized_keys.write_text(here.vmwatch("node", "key"))
    closed = here.port + 1
    rule = ("OUTPUT", "-p", "tcp", "--dport", str(closed), "-j", "DROP")
    elsewhere.run(program("iptables"), "-A", *rule)
    add = ("node", "add", THERE, "--ssh", sshd.target, "--host-key", sshd.fingerprint)
    printed = here.vmwatch(*add, code=1)
    assert f"tcp://{elsewhere.here}:{closed} timeout; if a firewall on the master's host does that: " in printed
    assert any(command in printed for command in (f"dport {{ {closed} }}", f"--add-port={closed}/tcp"))
    problems = here.panel.rows("problems", type="vmwatch_node_stopped", state="open")
    assert [row["object"] for row in problems] == [THERE]
    elsewhere.run(program("iptables"), "-D", *rule)
    here.vmwatch("configure")
    wait_until(lambda: set(cluster.vms()) == {"web", "db"}, "both nodes' VMs")
    assert here.panel.rows("problems", type="vmwatch_node_stopped", state="open") == []
    cluster.settle()
    cluster.events_flow(HERE, "web")
    cluster.events_flow(THERE, "db")


@on_pages
@pytest.mark.parametrize(
    ("service", "what", "kind", "subject", "vm"),
    [
        ("vmwatch-master", "master", "vmwatch_master_stopped", "vmwatch-master", (HERE, "web")),
        ("vmwatch-node", "node", "vmwatch_node_stopped", THERE, (THERE, "db")),
    ],
)
def test_what_was_killed_for_good_is_found_by_the_next_check_and_brought_back_on_the_page(
    cluster: Cluster,
    page: Page,  # noqa: F811
    service: str,
    what: str,
    kind: str,
    subject: str,
    vm: tuple[str, str],
) -> None:
    cluster.settle()
    machine = cluster.there if subject == THERE else cluster.here
    machine.kill_for_good(service)
    assert f"{subject}: crashed: " in cluster.here.periodic(what)
    problem = cluster.problem(kind, subject)
    assert problem is not None
    sign_in(page, cluster.here.panel, f"func=problems.log&plid={problem['id']}")
    is_live(page)
    pressing = page.context.new_page()  # the first one shows what is done while it is done
    pressing.goto(f"{cluster.here.panel.url}?func=problems")
    row = pressing.locator(f'#rows tbody tr[data-key="{problem["id"]}"]')
    row.get_by_role("button", name="Solve now").click()
    page.bring_to_front()  # a page that nobody sees shows nothing new
    expect(page.locator("#progress pre")).to_contain_text(f"{subject}: ", timeout=LIMIT_MS)
    expect(page.locator("#facts .state").first).to_have_text("solved", timeout=LIMIT_MS)
    expect(page.locator("#attempts details").first).to_contain_text("by admin", timeout=LIMIT_MS)
    assert machine.state(service).is_up
    cluster.settle()
    cluster.events_flow(*vm)
    wait_until(lambda: f"{subject}: ok: " in cluster.here.periodic(what), "the check to find all well", LIMIT_S)


def test_a_node_that_is_cut_off_is_silent_after_three_heartbeats_and_comes_back_by_itself(cluster: Cluster) -> None:
    cluster.settle()
    beats = set[float]()
    """The living node's signs of life, by the panel's clock: what counts a second here, however slow the machine is."""

    def silence() -> Row | None:
        beats.add(cluster.last_sign(HERE))
        return cluster.problem("vmwatch_node_silent", THERE)

    cluster.elsewhere.cut()
    try:
        told = wait_until(silence, "the silence", LIMIT_S)
        assert told is not None
        assert cluster.states() == {HERE: "active", THERE: "silent"}
        assert cluster.vms()["db"] == "unknown"
        lost, found = cluster.last_sign(THERE), moment(told["first"])
        assert found - lost >= SILENT_HEARTBEATS * HEARTBEAT_S - 1  # it is judged by another clock than these labels
        missed = [beat for beat in beats if lost < beat < found]
        # One more, as the panel looks once a second, and one that the other node sent at the same time as the last one.
        assert len(missed) <= SILENT_HEARTBEATS + 2, f"{len(missed)} heartbeats until it was noticed"
    finally:
        cluster.elsewhere.mend()
    cluster.settle()
    assert cluster.vms()["db"] == "shutoff"


@on_pages
def test_a_host_key_that_is_not_known_is_shown_and_trusted_on_the_page(
    cluster: Cluster,
    page: Page,  # noqa: F811
) -> None:
    cluster.settle()
    sshd = cluster.sshd
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    assert "Host key on the page Nodes" in cluster.here.vmwatch("configure", code=1)
    assert cluster.problem("vmwatch_node_stopped", THERE) is not None
    assert f"{THERE}: unreachable: " in cluster.here.periodic("node")
    sign_in(page, cluster.here.panel, "func=vmhostnode")
    page.locator(f'tr[data-key="{THERE}"]').get_by_role("button", name="Host key").click()
    keys = page.locator("#keys tbody tr")
    expect(keys).to_have_count(1)
    expect(keys).to_contain_text(sshd.fingerprint)
    page.set_viewport_size({"width": PHONE, "height": 760})
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert f"{THERE}: unreachable: " in cluster.here.periodic("node")  # to look at it is not to trust it
    keys.get_by_role("button", name="This is its key: trust it").click()
    expect(page.locator("#run-state")).to_have_text("done", timeout=LIMIT_MS)
    assert f"{THERE}: ok: " in cluster.here.periodic("node")
    cluster.settle()


@on_pages
def test_a_node_that_was_removed_while_it_could_not_be_reached_does_not_come_back_silently(
    cluster: Cluster,
    page: Page,  # noqa: F811
) -> None:
    cluster.settle()
    cluster.sshd.stop()
    assert "cannot be reached over SSH" in cluster.here.vmwatch("node", "remove", THERE)
    told = wait_until(lambda: cluster.problem("removed_node_reports", THERE), "its return to be told", LIMIT_S)
    assert told is not None
    assert f"{THERE}: removed: " in cluster.here.periodic("node")
    assert f"{THERE}: " not in cluster.here.vmwatch("configure")
    sign_in(page, cluster.here.panel, "func=vmhostnode")
    expect(page.locator(f'tr[data-key="{THERE}"]')).to_contain_text("removed, reports")
    cluster.sshd.start()
    page.goto(f"{cluster.here.panel.url}?func=problems.log&plid={told['id']}")
    page.get_by_role("button", name="Solve now").click()
    expect(page.locator("#facts .state").first).to_have_text("solved", timeout=LIMIT_MS)
    assert cluster.there.state("vmwatch-node").state is ServiceState.MISSING
    assert cluster.states() == {HERE: "active"}


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
