"""Segments of videos on a Ray cluster.

Each worker loads the network once and keeps it. It gets a span, reads the source (from the same path if the machine
sees it, else from a copy that is sent once), upscales and encodes it, and sends the encoded segment back; nothing but
the source and the segments travels. The segments are the same files that a local run makes, so everything else
(resuming, joining, checking) is the same, and so is the result.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apisr.core.cluster import ActorPool, connect, or_raise
from apisr.core.errors import InputError
from apisr.core.files import sha256_file
from apisr.upscale.options import VideoOptions
from apisr.upscale.prepare import Preparation
from apisr.upscale.results import HoldStats, ReuseStats, StageSeconds
from apisr.upscale.segments import Span, WorkFolder
from apisr.upscale.videos import FrameUpscaler, RunStatistics, VideoPlan, make_segments
from apisr.video.sequence import is_sequence
from apisr.video.writer import EncodedSegment

_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class MadeSegment:
    """What a worker sends back.

    Attributes:
        described: the segment's description.
        content: the encoded file.
        worker: name of the worker.
        seconds: busy times.
        reuse: of this worker so far.
        hold: of this segment.
    """

    described: str
    content: bytes
    worker: str
    seconds: StageSeconds
    reuse: ReuseStats
    hold: HoldStats


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
        tracker: Any,
        statistics: RunStatistics,
        prepare: Preparation | None,
        _: int,
    ) -> None:
        if is_sequence(plan.source.path):
            raise InputError("numbered pictures are not sent to a cluster. Leave --cluster out.", code="no-sequence")
        shipment = Shipment(plan.source.path)
        pool: ActorPool[Span, MadeSegment] = ActorPool(
            SegmentWorker,
            (plan, options, make_upscaler, prepare),
            address=address,
            workers=workers,
            on_start=shipment.deliver,
            label=lambda span: f"part {span.number} of the video",
        )
        for span, made in or_raise(pool.map_unordered(missing)):
            folder.partial_path(span.number).write_bytes(made.content)
            segment = EncodedSegment.from_json(made.described)
            folder.commit(span.number, segment)
            tracker.add(len(segment.pts))
            statistics.add(made.seconds, made.hold)
            statistics.reuse[made.worker] = made.reuse

    return run


class SegmentWorker:
    """Lives on a machine of the cluster; makes one span after the other."""

    def __init__(
        self,
        plan: VideoPlan,
        options: VideoOptions,
        make_upscaler: Callable[[], FrameUpscaler],
        prepare: Preparation | None,
    ) -> None:
        self._plan = plan
        self._options = options
        self._prepare = prepare
        self._make = make_upscaler
        self._upscaler: FrameUpscaler | None = None
        self._copy: Path | None = None
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
        self._copy = copy

    def work(self, span: Span) -> MadeSegment:
        """Make one span."""
        if self._copy is not None:
            self._plan = replace(self._plan, source=self._plan.source.moved_to(self._copy))
            self._copy = None
        upscaler = self._upscaler = self._upscaler or self._make()
        folder = WorkFolder(self._folder / "out.mkv")
        folder.path.mkdir(exist_ok=True)
        statistics = RunStatistics()
        make_segments(
            self._plan, folder, [span], upscaler, self._options, lambda _: None, statistics, prepare=self._prepare
        )
        segment = folder.segment(span.number)
        path = folder.video_path(span.number)
        content = path.read_bytes()
        path.unlink()
        worker = f"{platform.node()} {os.getpid()}"
        return MadeSegment(
            segment.to_json(), content, worker, statistics.seconds, replace(upscaler.stats), statistics.hold
        )

    def close(self) -> None:
        """Remove what is on this machine's disk."""
        shutil.rmtree(self._folder, ignore_errors=True)


class Shipment:
    """Brings the source to workers that do not see it; it is put into the cluster's memory at most once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = sha256_file(path)
        self._parts: list[Any] | None = None

    def deliver(self, worker: Any) -> None:
        """Give the source to a new worker if it does not see it."""
        import ray

        if ray.get(worker.sees.remote(self._path.stat().st_size, self._digest)):
            return
        if self._parts is None:
            with self._path.open("rb") as file:
                self._parts = [ray.put(chunk) for chunk in iter(lambda: file.read(_CHUNK_BYTES), b"")]
        for part in self._parts:
            ray.get(worker.receive.remote(part))
