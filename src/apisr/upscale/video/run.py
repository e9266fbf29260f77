"""The work on one video, as one value for threads and for machines alike, and the events that come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from apisr.core.progress import Cancel
from apisr.image import ImageInt
from apisr.upscale.options import VideoOptions
from apisr.upscale.preprocess import Preprocess
from apisr.upscale.results import HoldStats, ReuseStats, StageSeconds
from apisr.upscale.video.cuts import Segment
from apisr.upscale.video.plan import VideoPlan
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.source import VideoSource


class FrameUpscaler(Protocol):
    """Enlarges frames; may keep state between them (reuse)."""

    @property
    def stats(self) -> ReuseStats:
        """How much was computed so far."""
        ...

    def process(self, rgb: ImageInt) -> ImageInt:
        """Map ``(H, W, 3)`` uint8 or uint16 to ``(s*H, s*W, 3)`` of the same dtype; the result is not changed later."""
        ...


@dataclass(frozen=True)
class Processing:
    """How one frame becomes a larger one.

    Attributes:
        make_upscaler: called once per worker.
        scale: of the network.
        identity: names everything about the upscaler that decides its results (hash of the model, its options).
        preprocess: what happens to the frames of a segment before the network.
    """

    make_upscaler: Callable[[], FrameUpscaler]
    scale: int
    identity: str = ""
    preprocess: Preprocess = field(default_factory=Preprocess)


@dataclass(frozen=True)
class VideoRun:
    """The work on one video; it can be pickled where its upscaler can.

    Attributes:
        source: the video.
        plan: what was decided.
        folder: where the segments go.
        missing: the segments that are still to be made.
        processing: how a frame becomes a larger one.
        options: of videos.
    """

    source: VideoSource
    plan: VideoPlan
    folder: WorkFolder
    missing: tuple[Segment, ...]
    processing: Processing
    options: VideoOptions


class SegmentEvents(Protocol):
    """What runners report; it may be called from any thread."""

    @property
    def cancel(self) -> Cancel:
        """Asks for a stop; checked at every frame."""
        ...

    def frames_done(self, count: int) -> None:
        """So many more frames are encoded."""
        ...

    def stage(self, seconds: StageSeconds) -> None:
        """So much time was spent in the stages."""
        ...

    def statistics(self, worker: str, reuse: ReuseStats, hold: HoldStats) -> None:
        """What a worker saved so far (`reuse`), and what was held in the segments just made (`hold`)."""
        ...


class SegmentRunner(Protocol):
    """Makes the missing segments of a run.

    Attributes:
        local: whether the upscaler runs in this process.
    """

    @property
    def local(self) -> bool: ...  # noqa: D102

    def run(self, run: VideoRun, events: SegmentEvents) -> None:
        """Make all missing segments and commit each to the work folder.

        Raises:
            ApisrError: a segment cannot be made; the others are kept.
        """
        ...
