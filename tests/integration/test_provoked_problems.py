"""Each type of problem that the panel sees by itself, provoked for real: by nodes that are ill, and by strangers.

Silence, a silent master, duplicates and failed installations have tests of their own (`test_problems`, `e2e`).
"""

import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.e2e.independent_node import IndependentNode
from tests.testbed.backlog import fill
from tests.testbed.stack import SECRET, Row, Stack, short_folder
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.panel.complaints import KNOCKS, LOGINS, MASTER, PANEL

LIMIT_S = 180.0
AHEAD_S = 600.0
BACKLOG = 20_000
"""More than the smallest outbox has room for."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Stack]:
    """A panel and a master for all tests, each with nodes of its own."""
    folder = short_folder()
    folder.mkdir()
    try:
        with Stack(folder) as stack:
            yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path_factory.mktemp("l"), domains=("web",)) as daemon:
        yield daemon


@pytest.fixture
def stranger(cluster: Stack) -> Iterator[IndependentNode]:
    """A node that is not vmwatch's own, so that it can say anything."""
    node = IndependentNode(f"stranger-{uuid.uuid4().hex[:8]}", SECRET, cluster.port)
    yield node
    node.close()


def unsolved(cluster: Stack, kind: str, subject: str) -> Row | None:
    rows = cluster.panel.rows("problems", type=kind, object=subject, state="unsolved")
    return rows[0] if rows else None


def beat(node: IndependentNode) -> None:
    node.send()
    node.receive()


def test_a_message_that_the_panel_will_never_take(cluster: Stack, stranger: IndependentNode) -> None:
    vm = {"uuid": str(uuid.uuid4()), "name": "web"}
    stranger.add({"type": "event", "vm": vm, "event": "started", "detail": "booted", "state": "dancing"})
    name = stranger.node.decode()

    def told() -> Row | None:
        beat(stranger)
        return unsolved(cluster, "messages_refused", name)

    row = wait_until(told, "the refusal to be a problem", LIMIT_S)
    assert row is not None
    assert row["description"].startswith(f"{name}: 1 message refused; the last one, seq 1: message:")
    wait_until(lambda: cluster.master.status["dead_letters"]["written"], "the message to be a dead letter", LIMIT_S)


def test_a_clock_that_is_wrong_until_it_is_right(cluster: Stack, stranger: IndependentNode) -> None:
    name = stranger.node.decode()

    def exists(wanted: bool) -> bool:
        beat(stranger)
        return bool(unsolved(cluster, "clock_skew", name)) is wanted

    stranger.clock_ahead_s = AHEAD_S
    wait_until(lambda: exists(True), "the clock to be a problem", LIMIT_S)
    row = unsolved(cluster, "clock_skew", name)
    assert row is not None
    assert "about 10 minutes ahead of" in row["description"]
    stranger.clock_ahead_s = 0.0
    wait_until(lambda: exists(False), "the problem to close itself", LIMIT_S)


def test_two_agents_under_one_node_id_that_speak_in_turn(cluster: Stack) -> None:
    twins = [IndependentNode("twin", SECRET, cluster.port) for _ in range(2)]

    def last_seen() -> str:
        return next((row["last_seen"] for row in cluster.panel.rows("vmhostnode") if row["name"] == "twin"), "")

    def speak(node: IndependentNode) -> bool:
        """Until the panel has heard of it."""
        before = last_seen()

        def heard() -> bool:
            beat(node)
            return last_seen() != before

        wait_until(heard, "a sign of life to be reported", LIMIT_S)
        return bool(unsolved(cluster, "nodes_id_conflict", "twin"))

    try:
        wait_until(lambda: any(speak(node) for node in twins), "the conflict to be a problem", LIMIT_S)
    finally:
        for node in twins:
            node.close()


def test_an_outbox_without_room_drops_and_says_so(cluster: Stack, daemon: TestDriverDaemon) -> None:
    node = cluster.node("full", daemon.uri, outbox_max_mb="4")
    fill(node.prefix, "full", BACKLOG)
    cluster.master.terminate()
    node.start()
    wait_until(lambda: node.status.get("outbox", {}).get("dropped"), "something to be dropped", LIMIT_S)
    assert unsolved(cluster, "outbox_overflow", "full") is None
    cluster.master.start()
    row = wait_until(lambda: unsolved(cluster, "outbox_overflow", "full"), "the drops to be a problem", LIMIT_S)
    assert row is not None
    assert "dropped" in row["description"]
    node.terminate()


def test_somebody_who_guesses_passwords(cluster: Stack) -> None:
    assert unsolved(cluster, "authentication_failures", PANEL) is None  # and the administrator is known here

    def guess(number: int) -> int:
        params = {"func": "vm", "out": "json"}
        auth = (f"mallory{number % 2}", str(number))
        return requests.get(cluster.panel.url, params=params, auth=auth, timeout=LIMIT_S).status_code

    with ThreadPoolExecutor(LOGINS) as threads:
        assert set(threads.map(guess, range(LOGINS))) == {401}
    row = wait_until(lambda: unsolved(cluster, "authentication_failures", PANEL), "a problem", LIMIT_S)
    assert row is not None
    assert "127.0.0.1 for 'mallory" in row["description"]


def test_a_node_with_a_wrong_key(cluster: Stack) -> None:
    node = IndependentNode("keyless", "ANOTHERCLUSTERSSECRET1234567890A", cluster.port)

    def told() -> Row | None:
        for _ in range(KNOCKS):
            node.send()
        return unsolved(cluster, "authentication_failures", MASTER)

    try:
        row = wait_until(told, "the wrong key to be a problem", LIMIT_S)
    finally:
        node.close()
    assert row is not None
    assert "from 127.0.0.1, who says that he is keyless" in row["description"]
