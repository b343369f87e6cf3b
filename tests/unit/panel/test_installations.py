"""Installations where they are kept: with the events that change them, in one transaction, across restarts."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.panel.clock import FakeClock
from tests.unit.panel.cluster import Cluster, Node, domain
from tests.unit.panel.reports import EPOCH, NODE, entry, event, inventory, report, uuid_of
from vmwatch.panel.board import Board
from vmwatch.panel.installation import Boot, Installation, Outcome, Phase
from vmwatch.panel.installations import keep_installation
from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.problems import Kind, Level, raise_problem
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.registration import register
from vmwatch.panel.store import Host, Store
from vmwatch.shared.report import decode_report

NOW = FakeClock().now


def running(reboots: int = 2) -> Installation:
    return Installation(
        id=1,
        key="k",
        uuid=uuid_of("web"),
        name="web",
        node=NODE,
        boot=Boot.CDROM,
        image="",
        reboots=reboots,
        limit_s=3600.0,
        began=NOW - 60,
        left=reboots,
        place=(EPOCH, 2),
        phase=Phase.RUNNING,
        step=1,
    )


@pytest.fixture
def known() -> Known:
    known = Known(run="r")
    known.installations[uuid_of("web")] = running()
    return known


def tell(known: Known, *messages: dict[str, object], node: str = NODE, commits: bool = True) -> Draft:
    draft = Draft(known)
    register(draft, decode_report(report(entry(*messages, node=node))), NOW)
    if commits:
        draft.merge()
    return draft


def test_an_end_is_counted_in_the_draft_that_registers_its_event_and_with_it_or_not_at_all(known: Known) -> None:
    ended = event(3, "web", "stopped", "shutdown")
    draft = tell(known, ended, commits=False)
    assert draft.durable
    assert draft.installations[uuid_of("web")].left == 1
    assert known.installations[uuid_of("web")].left == 2
    tell(known, ended)
    tell(known, ended)
    assert known.installations[uuid_of("web")].left == 1


def test_the_same_vm_on_another_node_and_another_vm_count_nothing(known: Known) -> None:
    tell(known, event(3, "web", "stopped", "shutdown"), node="kvm-02")
    tell(known, event(4, "db", "stopped", "shutdown"))
    assert known.installations[uuid_of("web")] == running()


def test_a_failure_opens_a_problem_that_names_vm_node_and_reason_and_a_success_closes_it(known: Known) -> None:
    tell(known, event(3, "web", "stopped", "destroyed"))
    problem = known.problems[Kind.INSTALL_FAILED, uuid_of("web")]
    assert problem.is_open
    for word in ("web", NODE, "destroyed by an operator"):
        assert word in problem.text
    draft = Draft(known)
    keep_installation(draft, running(), replace(running(), outcome=Outcome.INSTALLED, phase=Phase.RESTORING), NOW)
    draft.merge()
    assert not known.problems[Kind.INSTALL_FAILED, uuid_of("web")].is_open


def test_a_failure_is_over_when_no_node_has_the_vm_any_more_and_the_word_of_all_counts() -> None:
    cluster = Cluster()
    here, there = Node(NODE), Node("kvm-02")
    cluster.known.installations[uuid_of("web")] = running()
    draft = Draft(cluster.known)
    for uuid in (uuid_of("web"), uuid_of("stranger")):
        raise_problem(draft, cluster.wall, Kind.INSTALL_FAILED, uuid, Level.ERROR, "it failed")
    draft.merge()

    def failed() -> set[str]:
        return {one.object for one in cluster.problems(Kind.INSTALL_FAILED)}

    cluster.hear(here, here.inventory(domain("running", uuid=uuid_of("web"))))
    cluster.hear(there)
    cluster.turn()
    assert failed() == {uuid_of("web"), uuid_of("stranger")}
    cluster.turn(60, lambda: cluster.hear(here))
    cluster.hear(here, here.event("stopped", "destroyed", uuid=uuid_of("web")))
    cluster.hear(here, here.event("undefined", "removed", uuid=uuid_of("web")))
    cluster.turn()
    assert cluster.known.nodes["kvm-02"].doubted
    assert failed() == {uuid_of("web"), uuid_of("stranger")}
    cluster.hear(there)
    cluster.turn()
    cluster.list_if_wanted(there)
    cluster.turn()
    assert failed() == {uuid_of("stranger")}


def test_a_definition_that_could_not_be_put_back_is_a_problem_also_after_a_success(known: Known) -> None:
    draft = Draft(known)
    before = replace(running(), outcome=Outcome.INSTALLED, phase=Phase.RESTORING)
    keep_installation(draft, before, replace(before, phase=Phase.DONE, spoiled=True, note="no room"), NOW)
    assert "no room" in draft.problems[Kind.INSTALL_FAILED, uuid_of("web")].text


def test_a_listing_is_fresh_only_with_a_token_of_after_the_asking(known: Known) -> None:
    tell(known, event(3, "db"))
    waiting = replace(running(), phase=Phase.LISTING, step=0, ask=True)
    old = known.next_token()
    draft = Draft(known)
    keep_installation(draft, running(), waiting, NOW)
    draft.merge()
    now = known.installations[uuid_of("web")]
    assert (now.ask, known.nodes[NODE].wanted) == (False, f"r-{now.asked}")
    for token in ("", old, "another-99"):
        tell(known, inventory(known_seq(known), 3, web="shutoff", db="running") | {"token": token})
        assert known.installations[uuid_of("web")].phase is Phase.LISTING
    later = known.next_token()
    tell(known, inventory(known_seq(known), 3, web="shutoff", db="running") | {"token": later})
    assert known.installations[uuid_of("web")].phase is Phase.STARTING


def known_seq(known: Known) -> int:
    return 1 + max(max(seqs) for seqs in known.keys.values())


def test_after_a_restart_it_is_as_it_was_committed_and_the_newest_of_each_vm_counts(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'panel.db'}")
    store.open()
    stored = store.load()
    recorder = Recorder(store, stored)
    for number in (1, 2):
        draft = Draft(stored.known)
        keep_installation(draft, None, replace(running(), id=number, key=str(number), asked=7), NOW)
        register(draft, decode_report(report(entry(inventory(number, 0, web="shutoff")))), NOW)
        with recorder.savepoint():
            recorder.write(draft, NOW)
            recorder.save_host(Host(1, NODE, allow_install=True, libvirt_uri="qemu:///system"))
        recorder.commit()
        draft.merge()
    recorder.close()
    again = store.load()
    assert again.known.installations == {uuid_of("web"): replace(running(), id=2, key="2")}
    assert again.known.next_installation() == 3
    assert (again.hosts[NODE].allow_install, again.hosts[NODE].libvirt_uri) == (True, "qemu:///system")
    board = Board()
    board.fill(again)
    row = board.vm(uuid_of("web"))
    assert row is not None
    assert row.installing
    assert row.install == "running, reboot 1 of 2 ahead"
    store.close()
