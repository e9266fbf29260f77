"""What happens to the frames of a video between reader and network: holding drawings, and their native size.

>>> Preprocess("auto", native_height=720).identity
'hold=auto native=720 bicubic'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from apisr.image import ImageInt, Resampling, from_float, resize, to_float
from apisr.upscale.hold import HoldFilter
from apisr.upscale.options import Hold, VideoOptions
from apisr.upscale.results import HoldStats
from apisr.upscale.softness import median_width
from apisr.video.native import NativeHeight, estimate_native_height
from apisr.video.reader import Frame
from apisr.video.source import VideoSource

#: Pictures of a video that are looked at for its native height, and the confidence from which it is believed.
SAMPLES = 5
SURE_ENOUGH = 0.5

#: Codecs whose held drawings are bit-identical, so that there is nothing to hold.
LOSSLESS_CODECS = frozenset(
    {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "apng", "qtrle", "magicyuv", "v210", "zlib", "cllc"}
)

_SHRINKING: dict[str, Resampling] = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos"}


@dataclass(frozen=True)
class Preprocess:
    """A filter of frames, made anew for every segment of a video so that segments do not depend on each other.

    Attributes:
        hold: see :mod:`apisr.upscale.hold`.
        native_height: height to shrink to before the network, None to leave the size.
        kernel: filter to shrink by.
    """

    hold: Hold = "off"
    native_height: int | None = None
    kernel: Resampling = "bicubic"

    @property
    def identity(self) -> str:
        """Names what decides the result, for the manifest of a run."""
        return f"hold={self.hold} native={self.native_height} {self.kernel if self.native_height else ''}".strip()

    def __call__(self, frames: Iterator[Frame], statistics: HoldStats | None = None) -> Iterator[Frame]:
        """Filter the frames of one segment: same number, order and times.

        Args:
            frames: of the segment.
            statistics: what the hold filter does is counted here.
        """
        if self.hold != "off":
            frames = self._held(frames, statistics)
        for frame in frames:
            yield (
                frame if self.native_height is None else replace(frame, rgb=self._shrunk(frame.rgb, self.native_height))
            )

    def _held(self, frames: Iterator[Frame], statistics: HoldStats | None) -> Iterator[Frame]:
        hold = HoldFilter(self.hold)
        hold.stats = statistics or hold.stats
        waiting: deque[Frame] = deque()

        def pictures() -> Iterator[ImageInt]:
            for frame in frames:
                waiting.append(frame)
                yield frame.rgb

        for rgb in hold.run(pictures()):
            yield replace(waiting.popleft(), rgb=rgb)

    def _shrunk(self, rgb: ImageInt, height: int) -> ImageInt:
        width = max(1, round(rgb.shape[1] * height / rgb.shape[0]))
        return from_float(resize(to_float(rgb), height, width, method=self.kernel), rgb.dtype)


def plan_preprocess(source: VideoSource, options: VideoOptions) -> tuple[Preprocess, list[str]]:
    """Decide what to do to the frames of one video.

    Args:
        source: the video.
        options: with `hold` (``auto`` is off for lossless codecs) and `native_resolution` (``off``, ``auto``, which is
            left alone when unsure, or a height).

    Returns:
        The filter and what is worth saying.
    """
    hold = options.hold
    if hold == "auto" and source.info.video.codec in LOSSLESS_CODECS:
        hold = "off"  # its held drawings are identical already
    native_height = options.native_resolution
    if native_height == "off":
        return Preprocess(hold), []
    if isinstance(native_height, int):
        return Preprocess(hold, native_height), [f"frames are shrunk to {native_height} lines before the network."]
    estimate = native_height_of(source)
    if estimate.kernel is None or estimate.confidence < SURE_ENOUGH:
        return Preprocess(hold), [
            f"native height: none is certain (confidence {estimate.confidence:.2f}); the size is left as it is."
        ]
    notice = (
        f"native height: {estimate.height} lines, enlarged by {estimate.kernel} "
        f"(confidence {estimate.confidence:.2f}); frames are shrunk to that before the network."
    )
    return Preprocess(hold, estimate.height, _SHRINKING[estimate.kernel]), [notice]


def native_height_of(source: VideoSource) -> NativeHeight:
    """Estimate at how many lines a video was drawn, from frames spread over it."""
    return estimate_native_height([np.asarray(frame.rgb, np.uint8) for frame in _samples(source)])


def edge_width_of(source: VideoSource) -> float | None:
    """Measure how soft a video is at its own size, from frames spread over it; None where they have no edges."""
    return median_width(np.asarray(frame.rgb, np.uint8) for frame in _samples(source))


def _samples(source: VideoSource) -> Iterator[Frame]:
    """Give frames at even distances, each the first one from that time on."""
    first, last = int(source.index.pts[0]), int(source.index.pts[-1])
    for number in range(SAMPLES):
        start = first + round(Fraction(2 * number + 1, 2 * SAMPLES) * (last - first))
        frames = source.frames(start=start)
        frame = next(frames, None)
        getattr(frames, "close", lambda: None)()
        if frame is not None:
            yield frame
