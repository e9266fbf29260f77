"""Colour of video: what the numbers in a frame mean.

A video frame stores luma and colour differences; how they relate to red, green and blue is stated by four tags (matrix,
primaries, transfer, range) and by where the colour samples sit between the luma samples. Upscaling must read them,
use them, and write them again: a clip of standard definition that is enlarged untagged is shown with the matrix of high
definition, which shifts every colour. Untagged sources are guessed by the usual rules, and the guess is written.

The way to RGB and back is :mod:`apisr.video.rgb`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from av.video.format import VideoFormat

from apisr.core.errors import InputError

ChromaPosition = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]

#: ITU-T H.273 code points (the numbers that libav and the bitstreams use) and their usual names.
MATRICES = {
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
}
PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
#: Kr and Kb of each matrix (ITU-T H.273, table 4).
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
UNSPECIFIED = 2


@dataclass(frozen=True)
class Colour:
    """What the numbers of a frame mean.

    Attributes:
        matrix: matrix coefficients, code point of H.273 (0 is RGB).
        primaries: colour primaries, code point (2 is unspecified).
        transfer: transfer characteristics, code point (2 is unspecified).
        full_range: whether black is 0 (else 16 of 255).
        chroma: where a colour sample sits among its four luma samples (4:2:0) or two (4:2:2).
        guessed: names of what the source did not say.
    """

    matrix: int
    primaries: int
    transfer: int
    full_range: bool
    chroma: ChromaPosition = "left"
    guessed: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            MATRICES.get(self.matrix, f"matrix {self.matrix}"),
            f"primaries {PRIMARIES.get(self.primaries, 'unspecified')}",
            f"transfer {TRANSFERS.get(self.transfer, 'unspecified')}",
            "full range" if self.full_range else "limited range",
            f"chroma {self.chroma}",
        ]
        if self.guessed:
            parts.append(f"guessed: {', '.join(self.guessed)}")
        return ", ".join(parts)


_CHROMA_OF_CODECS: dict[str, ChromaPosition] = {
    **dict.fromkeys(("mpeg1video", "mjpeg", "vp8", "theora", "h263", "h263p"), "center"),
    "dvvideo": "topleft",
}


def describe(
    *,
    matrix: int,
    primaries: int,
    transfer: int,
    colour_range: int,
    height: int,
    pixel_format: str,
    codec: str = "",
    chroma: ChromaPosition | None = None,
) -> Colour:
    """Complete the colour tags of a source by the usual rules.

    Untagged pictures of at most 576 lines are BT.601 (525 lines up to 480, else 625), larger ones BT.709; an untagged
    range is limited except for RGB and the ``yuvj`` formats; chroma is centred in MPEG-1, H.263 and JPEG, top left in
    DV and high dynamic range, else left.

    Args:
        matrix: code point as stored (2 or 3 when untagged); so for `primaries` and `transfer`.
        primaries: see `matrix`.
        transfer: see `matrix`.
        colour_range: 0 untagged, 1 limited, 2 full.
        height: lines of the picture.
        pixel_format: name of the pixel format.
        codec: name of the codec (decides the chroma position).
        chroma: the chroma position if it is known.

    Raises:
        InputError: the matrix is one that cannot be undone here (constant luminance, ICtCp).
    """
    guessed: list[str] = []
    layout = VideoFormat(pixel_format)
    if layout.is_rgb or layout.has_palette:
        return Colour(0, _or(primaries, 1), _or(transfer, 13), full_range=True, chroma="center", guessed=())
    standard = (6 if height <= 480 else 5) if height <= 576 else 1
    if matrix in (UNSPECIFIED, 3, 0):
        matrix = 9 if primaries == 9 else standard
        guessed.append("matrix")
    if matrix not in MATRICES:
        known = ", ".join(MATRICES.values())
        raise InputError(
            f"cannot convert colour matrix {matrix} (known: {known}). Convert the video to one of these first.",
            code="unknown-colour-matrix",
        )
    if primaries in (UNSPECIFIED, 0, 3):
        primaries = {6: 6, 5: 5, 9: 9, 7: 7}.get(matrix, 1)
        guessed.append("primaries")
    if transfer in (UNSPECIFIED, 0, 3):
        transfer = {6: 6, 5: 6, 9: 14, 7: 7}.get(matrix, 1)
        guessed.append("transfer")
    if colour_range not in (1, 2):
        if not pixel_format.startswith("yuvj"):
            guessed.append("range")
        colour_range = 2 if pixel_format.startswith("yuvj") else 1
    if chroma is None:
        usual: ChromaPosition = "topleft" if matrix == 9 and transfer in (16, 18) else "left"
        chroma = _CHROMA_OF_CODECS.get(codec, usual)
    return Colour(matrix, primaries, transfer, colour_range == 2, chroma, tuple(guessed))


def bit_depth(pixel_format: str) -> int:
    """Return the bits per sample of a pixel format (``"yuv420p10le"`` gives 10)."""
    layout = VideoFormat(pixel_format)
    if layout.has_palette:
        return 8
    return max(component.bits for component in layout.components)


def has_alpha(pixel_format: str) -> bool:
    """Return whether a pixel format carries transparency."""
    layout = VideoFormat(pixel_format)
    return layout.has_palette is False and any(component.is_alpha for component in layout.components)


def chroma_shift(pixel_format: str) -> tuple[int, int]:
    """Return (horizontal, vertical) powers of two by which colour is stored smaller than luma."""
    layout = VideoFormat(pixel_format, 64, 64)
    if layout.is_rgb or layout.has_palette or len(layout.components) < 3:
        return 0, 0
    return (64 // layout.chroma_width()).bit_length() - 1, (64 // layout.chroma_height()).bit_length() - 1


def _or(code: int, default: int) -> int:
    return default if code in (UNSPECIFIED, 0, 3) else code


def aspect_after(sar: Fraction | None, before: tuple[int, int], after: tuple[int, int]) -> Fraction | None:
    """Return the pixel aspect ratio that keeps the display shape when (width, height) goes from `before` to `after`.

    >>> aspect_after(Fraction(32, 27), (720, 480), (1440, 960))
    Fraction(32, 27)
    """
    if sar is None or sar <= 0:
        return None
    result = sar * Fraction(before[0], before[1]) / Fraction(after[0], after[1])
    return result.limit_denominator(65535)
