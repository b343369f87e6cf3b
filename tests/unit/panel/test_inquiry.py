"""An inquiry ends when every node has listed since it was asked, and its word counts."""

from msgspec.structs import replace

from tests.unit.panel.cluster import Cluster, Node, domain
from vmwatch.panel.inquiry import Inquiry
from vmwatch.panel.knowledge import Draft


def ask(cluster: Cluster, inquiry: Inquiry, *nodes: Node, committed: bool = True) -> bool:
    draft = Draft(cluster.known)
    answered = inquiry.is_answered(draft, [node.name for node in nodes])
    if committed:
        draft.merge()
    return answered


def two(cluster: Cluster) -> tuple[Node, Node]:
    nodes = Node("a"), Node("b")
    for node in nodes:
        cluster.hear(node, node.inventory(domain("running")))
        cluster.list_if_wanted(node, domain("running"))
    return nodes


def test_it_is_answered_when_all_have_listed_and_not_before() -> None:
    cluster, inquiry = Cluster(), Inquiry()
    a, b = two(cluster)
    assert not ask(cluster, inquiry, a, b)
    assert cluster.list_if_wanted(a, domain("running"))
    assert not ask(cluster, inquiry, a, b)
    assert cluster.list_if_wanted(b, domain("running"))
    assert ask(cluster, inquiry, a, b)


def test_a_listing_from_before_does_not_answer_it() -> None:
    cluster, inquiry = Cluster(), Inquiry()
    a, _ = two(cluster)
    early = a.inventory(domain("running"))
    assert not ask(cluster, inquiry, a)
    cluster.hear(a, early)
    assert not ask(cluster, inquiry, a)


def test_a_wish_that_was_lost_with_its_transaction_is_made_again() -> None:
    cluster, inquiry = Cluster(), Inquiry()
    a, _ = two(cluster)
    assert not ask(cluster, inquiry, a, committed=False)
    assert cluster.wanted(a) == ""
    assert not ask(cluster, inquiry, a)
    assert cluster.list_if_wanted(a, domain("running"))
    assert ask(cluster, inquiry, a)


def test_a_node_whose_word_does_not_count_has_not_answered() -> None:
    cluster, inquiry = Cluster(), Inquiry()
    a, _ = two(cluster)
    assert not ask(cluster, inquiry, a)
    assert cluster.list_if_wanted(a, domain("running"))
    cluster.known.nodes["a"] = replace(cluster.known.nodes["a"], doubted=1.0)
    assert not ask(cluster, inquiry, a)


def test_a_node_that_never_gave_a_sign_of_life_is_not_waited_for() -> None:
    cluster, inquiry = Cluster(), Inquiry()
    old = Node("old")
    cluster.hear(old, old.event("started", "booted"), live=False)
    assert ask(cluster, inquiry, old)


def test_a_node_that_takes_its_time_is_asked_once() -> None:
    cluster, inquiry = Cluster(), Inquiry()
    a, _ = two(cluster)
    assert not ask(cluster, inquiry, a)
    token = cluster.wanted(a)
    assert not ask(cluster, inquiry, a)
    assert cluster.wanted(a) == token
