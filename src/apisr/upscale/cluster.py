"""Many machines: segments of videos, and pictures, as tasks on a Ray cluster.

Each worker loads the network once and keeps it. It gets a span, reads the source (from the same path if the machine
sees it, else from a copy that is sent once), upscales and encodes it, and sends the encoded segment back; nothing but
the source and the segments travels. A worker that dies is replaced and its span is done again. The segments are the
same files that a local run makes, so everything else (resuming, joining, checking) is the same, and so is the result.
Pictures travel as their files, there and back; each is written here, under its name, when it is complete.

    ray start --head                                  # on the first machine
    ray start --address=first:6379                    # on the others
    apisr upscale season/ -o large/ --cluster first:6379

    >>> from apisr.upscale.cluster import spans_on_cluster  # doctest: +SKIP
    >>> upscale_video(source, target, make, options, scale=2, run_spans=spans_on_cluster("auto"))  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from apisr.core.errors import ApisrError, InputError, MissingExtra, RunError
from apisr.core.files import sha256_file
from apisr.upscale import EngineName, load_engine
from apisr.upscale.engine import Engine
from apisr.upscale.pictures import PictureOutcome, upscale_picture_file
from apisr.upscale.reuse import CanvasUpscaler, Reuse
from apisr.upscale.segments import Span, WorkFolder
from apisr.upscale.videos import FrameFilter, FrameUpscaler, StageTimes, VideoOptions, VideoPlan, make_segments
from apisr.video.sequence import is_sequence
from apisr.video.writer import Segment
from apisr.weights import Model

#: A span or picture is given up after this many workers died over it.
ATTEMPTS = 4
_CHUNK_BYTES = 64 << 20


class Progress(Protocol):
    """Is told how many frames were finished."""

    def add(self, frames: int) -> None:
        """Count `frames` more."""
        ...


@dataclass(frozen=True)
class NetworkRecipe:
    """Makes an upscaler on any machine: carries the model file along.

    Attributes:
        model: what is known of the network.
        content: the bytes of its file.
        reuse: see :mod:`apisr.upscale.reuse`.
        engine: see :func:`apisr.upscale.load_engine`.
        device: likewise.
        threads: processor threads of one worker.
        tta: likewise.
    """

    model: Model
    content: bytes
    reuse: Reuse = "exact"
    engine: EngineName = "auto"
    device: str = "auto"
    threads: int | None = None
    tta: bool = False

    @staticmethod
    def of(
        model: Model,
        *,
        reuse: Reuse = "exact",
        engine: EngineName = "auto",
        device: str = "auto",
        threads: int | None = None,
        tta: bool = False,
    ) -> NetworkRecipe:
        """Read the model's file."""
        portable = replace(model, card=dict(model.card))
        return NetworkRecipe(portable, model.path.read_bytes(), reuse, engine, device, threads, tta)

    def load(self) -> Engine:
        """Load the network on this machine."""
        with tempfile.TemporaryDirectory(prefix="apisr-model-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / self.model.path.name
            path.write_bytes(self.content)
            model = replace(self.model, path=path)
            return load_engine(model, engine=self.engine, device=self.device, threads=self.threads, tta=self.tta)

    def __call__(self) -> FrameUpscaler:
        """Load the network and return an upscaler."""
        return CanvasUpscaler(self.load(), reuse=self.reuse)


@dataclass(frozen=True)
class PictureFile:
    """A picture on its way to a worker.

    Attributes:
        number: tells it from others.
        source: where it was read; only its name counts there.
        target: where the result will go; likewise.
        content: the bytes of the source.
    """

    number: int
    source: Path
    target: Path
    content: bytes


@dataclass
class PictureTask:
    """Upscales pictures on a machine of the cluster: bytes of a file in, bytes of a file out.

    Attributes:
        recipe: of the network; it is loaded at the first picture.
        output_height: see :func:`apisr.upscale.pictures.upscale_picture_file`.
        output_scale: likewise.
        tile_px: likewise.
        quality: likewise.
    """

    recipe: NetworkRecipe
    output_height: int | None = None
    output_scale: float | None = None
    tile_px: int | None = None
    quality: int | None = None
    _engine: Engine | None = field(default=None, init=False, repr=False)

    def __call__(self, picture: PictureFile) -> tuple[bytes, PictureOutcome] | Exception:
        """Return the file of the result and what became of it, or what is wrong with this picture."""
        engine = self._engine = self._engine or self.recipe.load()
        with tempfile.TemporaryDirectory(prefix="apisr-picture-") as folder:
            source = Path(folder) / "in" / picture.source.name
            target = Path(folder) / "out" / picture.target.name
            source.parent.mkdir()
            source.write_bytes(picture.content)
            try:
                outcome = upscale_picture_file(
                    source,
                    target,
                    engine,
                    output_height=self.output_height,
                    output_scale=self.output_scale,
                    tile_px=self.tile_px,
                    quality=self.quality,
                )
                content = target.read_bytes()
            except ApisrError as error:
                said = str(error).replace(str(source), str(picture.source)).replace(str(target), str(picture.target))
                return (InputError if isinstance(error, InputError) else RunError)(said)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one picture, the others are done
                return RunError(f"'{picture.source}': unexpected {_line(error)}")
        return content, replace(outcome, source=picture.source, target=picture.target)


@dataclass(frozen=True)
class _Lost:
    """Stands for the answer to an item over which too many workers died."""

    error: RunError


def spans_on_cluster(address: str, *, workers: int | None = None) -> Callable[..., None]:
    """Return what `upscale_video` takes as `run_spans`: spans made by the machines of a cluster.

    Args:
        address: of the Ray cluster (``"host:6379"``, ``"auto"``), or ``"local"`` to start one on this machine.
        workers: how many; by default one per graphics card, or one per machine where there is none.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: no cluster answers at that address.
    """
    connect(address)

    def run(
        plan: VideoPlan,
        folder: WorkFolder,
        missing: Sequence[Span],
        make_upscaler: Callable[[], FrameUpscaler],
        options: VideoOptions,
        tracker: Progress,
        times: StageTimes,
        stats: list[Any],
        prepare: FrameFilter | None,
    ) -> None:
        if is_sequence(plan.source.path):
            raise InputError("numbered pictures are not sent to a cluster. Leave --cluster out.")
        shared = _Shipment(plan.source.path)

        def start() -> Any:
            worker = _remote(_SegmentWorker).remote(plan, options, make_upscaler, prepare)
            shared.deliver(worker)
            return worker

        latest: dict[Any, Any] = {}
        prepared: Any = getattr(prepare, "stats", None)
        for span, answer in _or_raise(_spread(start, missing, workers)):
            described, content, part, worker_stats, identity, filtered = answer
            partial = folder.partial_path(span.number)
            partial.write_bytes(content)
            segment = Segment.from_json(described)
            folder.commit(span.number, segment)
            tracker.add(len(segment.pts))
            times.add(StageTimes(*part))
            latest[identity] = worker_stats
            if prepared is not None:
                prepared.extend(filtered)
        stats.extend(latest.values())

    return run


def map_on_cluster(
    function: Callable[[Any], Any], items: Iterable[Any], *, address: str, workers: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Apply a function to items (pictures, for example) on the machines of a cluster.

    Args:
        function: must be importable or picklable.
        items: what to apply it to.
        address: see :func:`spans_on_cluster`.
        workers: see :func:`spans_on_cluster`.

    Yields:
        (item, result) in the order in which they are finished.

    Raises:
        RunError: workers died over the same item again and again.
    """
    connect(address)
    yield from _or_raise(_spread(lambda: _remote(_FunctionWorker).remote(function), items, workers))


def pictures_on_cluster(
    task: PictureTask, pictures: Iterable[PictureFile], *, address: str, workers: int | None = None
) -> Iterator[tuple[PictureFile, tuple[bytes, PictureOutcome] | Exception]]:
    """Upscale pictures on the machines of a cluster.

    Args:
        task: how.
        pictures: read one after the other, when a worker is free for it.
        address: see :func:`spans_on_cluster`.
        workers: see :func:`spans_on_cluster`.

    Yields:
        (picture, file of the result with its description, or what is wrong with this picture), as they are finished.

    Raises:
        ApisrError: the network cannot be loaded there, or no worker can be started.
    """
    connect(address)
    for picture, answer in _spread(lambda: _remote(_FunctionWorker).remote(task), pictures, workers):
        yield picture, answer.error if isinstance(answer, _Lost) else answer


def connect(address: str) -> Any:
    """Connect to a cluster, or start one on this machine for ``"local"``; return the ``ray`` module.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: no cluster answers at that address.
    """
    ray = _ray()
    if ray.is_initialized():
        return ray
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"no Ray cluster at '{address}' ({reason}). Start one with 'ray start --head' and give its address."
        ) from error
    return ray


class _SegmentWorker:
    """Lives on a machine of the cluster; makes one span after the other."""

    def __init__(
        self,
        plan: VideoPlan,
        options: VideoOptions,
        make_upscaler: Callable[[], FrameUpscaler],
        prepare: FrameFilter | None,
    ) -> None:
        self._plan = plan
        self._options = options
        self._prepare = prepare
        self._make = make_upscaler
        self._upscaler: FrameUpscaler | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="apisr-segments-"))

    def sees(self, size: int, digest: str) -> bool:
        """Return whether the source is at its path here, with the right content."""
        path = self._plan.source.path
        return path.exists() and path.stat().st_size == size and sha256_file(path) == digest

    def receive(self, chunk: bytes) -> None:
        """Append a part of the source to the copy on this machine."""
        copy = self._folder / f"source{self._plan.source.path.suffix}"
        with copy.open("ab") as file:
            file.write(chunk)
        self._plan = replace(self._plan, source=replace(self._plan.source, path=copy))

    def work(self, span: Span) -> tuple[str, bytes, tuple[float, float, float, int], Any, str, list[Any]]:
        """Make one span; return (description, encoded file, times, statistics so far, who, the filter's statistics)."""
        upscaler = self._upscaler = self._upscaler or self._make()
        folder = WorkFolder(self._folder / "out.mkv")
        folder.path.mkdir(exist_ok=True)
        times = StageTimes()
        filtered: list[Any] = getattr(self._prepare, "stats", [])
        filtered.clear()
        make_segments(self._plan, folder, [span], upscaler, self._options, lambda _: None, times, prepare=self._prepare)
        segment = folder.segment(span.number)
        path = folder.video_path(span.number)
        content = path.read_bytes()
        path.unlink()
        part = (times.decode, times.upscale, times.encode, times.frames)
        return segment.to_json(), content, part, getattr(upscaler, "stats", None), str(self._folder), filtered

    def close(self) -> None:
        """Remove what is on this machine's disk."""
        shutil.rmtree(self._folder, ignore_errors=True)


class _FunctionWorker:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def work(self, item: Any) -> Any:
        return self._function(item)

    def close(self) -> None:
        """Nothing is kept on disk."""


class _Shipment:
    """Brings the source to workers that do not see it; it is put into the cluster's memory at most once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = sha256_file(path)
        self._parts: list[Any] | None = None

    def deliver(self, worker: Any) -> None:
        ray = _ray()
        if ray.get(worker.sees.remote(self._path.stat().st_size, self._digest)):
            return
        if self._parts is None:
            with self._path.open("rb") as file:
                self._parts = [ray.put(chunk) for chunk in iter(lambda: file.read(_CHUNK_BYTES), b"")]
        for part in self._parts:
            ray.get(worker.receive.remote(part))


def _spread(
    start: Callable[[], Any], items: Iterable[Any], workers: int | None
) -> Generator[tuple[Any, Any | _Lost], None, None]:
    """Give items to workers as they are free; replace workers that die and give their item to another."""
    ray = _ray()
    lost = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.ObjectLostError)
    coming = iter(items)
    again: list[_Item] = []
    busy: dict[Any, tuple[_Item, Any]] = {}
    idle: list[Any] = []
    alive = 0
    wanted = workers or _default_workers(ray)
    failed_starts = 0
    try:
        while True:
            while idle or alive < wanted:
                item = again.pop() if again else _next_item(coming)
                if item is None:
                    break
                try:
                    if idle:
                        worker = idle.pop()
                    else:
                        worker = start()
                        alive += 1
                    busy[worker.work.remote(item.value)] = (item, worker)
                except lost as error:
                    again.append(item)
                    failed_starts += 1
                    if failed_starts > ATTEMPTS + wanted:
                        raise RunError(f"no worker of the cluster can be started ({_line(error)}).") from error
            if not busy:
                return
            ready, _ = ray.wait(list(busy), num_returns=1)
            item, worker = busy.pop(ready[0])
            try:
                answer = ray.get(ready[0])
            except lost as error:
                alive -= 1
                item.deaths += 1
                if item.deaths < ATTEMPTS:
                    again.append(item)
                    continue
                answer = _Lost(
                    RunError(
                        f"{item.deaths} workers of the cluster died over {_said(item.value)} ({_line(error)}). "
                        "Finished parts are kept: run the command again."
                    )
                )
            except ray.exceptions.RayTaskError as error:
                raise _original(error) from error
            else:
                idle.append(worker)
            yield item.value, answer
    finally:
        with contextlib.suppress(Exception):
            ray.get([worker.close.remote() for worker in idle], timeout=10)
        for worker in [*idle, *(entry[1] for entry in busy.values())]:
            with contextlib.suppress(Exception):
                ray.kill(worker)


@dataclass
class _Item:
    """An item and how many workers died over it."""

    value: Any
    deaths: int = 0


def _next_item(coming: Iterator[Any]) -> _Item | None:
    for value in coming:
        return _Item(value)
    return None


def _said(value: Any) -> str:
    if isinstance(value, Span):
        return f"part {value.number} of the video"
    return f"'{value.source}'" if isinstance(value, PictureFile) else f"'{value}'"


def _or_raise(answers: Generator[tuple[Any, Any | _Lost], None, None]) -> Iterator[tuple[Any, Any]]:
    with contextlib.closing(answers):
        for item, answer in answers:
            if isinstance(answer, _Lost):
                raise answer.error
            yield item, answer


def _remote(worker: type) -> Any:
    """Make an actor class: one card each where the cluster has cards, else one to a machine."""
    ray = _ray()
    cards = ray.cluster_resources().get("GPU", 0)
    return ray.remote(num_cpus=1, num_gpus=1 if cards else 0, max_restarts=0, scheduling_strategy="SPREAD")(worker)


def _default_workers(ray: Any) -> int:
    cards = int(ray.cluster_resources().get("GPU", 0))
    machines = sum(1 for node in ray.nodes() if node["Alive"])
    return max(1, cards or machines)


def _original(error: Any) -> Exception:
    """Return what went wrong on the worker, as it would be raised here."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ApisrError):
        return cause
    return RunError(f"a worker of the cluster failed: {_line(cause or error)}")


def _line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:200]


def _ray() -> Any:
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra("cluster", "for --cluster") from error
    return cast(Any, ray)
