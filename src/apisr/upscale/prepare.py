"""What happens to the frames of a video between reader and network: holding drawings, and their native size.

>>> from apisr.upscale.prepare import Preparation
>>> Preparation().wanted
False
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from apisr.image import Pixels, Resampling, from_float, resize, to_float
from apisr.upscale.hold import HoldFilter
from apisr.upscale.options import Hold, Native
from apisr.upscale.results import HoldStats
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
class Preparation:
    """A filter of frames, made anew for every segment of a video so that segments do not depend on each other.

    Attributes:
        hold: see :mod:`apisr.upscale.hold`.
        native: height to shrink to before the network, None to leave the size.
        kernel: filter to shrink by.
    """

    hold: Hold = "off"
    native: int | None = None
    kernel: Resampling = "bicubic"

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return self.hold != "off" or self.native is not None

    @property
    def identity(self) -> str:
        """Names what decides the result, for the manifest of a run."""
        return f"hold={self.hold} native={self.native} {self.kernel if self.native else ''}".strip()

    def __call__(self, frames: Iterator[Frame], statistics: HoldStats | None = None) -> Iterator[Frame]:
        """Filter the frames of one segment: same number, order and times.

        Args:
            frames: of the segment.
            statistics: what the hold filter does is counted here.
        """
        if self.hold != "off":
            frames = self._held(frames, statistics)
        for frame in frames:
            yield frame if self.native is None else replace(frame, rgb=self._shrunk(frame.rgb, self.native))

    def _held(self, frames: Iterator[Frame], statistics: HoldStats | None) -> Iterator[Frame]:
        hold = HoldFilter(self.hold)
        hold.stats = statistics or hold.stats
        waiting: deque[Frame] = deque()

        def pictures() -> Iterator[Pixels]:
            for frame in frames:
                waiting.append(frame)
                yield frame.rgb

        for rgb in hold.run(pictures()):
            yield replace(waiting.popleft(), rgb=rgb)

    def _shrunk(self, rgb: Pixels, height: int) -> Pixels:
        width = max(1, round(rgb.shape[1] * height / rgb.shape[0]))
        return from_float(resize(to_float(rgb), height, width, method=self.kernel), rgb.dtype)


def native_height_of(source: Path) -> NativeHeight:
    """Estimate at how many lines a video was drawn, from frames spread over it.

    Raises:
        InputError: the file cannot be read.
    """
    with VideoSource.open(source) as opened:
        frames = [np.asarray(frame.rgb, np.uint8) for frame in _samples(opened)]
    return estimate_native_height(frames)


def preparation_for(source: Path, *, hold: Hold, native: Native) -> tuple[Preparation, list[str]]:
    """Decide what to do to the frames of one video.

    Args:
        source: the video.
        hold: as asked for; ``auto`` is off for lossless codecs.
        native: ``off``, ``auto`` (estimated; left alone when unsure) or a height.

    Returns:
        The filter and what is worth saying.
    """
    if hold == "auto" and VideoSource.open(source).info.video.codec in LOSSLESS_CODECS:
        hold = "off"  # its held drawings are identical already
    if native == "off":
        return Preparation(hold), []
    if isinstance(native, int):
        return Preparation(hold, native), [f"frames are shrunk to {native} lines before the network."]
    found = native_height_of(source)
    if found.kernel is None or found.confidence < SURE_ENOUGH:
        return Preparation(hold), [
            f"native height: none found with certainty (confidence {found.confidence:.2f}); the size is left as it is."
        ]
    notice = (
        f"native height: {found.height} lines, enlarged by {found.kernel} (confidence {found.confidence:.2f}); "
        "frames are shrunk to that before the network."
    )
    return Preparation(hold, found.height, _SHRINKING[found.kernel]), [notice]


def _samples(source: VideoSource) -> Iterator[Frame]:
    """Give frames at even distances, each the first one from that time on."""
    index = source.index
    first, last = int(index.pts[0]), int(index.pts[-1])
    for number in range(SAMPLES):
        start = first + round(Fraction(2 * number + 1, 2 * SAMPLES) * (last - first))
        frames = source.frames(start=start)
        frame = next(frames, None)
        getattr(frames, "close", lambda: None)()
        if frame is not None:
            yield frame
