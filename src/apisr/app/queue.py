"""The queue: one job after the other in a child process, and events for every page that is open.

Order, pause, cancel and restart of the server never lose work: a job that is stopped keeps its work folder (videos go
on at the segment where they stood), and its state is on the disk before the page hears of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from apisr.app.advice import RELOAD
from apisr.app.events import Bus
from apisr.app.store import MAX_LOG_LINES, Job, Store
from apisr.app.worker_process import WorkerProcess
from apisr.core.errors import ApisrError, InputError
from apisr.core.progress import RecentSpeed
from apisr.core.text import printable

#: Least time between two progress events of a job, in seconds.
_EVENT_SECONDS = 0.2

#: Why a job was stopped: one of the first two by itself, "hold" and "shutdown" with the whole queue.
StopReason = Literal["pause", "cancel", "hold", "shutdown"]
#: What the log says of a job that goes on later.
_STOPPED: dict[StopReason | None, str] = {
    "pause": "paused; it goes on where it stood",
    "hold": "paused with the queue; it goes on where it stood",
    "shutdown": "the app was closed; it goes on where it stood",
}


class Queue:
    """Runs the jobs of a store.

    Args:
        store: the jobs.
        bus: is told of every change.
    """

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._worker = WorkerProcess("upscaling")
        self._wake = asyncio.Event()
        self._running: Job | None = None
        self._stop_reason: StopReason | None = None
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop the running job so that it can go on later, and end the child process."""
        self._closed = True
        self._wake.set()
        if self._running is not None:
            self._stop_reason = self._stop_reason or "shutdown"
        await self._worker.stop()
        if self._task is not None:
            await self._task

    def add(self, jobs: list[Job]) -> None:
        """Put jobs at the end."""
        self._store.state.jobs.extend(jobs)
        self._changed()

    async def pause(self, *, paused: bool) -> None:
        """Hold the whole queue, or let it go on; a running job stops at its next safe point."""
        self._store.state.paused = paused
        if paused and self._running is not None:
            self._stop_reason = self._stop_reason or "hold"
            await self._worker.cancel()
        self._changed()

    async def act(self, job: Job, action: str) -> None:
        """Do what a person asks of one job: ``pause``, ``resume``, ``cancel``, ``retry`` or ``remove``.

        Raises:
            InputError: there is no such action, or the job is not in a state for it.
        """
        allowed = {
            "pause": {"waiting", "running"},
            "resume": {"paused"},
            "cancel": {"waiting", "running", "paused"},
            "retry": {"failed", "cancelled"},
            "remove": {"done", "failed", "cancelled"},
        }
        if action not in allowed:
            raise InputError(f"expected {', '.join(allowed)}, got '{action}'. {RELOAD}", code="unknown-action")
        if job.status not in allowed[action]:
            raise InputError(
                f"'{action}' is for jobs that are {' or '.join(sorted(allowed[action]))}; this one is {job.status}. "
                f"{RELOAD}",
                code="wrong-state",
            )
        if job is self._running and action in ("pause", "cancel"):
            self._stop_reason = "pause" if action == "pause" else "cancel"
            await self._worker.cancel()
            return
        if action == "remove":
            self._store.state.jobs.remove(job)
        else:
            job.status = {"pause": "paused", "cancel": "cancelled"}.get(action, "waiting")  # type: ignore[assignment]
            job.message = ""
        self._changed()

    def order(self, ids: list[str]) -> None:
        """Bring the jobs into a new order; jobs that are not named keep their place behind the others.

        No job that waits gets before the one that runs.
        """
        place = {name: number for number, name in enumerate(ids)}
        jobs = self._store.state.jobs
        jobs.sort(key=lambda job: place.get(job.id, len(place)))
        running = next((number for number, job in enumerate(jobs) if job.status == "running"), 0)
        first = next((number for number, job in enumerate(jobs) if job.status in ("waiting", "paused")), running)
        if first < running:
            jobs.insert(first, jobs.pop(running))
        self._changed()

    async def _work(self) -> None:
        while not self._closed:
            job = self._next()
            if job is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._run(job)

    def _next(self) -> Job | None:
        if self._store.state.paused:
            return None
        return next((job for job in self._store.state.jobs if job.status == "waiting"), None)

    async def _run(self, job: Job) -> None:
        self._running, self._stop_reason = job, None
        job.status, job.message = "running", ""
        self._changed()
        began = time.monotonic()
        arguments: dict[str, object] = {
            "source": str(job.source),
            "target": str(job.target),
            "settings": job.settings.model_dump(exclude_none=True),
        }
        try:
            job.result = await self._worker.ask("upscale", arguments, on_event=self._progress_of(job))
            job.status = "done"
            job.done = job.total or job.done
        except ApisrError as error:
            self._ended_with(job, error)
        finally:
            job.seconds += time.monotonic() - began
            job.seconds_left = None
            self._running = None
        if not self._closed:
            self._bus.send("ended", {"id": job.id, "status": job.status, "name": job.name})
        self._changed()

    def _ended_with(self, job: Job, error: ApisrError) -> None:
        if self._stop_reason is not None or error.code == "cancelled":
            state = {"pause": "paused", "hold": "waiting", "shutdown": "waiting"}
            job.status = state.get(self._stop_reason or "", "cancelled")  # type: ignore[assignment]
            job.message = ""
        else:
            job.status = "failed"
            job.message = str(error)
            self._log(job, job.message)

    def _progress_of(self, job: Job) -> Callable[[dict[str, object]], None]:
        recent = RecentSpeed()
        last = 0.0

        def take(event: dict[str, object]) -> None:
            nonlocal last
            now = time.monotonic()
            message = str(event.get("message") or "")
            if event.get("kind") == "ended" and message.startswith("cancelled") and self._stop_reason in _STOPPED:
                message = _STOPPED[self._stop_reason]  # to the process it is a job that was cancelled
            if message:
                self._log(job, message)
            done, total = event.get("done"), event.get("total")
            if event.get("kind") == "advanced" and isinstance(done, int | float):
                job.done, job.unit = float(done), str(event.get("unit", ""))
                job.total = float(total) if isinstance(total, int | float) else None
                job.speed = recent.observe(job.done, now) or 0.0
                left = (job.total or 0.0) - job.done
                job.seconds_left = left / job.speed if job.total and job.speed > 0 else None
            if now - last >= _EVENT_SECONDS or message:
                last = now
                self._bus.send("job", public_job(job))

        return take

    def _log(self, job: Job, line: str) -> None:
        job.log.append(f"{time.strftime('%H:%M:%S')}  {printable(line)}")
        del job.log[:-MAX_LOG_LINES]

    def _changed(self) -> None:
        try:
            self._store.save()
        except (ApisrError, OSError) as error:  # a full disk must not end the queue: the jobs themselves say so, too
            self._bus.send("trouble", {"message": str(error), "code": "state-not-saved"})
        self._bus.send("jobs", {"jobs": self.listing(), "paused": self._store.state.paused})
        self._wake.set()

    def listing(self) -> list[dict[str, object]]:
        """Return all jobs as the page sees them."""
        return [public_job(job) for job in self._store.state.jobs]


def public_job(job: Job) -> dict[str, object]:
    """Return a job as the page sees it: without paths."""
    values = job.model_dump(mode="json", exclude={"source", "target", "log", "result"})
    return {**values, "output": printable(job.target.name), "ready": job.status == "done" and job.target.is_file()}
