"""The two TCP sockets that nodes connect to: made and bound alike."""

import zmq

from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import ConfigurationError

HEARTBEAT_EVERY_MS = 2000
HEARTBEAT_LOST_MS = 30_000
"""ZMTP heartbeats (RFC 37): a peer whose host lost its power is noticed after so long, and its connection freed.
ZeroMQ counts whole messages alone, and the answer stands behind what a node is sending: over a slow line a large
inventory takes long."""


def tcp_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: Endpoint) -> zmq.Socket[bytes]:
    """A socket that may be bound to `endpoint`: nothing lingers, dead peers are noticed."""
    socket = context.socket(kind)
    socket.linger = 0
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_EVERY_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_LOST_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_LOST_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.IPV6, int(":" in endpoint.host))
    return socket


def bind(socket: zmq.Socket[bytes], endpoint: Endpoint, name: str) -> None:
    """Bind to the address of the setting `name`; raises ConfigurationError that names both."""
    try:
        socket.bind(str(endpoint))
    except zmq.ZMQError as error:
        raise ConfigurationError(f"{name}: {endpoint} cannot be used: {error.strerror}") from None
