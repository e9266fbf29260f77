"""The one progress display: a bar on a terminal, a line now and then elsewhere, or JSON lines for programs.

Every command opens a :class:`Display` and hands its two handles to the library:

    with Display(mode) as display:
        results = run_jobs(jobs, options, progress=display.show, cancel=display.cancel)

The first Ctrl-C (or SIGTERM, or a terminal that is closed) asks the run to stop at its next safe point, the second ends
it at once. Both end with one line that says how far the work is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal, Self

from apisr.cli.output import duration, is_terminal, note
from apisr.core.errors import Cancelled
from apisr.core.processes import stop_signals
from apisr.core.progress import Cancel, Progress, RecentSpeed
from apisr.core.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

ProgressMode = Literal["auto", "bar", "lines", "json", "none"]
#: Seconds between two plain lines.
LINES_EVERY_S = 10.0
#: Seconds between two JSON events of kind "advanced".
JSON_EVERY_S = 0.2
#: What stages are called where they stand in place of a file.
_STAGES = {"join": "finishing the file"}
_Handler = Callable[[int, FrameType | None], object] | int | None


class Display:
    """Shows :class:`apisr.core.progress.Progress` events on standard error.

    Args:
        mode: what is shown; ``auto`` is a bar on a terminal and lines elsewhere.
        quiet: show nothing where the mode is ``auto``.
        resumes: whether the same command continues a stopped run (said after Ctrl-C).
        cancels: whether the work looks at :attr:`cancel`; where it does not, the first Ctrl-C ends it at once.

    Attributes:
        cancel: the handle that Ctrl-C requests.
    """

    def __init__(
        self, mode: ProgressMode = "auto", *, quiet: bool = False, resumes: bool = False, cancels: bool = True
    ) -> None:
        self.cancel = Cancel()
        self._resumes, self._cancels = resumes, cancels
        if mode == "auto":
            mode = "none" if quiet else "bar" if is_terminal(sys.stderr) else "lines"
        self._mode = mode
        self._lock = threading.RLock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._last: Progress | None = None
        self._item: tuple[str, str] | None = None
        self._recent = RecentSpeed()
        self._shown = 0.0
        self._handlers: dict[int, _Handler] = {}

    def __enter__(self) -> Self:
        if self._cancels and threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                self._handlers[number] = signal.signal(number, self._stop_asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_bar_away()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if isinstance(error, KeyboardInterrupt | Cancelled):
            raise Cancelled(self.stopped_line()) from error

    def show(self, event: Progress) -> None:
        """Show an event (the ``progress`` argument of the library); may be called from any thread."""
        with self._lock:
            if event.kind in ("started", "advanced"):
                self._last = event
            if self._mode == "json":
                self._write_json(event)
            elif self._mode != "none":
                self._show_to_people(event)

    def show_or_stop(self, event: Progress) -> None:
        """Show an event, and stop the work there if that was asked for (for work that runs in this thread)."""
        self.show(event)
        if event.kind == "advanced":
            self.cancel.check()

    def line(self, text: str) -> None:
        """Print a line on standard error, above the bar if there is one."""
        with self._lock:
            if self._mode == "none":
                return
            if self._mode == "json":
                self._write_json(Progress("", "notice", message=text))
            elif self._bar is not None:
                with contextlib.suppress(OSError):  # the terminal is gone
                    self._bar.console.print(printable(text), markup=False, highlight=False)
            else:
                note(text)

    def stopped_line(self) -> str:
        """Return how far the work was when it was stopped."""
        last = self._last
        where = ""
        if last is not None and last.total and last.unit and last.unit != "pixels":
            where = f" at {last.done:.6g} of {last.total:.6g} {last.unit}"
        return f"stopped{where}" + ("; the same command goes on." if self._resumes else ".")

    def _stop_asked(self, number: int, frame: FrameType | None) -> None:
        if self.cancel.requested:
            if number in (signal.SIGINT, signal.SIGTERM):
                raise KeyboardInterrupt
            return  # a terminal that is closed may say so twice: the system does, and the shell in it
        self.cancel.request()
        self.line("stopping at the next safe point; Ctrl-C again stops at once")

    def _show_to_people(self, event: Progress) -> None:
        if event.kind == "notice":
            self.line(event.message)
            return
        if event.kind == "ended":
            self._end(event)
            return
        if event.kind == "started":
            self._begin(event)
            return
        if self._item is None or self._item[0] != event.stage:
            self._begin(dataclasses.replace(event, item="", index=0, count=0))  # work that counts its items itself
        self._advance(event)

    def _end(self, event: Progress) -> None:
        """Say what became of an item; where items are done side by side, the bar is that of all of them."""
        of_all = Progress(event.stage, done=event.done, total=event.total, unit=event.unit)
        if self._item != (of_all.stage, of_all.item):
            self._take_bar_away()
            self._item = None
        if event.message:
            self.line(event.message)
        if event.total is not None and event.done < event.total:
            if self._item is None:
                self._begin(of_all)
            self._advance(of_all)

    def _begin(self, event: Progress) -> None:
        self._take_bar_away()
        self._item = (event.stage, event.item)
        self._recent = RecentSpeed()
        self._shown = time.monotonic()
        if self._mode == "lines":
            if event.kind == "started":
                note(_title(event))
            return
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[pace]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(printable(_title(event)), total=None, pace="")

    def _advance(self, event: Progress) -> None:
        now = time.monotonic()
        per_s = self._recent.observe(event.done, now)
        if self._bar is not None and self._task is not None:
            title = printable(_title(event) + (f"  {event.message}" if event.message else ""))
            pace = _pace(event, per_s)
            self._bar.update(self._task, description=title, completed=event.done, total=event.total, pace=pace)
        elif self._mode == "lines" and (event.message or (now - self._shown >= LINES_EVERY_S and not _complete(event))):
            self._shown = now
            note(_line(event, per_s))

    def _write_json(self, event: Progress) -> None:
        now = time.monotonic()
        if event.kind == "advanced" and not _complete(event) and now - self._shown < JSON_EVERY_S:
            return
        self._shown = now
        note(json.dumps(dataclasses.asdict(event)))

    def _take_bar_away(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()
            self._bar = self._task = None


def _title(event: Progress) -> str:
    number = f"[{event.index}/{event.count}] " if event.count > 1 else ""
    return f"{number}{event.item or _STAGES.get(event.stage, event.stage)}"


def _line(event: Progress, per_s: float | None) -> str:
    """Return an event as a line: how far, how fast; or with what the work itself says of it."""
    of = f" of {event.total:.6g}" if event.total else ""
    if event.message:
        return f"{event.unit.removesuffix('s')} {event.done:.6g}{of}  {event.message}".lstrip()
    far = f"{event.done / event.total:.0%}" if event.unit == "pixels" and event.total else f"{event.done:.6g}{of}"
    pace = _pace(event, per_s)
    return f"{_title(event)}: {far}{', ' if pace else ''}{pace}"


def _pace(event: Progress, per_s: float | None) -> str:
    """Return how fast the work is and how long it still takes; nothing while that is not known."""
    if not per_s:
        return ""
    speed = f"{per_s / 1e6:.3g} MP/s" if event.unit == "pixels" else f"{per_s:.3g} {event.unit}/s" if event.unit else ""
    left = f"{duration(max(0.0, event.total - event.done) / per_s)} left" if event.total else ""
    return ", ".join(part for part in (speed, left) if part)


def _complete(event: Progress) -> bool:
    return event.total is not None and event.done >= event.total
