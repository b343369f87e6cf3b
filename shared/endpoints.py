"""Where sockets are: `tcp://IP:port` of configuration files, parsed and checked."""

import ipaddress
from dataclasses import dataclass

from vmwatch.shared.messages import DEFAULT_PORT


@dataclass(frozen=True)
class Endpoint:
    """A TCP address. `host` is an IP address as text, without the brackets of IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"

    def following(self) -> "Endpoint":
        """The same host with port + 1: where acknowledgements are by default (design 02)."""
        return Endpoint(self.host, self.port + 1)

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(self.host)

    @property
    def is_public(self) -> bool:
        """Reachable from the internet: what passes there is authenticated and not encrypted."""
        return self.address.is_global or self.address.is_unspecified


def parse_endpoint(text: str) -> Endpoint:
    """`tcp://IP:port`; raises ValueError that says what is allowed."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme != "tcp":
        raise ValueError(f"{text!r} is not allowed; tcp://IP:port is, and no other scheme than tcp")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:
        raise ValueError(f"{text!r} has no port from 1 to 65535; tcp://IP:port is allowed, such as tcp://10.0.0.1:1515")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{text!r} has no IP address; tcp://IP:port is allowed, such as tcp://10.0.0.1:1515") from None
    return Endpoint(bare, int(port))


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Several, comma-separated, in order of preference."""
    return tuple(parse_endpoint(part.strip()) for part in text.split(","))


LOOPBACK = Endpoint("127.0.0.1", DEFAULT_PORT)
