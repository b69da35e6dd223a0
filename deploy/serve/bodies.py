"""Reading of request bodies, with limits for a single body and for all bodies in memory together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import HTTPException, Request

from .settings import MIB

BUSY = {"Retry-After": "1"}
FULL = "too much waits here already: send it again later"


class Bodies:
    """The request bodies in memory.

    Args:
        most: largest number of bytes of one body.
        most_held: largest number of bytes of all bodies together.
    """

    def __init__(self, most: int, most_held: int) -> None:
        self.most, self.most_held = most, most_held
        self.held = 0

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytearray]:
        """Context manager that yields a request's body, which counts as in memory until the end of the block.

        Raises:
            HTTPException: 413 if the body is too large (or its content-length is); 429 if all bodies together are.
            ClientDisconnect: the client disconnected before the end.
        """
        stated = request.headers.get("content-length", "0")
        if int(stated) > self.most:  # h11 has checked that these are digits
            raise self._too_large()
        body = bytearray()
        taken = 0
        try:
            async for chunk in request.stream():
                if len(body) + len(chunk) > self.most:
                    raise self._too_large()
                if self.held + len(chunk) > self.most_held:
                    raise HTTPException(429, FULL, headers=BUSY)
                self.held, taken = self.held + len(chunk), taken + len(chunk)
                body += chunk
            yield body
        finally:
            self.held -= taken

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the picture's file is larger than {self.most / MIB:g} MiB, the limit (--max_body)")
