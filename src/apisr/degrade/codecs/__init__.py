"""Compression in memory: picture codecs through Pillow and OpenCV, video codecs through PyAV (paper 3.2).

A video codec given a single frame can only predict inside the picture: "prediction-oriented compression". Encoder and
decoder pass packets to each other directly, without a process, a container or a file; every call has its own
contexts, so that calls may run in parallel threads. All codecs code 4:2:0; odd sizes are padded by repeating the last
row and column and cut back afterwards. Video codecs convert RGB to limited-range YCbCr with the matrix asked for
(BT.601 as the ``ffmpeg`` program does by default, or BT.709), and back with the same one.

One file a codec family, each with its entries; a new codec is one entry there and nothing else.

    >>> import numpy as np
    >>> ramp = np.arange(64, dtype=np.uint8)[None, :, None].repeat(48, 0).repeat(3, 2) * 3
    >>> result = round_trip(ramp, "h264", crf=28, preset="medium")
    >>> result.picture.shape, result.size_bytes > 0
    ((48, 64, 3), True)
"""

from __future__ import annotations

import numpy as np

from apisr.core.discovery import modules_with
from apisr.core.errors import InputError
from apisr.degrade.codecs import pictures
from apisr.degrade.codecs.base import Matrix, PictureCodec, RoundTrip, VideoCodec, taken
from apisr.degrade.codecs.pan import grained, pan
from apisr.degrade.codecs.video import code_sequence
from apisr.image import ImageU8

__all__ = ["CODECS", "PICTURE_CODECS", "VIDEO_CODECS", "Matrix", "RoundTrip", "round_trip"]

PICTURE_CODECS: dict[str, PictureCodec] = pictures.CODECS
VIDEO_CODECS: dict[str, VideoCodec] = {
    name: codec
    for family in modules_with("apisr.degrade.codecs", "CODECS")
    if family is not pictures
    for name, codec in family.CODECS.items()
}
CODECS: tuple[str, ...] = (*PICTURE_CODECS, *VIDEO_CODECS)

_MAX_FRAMES = 64
_MAX_GRAIN = 50.0


def round_trip(picture: ImageU8, codec: str, **settings: object) -> RoundTrip:
    """Code and decode a picture.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
        codec: one of :data:`CODECS`.
        **settings: what the codec takes (see its family's file). All video codecs: `matrix` ("bt601", "bt709"),
            `frames` (default 1) with `motion` (pixels right and down from frame to frame): the picture is the last
            frame of a short pan, so that it is predicted from other frames as well; `grain` (standard deviation in
            8-bit levels) with `grain_seed`: noise that differs from frame to frame.

    Raises:
        InputError: unknown codec or setting, or a value out of range.
        RunError: the encoder or decoder failed.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(
            f"expected an RGB picture (H, W, 3) uint8, got {picture.shape} {picture.dtype}.", code="bad-picture"
        )
    if codec in PICTURE_CODECS:
        return PICTURE_CODECS[codec](picture, settings)
    if codec not in VIDEO_CODECS:
        raise InputError(f"unknown codec '{codec}'. Use one of {', '.join(CODECS)}.", code="unknown-codec")
    frames = int(taken(settings, "frames", 1, 1, _MAX_FRAMES))
    motion = settings.pop("motion", (0, 0))
    sigma, seed = taken(settings, "grain", 0, 0, _MAX_GRAIN), int(taken(settings, "grain_seed", 0, 0, 1 << 53))
    if not isinstance(motion, list | tuple) or len(motion) != 2:
        raise InputError(
            f"motion {motion!r} is not two numbers of pixels. Give as many down and across, like [2, -3].",
            code="codec-setting-range",
        )
    sequence = [picture] if frames == 1 else pan(picture, frames, int(motion[0]), int(motion[1]))
    if sigma:
        sequence = grained(sequence, sigma=sigma, seed=seed)
    decoded, sizes = code_sequence(sequence, codec, VIDEO_CODECS[codec], settings)
    return RoundTrip(decoded[-1], sum(sizes))
