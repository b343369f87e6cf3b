"""Ports for the demo: two that start in the same moment must not choose the same."""

import socket
from collections.abc import Iterator

import pytest

from tests.testbed.waiting import free_port_pair
from vmwatch.cli.ports import Ports

HOST = "127.0.0.1"


@pytest.fixture
def ports() -> Iterator[Ports]:
    with Ports() as ports:
        yield ports


def test_a_port_that_another_demo_has_chosen_is_taken_though_nobody_listens_yet(ports: Ports) -> None:
    first = free_port_pair()
    with Ports() as other:
        chosen = other.choose(HOST, first, 2)
        assert ports.choose(HOST, chosen, 2) >= chosen + 2
        assert ports.choose(HOST, chosen + 1) > chosen + 1
    assert ports.choose(HOST, chosen) == chosen


def test_a_pair_of_which_one_is_taken_claims_neither(ports: Ports) -> None:
    first = free_port_pair()
    assert ports.choose(HOST, first + 1) == first + 1
    with Ports() as other:
        assert other.choose(HOST, first, 2) > first
        assert ports.choose(HOST, first) == first


def test_a_port_on_which_somebody_listens_is_taken(ports: Ports) -> None:
    with socket.create_server((HOST, 0)) as server:
        taken: int = server.getsockname()[1]
        assert ports.choose(HOST, taken) > taken
