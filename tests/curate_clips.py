"""Small videos for the tests and benchmarks of curation, drawn and encoded on the spot."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]


def scene(seed: int, *, width: int = 320, height: int = 180, shapes: int = 24) -> Rgb:
    """A drawing of flat shapes with dark outlines; more shapes, more complexity."""
    rng = np.random.default_rng(seed)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = rng.integers(40, 256, 3)
    for _ in range(shapes):
        centre = rng.integers(0, (width, height))
        radius = rng.integers(height // 16, height // 3)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        points = (centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.int32)
        cv2.fillPoly(picture, [points], tuple(int(value) for value in rng.integers(0, 256, 3)), cv2.LINE_AA)
        cv2.polylines(picture, [points], True, (20, 16, 24), max(height // 180, 1), cv2.LINE_AA)
    return picture


def encode(
    path: Path,
    pictures: Iterable[Rgb],
    *,
    codec: str = "libx264",
    rate: int = 24,
    pixel_format: str = "yuv420p",
    keyframes: frozenset[int] | set[int] | None = None,
    **options: str,
) -> Path:
    """Encode pictures; `keyframes` are the numbers of the frames that are asked to be intra frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(rate), options=options)
                stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], pixel_format
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            frame.time_base = Fraction(1, rate)
            if keyframes is not None and number in keyframes:
                frame.pict_type = 1
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def short_film(
    path: Path, seed: int, *, scenes: int = 3, frames: int = 16, width: int = 320, height: int = 180
) -> Path:
    """A few scenes of `frames` frames each, every scene starting with an intra frame, its drawing known by its seed."""
    pictures = (
        np.roll(scene(1000 * seed + number, width=width, height=height), step // 4, axis=1)
        for number in range(scenes)
        for step in range(frames)
    )
    starts = {number * frames for number in range(scenes)}
    return encode(path, pictures, keyframes=starts, preset="ultrafast", crf="20", g="250")
