"""GIF files, frame by frame.

Blocks and disposal are done here, as browsers do them: what is disposed of to the background becomes transparent, what
reaches beyond the canvas is cut off. Pillow unpacks the codes of single frames and packs them.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from apisr.image.decoding import Budget
from apisr.image.endings import ends_early
from apisr.image.types import Frame, ImageU8, Metadata, PictureInfo, TextEntry

_TO_BACKGROUND = 2
_TO_PREVIOUS = 3


@dataclass(frozen=True)
class GifFrame:
    """One image block with what its control block says; the codes are those of the file.

    Attributes:
        left: of the canvas, in pixels; likewise top.
        top: of the canvas.
        width: of the block; likewise height.
        height: of the block.
        interlaced: whether its rows are interlaced.
        palette: 3 bytes per colour.
        codes: minimum code size and sub-blocks.
        delay_ms: how long it is shown.
        transparent: index of the transparent colour, None without one.
        disposal: what becomes of it before the next frame.
    """

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    codes: bytes
    delay_ms: float
    transparent: int | None
    disposal: int


@dataclass(frozen=True)
class GifFile:
    """The blocks of a GIF file.

    Attributes:
        width: of the canvas; likewise height.
        height: of the canvas.
        frames: its image blocks.
        loop: times that an animation is played (0 is forever), None if it is not stated.
        comments: texts of its comment blocks.
        complete: whether its end is marked.
        behind: bytes that follow its end, without those that are zero.
    """

    width: int
    height: int
    frames: tuple[GifFrame, ...]
    loop: int | None
    comments: tuple[str, ...]
    complete: bool = True
    behind: int = 0


class GifDecoder:
    """An open GIF file; see :class:`apisr.image.decoding.Decoder`."""

    def __init__(self, path: Path, file: BinaryIO, budget: Budget) -> None:
        head = file.read(13)
        if len(head) < 13:
            raise ValueError("it ends in its header")
        budget.check(*struct.unpack("<HH", head[6:10]), bytes_per_pixel=16)
        self._file = parse_gif(head + file.read())
        largest = max(self._file.frames, key=lambda frame: frame.width * frame.height)
        budget.check(largest.width, largest.height, bytes_per_pixel=16)
        opaque = self._is_opaque()
        count = len(self._file.frames)
        self.info = PictureInfo(
            self._file.width,
            self._file.height,
            3 if opaque else 4,
            np.dtype(np.uint8),
            count,
            "animation" if count > 1 else "still",
            self._file.loop if count > 1 else None,
            "GIF",
            metadata=Metadata(text=tuple(TextEntry("Comment", text) for text in self._file.comments)),
            notices=self._notices(),
        )

    def frames(self) -> Generator[Frame]:
        """Decode the frames from the first on."""
        for frame in self._composed():
            pixels = frame.pixels[..., : self.info.channels]
            yield Frame(np.ascontiguousarray(pixels), frame.duration_ms if self.info.kind == "animation" else 0.0)

    def _notices(self) -> tuple[str, ...]:
        if not self._file.complete:
            return (ends_early("its end mark is missing"),)
        behind = self._file.behind
        return (f"{behind} bytes behind the end of the picture are not read",) if behind else ()

    def _is_opaque(self) -> bool:
        """Return whether no pixel is ever transparent; frames are decoded only where the blocks do not say."""
        frames = self._file.frames
        cleared = any(frame.disposal == _TO_BACKGROUND for frame in frames[:-1]) or frames[0].disposal == _TO_PREVIOUS
        shown = self._composed()
        if not cleared:  # what is drawn once stays: the first frame decides
            shown = itertools.islice(shown, 1)
        return all((frame.pixels[..., 3] == 255).all() for frame in shown)

    def _composed(self) -> Generator[Frame]:
        canvas = np.zeros((self._file.height, self._file.width, 4), np.uint8)
        for frame in self._file.frames:
            before = canvas.copy() if frame.disposal == _TO_PREVIOUS else None
            rows = slice(frame.top, min(frame.top + frame.height, self._file.height))
            columns = slice(frame.left, min(frame.left + frame.width, self._file.width))
            indices = _unpacked(frame)[: max(0, rows.stop - rows.start), : max(0, columns.stop - columns.start)]
            region = canvas[rows, columns]
            if region.size:
                colours = _colours(frame.palette)[indices]
                drawn = indices != frame.transparent if frame.transparent is not None else np.ones_like(indices, bool)
                region[drawn] = colours[drawn]
            yield Frame(canvas.copy(), frame.delay_ms)
            if frame.disposal == _TO_BACKGROUND:
                region[...] = 0
            elif before is not None:
                canvas = before


def parse_gif(data: bytes) -> GifFile:
    """Take a GIF file apart.

    Raises:
        ValueError: it has no frame, or ends inside one.
    """
    width, height, flags = struct.unpack("<HHB", data[6:11])
    position = 13
    palette = b""
    if flags & 0x80:
        palette = data[position : position + 3 * (2 << (flags & 7))]
        position += 3 * (2 << (flags & 7))
    frames: list[GifFrame] = []
    comments: list[str] = []
    loop: int | None = None
    delay_ms, transparent, disposal = 0.0, None, 0
    while position < len(data) and data[position] != 0x3B:
        if data[position] == 0x21 and position + 2 < len(data):
            label, end = data[position + 1], _end_of_blocks(data, position + 2)
            body = data[position + 2 : end]
            if label == 0xF9 and len(body) >= 5:
                transparent = body[4] if body[1] & 1 else None
                disposal, delay_ms = (body[1] >> 2) & 7, 10.0 * int.from_bytes(body[2:4], "little")
            elif label == 0xFE:
                comments.append(b"".join(_blocks(body)).decode(errors="replace"))
            elif label == 0xFF and body[1:12] in (b"NETSCAPE2.0", b"ANIMEXTS1.0") and body[12:14] == b"\x03\x01":
                loop = int.from_bytes(body[14:16], "little")
            position = end
        elif data[position] == 0x2C:
            frame, position = _image_block(data, position, palette, delay_ms, transparent, disposal)
            frames.append(frame)
            delay_ms, transparent, disposal = 0.0, None, 0
        elif frames:
            break  # what follows the last frame is no block: ignored, as everywhere
        else:
            raise ValueError(f"unknown block {data[position]:#04x}")
    if not frames:
        raise ValueError("no frame")
    complete = data[position : position + 1] == b";"
    return GifFile(
        width, height, tuple(frames), loop, tuple(comments), complete, len(data[position + 1 :].strip(b"\0"))
    )


def packed_frame(pixels: ImageU8, left: int, top: int, *, delay_ms: float, disposal: int) -> bytes:
    """Return a control block and an image block with at most 255 colours and on-off transparency.

    Args:
        pixels: ``(H, W, 3 or 4)``.
        left: place on the canvas.
        top: place on the canvas.
        delay_ms: how long it is shown.
        disposal: what becomes of it before the next frame.
    """
    indices, colours = _paletted(np.ascontiguousarray(pixels[..., :3]))
    transparent = None
    if pixels.shape[2] == 4 and (pixels[..., 3] < 128).any():
        transparent = 255
        indices = np.where(pixels[..., 3] < 128, np.uint8(255), indices)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    buffer = io.BytesIO()
    single = Image.fromarray(indices)
    single.putpalette(palette.tobytes())
    single.save(buffer, "GIF", optimize=False, interlace=False)
    block = parse_gif(buffer.getvalue()).frames[0]
    flags = disposal << 2 | (transparent is not None)
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, flags, round(delay_ms / 10), transparent or 0, 0)
    place = struct.pack("<BHHHHB", 0x2C, left, top, pixels.shape[1], pixels.shape[0], 0x87)
    return control + place + palette.tobytes() + block.codes


def _paletted(rgb: ImageU8) -> tuple[ImageU8, ImageU8]:
    """Return the indices ``(H, W)`` and the at most 255 colours ``(N, 3)`` of a picture; exact if it has no more."""
    image = Image.fromarray(rgb)
    colours = image.getcolors(255)
    if colours is None:
        reduced = image.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        return np.array(reduced, np.uint8), np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)
    exact = np.array([colour for _, colour in colours], np.uint8).reshape(-1, 3)
    weights = np.array([1 << 16, 1 << 8, 1])
    keys = exact @ weights
    order = np.argsort(keys)
    indices = np.searchsorted(keys[order], rgb @ weights)
    return indices.astype(np.uint8), exact[order]


def _image_block(
    data: bytes, position: int, palette: bytes, delay_ms: float, transparent: int | None, disposal: int
) -> tuple[GifFrame, int]:
    if position + 11 > len(data):
        raise ValueError("it ends inside a frame")
    left, top, width, height, flags = struct.unpack("<HHHHB", data[position + 1 : position + 10])
    position += 10
    if flags & 0x80:
        palette = data[position : position + 3 * (2 << (flags & 7))]
        position += 3 * (2 << (flags & 7))
    end = _end_of_blocks(data, position + 1)
    if end > len(data):
        raise ValueError("it ends inside a frame")
    codes = data[position:end]
    frame = GifFrame(left, top, width, height, bool(flags & 0x40), palette, codes, delay_ms, transparent, disposal)
    return frame, end


def _end_of_blocks(data: bytes, position: int) -> int:
    """Return where a chain of sub-blocks ends; more than the length of the file if it is cut off."""
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position + 1


def _blocks(body: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(body) and body[position]:
        yield body[position + 1 : position + 1 + body[position]]
        position += 1 + body[position]


def _colours(palette: bytes) -> ImageU8:
    table = np.zeros((256, 4), np.uint8)
    colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    table[: len(colours), :3] = colours
    table[:, 3] = 255
    return table


def _unpacked(frame: GifFrame) -> ImageU8:
    """Unpack the colour indices of a frame."""
    identity = bytes(np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3))  # not a gray ramp, which changes the mode
    screen = struct.pack("<HHBBB", frame.width, frame.height, 0xF7, 0, 0)
    place = struct.pack("<BHHHHB", 0x2C, 0, 0, frame.width, frame.height, 0x40 if frame.interlaced else 0)
    image = GifImagePlugin.GifImageFile(io.BytesIO(b"GIF89a" + screen + identity + place + frame.codes + b";"), "")
    image.load()
    return np.asarray(image, np.uint8)
