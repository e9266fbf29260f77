"""JPEG, WebP, AVIF and BMP: encoded to memory by Pillow, then written, so that every byte is accounted for."""

from __future__ import annotations

import io
import queue
import threading
from typing import BinaryIO, TypedDict

import numpy as np
from PIL import Image

from apisr.core.errors import InputError
from apisr.image.colour import gamma_profile, profile_fits
from apisr.image.convert import from_float, over_white, to_eight_bit, to_float
from apisr.image.formats import JPEG_EXIF_BYTES, JPEG_IPTC_BYTES, JPEG_XMP_BYTES, WRITTEN
from apisr.image.metadata import comment_of, exif_with_resolution, exif_with_texts, iptc_segment
from apisr.image.stream import WholeFrameWriter
from apisr.image.types import ImageInt, Metadata, PictureInfo
from apisr.image.webp import with_alpha_flag


class _Options(TypedDict, total=False):
    icc_profile: bytes
    exif: bytes
    extra: bytes
    xmp: bytes
    comment: bytes
    dpi: tuple[float, float]
    quality: int
    subsampling: int | str
    optimize: bool
    lossless: bool
    exact: bool
    method: int


class PillowWriter(WholeFrameWriter):
    """A still in one of these formats.

    Args:
        file: as :class:`apisr.image.stream.FrameWriter`.
        info: likewise.
        format_name: ``"JPEG"``, ``"WEBP"``, ``"AVIF"`` or ``"BMP"``.
        quality: 1 to 100; None: see :func:`apisr.image.write.open_writer`.
        lossless: every value must come back as it is.
    """

    def __init__(
        self, file: BinaryIO, info: PictureInfo, format_name: str, quality: int | None, *, lossless: bool
    ) -> None:
        super().__init__(file, info)
        self._name, self._quality, self._lossless = format_name, quality, lossless

    def write_frame(self, pixels: ImageInt) -> None:
        """Encode the frame and write it.

        Raises:
            InputError: lossless AVIF of more than 8 bits.
        """
        if self._lossless and self._name == "AVIF":
            self.file.write(_exact_avif(pixels, self.info.metadata))
            return
        image = to_pillow(pixels, self._name)
        lossless = self._name == "WEBP" and (self._lossless or (self.info.lossless and self._quality is None))
        options = _options(self._name, self.info.metadata, pixels.shape[2], self._quality, lossless=lossless)
        content = _saved(image, self._name, options)
        # Pillow reserves a byte a pixel or more for a JPEG with Huffman tables of its own; noise can need more, and
        # libjpeg then fails. Such a JPEG is never larger than the plain one, whose size is known now.
        if self._name == "JPEG" and len(content) < image.width * image.height:
            content = _saved(image, self._name, {**options, "optimize": True})
        self.file.write(content)

    def close(self) -> None:
        """Nothing comes after the frame."""


class PillowAnimationWriter(WholeFrameWriter):
    """An animated WebP or AVIF; arguments as :class:`PillowWriter`.

    Pillow pulls the frames of an animation, so its encoder runs in a thread that is fed one frame at a time; only what
    is encoded stays in memory.
    """

    def __init__(
        self, file: BinaryIO, info: PictureInfo, format_name: str, quality: int | None, *, lossless: bool
    ) -> None:
        super().__init__(file, info)
        self._name = format_name
        self._lossless = format_name == "WEBP" and (lossless or (info.lossless and quality is None))
        self._quality = quality
        self._durations: list[int] = []
        self._due_ms = 0.0
        self._waiting: queue.Queue[Image.Image | None] = queue.Queue(maxsize=1)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._buffer = io.BytesIO()
        self._thread: threading.Thread | None = None

    def write_frame(self, pixels: ImageInt) -> None:
        """Hand the frame to the encoder."""
        image = to_pillow(pixels, self._name)
        image = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA" if image.mode == "LA" else "RGB")
        before = self._due_ms
        self._due_ms += self.duration_ms
        self._durations.append(round(self._due_ms) - round(before))
        if self._thread is None:
            self._thread = threading.Thread(target=self._encode, args=(pixels.shape[2],), daemon=True)
            self._thread.start()
        self._give(image)

    def close(self) -> None:
        """Wait for the encoder and write what it made."""
        self._give(None)
        if self._thread is not None:
            self._thread.join()
        self._raise()
        clear = self._name == "WEBP" and self.info.channels in (2, 4)
        self.file.write(with_alpha_flag(self._buffer.getvalue()) if clear else self._buffer.getbuffer())

    def abandon(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _give(self, image: Image.Image | None) -> None:
        while self._thread is not None and self._thread.is_alive():
            self._raise()
            try:
                self._waiting.put(image, timeout=0.1)
                return
            except queue.Full:
                continue
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self) -> Image.Image | None:
        while not self._stopped.is_set():
            try:
                return self._waiting.get(timeout=0.1)
            except queue.Empty:
                continue
        return None

    def _encode(self, channels: int) -> None:
        try:
            options = _options(self._name, self.info.metadata, channels, self._quality, lossless=self._lossless)
            sequence = _FrameSequence(self, self.info.frame_count)
            sequence.save(
                self._buffer,
                self._name,
                save_all=True,
                duration=self._durations,
                loop=self.info.plays,
                **options,
            )
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that writes
            self._error = error

    def next_image(self) -> Image.Image:
        """Wait for the next frame (called in the encoder's thread).

        Raises:
            EOFError: there is none.
        """
        image = self._take()
        if image is None:
            raise EOFError("no more frames")
        return image


class _FrameSequence(Image.Image):
    """Looks to Pillow like an open animation: :meth:`seek` waits for the next frame."""

    def __init__(self, source: PillowAnimationWriter, count: int) -> None:
        super().__init__()
        self._source = source
        self._position = -1
        self.n_frames = count
        self.is_animated = True
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame >= self.n_frames:
            raise EOFError("no more frames")
        if frame <= self._position:
            return  # encoders wind back at their end
        image = self._source.next_image()
        self._position = frame
        self.im, self._mode, self._size = image.im, image.mode, image.size

    def tell(self) -> int:
        return max(0, self._position)


def to_pillow(pixels: ImageInt, format_name: str) -> Image.Image:
    """Return a picture as what Pillow writes: 8 bits, without alpha where the format has none."""
    eight = to_eight_bit(pixels)
    channels = eight.shape[2]
    if channels in (2, 4) and WRITTEN[format_name].alpha is None:
        eight, channels = from_float(over_white(to_float(eight)), np.uint8), channels - 1
    if channels == 1:
        return Image.fromarray(eight[..., 0])
    if channels == 2:
        return Image.merge("LA", [Image.fromarray(np.ascontiguousarray(eight[..., index])) for index in (0, 1)])
    return Image.fromarray(np.ascontiguousarray(eight))


def _saved(image: Image.Image, name: str, options: _Options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def _options(name: str, metadata: Metadata, channels: int, quality: int | None, *, lossless: bool) -> _Options:
    options: _Options = {}
    entry = WRITTEN[name]
    channels = channels if entry.gray else max(3, channels)
    profile = metadata.icc_profile
    if profile is None and (metadata.gamma or metadata.chromaticities):
        profile = gamma_profile(metadata.gamma, metadata.chromaticities, gray=channels <= 2)
    if profile and entry.profile and profile_fits(profile, channels):
        options["icc_profile"] = profile
    exif = exif_with_texts(metadata) if entry.exif else None
    if metadata.dpi and name in ("WEBP", "AVIF"):
        exif = exif_with_resolution(exif, metadata.dpi)
    if exif and not (name == "JPEG" and len(exif) > JPEG_EXIF_BYTES):
        options["exif"] = exif
    if metadata.xmp and entry.xmp and not (name == "JPEG" and len(metadata.xmp) > JPEG_XMP_BYTES):
        options["xmp"] = metadata.xmp
    comment = comment_of(metadata)
    if comment and name == "JPEG":
        options["comment"] = comment[:JPEG_EXIF_BYTES]
    if metadata.iptc and name == "JPEG" and len(metadata.iptc) <= JPEG_IPTC_BYTES:
        options["extra"] = iptc_segment(metadata.iptc)
    if metadata.dpi and name in ("JPEG", "BMP"):
        options["dpi"] = metadata.dpi
    if name == "JPEG":
        high = (quality or 95) >= 90
        options |= {"quality": quality or 95, "subsampling": 0 if high else 2}
    elif name == "WEBP":
        options |= {"lossless": lossless, "quality": 75 if lossless else (quality or 95), "exact": True, "method": 4}
    elif name == "AVIF":
        options |= {"quality": quality or 90, "subsampling": "4:4:4" if (quality or 90) >= 85 else "4:2:0"}
    return options


def _exact_avif(pixels: ImageInt, metadata: Metadata) -> bytes:
    """Encode a still as AVIF with every value as it is: RGB as such (identity matrix, 4:4:4, full range).

    Pillow always goes through YCbCr, which rounds.
    """
    from imagecodecs import avif_encode  # pyright: ignore

    if pixels.dtype != np.uint8 or metadata != Metadata() or pixels.shape[2] == 2:
        raise InputError(
            "lossless AVIF is for stills of 8 bits, gray, RGB or RGB with alpha, without metadata. "
            "Choose .png or .webp.",
            code="not-lossless",
        )
    return bytes(avif_encode(np.ascontiguousarray(pixels), level=100, speed=6))
