"""Connections of clients, which are closed if a client is too slow."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

RECEIVE = 20.0
"""Seconds that a request may take to arrive, and that an answer may wait for the client to read it."""
LOOK = 1.0


class Connection(H11Protocol):
    """A connection of uvicorn with a time limit; uvicorn itself would wait for the rest of a request for ever.

    It is closed after RECEIVE seconds of waiting for the client. If there are more than `most` connections, the one
    that has waited longest for its client is closed.
    """

    most = 1000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of a new connection, and close another one if there are too many."""
        super().connection_made(transport)
        self._waits_since, self._seen = self.loop.time(), self.cycle
        self._look_again = self.loop.call_later(LOOK, self._look)
        if len(self.connections) > self.most:
            there = [other for other in self.connections if not other.transport.is_closing()]
            if len(there) > self.most:
                waiting = (other for other in there if not other.busy)  # never empty: this connection is among them
                min(waiting, key=lambda other: other._waits_since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of a closed connection."""
        self._look_again.cancel()
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether the client waits for the server: the request has arrived completely, and nothing waits to be read."""
        cycle = self.cycle
        received = cycle is not None and not cycle.more_body and not cycle.response_complete
        return received and not self.flow.write_paused

    def _look(self) -> None:
        now = self.loop.time()
        if self.busy or self.cycle is not self._seen:  # the second: another request has begun since the last check
            self._waits_since, self._seen = now, self.cycle
        if now - self._waits_since > RECEIVE:
            self.transport.abort()
        else:
            self._look_again = self.loop.call_later(LOOK, self._look)
