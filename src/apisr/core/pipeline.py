"""Bounded stages: work that overlaps in threads without filling the memory, and that always stops.

:func:`prefetch` lets a producer run ahead by a few items, :func:`map_ordered` runs a function over items in several
threads and keeps their order, :class:`Stage` is a consumer with a queue of its own (an encoder, say). An error of a
thread reaches the caller; leaving early ends the threads.

    >>> list(prefetch(range(3), ahead=2))
    [0, 1, 2]
    >>> list(map_ordered(lambda value: value * value, range(4), workers=2))
    [0, 1, 4, 9]
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from apisr.core.progress import Cancel

T = TypeVar("T")
R = TypeVar("R")

_POLL_S = 0.1


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    pass


def prefetch(items: Iterable[T], *, ahead: int) -> Generator[T]:
    """Yield the items of an iterable that is advanced in a thread, at most `ahead` items before they are taken.

    Raises:
        Exception: whatever the iterable raises, at its place.
    """
    waiting: queue.Queue[T | _Failure | _End] = queue.Queue(maxsize=max(1, ahead))
    stopped = threading.Event()

    def put(item: T | _Failure | _End) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
            put(_End())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are taken
            put(_Failure(error))
        finally:
            close = getattr(iterator, "close", None)
            if callable(close):
                close()

    thread = threading.Thread(target=produce, name="apisr-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stopped.set()
        thread.join()


def map_ordered(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int,
    ahead: int | None = None,
    cancel: Cancel | None = None,
    on_leave: Callable[[], None] = lambda: None,
) -> Iterator[R]:
    """Yield ``function(item)`` for all items in their order, computed by several threads.

    Args:
        function: called in the threads.
        items: advanced in the calling thread.
        workers: number of threads.
        ahead: how many items may be in work or wait to be taken; by default one more than the threads.
        cancel: checked before every item.
        on_leave: called when the iteration ends, also early, before it waits for the items that are in work.

    Raises:
        Exception: whatever the function raises for an item, at its place.
        Cancelled: a stop was asked for.
    """
    window = max(1, ahead if ahead is not None else workers + 1)
    with ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="apisr-map") as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                if cancel is not None:
                    cancel.check()
                pending.append(pool.submit(function, item))
                if len(pending) >= window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            on_leave()
            for future in pending:
                future.cancel()


class Stage(Generic[T]):
    """A thread that takes items from a bounded queue and gives each to a function.

    Args:
        function: called with every item, in order.
        ahead: how many items may wait; :meth:`put` blocks beyond that.
        name: of the thread.
    """

    def __init__(self, function: Callable[[T], None], *, ahead: int, name: str = "apisr-stage") -> None:
        self._function = function
        self._waiting: queue.Queue[T | _End] = queue.Queue(maxsize=max(1, ahead))
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over one item.

        Raises:
            Exception: what the function raised for an earlier item.
        """
        self._give(item)

    def finish(self) -> None:
        """Wait until all items are done.

        Raises:
            Exception: what the function raised.
        """
        self._give(_End())
        self._thread.join()
        self._raise()

    def abandon(self) -> None:
        """End the thread without doing what still waits; never raises."""
        self._stopped.set()
        self._thread.join()

    def _give(self, item: T | _End) -> None:
        while True:
            self._raise()
            try:
                self._waiting.put(item, timeout=_POLL_S)
                return
            except queue.Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                item = self._waiting.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(item, _End):
                return
            try:
                self._function(item)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the items come from
                self._error = error
                return
