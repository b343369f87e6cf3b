"""Keys and message authentication codes (design 02, *Keys*; HMAC: RFC 2104, SHA-256: FIPS 180-4)."""

import hashlib
import hmac
import re
from collections.abc import Iterable

from vmwatch.shared.messages import VERSION

_NODE_KEY = re.compile(r"[0-9a-fA-F]{64}")
KEY_BYTES = 32
_LARGE_BYTES = 64 * 1024
"""A larger body is fed to the hash by itself: joining it with its label would copy it first."""


def node_key(secret: str, node: str) -> bytes:
    """The key (32 bytes) of `node` in a cluster with this secret."""
    return hmac.digest(secret.encode(), b"VW1\0key\0" + node.encode(), hashlib.sha256)


def parse_node_key(text: str) -> bytes:
    """The key of a file's `node_key`: 64 hexadecimal digits. Raises ValueError, which never repeats the key."""
    if not _NODE_KEY.fullmatch(text):
        raise ValueError("64 hexadecimal digits are allowed")
    return bytes.fromhex(text)


def settings_mark(key: bytes, node: str, masters: Iterable[object]) -> str:
    """Tells, to who has the key, whether a node runs with these settings: 16 hexadecimal digits, and no secret."""
    told = "\0".join([node, *map(str, masters)])
    return hmac.digest(key, VERSION + b"\0settings\0" + told.encode(), hashlib.sha256).hex()[:16]


def up_mac(key: bytes, node: bytes, body: bytes | memoryview) -> bytes:
    """The MAC (32 bytes) of a node's frame to the master."""
    if len(body) < _LARGE_BYTES:
        return hmac.digest(key, b"%b\0up\0%b\0%b" % (VERSION, node, bytes(body)), hashlib.sha256)
    code = hmac.new(key, b"%b\0up\0%b\0" % (VERSION, node), hashlib.sha256)
    code.update(body)
    return code.digest()


def down_mac(key: bytes, topic: bytes, body: bytes) -> bytes:
    """The MAC (32 bytes) of the master's frame to a node; `topic` is the node_id and one 0x00 byte."""
    return hmac.digest(key, b"%b\0down\0%b\0%b" % (VERSION, topic, body), hashlib.sha256)


def same_mac(one: bytes, other: bytes) -> bool:
    """Constant-time comparison."""
    return hmac.compare_digest(one, other)


def topic_of(node: str) -> bytes:
    """What a node subscribes to: its id and one 0x00 byte, so that `kvm-1` does not get what is for `kvm-10`."""
    return node.encode() + b"\0"
