"""A node's signs of life and listings, as a master would report them, for tests of the panel without a master."""

from typing import Any

import requests

from tests.testbed.background import Background
from tests.testbed.stack import SERVICE, Panel
from tests.unit.panel.reports import EPOCH, NODE, entry, report, uuid_of
from vmwatch.shared.report import decode_answer

BEAT_S = 0.2
LISTING_SEQ = 1_000_000
"""Its listings come after all that a test reports itself."""


class Heart(Background):
    """Beats in the background until the `with` block is left; lists `states` (by VM name) whenever it is asked to.

    While `silent` is set it reports nothing of the node, and still is a master that reports.
    """

    def __init__(
        self, panel: Panel, node: str = NODE, *, interval_s: float = 10.0, silent: bool = False, **states: str
    ) -> None:
        self.states = states
        self.silent = silent
        self.status: dict[str, Any] = {}
        self._panel = panel
        self._node = node
        self._interval_s = interval_s
        self._seq = LISTING_SEQ
        super().__init__()

    def relist(self) -> None:
        """List now, without being asked."""
        self._post([self._listing("")])

    def run(self) -> None:
        while not self.ended.wait(BEAT_S):
            try:
                token = "" if self.silent else self._post([])
                if token and not self.silent:
                    self._post([self._listing(token)])
                if self.silent:
                    self._send(report())
            except requests.RequestException:
                continue  # the test has taken the panel away

    def _post(self, messages: list[dict[str, Any]]) -> str:
        """Report the node; returns the token of the inventory that is wanted."""
        fields = entry(*messages, node=self._node, epoch=EPOCH, live=True)
        answer = self._send(report(fields | {"interval": self._interval_s, "status": self.status}))
        return decode_answer(answer)[0].want_inventory

    def _send(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        answer = requests.post(
            self._panel.url, params={"func": "vmwatch.report"}, data=body, headers=headers, auth=SERVICE, timeout=60
        )
        answer.raise_for_status()
        return answer.content

    def _listing(self, token: str) -> dict[str, Any]:
        self._seq += 1
        domains = [{"uuid": uuid_of(name), "name": name, "state": state} for name, state in self.states.items()]
        head = {"seq": self._seq, "prev": self._seq - 1, "time": 1000.0, "type": "inventory"}
        return head | {"as_of": self._seq - 1, "token": token, "domains": domains}
