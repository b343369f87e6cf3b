"""Keys and MACs, computed once more from the page of the protocol with the standard library alone."""

import hashlib
import hmac

import pytest

from vmwatch.shared.keys import down_mac, node_key, parse_node_key, same_mac, settings_mark, topic_of, up_mac


def reference(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"\x00".join(parts), hashlib.sha256).digest()


def test_keys_and_macs_are_those_of_the_protocol() -> None:
    key = node_key("SECRET", "kvm-01")
    assert key == reference(b"SECRET", b"VW1", b"key", b"kvm-01")
    assert up_mac(key, b"kvm-01", b"{}") == reference(key, b"VW1", b"up", b"kvm-01", b"{}")
    assert down_mac(key, b"kvm-01\x00", b"{}") == reference(key, b"VW1", b"down", b"kvm-01\x00", b"{}")


def test_the_topic_of_a_node_is_no_beginning_of_anothers() -> None:
    assert not topic_of("kvm-10").startswith(topic_of("kvm-1"))


def test_one_nodes_key_does_not_sign_for_another() -> None:
    body = b"{}"
    assert not same_mac(up_mac(node_key("S", "a"), b"b", body), up_mac(node_key("S", "b"), b"b", body))


def test_a_node_key_is_64_hexadecimal_digits_and_an_error_does_not_repeat_it() -> None:
    assert parse_node_key("0a" * 32) == b"\x0a" * 32
    with pytest.raises(ValueError, match="64 hexadecimal") as caught:
        parse_node_key("DEADBEEF")
    assert "DEADBEEF" not in str(caught.value)


def test_a_mark_of_settings_differs_with_key_name_and_addresses_and_is_no_key() -> None:
    told = [("S", "a", ["tcp://1.2.3.4:5"]), ("T", "a", ["tcp://1.2.3.4:5"]), ("S", "b", ["tcp://1.2.3.4:5"])]
    told += [("S", "a", ["tcp://1.2.3.4:6"]), ("S", "a", ["tcp://1.2.3.4:5", "tcp://1.2.3.4:6"])]
    marks = [settings_mark(node_key(secret, "a"), node, masters) for secret, node, masters in told]
    assert len(set(marks)) == len(marks)
    assert all(len(mark) == 16 for mark in marks)
    assert marks[0] not in node_key("S", "a").hex()
