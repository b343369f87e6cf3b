"""From a service that was killed to one that works: found at the next check, solved by a person's word.

On the page, and behind an sshd: `e2e/test_configure_cluster`.
"""

import os
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.stack import Row, short_folder
from tests.testbed.supervised import PanelHost
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.shared.services import ServiceState

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
    (row,) = (row for row in host.panel.rows("vmwatch.status") if row["object"] == problem["object"])
    assert row["check"] == ""  # what the last check found is over, and there was no other one yet
    wait_until(lambda: ": ok: " in host.periodic(what), "all to be well", LIMIT_S)
    wait_until(lambda: not unsolved(host, kind), "the problem to be solved", LIMIT_S)


def test_a_master_that_somebody_stopped_is_not_started_by_itself_and_one_that_crashes_later_is(host: PanelHost) -> None:
    kind, subject = "vmwatch_master_stopped", "vmwatch-master"
    host.manager.stop(subject)
    # As its silence tells, which does not know why: at least once more it is looked at before anything is done.
    host.panel.change("problems.register", type=kind, object=subject, level="error", description="no report comes")
    (problem,) = unsolved(host, kind)
    host.panel.change("problems.edit", elid=problem["id"], period="1")

    def told() -> Row:
        (row,) = unsolved(host, kind)
        return row

    wait_until(lambda: told()["on_purpose"] == "yes", "the stop to be told from a crash", LIMIT_S)
    row = told()
    assert (row["next"], row["automatic"], row["attempts"]) == ("", "on", problem["attempts"])
    assert host.state(subject).state is ServiceState.STOPPED
    host.vmwatch("solve", problem["id"])
    wait_until(lambda: not unsolved(host, kind), "the problem to be solved", LIMIT_S)
    host.kill_for_good(subject)
    host.periodic("master")
    wait_until(lambda: host.state(subject).is_up, "it to be started by itself", LIMIT_S)
    wait_until(lambda: not unsolved(host, kind), "the problem to be solved", LIMIT_S)


def test_services_that_a_dead_supervisord_left_behind_are_taken_over_by_the_next_one(host: PanelHost) -> None:
    services = ("vmwatch-master", "vmwatch-node")
    left = [host.state(service).pid for service in services]
    os.kill(int((host.prefix / "supervisord.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not host.kept.is_running, "supervisord to be gone", LIMIT_S)
    host.start()
    for service in services:
        wait_until(lambda service=service: host.state(service).state is ServiceState.ENDED, "its own to give way")  # type: ignore[misc]
    printed = host.vmwatch("configure")
    for service, pid in zip(services, left, strict=True):
        assert f"{service} runs as process {pid}, of which supervisord" in printed
        assert host.state(service).is_up
    assert "hears the master" in printed


def test_an_attempt_at_a_node_starts_no_master_that_somebody_stopped(host: PanelHost) -> None:
    host.manager.stop("vmwatch-master")
    host.kill_for_good("vmwatch-node")
    host.periodic("master")
    host.periodic("node")
    (problem,) = unsolved(host, "vmwatch_node_stopped")
    host.panel.change("problems.solve", elid=problem["id"])
    wait_until(lambda: host.state("vmwatch-node").is_up, "the agent to be started", LIMIT_S)
    (resting,) = unsolved(host, "vmwatch_master_stopped")
    assert resting["on_purpose"] == "yes"
    wait_until(lambda: attempt_is_over(host, problem["id"]), "the attempt to end", LIMIT_S)
    assert host.state("vmwatch-master").state is ServiceState.STOPPED
    host.vmwatch("solve", resting["id"])
    wait_until(lambda: not unsolved(host, "vmwatch_master_stopped"), "the problem to be solved", LIMIT_S)


def attempt_is_over(host: PanelHost, problem: str) -> bool:
    (row,) = (row for row in host.panel.rows("problems") if row["id"] == problem)
    return row["state"] != "solving"
