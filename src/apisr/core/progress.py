"""One event that says how far a run is, and one handle that stops it.

Every long call of the package takes ``progress`` (a function of one :class:`Progress`) and ``cancel`` (a
:class:`Cancel`), whether it upscales, curates, degrades, trains or evaluates.

    >>> event = Progress("upscale", item="ep.mkv", index=1, count=2, done=48, total=960, unit="frames")
    >>> event.share
    0.05
    >>> cancel = Cancel()
    >>> cancel.request()
    >>> cancel.requested
    True
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from apisr.core.errors import Cancelled

#: started and ended frame the work on one item; notice carries a message for people.
ProgressKind = Literal["started", "advanced", "notice", "ended"]
#: Speed is that of the last so many seconds.
SPEED_OVER_S = 30.0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        stage: what is being done: ``"upscale"``, ``"join"``, ``"curate"``, ``"train"``, ...
        kind: what this event says.
        item: what it is done to, usually a path; empty for the run as a whole.
        index: number of the item, from 1; 0 where there is nothing to count.
        count: number of all items; 0 where it is not known.
        done: finished units of this item.
        total: units of this item in all; None where it is not known.
        unit: what is counted, for people: ``"frames"``, ``"pixels"``, ``"pictures"``, ``"steps"``.
        message: a line for people (notices; the reason when an item failed).
    """

    stage: str
    kind: ProgressKind = "advanced"
    item: str = ""
    index: int = 0
    count: int = 0
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    message: str = ""

    @property
    def share(self) -> float | None:
        """Return the finished share of the item in [0, 1], None where the total is not known."""
        return min(1.0, self.done / self.total) if self.total else None


ProgressFn = Callable[[Progress], None]


def no_progress(event: Progress) -> None:
    """Take an event and do nothing with it (the default of every ``progress`` argument)."""


class RecentSpeed:
    """How fast an item is worked on, over the last half minute.

    The clock starts when the first piece is done: what comes before is loading. What an earlier run had done does not
    count. Where less is done than before, another piece of work has begun, and the clock starts again.

        >>> speed = RecentSpeed()
        >>> [speed.observe(done, now) for done, now in ((100, 0.0), (101, 9.0), (111, 10.0), (121, 12.0))]
        [None, None, 10.0, 6.666666666666667]
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float]] = deque()
        self._begun = False

    def observe(self, done: float, now: float) -> float | None:
        """Note how much is done, and return the speed.

        Args:
            done: finished units.
            now: time in seconds.

        Returns:
            Units per second; None while that is not known.
        """
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()
            self._begun = False
        if not self._begun:
            self._begun = bool(self._marks) and done > self._marks[0][1]
            self._marks.clear()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > SPEED_OVER_S:
            self._marks.popleft()
        began, first = self._marks[0]
        return (done - first) / (now - began) if now > began and done > first else None


class Cancel:
    """Stops a run from outside: from another thread, a signal handler or a progress function.

    The run ends at its next safe point with :class:`apisr.core.errors.Cancelled`; what was finished is kept.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Check that the run was not asked to stop.

        Raises:
            Cancelled: it was.
        """
        if self._event.is_set():
            raise Cancelled("stopped. The same command goes on where it can be continued.")

    def wait(self, seconds: float) -> bool:
        """Sleep for so many seconds or until a stop is asked for; return whether it was."""
        return self._event.wait(seconds)

    def __reduce__(self) -> tuple[type[Cancel], tuple[()]]:
        """Travel to another process as a handle of its own (the asking process ends its workers itself)."""
        return Cancel, ()
