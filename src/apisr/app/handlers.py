"""What the server answers: one method a route."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import shutil
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apisr.app.advice import RELOAD
from apisr.app.answers import Handler, Json, SentFile, json_of, page_of, route, seconds_of, settings_of, texts_of
from apisr.app.events import Bus
from apisr.app.new_jobs import done_job, job_of, made_before
from apisr.app.opening import can_open, open_folder
from apisr.app.planning import Plans
from apisr.app.queue import Queue, public_job
from apisr.app.store import Item, Job, Store
from apisr.app.worker_process import WorkerProcess
from apisr.core.errors import ApisrError, InputError
from apisr.core.files import free_bytes, real_path
from apisr.core.media import LeftOut, MediaKind, find_media, media_kind, names_by_reason, not_taken
from apisr.core.text import NAMES_SHOWN, printable

#: Why a picked file, or a file of a picked folder, is not added. ``outside`` is a link that leads out of the folder of
#: the app. The page has a text for each (``leftOut-`` in ``static/i18n``).
NotAdded = LeftOut | Literal["outside"]
#: Space on the disk that an upload leaves free, in bytes.
KEPT_FREE_BYTES = 1 << 30
#: An upload that sends nothing for so long is given up.
UPLOAD_IDLE_SECONDS = 60.0
#: Name of a preview, see :meth:`App._cache_path`.
_PREVIEW = re.compile(r"[0-9a-f]{24}\.[a-z0-9]+")
#: Entries of a folder that the page is shown.
MAX_LISTED = 5000


class App:
    """Answers the requests of the page.

    Args:
        store: files, jobs, presets.
        bus: tells the pages what happens.
        max_upload_bytes: longest upload.
        local: whether people sit at this machine, so that folders can be opened on its screen.
    """

    def __init__(self, store: Store, bus: Bus, *, max_upload_bytes: int, local: bool = False) -> None:
        self.store = store
        self.bus = bus
        self.queue = Queue(store, self.bus)
        self.looker = WorkerProcess("previews")
        self.plans = Plans(store)
        self.max_upload_bytes = max_upload_bytes
        self.can_open = can_open(local=local)
        self._probing = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        """Return all routes."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/", self.page),
            ("GET", "/api/state", self.state),
            ("GET", "/api/browse", self.browse),
            ("POST", "/api/add", self.add),
            ("POST", "/api/upload", self.upload),
            ("DELETE", "/api/items/{item}", self.remove_item),
            ("GET", "/api/items/{item}/thumbnail", self.thumbnail),
            ("GET", "/api/items/{item}/frame", self.frame),
            ("POST", "/api/items/{item}/preview", self.preview),
            ("POST", "/api/items/{item}/clip", self.clip),
            ("POST", "/api/items/{item}/plan", self.plan),
            ("GET", "/api/cache/{name}", self.cached),
            ("POST", "/api/jobs", self.add_jobs),
            ("POST", "/api/jobs/order", self.order),
            ("POST", "/api/queue/{action}", self.pause),
            ("POST", "/api/jobs/{job}/folder", self.open_folder),
            ("POST", "/api/jobs/{job}/{action}", self.act),
            ("GET", "/api/jobs/{job}", self.job),
            ("GET", "/api/jobs/{job}/output", self.output),
            ("GET", "/api/jobs/{job}/frame", self.output_frame),
            ("PUT", "/api/presets/{name}", self.set_preset),
            ("DELETE", "/api/presets/{name}", self.remove_preset),
        ]
        return [route(method, path, handler) for method, path, handler in table]

    async def page(self, request: Request) -> Response:
        """Send the page."""
        return page_of(request, "upscale.html")

    async def state(self, request: Request) -> Response:
        """Send everything that the page shows first."""
        import apisr
        from apisr.app.looking import models

        state = self.store.state
        return Json(
            {
                "version": apisr.__version__,
                "folder": printable(self.store.folder.name) if self.store.folder else None,
                "models": models(),
                "items": [public_item(item) for item in state.items],
                "jobs": self.queue.listing(),
                "paused": state.paused,
                "can_open": self.can_open,
                "presets": {name: preset.model_dump(exclude_none=True) for name, preset in state.presets.items()},
            }
        )

    async def browse(self, request: Request) -> Response:
        """List a folder below the one that was given on the command line."""
        if self.store.folder is None:
            raise InputError("no folder was given. Start the app with: apisr app FOLDER", code="no-folder")
        name = request.query_params.get("id", "")
        here = self.store.path_of(name) if name else self.store.folder
        if not here.is_dir() or not real_path(here).is_relative_to(self.store.folder):
            raise InputError(f"no such folder. {RELOAD}", code="no-such-file")
        entries = await asyncio.to_thread(self._entries, here)  # a slow disk must not stop the server
        parent = None if here == self.store.folder else self.store.id_of(here.parent)
        return Json({"name": printable(here.name), "parent": parent, "entries": entries})

    def _entries(self, here: Path) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = []
        for path in sorted(here.iterdir(), key=lambda path: (not path.is_dir(), path.name.lower()))[:MAX_LISTED]:
            if path.name.startswith(".") or not self.store.is_inside(path):
                continue
            kind = "folder" if path.is_dir() else media_kind(path)
            if kind is not None:
                entry: dict[str, object] = {"id": self.store.id_of(path), "name": printable(path.name), "kind": kind}
                entries.append(entry if kind == "folder" else {**entry, "bytes": path.stat().st_size})
        return entries

    async def add(self, request: Request) -> Response:
        """Add files, and the files of folders, that were picked; say how many are new, what was left out, and why.

        Files that were listed already are named too, so that the page selects all that a person asked for.
        """
        values = await json_of(request)
        paths = [self.store.path_of(name) for name in texts_of(values.get("ids"))]
        found, left_out = await asyncio.to_thread(self._found, paths)  # a slow disk must not stop the server
        before = {item.id for item in self.store.state.items}
        chosen = {item.id: item for item in (self.store.add_item(file, kind) for file, kind in found.items())}
        self.store.save()
        self._tell_items()
        for item in chosen.values():
            self._probe_later(item)
        added = len(chosen.keys() - before)
        groups = {
            reason: {"count": len(names), "names": names[:NAMES_SHOWN]}
            for reason, names in names_by_reason(left_out).items()
        }
        listed = len(chosen) - added
        return Json({"items": list(chosen), "added": added, "listed": listed, "left_out": groups})

    def _found(self, paths: Sequence[Path]) -> tuple[dict[Path, MediaKind], dict[Path, NotAdded]]:
        found: dict[Path, MediaKind] = {}
        left_out: dict[Path, LeftOut] = {}
        for path in paths:
            if path.is_dir():
                listing = find_media(path)
                found |= listing.kinds
                left_out |= listing.left_out
            elif kind := media_kind(path):
                found[path] = kind
            else:
                left_out[path] = "other-kind"
        inside: dict[Path, MediaKind] = {path: kind for path, kind in found.items() if self.store.is_inside(path)}
        outside: dict[Path, NotAdded] = {path: "outside" for path in found if path not in inside}
        return inside, {**not_taken(left_out, found), **outside}

    async def upload(self, request: Request) -> Response:
        """Take a file: the body is the file, ``?name=`` its name. It is written as it comes."""
        target = self.store.upload_path(request.query_params.get("name", ""))
        partial = target.with_name(f"{target.name}.part")
        try:
            await self._receive(request, partial)
            kind = media_kind(partial) or media_kind(target)
            if kind is None:
                raise InputError(
                    f"'{target.name}' is neither a picture nor a video. Add files like .png, .jpg, .mkv or .mp4.",
                    code="not-media",
                )
            partial.rename(target)
        except BaseException:
            shutil.rmtree(target.parent, ignore_errors=True)
            raise
        item = self.store.add_item(target, kind, uploaded=True)
        self.store.save()
        self.bus.send("item", public_item(item))
        self._probe_later(item)
        return Json(public_item(item))

    async def _receive(self, request: Request, partial: Path) -> None:
        room = min(self.max_upload_bytes, free_bytes(self.store.home) - KEPT_FREE_BYTES)
        announced = int(request.headers.get("content-length") or 0)
        received = 0
        stream = request.stream()
        with partial.open("wb") as file:
            while True:
                if max(announced, received) > room:
                    raise InputError(
                        f"the file is too large: {room >> 20} MiB can be taken. Start the app with a larger "
                        "--max-upload-gb, make room on the disk, or give the file's folder: apisr app FOLDER",
                        code="upload-too-large",
                    )
                try:
                    chunk = await asyncio.wait_for(anext(stream), UPLOAD_IDLE_SECONDS)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    raise InputError("the upload stopped. Add the file again.", code="upload-stopped") from None
                received += len(chunk)
                await asyncio.to_thread(file.write, chunk)
        if announced and received != announced:
            raise InputError(
                f"the upload is not whole: {received} of {announced} bytes came. Add the file again.",
                code="upload-stopped",
            )

    async def remove_item(self, request: Request) -> Response:
        """Take a file out of the list."""
        item = self.store.item(request.path_params["item"])
        if any(job.item == item.id and job.status in ("waiting", "running", "paused") for job in self.store.state.jobs):
            raise InputError("a job still needs this file. Cancel the job first.", code="wrong-state")
        self.store.remove_item(item)
        self.store.save()
        self._tell_items()
        return Json({})

    async def thumbnail(self, request: Request) -> Response:
        """Send the thumbnail of a file."""
        item = self.store.item(request.path_params["item"])
        path = self._thumbnail(item)
        if not path.exists():
            raise InputError("there is no thumbnail yet. Ask again when the file was looked at.", code="no-such-file")
        return SentFile(path, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    async def frame(self, request: Request) -> Response:
        """Send a picture, or a frame of a video (``?time=``), as PNG."""
        item = self.store.item(request.path_params["item"])
        return await self._frame(item.path, request.query_params.get("time", "0"))

    async def output_frame(self, request: Request) -> Response:
        """The same of a finished output."""
        job = self.store.job(request.path_params["job"])
        return await self._frame(self.store.result_of(job), request.query_params.get("time", "0"))

    async def _frame(self, path: Path, time: str) -> Response:
        output = self._cache_path("png")
        answer = await self.looker.ask(
            "frame", {"path": str(path), "time": seconds_of(time), "output": str(output), "longest_px": 4096}
        )
        content = await asyncio.to_thread(output.read_bytes)
        output.unlink(missing_ok=True)
        headers = {"X-Width": str(answer.get("width")), "X-Height": str(answer.get("height"))}
        return Response(content, media_type="image/png", headers=headers)

    async def preview(self, request: Request) -> Response:
        """Upscale a crop; the answer names two pictures."""
        item = self.store.item(request.path_params["item"])
        values = await json_of(request)
        before, after = self._cache_path("png"), self._cache_path("png")
        answer = await self.looker.ask(
            "preview",
            {
                "path": str(item.path),
                "time": seconds_of(str(values.get("time", 0))),
                "box": values.get("box"),
                "settings": settings_of(values.get("settings")).model_dump(exclude_none=True),
                "before": str(before),
                "after": str(after),
            },
        )
        return Json({**answer, "before": f"/api/cache/{before.name}", "after": f"/api/cache/{after.name}"})

    async def clip(self, request: Request) -> Response:
        """Upscale a few seconds of a video to look at; the answer names the clip."""
        item = self.store.item(request.path_params["item"])
        values = await json_of(request)
        if item.kind != "video":
            raise InputError("only videos have a preview that plays. Look at the crop instead.", code="wrong-kind")
        start, length = seconds_of(str(values.get("time", 0))), min(10.0, seconds_of(str(values.get("seconds", 3))))
        settings = settings_of(values.get("settings")).model_copy(
            update={"container": "mp4", "codec": "libx264", "crf": 18.0}
        )
        output = self._cache_path("mp4")
        await self.looker.ask(
            "upscale",
            {
                "source": str(item.path),
                "target": str(output),
                "settings": settings.model_dump(exclude_none=True),
                "part": [start, start + length],
            },
        )
        return Json({"clip": f"/api/cache/{output.name}"})

    async def plan(self, request: Request) -> Response:
        """Say what an upscale would do."""
        item = self.store.item(request.path_params["item"])
        values = await json_of(request)
        return Json(await self.plans.plan(item, settings_of(values.get("settings"))))

    async def cached(self, request: Request) -> Response:
        """Send a preview."""
        name = request.path_params["name"]
        path = self.store.cache / name
        if not _PREVIEW.fullmatch(name) or not path.is_file():
            raise InputError("the preview is not kept any more. Move the frame to make it again.", code="no-such-file")
        return SentFile(path, headers={"Cache-Control": "private, max-age=3600"})

    async def add_jobs(self, request: Request) -> Response:
        """Put files into the queue; say of which the result is there already, unless it is to be made ``again``."""
        values = await json_of(request)
        settings = settings_of(values.get("settings"))
        items = [self.store.item(name) for name in texts_of(values.get("items"))]
        arguments: dict[str, object] = {
            "sources": [str(item.path) for item in items],
            "folder": str(self.store.results),
            "settings": settings.model_dump(exclude_none=True),
        }
        answer = await self.looker.ask("targets", arguments)
        targets = [Path(name) for name in texts_of(answer.get("targets"))]
        found: list[Path | None] = [None] * len(items)
        if values.get("again") is not True:
            pairs = zip(items, targets, strict=True)
            found = [await made_before(self.store, self.looker, item, target, settings) for item, target in pairs]
        jobs: list[Job] = []
        there: list[Job] = []
        for item, target, made in zip(items, targets, found, strict=True):
            if made is not None:
                there.append(done_job(self.store, item, made, settings))
                continue
            chosen = self.store.free_target(target, taken={job.target for job in jobs})
            self.store.id_of(chosen.parent)
            jobs.append(job_of(item, chosen, settings))
        known = {job.id for job in self.store.state.jobs}
        self.queue.add([*(job for job in there if job.id not in known), *jobs])
        self._plan_jobs(jobs)
        results = [{"job": job.id, "item": job.item, "name": printable(job.target.name)} for job in there]
        return Json({"jobs": [job.id for job in jobs], "there": results})

    async def order(self, request: Request) -> Response:
        """Bring the queue into a new order."""
        self.queue.order(texts_of((await json_of(request)).get("ids")))
        return Json({})

    async def pause(self, request: Request) -> Response:
        """Hold the queue or let it go on."""
        action = request.path_params["action"]
        if action not in ("pause", "resume"):
            raise InputError(f"expected pause or resume, got '{action}'. {RELOAD}", code="unknown-action")
        await self.queue.pause(paused=action == "pause")
        return Json({})

    async def act(self, request: Request) -> Response:
        """Do what is asked of one job."""
        job = self.store.job(request.path_params["job"])
        await self.queue.act(job, request.path_params["action"])
        if job not in self.store.state.jobs and job.kind == "video" and job.status != "done":
            with contextlib.suppress(ApisrError):  # a run of somebody else has taken them over
                await self.looker.ask("forget", {"target": str(job.target)})
        return Json({})

    async def job(self, request: Request) -> Response:
        """Send the log and the result of a job, and the same as a command line."""
        from apisr.app.looking import command_line

        job = self.store.job(request.path_params["job"])
        return Json({"log": job.log, "result": _public_result(job), "command": command_line(job)})

    async def output(self, request: Request) -> Response:
        """Send a finished output; parts of it when asked for, so that videos can be played and searched."""
        job = self.store.job(request.path_params["job"])
        target = self.store.result_of(job)
        inline = request.query_params.get("inline") == "1"
        return SentFile(
            target, filename=printable(target.name), content_disposition_type="inline" if inline else "attachment"
        )

    async def open_folder(self, request: Request) -> Response:
        """Open the folder of a result on the screen of this machine."""
        job = self.store.job(request.path_params["job"])
        if not self.can_open:
            raise InputError(
                "folders are opened on the screen of the app's own machine only. Download the result instead.",
                code="not-local",
            )
        await asyncio.to_thread(open_folder, self.store.result_of(job))
        return Json({})

    async def set_preset(self, request: Request) -> Response:
        """Keep settings under a name."""
        name = request.path_params["name"].strip()[:60]
        if not name:
            raise InputError("a preset needs a name. Type one.", code="bad-request")
        self.store.state.presets[name] = settings_of((await json_of(request)).get("settings"))
        self.store.save()
        return Json({})

    async def remove_preset(self, request: Request) -> Response:
        """Forget settings."""
        self.store.state.presets.pop(request.path_params["name"], None)
        self.store.save()
        return Json({})

    def _plan_jobs(self, jobs: list[Job]) -> None:
        items = {item.id: item for item in self.store.state.items}
        pairs = [(job, items[job.item]) for job in jobs if job.item in items and job.expected_s is None]
        self.plans.plan_jobs(pairs, lambda job: self.bus.send("job", public_job(job)))

    def _thumbnail(self, item: Item) -> Path:
        return self.store.cache / f"thumbnail-{item.id}.png"

    def _cache_path(self, suffix: str) -> Path:
        return self.store.cache / f"{secrets.token_hex(12)}.{suffix}"

    def _tell_items(self) -> None:
        self.bus.send("items", {"items": [public_item(item) for item in self.store.state.items]})

    def _probe_later(self, item: Item) -> None:
        if item.info is not None and self._thumbnail(item).exists():
            return
        task = asyncio.create_task(self._probe(item))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self, item: Item) -> None:
        async with self._probing:
            try:
                item.info = await self.looker.ask(
                    "probe", {"path": str(item.path), "thumbnail": str(self._thumbnail(item))}
                )
                item.error = ""
            except ApisrError as error:
                item.error = str(error)
        self.bus.send("item", public_item(item))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the queue while the server runs."""
        self.queue.start()
        for item in self.store.state.items:
            self._probe_later(item)
        self._plan_jobs([job for job in self.store.state.jobs if job.status == "waiting"])
        try:
            yield
        finally:
            await self.stop_asking()
            await self.queue.close()

    async def stop_asking(self) -> None:
        """End what pages wait for, before the server waits for its connections to end."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(self.plans.stop(), self.looker.stop(patience_s=0.5))


def public_item(item: Item) -> dict[str, object]:
    """Return a file as the page sees it: without its path."""
    return item.model_dump(mode="json", exclude={"path"})


def _public_result(job: Job) -> dict[str, object] | None:
    if job.result is None:
        return None
    return {key: value for key, value in job.result.items() if key not in ("source", "target")}
