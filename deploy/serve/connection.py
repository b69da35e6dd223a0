"""One client's connection, which must not wait for ever for a client that is slow."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

RECEIVE = 20.0
"""Seconds that a request may take to arrive, and that a client may leave an answer unread."""
LOOK = 1.0


class Connection(H11Protocol):
    """uvicorn's, which by itself waits without end for the rest of a request.

    It ends after RECEIVE seconds in which it waited for the client. Where there are more than `most`, those end first
    that have waited longest.
    """

    most = 1000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._waits_since, self._seen = self.loop.time(), self.cycle
        self._look_again = self.loop.call_later(LOOK, self._look)
        if len(self.connections) > self.most:
            there = [other for other in self.connections if not other.transport.is_closing()]
            if len(there) > self.most:
                waiting = (other for other in there if not other.busy)  # this one is among them
                min(waiting, key=lambda other: other._waits_since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._look_again.cancel()
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether it is the server's turn: the request is there as a whole, and the client takes what is sent."""
        cycle = self.cycle
        received = cycle is not None and not cycle.more_body and not cycle.response_complete
        return received and not self.flow.write_paused

    def _look(self) -> None:
        now = self.loop.time()
        if self.busy or self.cycle is not self._seen:  # or it is at another request than before
            self._waits_since, self._seen = now, self.cycle
        if now - self._waits_since > RECEIVE:
            self.transport.abort()
        else:
            self._look_again = self.loop.call_later(LOOK, self._look)
