"""The words of the room: arrays, pictures, their frames and their metadata.

Arrays are ``(height, width, channel)`` in RGB order. Integer pictures are uint8 or uint16, float pictures are float32
in [0, 1]. One channel is gray, two are gray and alpha, three are RGB, four are RGB and alpha; alpha is straight.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ImageU8 = NDArray[np.uint8]
ImageU16 = NDArray[np.uint16]
#: An integer picture of either depth.
ImageInt = NDArray[np.uint8 | np.uint16]
ImageF32 = NDArray[np.float32]
#: uint8 or uint16.
IntegerType = np.dtype[np.uint8 | np.uint16]

#: What the frames of a file are: one picture, an animation, or the pages of a document.
FrameKind = Literal["still", "animation", "pages"]


@dataclass(frozen=True)
class TextEntry:
    """One text of a picture file: a prompt, a title, a comment.

    Attributes:
        keyword: its name, as PNG has them: ``"parameters"``, ``"Title"``, ``"Comment"``, ...
        text: its content.
        language: RFC 3066 tag, empty where it is not stated.
        translated: the keyword in that language, empty where it is not stated.
    """

    keyword: str
    text: str
    language: str = ""
    translated: str = ""


@dataclass(frozen=True)
class Metadata:
    """What a picture file carries besides pixels.

    Attributes:
        icc_profile: colour profile, as stored.
        exif: EXIF block without the orientation tag (pixels are already turned upright).
        xmp: XMP packet, its orientation taken out if the pixels were turned.
        dpi: dots per inch (horizontal, vertical).
        text: texts and comments.
        gamma: exponent with which light was encoded (PNG's gAMA), None where the file says nothing or sRGB.
        chromaticities: x and y of white, red, green and blue (PNG's cHRM).
        cicp: the four bytes of PNG's cICP: primaries, transfer, matrix, full range.
        iptc: the record of captions and keywords (IPTC-IIM), as stored.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: tuple[TextEntry, ...] = ()
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    cicp: bytes | None = None
    iptc: bytes | None = None


@dataclass(frozen=True)
class Frame:
    """One decoded frame of an animation, page of a document, or the whole of a still.

    Attributes:
        pixels: ``(H, W, C)`` uint8 or uint16, upright.
        duration_ms: how long an animation shows it, 0 otherwise.
    """

    pixels: ImageInt
    duration_ms: float = 0.0


@dataclass(frozen=True)
class PictureInfo:
    """What is known of a picture file before its frames are taken.

    Attributes:
        width: in pixels, upright; of the first page where pages differ.
        height: likewise.
        channels: 1 to 4.
        dtype: uint8 or uint16.
        frame_count: 1 for a still.
        kind: what the frames are.
        loop: how often an animation is played (0 is forever, None is not stated).
        format: ``"PNG"``, ``"JPEG"``, ...
        lossless: whether the file's coding was lossless.
        metadata: profile, EXIF, texts and so on.
        notices: what of the file is not kept by reading it, one sentence each.
    """

    width: int
    height: int
    channels: int
    dtype: IntegerType
    frame_count: int = 1
    kind: FrameKind = "still"
    loop: int | None = None
    format: str = "PNG"
    lossless: bool = True
    metadata: Metadata = field(default_factory=Metadata)
    notices: tuple[str, ...] = ()

    @property
    def plays(self) -> int:
        """How often viewers play an animation, 0 is for ever: where GIF says nothing, they play it once."""
        return (1 if self.format == "GIF" else 0) if self.loop is None else self.loop


@dataclass(frozen=True)
class Picture:
    """A decoded picture, animation or document, whole in memory.

    Attributes:
        frames: arrays ``(H, W, C)``, uint8 or uint16. The frames of an animation have one shape and dtype, the pages
            of a document may differ.
        durations_ms: one per frame for an animation, empty otherwise.
        loop: how often an animation is played (0 is forever, None is not stated).
        format: ``"PNG"``, ``"JPEG"``, ...
        lossless: whether the file's coding was lossless.
        metadata: profile, EXIF, texts and so on.
        notices: what of the file was not kept by reading it.
    """

    frames: tuple[ImageInt, ...]
    durations_ms: tuple[float, ...] = ()
    loop: int | None = None
    format: str = "PNG"
    lossless: bool = True
    metadata: Metadata = field(default_factory=Metadata)
    notices: tuple[str, ...] = ()

    @property
    def pixels(self) -> ImageInt:
        """The first (for a still: the only) frame."""
        return self.frames[0]

    @property
    def kind(self) -> FrameKind:
        """What the frames are."""
        if len(self.frames) == 1:
            return "still"
        return "animation" if self.durations_ms else "pages"

    @property
    def info(self) -> PictureInfo:
        """What is known without looking at the pixels."""
        height, width, channels = self.pixels.shape
        return PictureInfo(
            width,
            height,
            channels,
            self.pixels.dtype,
            len(self.frames),
            self.kind,
            self.loop,
            self.format,
            self.lossless,
            self.metadata,
            self.notices,
        )
