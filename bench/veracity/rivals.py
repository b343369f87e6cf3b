"""The agents of two simple rivals of vmwatch, in one process of a node: `python -m bench.veracity.rivals NODE URI URL`.

The *forwarder* posts each of libvirt's events as it comes, tries again three times and then gives up. It connects
again when libvirtd was restarted, and lists nothing. The *poller* posts a list of all domains in each period. Both
begin with a complete list at their very first start (`--first`).
"""

import argparse
import queue
import threading
import time
from contextlib import closing

import libvirt
import requests

from vmwatch.shared.states import State, lifecycle_names, state_of_event, state_of_libvirt

TRIES = 4
"""Once, and three times again."""
POST_LIMIT_S = 5.0
AGAIN_S = 1.0
CONNECT_AGAIN_S = 0.5

Event = tuple[str, str]
"""UUID, event."""


class Forwarder:
    """Libvirt's callbacks put events into a queue; a thread posts them one after the other."""

    def __init__(self, node: str, uri: str, url: str) -> None:
        self._node = node
        self._uri = uri
        self._url = f"{url}/event"
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lost = threading.Event()
        self._connection: libvirt.virConnect | None = None

    def start(self, first: bool) -> None:
        threading.Thread(target=self._listen, args=(first,), daemon=True).start()
        threading.Thread(target=self._forward, daemon=True).start()

    def _listen(self, first: bool) -> None:
        while True:
            try:
                connection = libvirt.openReadOnly(self._uri)
                connection.setKeepAlive(5, 3)
                connection.registerCloseCallback(lambda *arguments: self._lost.set(), None)
                connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._called, None)
                if first:
                    post(self._url, self._node, states_of(connection))
            except libvirt.libvirtError:
                time.sleep(CONNECT_AGAIN_S)
                continue
            first = False
            self._connection = connection
            self._lost.wait()
            self._lost.clear()

    def _called(self, connection: object, domain: libvirt.virDomain, event: int, detail: int, opaque: object) -> None:
        self._events.put((domain.UUIDString().lower(), lifecycle_names(event, detail)[0]))

    def _forward(self) -> None:
        while True:
            uuid, event = self._events.get()
            state = self._state(uuid, event)
            for attempt in range(TRIES if state else 0):
                if post(self._url, self._node, {uuid: str(state)}):
                    break
                if attempt + 1 < TRIES:
                    time.sleep(AGAIN_S)

    def _state(self, uuid: str, event: str) -> State | None:
        """What the event says, at its word. None: nothing.

        Where it depends on whether the domain has, or had, a definition, libvirt is asked.
        """
        if event not in ("stopped", "defined", "undefined") or self._connection is None:
            return state_of_event(event)
        try:
            domain = self._connection.lookupByUUIDString(uuid)
            return State.SHUTOFF if event == "stopped" or not domain.isActive() else None
        except libvirt.libvirtError as error:
            gone = error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
            return State.ABSENT if gone else state_of_event(event)


def poll(node: str, uri: str, url: str, period_s: float) -> None:
    """Post a list in each period, for ever. A list that cannot be made, or does not arrive, is left out."""
    due_at = time.monotonic()
    while True:
        try:
            with closing(libvirt.openReadOnly(uri)) as connection:
                post(f"{url}/list", node, states_of(connection))
        except libvirt.libvirtError:
            pass
        due_at = max(due_at + period_s, time.monotonic())
        time.sleep(due_at - time.monotonic())


def states_of(connection: libvirt.virConnect) -> dict[str, str]:
    """All domains."""
    return {domain.UUIDString().lower(): state_of_libvirt(domain.state()[0]) for domain in connection.listAllDomains()}


def post(url: str, node: str, states: dict[str, str]) -> bool:
    """Whether it arrived."""
    try:
        requests.post(url, json={"node": node, "states": states}, timeout=POST_LIMIT_S).raise_for_status()
    except requests.RequestException:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("node")
    parser.add_argument("uri")
    parser.add_argument("url")
    parser.add_argument("--period", type=float, default=10.0)
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    libvirt.registerErrorHandler(lambda context, error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_loop, daemon=True).start()
    Forwarder(options.node, options.uri, options.url).start(options.first)
    poll(options.node, options.uri, options.url, options.period)


def _loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


if __name__ == "__main__":
    main()
