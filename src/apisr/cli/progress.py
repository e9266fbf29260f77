"""Progress on standard error: a bar with speed and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

#: Seconds between two plain lines.
PLAIN_EVERY_S = 10.0


class Progress:
    """One bar at a time.

    Args:
        quiet: show nothing.
        unit: what is counted, for people: ``frames``, ``MP``.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._title = ""
        self._began = self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, title: str, *, unit: str) -> None:
        """Begin a new bar."""
        self.stop()
        self._title, self._unit = title, unit
        self._began = self._last = time.monotonic()
        if self._quiet:
            return
        if not self._terminal:
            self.line(title)
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(title, total=None, speed="")

    def update(self, done: float, total: float | None) -> None:
        """Show that `done` of `total` units are finished."""
        if self._quiet:
            return
        now = time.monotonic()
        speed = done / max(now - self._began, 1e-6)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, speed=f"{speed:.3g} {self._unit}/s")
        elif now - self._last >= PLAIN_EVERY_S:
            self._last = now
            rest = f" of {total:.6g}, {max(0.0, (total - done) / speed):.0f} s left" if total and speed else ""
            self.line(f"{self._title}: {done:.6g}{rest} ({speed:.3g} {self._unit}/s)")

    def line(self, text: str) -> None:
        """Print one line on standard error, above the bar if there is one."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
