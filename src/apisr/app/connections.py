"""Connections that do not get on: a request must be here in time, and a broken one is no news for the terminal."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

#: Time in which the first line and the headers of a request must have come.
HEAD_SECONDS = 20.0


class PunctualProtocol(H11Protocol):
    """HTTP by h11; a connection on which no request is complete after :data:`HEAD_SECONDS` is closed.

    The server itself sets a time only between requests: whoever sends a header a minute would be waited for.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        if self._answering():
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if not self._answering() and not self.transport.is_closing():
            self.transport.close()

    def _answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is not None and not cycle.response_complete


class BrokenRequests(logging.Filter):
    """Keeps what strangers send from being shown: requests that are not HTTP, and answers that cannot reach them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        kind = record.exc_info[0] if record.exc_info else None
        return record.levelno > logging.WARNING and (kind is None or kind.__name__ != "LocalProtocolError")
