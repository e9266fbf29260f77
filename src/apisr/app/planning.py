"""Plans of jobs for the page: measured in a child process of their own, one after the other, each once.

Cards ask for the files that are in view. Waiting jobs are planned by the server, so that the queue knows its time;
pictures after the first few with the same settings are taken from those, by their pixels.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable

from apisr.app.store import Item, Job, Settings, Store
from apisr.app.worker_process import WorkerProcess
from apisr.core.errors import ApisrError, RunError

#: Plans that are kept.
MAX_PLANS = 5000
#: Pictures of the same settings that are measured for the queue; the others follow from them.
MEASURED_PICTURES = 3
#: The process is ended when it had nothing to do for so long.
_IDLE_SECONDS = 60.0

Plan = dict[str, object]


class Plans:
    """Plans jobs and keeps what was measured.

    Args:
        store: where results would lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._worker = WorkerProcess("estimates")
        self._known: OrderedDict[tuple[str, str], asyncio.Task[Plan]] = OrderedDict()
        self._rates: dict[str, list[tuple[float, float]]] = {}
        self._turn = asyncio.Lock()
        self._closed = False
        self._idle: asyncio.TimerHandle | None = None
        self._queue: asyncio.Task[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    async def plan(self, item: Item, settings: Settings) -> Plan:
        """Return what a job would do: name, size, streams, seconds, bytes.

        Raises:
            InputError: the file or the settings cannot be used.
        """
        key = (item.id, settings.model_dump_json())
        task = self._known.get(key)
        if task is None or (task.done() and task.exception() is not None):
            task = asyncio.create_task(self._ask(item, settings))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the page may have gone
            self._known[key] = task
            while len(self._known) > MAX_PLANS:
                self._known.popitem(last=False)
        return await asyncio.shield(task)

    def plan_jobs(self, jobs: Iterable[tuple[Job, Item]], tell: Callable[[Job], None]) -> None:
        """Put time and size on waiting jobs, in the background.

        Args:
            jobs: the jobs and their files.
            tell: called with each job that was changed.
        """
        before = self._queue

        async def work() -> None:
            if before is not None:
                await asyncio.gather(before, return_exceptions=True)
            for job, item in jobs:
                if job.status in ("waiting", "running") and item.info is not None:
                    await self._plan_job(job, item)
                    tell(job)

        self._queue = asyncio.create_task(work())

    async def stop(self) -> None:
        """End the child process; what is not planned yet stays so."""
        self._closed = True
        if self._queue is not None:
            self._queue.cancel()
        await self._worker.stop(patience_s=0.5)
        if self._idle is not None:
            self._idle.cancel()

    async def _plan_job(self, job: Job, item: Item) -> None:
        rates = self._rates.get(job.settings.model_dump_json(), [])
        known = (item.id, job.settings.model_dump_json()) in self._known
        if item.kind == "picture" and not known and len(rates) >= MEASURED_PICTURES:
            pixels = _pixels(item)
            job.expected_s = pixels * sum(rate[0] for rate in rates) / len(rates)
            job.expected_bytes = round(pixels * sum(rate[1] for rate in rates) / len(rates))
            return
        try:
            plan = await self.plan(item, job.settings)
        except ApisrError:
            return  # the job itself will say what is wrong
        seconds, size_bytes = plan.get("seconds"), plan.get("bytes")
        if isinstance(seconds, int | float) and isinstance(size_bytes, int):
            job.expected_s, job.expected_bytes = float(seconds), size_bytes

    async def _ask(self, item: Item, settings: Settings) -> Plan:
        arguments: dict[str, object] = {
            "source": str(item.path),
            "folder": str(self._store.results),
            "settings": settings.model_dump(exclude_none=True),
        }
        async with self._turn:
            if self._closed:
                raise RunError("the app is ending. Start it again and reload the page.", code="app-ending")
            if self._idle is not None:
                self._idle.cancel()
            try:
                plan = await self._worker.ask("plan", arguments)
            finally:
                self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_process)
        seconds, size_bytes, pixels = plan.get("seconds"), plan.get("bytes"), _pixels(item)
        if item.kind == "picture" and pixels and isinstance(seconds, float) and isinstance(size_bytes, int):
            rates = self._rates.setdefault(settings.model_dump_json(), [])
            rates.append((seconds / pixels, size_bytes / pixels))
            del rates[:-20]
        return plan

    def _end_process(self) -> None:
        async def stop() -> None:
            async with self._turn:
                await self._worker.stop()

        task = asyncio.create_task(stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)


def _pixels(item: Item) -> float:
    width, height = (item.info or {}).get("width"), (item.info or {}).get("height")
    return float(width * height) if isinstance(width, int) and isinstance(height, int) else 0.0
