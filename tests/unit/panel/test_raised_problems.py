"""Problems that follow from what the panel is told or asked: what raises them, and what ends them."""

import json

import pytest

from tests.unit.panel.cluster import Cluster, Node, domain
from vmwatch.panel.complaints import (
    KNOCKS,
    LETTERS_LATE_S,
    LOGINS,
    LOGINS_WITHIN_S,
    MASTER,
    PANEL,
    QUIET_S,
    SKEW_S,
    Knocks,
    Lying,
    WrongLogin,
    judge_knocks,
    judge_logins,
    settle,
)
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import Kind, Problem
from vmwatch.shared.report import Rejected, ReportEntry, decode_report, encode_entries


@pytest.fixture
def node() -> Node:
    return Node("kvm-01")


@pytest.fixture
def cluster(node: Node) -> Cluster:
    cluster = Cluster()
    cluster.hear(node, node.inventory(domain("running")))
    return cluster


def one(cluster: Cluster, kind: str) -> Problem:
    (found,) = cluster.problems(kind)
    return found


def wait(cluster: Cluster, seconds: float) -> None:
    """So much time passes without a word."""
    cluster.now += seconds
    draft = Draft(cluster.known)
    settle(draft, cluster.wall)
    draft.merge()


def test_a_refused_message_is_a_problem_of_its_node_for_a_day(cluster: Cluster, node: Node) -> None:
    cluster.hear(node, node.event("started") | {"event": 7})
    told = one(cluster, Kind.REFUSED)
    assert (told.object, told.level) == ("kvm-01", "error")
    assert "1 message refused; the last one, seq 2: message:" in told.text
    wait(cluster, QUIET_S[Kind.REFUSED] - 10)
    assert cluster.problems(Kind.REFUSED)
    wait(cluster, 20)
    assert cluster.problems(Kind.REFUSED) == []


def look(cluster: Cluster, lying: dict[str, Lying]) -> None:
    """The panel looks at the dead letters."""
    draft = Draft(cluster.known)
    settle(draft, cluster.wall, lying)
    draft.merge()


def test_what_the_master_gave_up_by_itself_is_a_problem_until_none_is_left(cluster: Cluster) -> None:
    look(cluster, {"kvm-01": Lying(2, 7, "3 workers ended in calls with it")})
    told = one(cluster, Kind.REFUSED)
    text = "kvm-01: dead letters: 2; the last one, seq 7: 3 workers ended in calls with it"
    assert (told.object, told.text) == ("kvm-01", text)
    cluster.now += QUIET_S[Kind.REFUSED] + 1
    look(cluster, {"kvm-01": Lying(1, 7, "3 workers ended in calls with it")})
    assert "dead letters: 1;" in one(cluster, Kind.REFUSED).text
    cluster.now += LETTERS_LATE_S + 1
    look(cluster, {})
    assert cluster.problems(Kind.REFUSED) == []


def test_what_the_panel_refused_is_over_when_its_letter_is_gone_and_not_before_it_has_come(
    cluster: Cluster, node: Node
) -> None:
    cluster.hear(node, node.event("started") | {"event": 7})
    text = one(cluster, Kind.REFUSED).text
    look(cluster, {})
    look(cluster, {"kvm-01": Lying(1, 2, "value event: no")})
    assert one(cluster, Kind.REFUSED).text == text
    cluster.now += LETTERS_LATE_S + 1
    look(cluster, {})
    assert cluster.problems(Kind.REFUSED) == []


def test_a_message_that_is_refused_once_more_counts_up(cluster: Cluster, node: Node) -> None:
    for _ in range(3):
        cluster.hear(node, node.event("started") | {"event": 7})
    assert one(cluster, Kind.REFUSED).count == 3


@pytest.mark.parametrize(("counts", "level"), [({"stats": 4}, "warning"), ({"stats": 4, "event": 2}, "error")])
def test_drops_are_a_problem_until_nothing_more_is_dropped(
    cluster: Cluster, node: Node, counts: dict[str, int], level: str
) -> None:
    cluster.hear(node, node._placed({"type": "agent", "what": "dropped", "counts": counts}))
    told = one(cluster, Kind.OVERFLOW)
    assert (told.object, told.level) == ("kvm-01", level)
    assert all(f"{number} of type {kind}" in told.text for kind, number in counts.items())
    wait(cluster, QUIET_S[Kind.OVERFLOW] + 1)
    assert cluster.problems(Kind.OVERFLOW) == []


def test_what_an_agent_says_otherwise_is_no_drop(cluster: Cluster, node: Node) -> None:
    cluster.hear(node, node._placed({"type": "agent", "what": "started"}))
    assert cluster.problems(Kind.OVERFLOW) == []


@pytest.mark.parametrize(("skew_s", "said"), [(-SKEW_S - 60, "2 minutes ahead of"), (SKEW_S + 1, "1 minute behind")])
def test_a_skewed_clock_is_a_problem_until_it_is_right(
    cluster: Cluster, node: Node, skew_s: float, said: str
) -> None:
    cluster.hear(node, skew=skew_s)
    cluster.hear(node, skew=skew_s + 0.5)
    told = one(cluster, Kind.SKEW)
    assert (told.object, told.count) == ("kvm-01", 1)
    assert said in told.text
    cluster.hear(node, skew=SKEW_S)
    assert cluster.problems(Kind.SKEW) == []


def test_a_recording_says_nothing_of_a_clock(cluster: Cluster, node: Node) -> None:
    cluster.hear(node, live=False, skew=1000.0)
    assert cluster.problems(Kind.SKEW) == []


def test_the_skew_is_in_the_report() -> None:
    entry = json.loads(encode_entries([ReportEntry("kvm-01", 1, 1, live=True, skew=-90.5)]))[0]
    assert decode_report(json.dumps({"master": "m", "nodes": [entry]}).encode()).nodes[0].skew == -90.5


def test_many_wrong_passwords_are_one_problem_that_names_where_most_come_from() -> None:
    cluster = Cluster()
    wrong = [WrongLogin(float(n), "192.0.2.7" if n % 3 else f"192.0.2.{n + 100}", "admin") for n in range(LOGINS)]
    for said, open_ in ((wrong[:-1], False), (wrong, True), (wrong[5:], True), ([], False)):
        draft = Draft(cluster.known)
        judge_logins(draft, cluster.wall, said)
        draft.merge()
        assert bool(cluster.problems(Kind.AUTHENTICATION)) is open_
    (told,) = cluster.known.problems.values()
    assert (told.object, told.count) == (PANEL, 1)
    assert "192.0.2.7 for 'admin'" in told.text


def test_messages_without_a_valid_key_are_a_problem_while_they_come() -> None:
    cluster, knocks = Cluster(), Knocks()
    for count, wait_s, open_ in ((70, 0.0, False), (70 + KNOCKS, 1.0, True), (70 + KNOCKS, LOGINS_WITHIN_S, False)):
        cluster.now += wait_s
        knocks.hear(cluster.now, "run", Rejected(count, "192.0.2.7", "kvm-07"))
        draft = Draft(cluster.known)
        judge_knocks(draft, cluster.wall, knocks.lately(cluster.now), knocks.worst)
        draft.merge()
        assert bool(cluster.problems(Kind.AUTHENTICATION)) is open_
    (told,) = cluster.known.problems.values()
    assert told.object == MASTER
    assert "from 192.0.2.7, who says that he is kvm-07" in told.text


def test_what_a_new_run_of_the_master_dropped_counts_from_its_start() -> None:
    knocks = Knocks()
    knocks.hear(1.0, "first", Rejected(500))
    assert knocks.lately(1.0) == 0
    knocks.hear(2.0, "second", Rejected(7))
    knocks.hear(3.0, "second", Rejected(5))  # it overtook the other one on its way
    assert knocks.lately(3.0) == 7
