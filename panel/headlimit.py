"""Connections that keep a place and ask nothing: uvicorn itself waits for a first request for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_LIMIT_S = 10.0
"""Whoever wants something has sent the head of its request by then."""


class HeadLimit(H11Protocol):
    """uvicorn's protocol for one connection, ended when the head of a request, once it is waited for, is not whole in
    time. After an answer it is waited for from its first byte on; until then uvicorn's own limit holds."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as uvicorn has it, which is not asyncio's type
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        else:
            self._head_is_here()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(HEAD_LIMIT_S, self.transport.abort)

    def _head_is_here(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
