"""PNG files: their chunks (texts, gamma, profile, ...) and pixels of up to 16 bits.

Only the chunks that make the picture are handed to the decoder, so that a damaged or monstrous text never stops it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image, PngImagePlugin

from apisr.core.errors import InputError
from apisr.image.colour import is_srgb, profile_fits
from apisr.image.convert import upright
from apisr.image.decoding import MAX_METADATA_BYTES, Budget
from apisr.image.endings import ends_early
from apisr.image.metadata import orientation_of, readable_exif, resolution_of, without_orientation
from apisr.image.types import Frame, ImageInt, IntegerType, Metadata, PictureInfo, TextEntry

_INCHES_PER_METRE = 39.37007874015748
_DRAWN = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
#: Kind, content, and the whole chunk with its length and checksum.
Chunk: TypeAlias = tuple[bytes, bytes, bytes]
_END: Chunk = (b"IEND", b"", b"\0\0\0\0IEND\xaeB`\x82")
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


class PngDecoder:
    """An open PNG or APNG file; see :class:`apisr.image.decoding.Decoder`."""

    def __init__(self, path: Path, file: BinaryIO, budget: Budget) -> None:
        head = file.read(33)
        if len(head) < 33 or head[12:16] != b"IHDR":
            raise ValueError("it ends in its header")
        width, height, self._depth, self._colour = struct.unpack(">IIBB", head[16:26])
        self._bits = 16 if self._depth == 16 else 8
        stored = (_CHANNELS.get(self._colour, 4) + 1) * self._bits // 8
        budget.check(width, height, bytes_per_pixel=4 + 2 * stored)
        file.seek(0)
        chunks, remarks = _sound(list(_chunks(file.read())), palette=self._colour == 3)
        self._check_length(path, width, height, chunks)
        self._drawn = b"\x89PNG\r\n\x1a\n" + b"".join(whole for kind, _, whole in chunks if kind in _DRAWN)
        self._transparent = next((content for kind, content, _ in chunks if kind == b"tRNS"), None)
        metadata, notices = _metadata(chunks, gray=self._colour in (0, 4))
        notices += remarks
        self._orientation = orientation_of(metadata.exif, metadata.xmp)
        animated = next((content for kind, content, _ in chunks if kind == b"acTL"), None)
        count, loop = struct.unpack(">II", animated[:8]) if animated and len(animated) >= 8 else (1, 0)
        count = min(count, sum(kind == b"fcTL" for kind, _, _ in chunks))
        self._animated = count > 1
        if not self._animated:
            metadata = without_orientation(metadata)
        channels = _CHANNELS[self._colour] + (self._transparent is not None)
        if self._animated:
            if self._depth == 16:
                notices.append("the 16 bit of this animated PNG are read as 8")
            if self._has_stand_in(chunks):
                notices.append("the picture for viewers without animation, which is none of its frames, is left out")
            channels = 3 if all(_opaque(frame.pixels) for frame in self._frames_rgba()) else 4
        if self._orientation >= 5 and not self._animated:
            width, height = height, width
        depth: IntegerType = np.dtype(np.uint16 if self._depth == 16 and not self._animated else np.uint8)
        self.info = PictureInfo(
            width,
            height,
            channels,
            depth,
            count if self._animated else 1,
            "animation" if self._animated else "still",
            loop if self._animated else None,
            "PNG",
            metadata=metadata,
            notices=tuple(notices),
        )

    def frames(self) -> Generator[Frame]:
        """Decode the frames from the first on."""
        if not self._animated:
            yield Frame(upright(self._still(), self._orientation))
            return
        for frame in self._frames_rgba():
            opaque = self.info.channels == 3
            yield replace(frame, pixels=np.ascontiguousarray(frame.pixels[..., :3])) if opaque else frame

    def _check_length(self, path: Path, width: int, height: int, chunks: list[Chunk]) -> None:
        """Refuse a file whose data cannot unpack to its size (deflate packs at most 1032 to 1)."""
        packed = sum(len(content) for kind, content, _ in chunks if kind == b"IDAT")
        raw = height * (1 + width * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(self._colour, 1) * self._depth // 8)
        if packed * 1040 + 4096 < raw:
            raise InputError(
                f"cannot read '{path}': {width}x{height} pixels do not come out of {packed} bytes. "
                "The picture is damaged or cut off.",
                code="damaged-picture",
            )

    @staticmethod
    def _has_stand_in(chunks: list[Chunk]) -> bool:
        """Whether the first picture is no frame: its data stands before what begins the first frame."""
        kinds = [kind for kind, _, _ in chunks]
        return b"IDAT" in kinds and b"fcTL" not in kinds[: kinds.index(b"IDAT")]

    def _open(self) -> PngImagePlugin.PngImageFile:
        return PngImagePlugin.PngImageFile(io.BytesIO(self._drawn), "")

    def _frames_rgba(self) -> Generator[Frame]:
        image = self._open()
        shown = 0
        for index in range(int(getattr(image, "n_frames", 1))):
            image.seek(index)
            image.load()
            if index == 0 and image.info.get("default_image"):
                continue  # the stand-in for viewers without animation
            shown += 1
            pixels = np.asarray(image.convert("RGBA"), np.uint8)
            yield Frame(pixels, float(image.info.get("duration") or 0))
        if shown == 0:
            raise ValueError("no frames")

    def _still(self) -> ImageInt:
        image = self._open()
        image.load()  # Pillow's own check of the data: OpenCV accepts files that are cut off
        if self._depth == 16:
            return self._with_key(_sixteen_bit(image, self._drawn, self._colour))
        if self._colour == 3:
            return np.ascontiguousarray(np.asarray(image.convert("RGBA" if self._transparent else "RGB"), np.uint8))
        if image.mode == "1":
            image = image.convert("L")
        pixels = np.asarray(image, np.uint8)
        return self._with_key(np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None]))

    def _with_key(self, pixels: ImageInt) -> ImageInt:
        """Add alpha for the one colour that tRNS makes transparent."""
        if self._transparent is None or self._colour in (4, 6):
            return pixels
        peak = np.iinfo(pixels.dtype).max
        stored = np.frombuffer(self._transparent[: 2 * pixels.shape[2]], ">u2").astype(np.int64)
        key = stored if self._depth >= 8 else stored * peak // (2**self._depth - 1)
        visible = ~(pixels == key).all(axis=2, keepdims=True)
        return np.concatenate([pixels, (visible * np.array(peak)).astype(pixels.dtype)], axis=2)


def _opaque(pixels: ImageInt) -> bool:
    return bool((pixels[..., 3] == 255).all())


def _sixteen_bit(image: Image.Image, drawn: bytes, colour: int) -> ImageInt:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    import cv2

    # Some versions of OpenCV give the colour that tRNS hides an alpha of its own: it is left out.
    bare = b"".join(whole for kind, _, whole in _chunks(drawn) if kind != b"tRNS")
    decoded = cv2.imdecode(np.frombuffer(drawn[:8] + bare, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("16-bit PNG cannot be decoded")
    pixels = np.asarray(decoded, np.uint16).reshape(decoded.shape[0], decoded.shape[1], -1)
    order = {2: [2, 1, 0], 4: [0, pixels.shape[2] - 1], 6: [2, 1, 0, 3]}[colour]
    return np.ascontiguousarray(pixels[..., order])


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield (kind, content, whole chunk) of every complete chunk, and a shortened one if the file is cut off."""
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        yield data[position + 4 : position + 8], data[position + 8 : end - 4], data[position:end]
        position = end


def _sound(chunks: list[Chunk], *, palette: bool) -> tuple[list[Chunk], list[str]]:
    """Return the chunks whose checksums are right, always with an end, and what is missing, in words.

    Raises:
        ValueError: a chunk that draws the picture is damaged. Decoders that go by the checksum of the pixels alone do
            not see it where the damage yields enough of them.
    """
    sound: list[Chunk] = []
    notices: list[str] = []
    for kind, content, whole in chunks:
        ancillary = bool(kind[:1].islower())
        if kind == b"IEND":
            break
        if len(whole) == len(content) + 12 and whole[-4:] == struct.pack(">I", zlib.crc32(whole[4:-4])):
            if not ancillary and kind not in _DRAWN:
                raise ValueError(f"it needs a chunk {_name(kind)} that is not known")
            sound.append((kind, content, whole))
        elif kind in _DRAWN or not ancillary:
            raise ValueError(f"the chunk {_name(kind)} is damaged or cut off")
        else:
            notices.append(f"the chunk {_name(kind)} is damaged and left out")
    if palette and all(kind != b"PLTE" for kind, _, _ in sound):
        raise ValueError("its palette is missing")
    if not chunks or chunks[-1][0] != b"IEND":
        notices.append(ends_early("its end mark is missing"))
    return [*sound, _END], list(dict.fromkeys(notices))


def _name(kind: bytes) -> str:
    return ascii(kind.decode("latin-1"))


def _metadata(chunks: list[Chunk], *, gray: bool) -> tuple[Metadata, list[str]]:
    content = {kind: body for kind, body, _ in reversed(chunks)}
    notices: list[str] = []
    profile = None
    if b"iCCP" in content:
        packed = content[b"iCCP"].partition(b"\0")[2][1:]
        profile = _inflated(packed)
        if profile is None or not profile_fits(profile, 1 if gray else 3):
            profile = None
            notices.append("its colour profile is damaged or not for these pixels and is left out")
    texts: list[TextEntry] = []
    xmp = None
    for kind, body, _ in chunks:
        entry = _text(kind, body)
        if kind in (b"tEXt", b"zTXt", b"iTXt") and entry is None:
            notices.append("a damaged or very long text of the file is left out")
        elif entry is not None and entry.keyword == "XML:com.adobe.xmp":
            xmp = entry.text.encode()
        elif entry is not None:
            texts.append(entry)
    exif = None
    if b"eXIf" in content:
        exif = readable_exif(content[b"eXIf"])
        if exif is None:
            notices.append("its EXIF is damaged and left out")
    gamma = int.from_bytes(content[b"gAMA"][:4], "big") / 100_000 if b"gAMA" in content else None
    white = np.frombuffer(content.get(b"cHRM", b"")[:32], ">u4")
    chromaticities = tuple(float(value) / 100_000 for value in white) if len(white) == 8 else None
    if profile is not None or b"sRGB" in content or not gamma or is_srgb(gamma, chromaticities):
        gamma = chromaticities = None
    per_metre = struct.unpack(">IIB", content[b"pHYs"][:9]) if len(content.get(b"pHYs", b"")) >= 9 else (0, 0, 0)
    dpi = resolution_of(exif)
    if per_metre[2] == 1 and per_metre[0] and per_metre[1]:
        dpi = (per_metre[0] / _INCHES_PER_METRE, per_metre[1] / _INCHES_PER_METRE)
    cicp = content.get(b"cICP")
    cicp = cicp if cicp is not None and len(cicp) == 4 else None
    return Metadata(profile, exif, xmp, dpi, tuple(texts), gamma, chromaticities, cicp), notices


def _text(kind: bytes, body: bytes) -> TextEntry | None:
    keyword, _, rest = body.partition(b"\0")
    if not keyword or len(keyword) > 79:
        return None
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return TextEntry(name, rest.decode("latin-1"))
    if kind == b"zTXt":
        unpacked = _inflated(rest[1:])
        return None if unpacked is None else TextEntry(name, unpacked.decode("latin-1"))
    if kind == b"iTXt" and len(rest) >= 2:
        language, _, after = rest[2:].partition(b"\0")
        translated, _, text = after.partition(b"\0")
        unpacked = _inflated(text) if rest[0] else text
        if unpacked is not None:
            return TextEntry(
                name, unpacked.decode(errors="replace"), language.decode("latin-1"), translated.decode(errors="replace")
            )
    return None


def _inflated(packed: bytes) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, MAX_METADATA_BYTES)
    except zlib.error:
        return None
    return content if unpacker.eof else None
