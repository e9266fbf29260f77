"""From a chosen frame to the files of a dataset: upright, without bars, at production size, looked at once more."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from av.video.frame import VideoFrame

from apisr.core.files import sha256_file
from apisr.curate.duplicates import Fingerprint, fingerprint
from apisr.curate.frames import COMBED_SHARE, Crop, Flag, bars, combed_share, find_writing
from apisr.curate.manifest import Row
from apisr.curate.screen import Screen
from apisr.curate.settings import CurateSettings
from apisr.image import from_float, resize, to_float, write_picture
from apisr.image.types import ImageU8
from apisr.video.colour import describe
from apisr.video.native import NativeHeight
from apisr.video.rgb import ToRgb

#: Below this confidence the native height is not used.
NATIVE_CONFIDENCE = 0.5
#: Longest side of the pictures of the review page, in pixels.
THUMBNAIL_PX = 320


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is turned to be shown: quarter turns clockwise, then perhaps mirrored left to right."""

    quarter_turns: int = 0
    mirrored: bool = False

    @property
    def sideways(self) -> bool:
        """Whether width and height change places."""
        return self.quarter_turns % 2 == 1

    def upright(self, picture: ImageU8) -> ImageU8:
        """Return a picture ``(H, W, ...)`` as it is shown."""
        turned = np.rot90(picture, -self.quarter_turns)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)


@dataclass(frozen=True)
class Production:
    """How the pictures of one video are made.

    Attributes:
        folder: where they are written: ``images``, ``thumbs`` and, where asked, ``enhanced``.
        name: name of the video's folder in the dataset.
        settings: what to do.
        crop: picture area of the video's frames as they are stored, None where bars stay.
        size: width and height of those frames.
        codec: codec of the video.
        aspect: width of a stored pixel over its height.
        native_height: estimated native height of the video.
        screens: screening models by name.
        enhance: enhances the lines of a picture, None where that is not asked for.
    """

    folder: Path
    name: str
    settings: CurateSettings
    crop: Crop | None
    size: tuple[int, int]
    codec: str
    aspect: Fraction
    native_height: NativeHeight | None
    screens: dict[str, Screen] = field(default_factory=dict[str, Screen])
    enhance: Callable[[ImageU8], ImageU8] | None = None

    def write(self, frame: VideoFrame, row: Row) -> tuple[Row, Fingerprint]:
        """Write the files of one frame, and complete its row.

        Raises:
            RunError: the disk is full.
        """
        crop = self.crop if self.crop and (frame.width, frame.height) == self.size else None
        crop = crop or Crop(0, frame.height, 0, frame.width)
        orientation = orientation_of(frame)
        stored = crop.cut(rgb_of(frame, self.codec))
        picture = produce(
            orientation.upright(stored),
            frame.width if orientation.sideways else frame.height,
            native_height=self.native_height,
            aspect=1 / self.aspect if orientation.sideways else self.aspect,
            settings=self.settings,
        )
        row = replace(row, quarter_turns=orientation.quarter_turns, mirrored=orientation.mirrored)
        row = self._observed(row, picture, np.asarray(crop.cut(luma_of(frame)), np.uint8), frame.interlaced_frame)
        small = fingerprint(picture)
        row = replace(
            row,
            source_width=frame.width,
            source_height=frame.height,
            crop_top=crop.top,
            crop_bottom=crop.bottom,
            crop_left=crop.left,
            crop_right=crop.right,
            width=picture.shape[1],
            height=picture.shape[0],
            hash=f"{small.hash:016x}",
        )
        return self._written(row, picture), small

    def _observed(self, row: Row, picture: ImageU8, luma: ImageU8, interlaced: bool) -> Row:
        """Look at the picture (and at its luma before any scaling) for what a person should decide about."""
        settings = self.settings
        scores = {name: screen(picture) for name, screen in self.screens.items()}
        nudity, anime = scores.get("nudity"), scores.get("anime")
        writing = find_writing(picture)
        combed = combed_share(luma)
        flags: list[Flag] = list(writing.flags)
        if nudity is not None and nudity >= settings.nudity_threshold:
            flags.append("nudity")
        if anime is not None and anime < settings.anime_threshold:
            flags.append("live_action")
        if combed > COMBED_SHARE * (1 if interlaced else 4):
            flags.append("combed")
        if bars(luma).size != luma.shape[:2]:
            flags.append("bars")
        native_height = self.native_height
        return replace(
            row,
            nudity=nudity,
            anime=anime,
            combed_share=combed,
            text_lines=writing.lines,
            native_height=native_height.height if native_height else self.size[row.quarter_turns % 2 == 0],
            native_kernel=native_height.kernel if native_height else None,
            native_confidence=native_height.confidence if native_height else 0.0,
            flags=tuple(sorted(flags)),
        )

    def _written(self, row: Row, picture: ImageU8) -> Row:
        file = f"{row.id}.{self.settings.format}"
        target = self.folder / "images" / file
        write_picture(target, picture, overwrite=True, lossless=True)
        thumbnail = self.folder / "thumbs" / f"{row.id}.jpg"
        write_picture(thumbnail, _shrunk(picture, THUMBNAIL_PX), overwrite=True, quality=85)
        row = replace(row, file=f"images/{self.name}/{file}", file_sha256=sha256_file(target))
        if self.enhance is None:
            return row
        enhanced = self.folder / "enhanced" / file
        write_picture(enhanced, self.enhance(picture), overwrite=True, lossless=True)
        return replace(row, enhanced_file=f"enhanced/{self.name}/{file}", enhanced_sha256=sha256_file(enhanced))


def produce(
    picture: ImageU8,
    source_height: int,
    *,
    native_height: NativeHeight | None,
    aspect: Fraction = Fraction(1),
    settings: CurateSettings,
) -> ImageU8:
    """Shrink a picture to its production size (paper 3.1).

    Args:
        picture: RGB ``(H, W, 3)``, bars already cut.
        source_height: lines of the whole video frame; the scale is that of the frame, bars or not.
        native_height: estimate for the video.
        aspect: width of a pixel over its height; the result has square pixels.
        settings: ``height``, ``resample`` and ``multiple_of``.

    Returns:
        RGB uint8; never larger than the input, except in width where pixels were narrow.
    """
    if settings.height == "keep":
        target = source_height
    elif settings.height == "native":
        target = (
            native_height.height if native_height is not None and native_height.confidence >= NATIVE_CONFIDENCE else 720
        )
    else:
        target = settings.height
    scale = min(Fraction(target, source_height), Fraction(1))
    height = max(round(picture.shape[0] * scale), 1)
    width = max(round(picture.shape[1] * scale * aspect), 1)
    if (height, width) != picture.shape[:2]:
        picture = from_float(resize(to_float(picture), height, width, method=settings.resample), np.uint8)
    step = settings.multiple_of
    height, width = max(height // step * step, step), max(width // step * step, step)
    return np.ascontiguousarray(picture[:height, :width])


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return how a frame is turned to be shown: the nearest quarter turn of its display matrix."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None or len(bytes(data)) < 36:
        return Orientation()
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])  # shown x = a x + c y, shown y = b x + d y
    mirrored = a * d - b * c < 0
    if mirrored:  # undo the mirror, which is applied last, and look at the turn alone
        a, c = -a, -c
    if abs(a) >= abs(b):
        return Orientation(0 if a >= 0 else 2, mirrored)
    return Orientation(1 if b > 0 else 3, mirrored)


def luma_of(frame: VideoFrame) -> ImageU8:
    """Return the luma of a frame as it is stored, ``(H, W)``."""
    return np.asarray(frame.to_ndarray(format="gray"), np.uint8)


def rgb_of(frame: VideoFrame, codec: str) -> ImageU8:
    """Return a frame as it is stored, as RGB ``(H, W, 3)`` by its own matrix and range."""
    colour = describe(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        colour_range=int(frame.color_range),
        height=frame.height,
        pixel_format=frame.format.name,
        codec=codec,
    )
    return cast("ImageU8", ToRgb(colour, np.uint8)(frame))


def _shrunk(picture: ImageU8, side_px: int) -> ImageU8:
    scale = min(side_px / max(picture.shape[:2]), 1.0)
    size = max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
