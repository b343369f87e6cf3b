"""Which keys are valid, and which one a node is answered with, while the secret is changed."""

import pytest

from vmwatch.shared.errors import MessageError
from vmwatch.shared.keys import node_key, up_mac
from vmwatch.shared.messages import VERSION
from vmwatch.supervisor.receiver import Authenticator

OLD, NEW, NEXT = "O" * 32, "N" * 32, "X" * 32
BODY = b'{"epoch":1,"base":1,"interval":10,"sent":0,"agent":"test/1"}'


def send(keys: Authenticator, secret: str, node: str = "n1") -> None:
    """A frame of a node that has this secret; raises MessageError if it is refused."""
    name = node.encode()
    keys.verify([VERSION, name, up_mac(node_key(secret, node), name, BODY), BODY])


def refused(keys: Authenticator, secret: str) -> bool:
    with pytest.raises(MessageError) as caught:
        send(keys, secret)
    return caught.value.reason == "mac"


def test_a_node_that_has_only_the_old_secret_is_answered_with_it_until_it_uses_the_new_one() -> None:
    keys = Authenticator(OLD)
    send(keys, OLD)
    keys.change(NEW, OLD)
    assert keys.key_of("n1") == node_key(OLD, "n1")
    send(keys, OLD)
    assert keys.key_of("n1") == node_key(OLD, "n1")
    send(keys, NEW)
    assert keys.key_of("n1") == node_key(NEW, "n1")


def test_a_node_that_was_not_heard_of_is_answered_with_the_new_one() -> None:
    keys = Authenticator(OLD)
    keys.change(NEW, OLD)
    assert keys.key_of("n1") == node_key(NEW, "n1")


def test_without_the_previous_secret_its_key_is_neither_accepted_nor_used() -> None:
    keys = Authenticator(OLD)
    send(keys, OLD)
    keys.change(NEW)
    assert refused(keys, OLD)
    assert keys.key_of("n1") == node_key(NEW, "n1")


def test_the_end_of_a_rotation_changes_nothing_for_who_has_the_new_secret() -> None:
    keys = Authenticator(NEW, OLD)
    for node, secret in (("n1", NEW), ("n2", OLD)):
        send(keys, secret, node)
    keys.change(NEW)
    assert [keys.key_of(node) for node in ("n1", "n2")] == [node_key(NEW, node) for node in ("n1", "n2")]
    send(keys, NEW)


def test_two_rotations_in_a_row_leave_only_the_last_two_secrets() -> None:
    keys = Authenticator(OLD)
    send(keys, OLD)
    keys.change(NEW, OLD)
    send(keys, NEW)
    keys.change(NEXT, NEW)
    assert keys.key_of("n1") == node_key(NEW, "n1")
    send(keys, NEXT)
    assert refused(keys, OLD)


def test_a_change_that_is_taken_back_is_taken_back() -> None:
    keys = Authenticator(OLD)
    keys.change(NEW)
    assert refused(keys, OLD)
    keys.change(OLD)
    send(keys, OLD)
    assert refused(keys, NEW)
