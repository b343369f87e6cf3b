"""The settings of `vmwatch-master.conf` and `vmwatch-node.conf` (design 04): frozen, validated, plain values."""

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from vmwatch.shared.conffile import any_text, duration_s, one_of, setting, whole, yes_or_no
from vmwatch.shared.endpoints import LOOPBACK, Endpoint, parse_endpoint, parse_endpoints
from vmwatch.shared.keys import node_key, parse_node_key, settings_mark
from vmwatch.shared.messages import MAX_MESSAGES, NODE_ID, NODE_ID_ALLOWED

LOG_LEVELS = ("debug", "info", "warning", "error")
SHORT_SECRET = 16
MOST_WORKERS = 64
DAY_S = 86400.0
MASTER_CHANGEABLE = frozenset(
    (
        "secret",
        "secret_previous",
        "workers",
        "panel_url",
        "panel_user",
        "panel_password",
        "panel_ca",
        "panel_timeout",
        "log_level",
    )
)
"""What of the master's file takes effect at SIGHUP; the rest at its next start."""
NODE_CHANGEABLE = frozenset(
    (
        "connect",
        "ack_connect",
        "secret",
        "node_key",
        "heartbeat_interval",
        "inventory_interval",
        "stats_interval",
        "outbox_max_mb",
        "log_level",
    )
)
"""The same of a node's file."""
CONFIGURING = frozenset(("service_manager", "per_node_keys"))
"""What only who configures reads: it takes effect without a word to the service."""


def parse_secret(text: str) -> str:
    """A-Z and 0-9, not empty; how long it should be is a warning, not an error (design 02, *Keys*)."""
    if not re.fullmatch("[A-Z0-9]+", text):
        raise ValueError("only A-Z and 0-9 are allowed, at least one character and better 32")
    return text


def parse_node_id(text: str) -> str:
    """1 to 64 of A-Z a-z 0-9 . _ -, and no reserved word."""
    if not NODE_ID.fullmatch(text):
        raise ValueError(f"{text!r} is not allowed; {NODE_ID_ALLOWED} is")
    return text


def parse_url(text: str) -> str:
    """http or https with a host."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not allowed; http://HOST:port/path or https://HOST:port/path is")
    return text


def parse_service_manager(text: str) -> str:
    """`supervisord`, or with the path of its UNIX socket `supervisord:/path`; `systemd`; `sysv`."""
    name, colon, place = text.partition(":")
    if text not in ("systemd", "sysv") and (name != "supervisord" or (colon and not place.startswith("/"))):
        raise ValueError(f"{text!r} is not allowed; supervisord, supervisord:/path/of/its.sock, systemd and sysv are")
    return text


def default_workers() -> int:
    """One API caller per core, at most 4: more of them only wait for the panel's one writer."""
    return min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class MasterSettings:
    """`etc/vmwatch-master.conf`. Durations in seconds."""

    secret: str = setting(parse_secret)
    disabled: bool = setting(yes_or_no, False)
    listen: Endpoint = setting(parse_endpoint, LOOPBACK)
    ack_listen: Endpoint | None = setting(parse_endpoint, None)
    secret_previous: str = setting(parse_secret, "")
    workers: int = setting(whole(1, MOST_WORKERS), 0)
    panel_api: str = setting(one_of("vmmgr"), "vmmgr")
    panel_url: str = setting(parse_url, "http://127.0.0.1:1500/vmmgr")
    panel_user: str = setting(any_text, "vmwatch")
    panel_password: str = setting(any_text, "")
    panel_ca: str = setting(any_text, "")
    panel_timeout: float = setting(duration_s(1, 600), 30.0)
    batch_max: int = setting(whole(1, MAX_MESSAGES), MAX_MESSAGES)
    memory_mb: int = setting(whole(16, 65536), 128)
    metrics_listen: str = setting(any_text, "", effective=False)
    log_level: str = setting(one_of(*LOG_LEVELS), "info")
    service_manager: str = setting(parse_service_manager, "")
    per_node_keys: bool = setting(yes_or_no, True)

    def __post_init__(self) -> None:
        if self.ack_endpoint == self.listen:
            raise ValueError("ack_listen: is the same as listen; an address of its own is allowed")
        if self.ack_endpoint.port > 65535:
            raise ValueError("listen: port 65535 leaves no port for ack_listen; set ack_listen or a lower port")

    @property
    def ack_endpoint(self) -> Endpoint:
        return self.ack_listen or self.listen.following()

    @property
    def worker_count(self) -> int:
        return self.workers or default_workers()

    def warnings(self) -> list[str]:
        """What works and is still worth a word to the operator."""
        found = []
        if len(self.secret) < SHORT_SECRET:
            found.append(f"secret: {len(self.secret)} characters are few; use at least {SHORT_SECRET}, better 32")
        if self.listen.is_public:
            found.append(f"listen: {self.listen} is a public address; traffic is authenticated, not encrypted")
        return found


@dataclass(frozen=True)
class NodeSettings:
    """`etc/vmwatch-node.conf`. Durations in seconds."""

    connect: tuple[Endpoint, ...] = setting(parse_endpoints)
    node_id: str = setting(parse_node_id)
    secret: str = setting(parse_secret, "")
    node_key: bytes | None = setting(parse_node_key, None)
    disabled: bool = setting(yes_or_no, False)
    ack_connect: tuple[Endpoint, ...] = setting(parse_endpoints, ())
    libvirt_uri: str = setting(any_text, "qemu:///system")
    stats_interval: float = setting(duration_s(1, DAY_S), 600.0)
    inventory_interval: float = setting(duration_s(1, DAY_S), 300.0)
    heartbeat_interval: float = setting(duration_s(0.2, 3600), 10.0)
    outbox_max_mb: int = setting(whole(4, 1024 * 1024), 512)
    metrics_listen: str = setting(any_text, "", effective=False)
    log_level: str = setting(one_of(*LOG_LEVELS), "info")
    service_manager: str = setting(parse_service_manager, "")

    def __post_init__(self) -> None:
        if not self.secret and self.node_key is None:
            raise ValueError("secret: is missing; secret or node_key is required")
        if self.ack_connect and len(self.ack_connect) != len(self.connect):
            raise ValueError(f"ack_connect: as many addresses as in connect ({len(self.connect)}) are allowed")
        if any(ack.port > 65535 for _, ack in self.masters):
            raise ValueError("connect: port 65535 leaves no port for ack_connect; set ack_connect or a lower port")

    @property
    def masters(self) -> tuple[tuple[Endpoint, Endpoint], ...]:
        """(where to push, where to subscribe), in order of preference."""
        acks = self.ack_connect or tuple(endpoint.following() for endpoint in self.connect)
        return tuple(zip(self.connect, acks, strict=True))

    @property
    def key(self) -> bytes:
        """This node's key (32 bytes), its own or the one that follows from the secret."""
        return self.node_key or node_key(self.secret, self.node_id)

    @property
    def mark(self) -> str:
        """Told in heartbeats and in the status: who knows what the file is to say knows whether it runs with that."""
        return settings_mark(self.key, self.node_id, (endpoint for pair in self.masters for endpoint in pair))

    def warnings(self) -> list[str]:
        """What works and is still worth a word to the operator."""
        found = []
        if self.secret and len(self.secret) < SHORT_SECRET:
            found.append(f"secret: {len(self.secret)} characters are few; use at least {SHORT_SECRET}, better 32")
        if self.libvirt_uri.startswith("qemu:///session"):
            found.append("libvirt_uri: qemu:///session shows only this user's VMs; qemu:///system shows the host's")
        return found
