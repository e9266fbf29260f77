"""Events for every page that is open (server-sent events, which browsers connect again by themselves)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Generator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

#: A page that does not take its events is let go after so many of them.
_MAX_WAITING_EVENTS = 2000
_HEARTBEAT_SECONDS = 15.0

Event = tuple[str, dict[str, object]]


class Bus:
    """Hands events to all open pages."""

    def __init__(self) -> None:
        self._pages: set[asyncio.Queue[Event | None]] = set()

    @property
    def pages(self) -> int:
        """Return how many pages are listening."""
        return len(self._pages)

    def send(self, name: str, values: dict[str, object]) -> None:
        """Give an event to every page; one that does not read any more is let go."""
        for page in list(self._pages):
            try:
                page.put_nowait((name, values))
            except asyncio.QueueFull:  # its stream ends, so that it connects again and asks for everything anew
                self._pages.discard(page)
                while not page.empty():
                    page.get_nowait()
                page.put_nowait(None)

    def close(self) -> None:
        """End the streams of all pages."""
        for page in self._pages:
            with contextlib.suppress(asyncio.QueueFull):
                page.put_nowait(None)

    @contextlib.contextmanager
    def page(self) -> Generator[asyncio.Queue[Event | None]]:
        """Give a page its events while the block runs; None says that there will be no more."""
        page: asyncio.Queue[Event | None] = asyncio.Queue(_MAX_WAITING_EVENTS)
        self._pages.add(page)
        try:
            yield page
        finally:
            self._pages.discard(page)

    async def answer(self, request: Request) -> Response:
        """Stream what happens to one page."""

        async def stream() -> AsyncGenerator[bytes]:
            with self.page() as page:
                while True:
                    try:
                        event = await asyncio.wait_for(page.get(), _HEARTBEAT_SECONDS)
                    except TimeoutError:
                        yield b": still here\n\n"
                        continue
                    if event is None:
                        return
                    name, values = event
                    yield f"event: {name}\ndata: {json.dumps(values)}\n\n".encode()

        return StreamingResponse(stream(), media_type="text/event-stream")
