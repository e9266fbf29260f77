"""Segments of videos on a Ray cluster.

Each worker loads the network once and keeps it. It gets a segment, reads the source (from the same path if the machine
sees it, else from a copy that is sent once), upscales and encodes it, and sends the encoded file back; nothing but the
source and the segments travels. The segments are the same files that a local run makes, so everything else (resuming,
joining, checking) is the same, and so is the result.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from typing import Any

from apisr.core.cluster import ActorPool, connect, or_raise
from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.progress import Cancel
from apisr.core.worker_folder import WorkerFolder
from apisr.upscale.results import HoldStats, ReuseStats, StageSeconds
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.video.cuts import Segment
from apisr.upscale.video.run import FrameUpscaler, SegmentEvents, VideoRun
from apisr.upscale.video.segments import make_segments
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.sequence import is_sequence
from apisr.video.source import VideoSource
from apisr.video.writer import EncodedSegment

_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class MadeSegment:
    """What a worker sends back.

    Attributes:
        segment: description of the encoded file.
        content: the encoded file.
        worker: name of the worker.
        engine: name of what ran the network; empty where nobody knows.
        seconds: busy times.
        reuse: of this worker so far.
        hold: of this segment.
    """

    segment: EncodedSegment
    content: bytes
    worker: str
    engine: str
    seconds: StageSeconds
    reuse: ReuseStats
    hold: HoldStats


class ClusterRunner:
    """Makes segments on the machines of a cluster.

    Args:
        address: of the Ray cluster (``"host:6379"``, ``"auto"``), or ``"local"`` to start one on this machine.
        workers: how many; by default one per graphics card, or one per machine where there is none.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: no cluster answers at that address.
    """

    local = False

    def __init__(self, address: str, *, workers: int | None = None) -> None:
        connect(address)
        self._address = address
        self._workers = workers

    def run(self, run: VideoRun, events: SegmentEvents) -> None:
        """See :meth:`apisr.upscale.video.run.SegmentRunner.run`."""
        if is_sequence(run.source.path):
            raise InputError("numbered pictures are not sent to a cluster. Leave --cluster out.", code="no-sequence")
        if run.source.stand_in is not None:
            raise InputError("an animated WebP is not sent to a cluster. Leave --cluster out.", code="no-sequence")
        shipment = Shipment(run.source)
        pool: ActorPool[Segment, MadeSegment] = ActorPool(
            SegmentWorker,
            (run,),
            address=self._address,
            workers=self._workers,
            on_start=shipment.deliver,
            label=lambda segment: f"part {segment.number} of the video",
            cancel=events.cancel,
        )
        first: MadeSegment | None = None
        for segment, made in or_raise(pool.map_unordered(run.missing)):
            first = first or made
            check_same_engine(first, made)
            run.folder.partial_path(segment.number).write_bytes(made.content)
            run.folder.commit(segment.number, made.segment)
            events.frames_done(len(made.segment.pts))
            events.stage(made.seconds)
            events.statistics(made.worker, made.reuse, made.hold)
            events.cancel.check()


def check_same_engine(first: MadeSegment, made: MadeSegment) -> None:
    """Refuse the segments of workers that run the network in different ways: they would differ within one video.

    Raises:
        RunError: they do.
    """
    if made.engine != first.engine:
        raise RunError(
            f"the workers of the cluster run the model in different ways ('{first.worker}': {first.engine}; "
            f"'{made.worker}': {made.engine}). Give --engine, --device and --precision that all of them have.",
            code="workers-differ",
        )


class WorkerEvents:
    """Collects on a worker what is sent back with a segment."""

    def __init__(self) -> None:
        self.cancel = Cancel()
        self.seconds = StageSeconds()

    def frames_done(self, count: int) -> None:
        """Frames are counted where the segments arrive."""

    def stage(self, seconds: StageSeconds) -> None:
        """So much time was spent in the stages."""
        self.seconds.add(seconds)

    def statistics(self, worker: str, reuse: ReuseStats, hold: HoldStats) -> None:
        """Statistics travel with the segment."""


class SegmentWorker:
    """Lives on a machine of the cluster; makes one segment after the other."""

    def __init__(self, run: VideoRun) -> None:
        self._here = WorkerFolder("apisr-segments-")
        self._run = replace(run, folder=WorkFolder(self._here.path / "segments"))
        self._run.folder.path.mkdir()
        self._upscaler: FrameUpscaler | None = None

    def sees_source(self) -> bool:
        """Return whether the source is at its path here, with the right content."""
        try:
            self._run.source.check_unchanged()
        except ApisrError:
            return False
        return True

    def receive(self, chunk: bytes, *, last: bool) -> None:
        """Append a part of the source to the copy on this machine."""
        source = self._run.source
        copy = self._here.path / f"source{source.path.suffix}"
        with copy.open("ab") as file:
            file.write(chunk)
        if last:
            self._run = replace(self._run, source=source.moved_to(copy))

    def work(self, segment: Segment) -> MadeSegment:
        """Make one segment."""
        upscaler = self._upscaler = self._upscaler or self._run.processing.make_upscaler()
        events = WorkerEvents()
        hold = make_segments(self._run, [segment], upscaler, events, stop=Cancel())
        path = self._run.folder.video_path(segment.number)
        made = MadeSegment(
            segment=self._run.folder.segment(segment.number),
            content=path.read_bytes(),
            worker=f"{platform.node()} {os.getpid()}",
            engine=upscaler.engine.name if isinstance(upscaler, CanvasUpscaler) else "",
            seconds=events.seconds,
            reuse=replace(upscaler.stats),
            hold=hold,
        )
        path.unlink()
        return made

    def close(self) -> None:
        """Remove what is on this machine's disk."""
        self._here.remove()


class Shipment:
    """Brings the source to workers that do not see it; it is put into the cluster's memory at most once."""

    def __init__(self, source: VideoSource) -> None:
        self._path = source.path
        self._parts: list[Any] | None = None

    def deliver(self, worker: Any) -> None:
        """Give the source to a new worker if it does not see it."""
        import ray  # pyright: ignore

        if ray.get(worker.sees_source.remote()):
            return
        if self._parts is None:
            with self._path.open("rb") as file:
                self._parts = [ray.put(chunk) for chunk in iter(lambda: file.read(_CHUNK_BYTES), b"")]
        for number, part in enumerate(self._parts, start=1):
            ray.get(worker.receive.remote(part, last=number == len(self._parts)))
