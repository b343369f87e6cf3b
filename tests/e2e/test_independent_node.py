"""Anyone can write a node from the wire protocol's page: one such node is acknowledged, and its event registered."""

import uuid

from tests.e2e.independent_node import IndependentNode
from tests.testbed.stack import SECRET, Stack
from tests.testbed.waiting import wait_until


def test_a_node_written_from_the_protocol_alone_is_acknowledged(stack: Stack) -> None:
    vm = {"uuid": str(uuid.uuid4()), "name": "stranger"}
    node = IndependentNode("independent", SECRET, stack.port)
    try:
        node.add({"type": "event", "vm": vm, "event": "started", "detail": "booted", "state": "running"})
        node.add({"type": "event", "vm": vm, "event": "reboot", "detail": ""})

        def exchange() -> bool:
            node.send()
            node.receive()
            return not node.rows

        wait_until(exchange, "both messages to be acknowledged")
        # Now, while it gives signs of life; it has no inventory for the panel should it be called silent.
        assert stack.panel.vms()[vm["uuid"]]["vmstatus"] == "running"
    finally:
        node.close()
    events = [(row["seq"], row["event"], row["detail"], row["name"]) for row in stack.panel.events()]
    assert events == [("1", "started", "booted", "stranger"), ("2", "reboot", "", "stranger")]


def test_what_another_cluster_signed_is_neither_registered_nor_acknowledged(stack: Stack) -> None:
    node = IndependentNode("stranger", "ANOTHERCLUSTERSSECRET1234567890A", stack.port)
    try:
        node.add({"type": "agent", "what": "started"})

        def refused() -> bool:
            node.send()
            return bool(stack.master.status.get("rejects", {}).get("by_reason", {}).get("mac"))

        wait_until(refused, "the master to count a wrong key")
        assert node.receive() is None
        assert node.rows
    finally:
        node.close()
    assert "stranger" not in {row["name"] for row in stack.panel.rows("vmhostnode")}
