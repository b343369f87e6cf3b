"""The publisher: acknowledgements, signed for each node (design 02, *Master to node*)."""

import zmq

from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.keys import down_mac, topic_of
from vmwatch.shared.messages import VERSION, Acknowledgement, encode
from vmwatch.supervisor.sockets import bind, tcp_socket

SEND_HWM = 1000
LAST_WORDS_MS = 500
"""At the end: so long the last acknowledgements may take to leave."""

SUBSCRIPTION_MOST_BYTES = 1024
"""A node subscribes to its name. Whoever sends more is cut off; he needs no key to subscribe."""


class Publisher:
    """The PUB socket. Publishing never blocks: what a node misses, the next acknowledgement says again."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint) -> None:
        """Raises ConfigurationError if the address cannot be used."""
        self.published = 0
        self._socket = tcp_socket(context, zmq.PUB, endpoint)
        self._socket.sndhwm = SEND_HWM
        self._socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_MOST_BYTES)
        bind(self._socket, endpoint, "ack_listen")

    def publish(self, node: str, key: bytes, acknowledgement: Acknowledgement) -> None:
        """Tell `node`; `key` is what it shares with the master."""
        topic = topic_of(node)
        body = encode(acknowledgement)
        self._socket.send_multipart([topic, VERSION, down_mac(key, topic, body), body], zmq.NOBLOCK)
        self.published += 1

    def close(self) -> None:
        """Let the last acknowledgements leave."""
        self._socket.close(linger=LAST_WORDS_MS)
