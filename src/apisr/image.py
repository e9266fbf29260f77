"""The home of pixel conventions: picture files <-> arrays <-> network tensors.

Arrays are ``(height, width, channel)``, RGB order, ``uint8`` or ``uint16``; float pictures are float32 in [0, 1];
tensors are ``(N, 3, H, W)`` float32 in [0, 1]. Nothing else in the package opens or saves a picture.

    >>> import numpy as np
    >>> half_gray = np.full((2, 2, 1), 128, np.uint8)
    >>> round(float(to_float(half_gray)[0, 0, 0]), 4)
    0.502
    >>> np.array_equal(from_float(to_float(half_gray), np.uint8), half_gray)
    True
"""

from __future__ import annotations

import importlib.util
import io
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError

from apisr.core.errors import InputError, MissingExtra
from apisr.core.files import atomic_path

Pixels = NDArray[np.uint8 | np.uint16]
Floats = NDArray[np.float32]
Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

#: File endings that are read and written, and the format each stands for.
FORMATS = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}
#: Longest side that each format can hold, in pixels.
MAX_SIDE_PX = {
    "JPEG": 65_535,
    "WEBP": 16_383,
    "AVIF": 65_535,
    "GIF": 65_535,
    "PNG": 2**31 - 1,
    "TIFF": 2**31 - 1,
    "BMP": 2**31 - 1,
}

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION_TAG = 0x0112
_bomb_lock = threading.Lock()


@dataclass(frozen=True)
class Metadata:
    """What a picture file carries besides pixels; all of it is written back.

    Attributes:
        icc_profile: colour profile, as stored.
        exif: EXIF block without the orientation tag (pixels are already turned upright).
        xmp: XMP packet.
        dpi: dots per inch (horizontal, vertical).
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """A decoded picture or animation.

    Attributes:
        frames: arrays ``(H, W, C)``, uint8 or uint16; C is 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha. All have
            the same shape and dtype. Alpha is straight (not premultiplied).
        durations_ms: one per frame for an animation, empty for a still.
        loop: how often an animation is played (0 is forever, None is not stated).
        format: ``"PNG"``, ``"JPEG"``, ...
        lossless: whether the file's coding was lossless.
        metadata: profile, EXIF and so on.
    """

    frames: tuple[Pixels, ...]
    durations_ms: tuple[float, ...] = ()
    loop: int | None = None
    format: str = "PNG"
    lossless: bool = True
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def pixels(self) -> Pixels:
        """The first (for a still: the only) frame."""
        return self.frames[0]

    @property
    def animated(self) -> bool:
        """Whether there is more than one frame."""
        return len(self.frames) > 1


def is_picture_name(path: Path) -> bool:
    """Tell whether the file ending is one of :data:`FORMATS`."""
    return path.suffix.lower() in FORMATS


def find_pictures(given: Path, *, without: Path | None = None) -> list[tuple[Path, Path]]:
    """List the picture files of a folder with its subfolders, or the one file given, with their relative names.

    Args:
        given: a picture file or a folder.
        without: a folder (that of the output) that is left out.

    Raises:
        InputError: no such file or folder, or no picture in it.
    """
    if given.is_file():
        return [(given, Path(given.name))]
    if not given.is_dir():
        raise InputError(f"cannot read '{given}': no such file or folder.")
    skipped = without.resolve() if without is not None and without.resolve() != given.resolve() else None
    found = [
        (path, path.relative_to(given))
        for path in sorted(given.rglob("*"))
        if is_picture_name(path)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(given).parts)
        and not path.stem.endswith(".partial")
        and (skipped is None or skipped not in path.resolve().parents)
    ]
    if not found:
        raise InputError(f"no pictures found in '{given}'. Expected files ending in {', '.join(FORMATS)}.")
    return found


def read_picture(path: Path | str) -> Picture:
    """Read a picture or animation, upright, with all frames and metadata.

    8-bit gray, RGB and palette files become uint8, 16-bit files uint16. Palettes are expanded. CMYK and Lab are
    converted to RGB (through their colour profile where there is one).

    Raises:
        InputError: missing, empty, truncated or not a picture.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}.") from error
    if not data:
        raise InputError(f"cannot read '{path}': the file is empty (0 bytes).")
    try:
        with _large_pictures(), Image.open(io.BytesIO(data)) as image:
            return _decode(image, data)
    except UnidentifiedImageError as error:
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _decode_tiff_alone(path, data)
        raise InputError(
            f"cannot read '{path}': not a picture in a known format. "
            f"Expected one of {', '.join(sorted(set(FORMATS.values())))}."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise InputError(
            f"cannot read '{path}': the picture is damaged or cut off ({error}).".replace("\n", " ")
        ) from error


def read_rgb(path: Path | str) -> NDArray[np.uint8]:
    """Read the first frame as uint8 RGB ``(H, W, 3)``.

    Gray is repeated, 16 bit is rounded, alpha is composed over white.

    Raises:
        InputError: as :func:`read_picture`.
    """
    pixels = read_picture(path).pixels
    values = to_float(pixels)
    channels = values.shape[2]
    if channels in (2, 4):
        alpha = values[..., -1:]
        values = values[..., :-1] * alpha + (1 - alpha)
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return (
        cast("NDArray[np.uint8]", pixels)
        if channels == 3 and pixels.dtype == np.uint8
        else from_float(values, np.uint8)
    )


def write_picture(
    path: Path | str,
    picture: Picture | Pixels,
    *,
    overwrite: bool = False,
    quality: int | None = None,
    lossless: bool = False,
) -> None:
    """Write a picture or animation in the format of the file ending, under its final name only when complete.

    Args:
        path: target; the ending chooses the format.
        picture: a :class:`Picture`, or one array ``(H, W, C)`` uint8 or uint16.
        overwrite: replace an existing file.
        quality: 1 to 100 for JPEG, WebP and AVIF. By default JPEG 95, AVIF 90, WebP 95 or lossless as the source was.
        lossless: every value must come back as it is. PNG, TIFF and BMP do that anyway; WebP is told to; AVIF is
            written by imagecodecs (extra ``avif``), stills of 8 bits without metadata.

    Raises:
        InputError: unknown ending, a size or depth that the format cannot hold, an existing target.
        MissingExtra: `lossless` AVIF, and imagecodecs is not installed.
        RunError: the disk is full.
    """
    path = Path(path)
    if lossless:
        check_lossless(path)
    if not isinstance(picture, Picture):
        picture = Picture(frames=(picture,))
    format_name = format_of(path)
    check_format(path, picture.pixels.shape[0], picture.pixels.shape[1])
    with atomic_path(path, overwrite=overwrite) as partial:
        if not picture.animated and format_name == "PNG":
            from apisr.image_stream import PngWriter

            with PngWriter(partial, picture.pixels.shape, picture.pixels.dtype, picture.metadata) as writer:
                writer.write(picture.pixels)
        elif not picture.animated and format_name == "TIFF":
            from apisr.image_stream import TiffWriter

            with TiffWriter(partial, picture.pixels.shape, picture.pixels.dtype, picture.metadata) as writer:
                writer.write(picture.pixels)
        elif lossless and format_name == "AVIF":
            partial.write_bytes(_exact_avif(path, picture))
        else:
            if lossless:
                picture, quality = replace(picture, lossless=True), None
            _save_with_pillow(partial, picture, format_name, quality)


def format_of(path: Path) -> str:
    """Return the format that a file ending stands for.

    Raises:
        InputError: unknown ending.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"cannot write '{path}': unknown ending '{path.suffix}'. Use one of {', '.join(FORMATS)}."
        ) from None


def check_format(path: Path, height: int, width: int) -> None:
    """Check that the format of `path` can hold a picture of this size.

    Raises:
        InputError: it cannot; the message names one that can.
    """
    format_name = format_of(path)
    limit = MAX_SIDE_PX[format_name]
    if max(height, width) > limit:
        raise InputError(
            f"cannot write '{path}': {format_name} holds at most {limit} pixels a side, got {width}x{height}. "
            "Choose .png or .tif with -o or --format."
        )


def check_lossless(path: Path) -> None:
    """Check that the format of `path` can be written without loss on this machine.

    Raises:
        InputError: the format loses something (JPEG, GIF).
        MissingExtra: AVIF, and imagecodecs is not installed.
    """
    format_name = format_of(path)
    if format_name in ("JPEG", "GIF"):
        raise InputError(f"cannot write '{path}' without loss: {format_name} cannot. Choose .png, .webp or .tif.")
    if format_name == "AVIF" and importlib.util.find_spec("imagecodecs") is None:
        raise MissingExtra("avif", "to write AVIF without loss")


def to_float(pixels: Pixels) -> Floats:
    """Convert uint8 or uint16 values to float32 in [0, 1] (divided by 255 or 65535)."""
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def from_float(values: Floats, dtype: Any) -> Any:
    """Convert float values in [0, 1] to uint8 or uint16, clipped and rounded half up."""
    peak = np.iinfo(dtype).max
    scaled = values * np.float32(peak)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, peak, out=scaled).astype(dtype)


def to_tensor(values: Floats) -> Floats:
    """Arrange ``(H, W, 3)`` as ``(1, 3, H, W)``, contiguous."""
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def from_tensor(tensor: Floats) -> Floats:
    """Arrange ``(1, 3, H, W)`` as ``(H, W, 3)``, contiguous."""
    return np.ascontiguousarray(tensor[0].transpose(1, 2, 0))


def resize(values: Floats, height: int, width: int, *, method: Resampling = "lanczos") -> Floats:
    """Resample a float picture ``(H, W, C)``, with antialiasing when shrinking, without rounding or clipping.

    The kernels are Pillow's: bicubic with a = -0.5, Lanczos with three lobes.
    """
    if values.shape[:2] == (height, width):
        return values
    kernel = _RESAMPLING[method]
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(values[..., index])).resize((width, height), kernel))
        for index in range(values.shape[2])
    ]
    return np.stack(planes, axis=2).astype(np.float32, copy=False)


def _decode(image: Image.Image, data: bytes) -> Picture:
    count = int(getattr(image, "n_frames", 1))
    animated = count > 1 and image.format in ("GIF", "WEBP", "PNG", "AVIF")
    format_name = {"MPO": "JPEG"}.get(image.format or "", image.format or "PNG")
    metadata = _metadata(image)
    lossless = format_name not in ("JPEG", "AVIF") and not (format_name == "WEBP" and _webp_is_lossy(data))
    if not animated:
        pixels = _decode_deep(image, data)
        if pixels is None:
            image.load()
            upright = ImageOps.exif_transpose(image)
            pixels = _pixels(upright)
        return Picture((pixels,), format=format_name, lossless=lossless, metadata=metadata)
    frames: list[Pixels] = []
    durations: list[float] = []
    loop = image.info.get("loop")
    if image.format == "PNG" and loop is None:
        loop = 0
    for index, frame in enumerate(ImageSequence.Iterator(image)):
        if index == 0 and frame.info.get("default_image"):
            continue  # an APNG's stand-in for viewers without animation
        frames.append(_pixels(frame.convert("RGBA")))
        durations.append(float(frame.info.get("duration", 100)))
    if all(bool((frame[..., 3] == 255).all()) for frame in frames):
        frames = [np.ascontiguousarray(frame[..., :3]) for frame in frames]
    return Picture(tuple(frames), tuple(durations), loop, format_name, lossless, metadata)


def _webp_is_lossy(data: bytes) -> bool:
    """Look for a lossy frame (chunk ``VP8 ``) among the chunks of a WebP file, inside animation frames too."""
    position = 12
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if kind == b"VP8 " or (kind == b"ANMF" and data[position + 24 : position + 28] in (b"VP8 ", b"ALPH")):
            return True
        position += 8 + size + size % 2
    return False


def _metadata(image: Image.Image) -> Metadata:
    exif = Image.Exif()
    exif.load(image.getexif().tobytes())  # a copy: the picture is turned by its own afterwards
    if _ORIENTATION_TAG in exif:
        del exif[_ORIENTATION_TAG]
    exif_bytes = exif.tobytes() if len(exif) and image.format in ("JPEG", "PNG", "WEBP", "AVIF", "MPO") else None
    xmp = image.info.get("xmp")
    dpi = image.info.get("dpi")
    return Metadata(
        icc_profile=image.info.get("icc_profile"),
        exif=exif_bytes,
        xmp=xmp if isinstance(xmp, bytes) else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and float(dpi[0]) > 0 and float(dpi[1]) > 0 else None,
    )


def _decode_deep(image: Image.Image, data: bytes) -> Pixels | None:
    """Decode pictures of more than 8 bits, which Pillow would cut to 8."""
    if image.format == "PNG" and data[24] == 16:
        import cv2

        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        image.load()  # Pillow's own check of the data: OpenCV accepts files that are cut off
        if decoded is None or decoded.dtype != np.uint16:
            raise ValueError("16-bit PNG cannot be decoded")
        pixels = np.asarray(decoded, np.uint16).reshape(decoded.shape[0], decoded.shape[1], -1)
        if pixels.shape[2] >= 3:
            pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        if data[25] == 4:  # gray + alpha is expanded by OpenCV
            pixels = pixels[..., [0, 3]]
        return _turned(np.ascontiguousarray(pixels), image.getexif().get(_ORIENTATION_TAG, 1))
    if image.format == "TIFF":
        pixels = _tiff_16_bit(data)
        return None if pixels is None else _turned(pixels, image.getexif().get(_ORIENTATION_TAG, 1))
    if image.mode.startswith("I;16"):
        image.load()
        pixels = np.asarray(image.convert("I")).astype(np.uint16)[..., None]
        return _turned(pixels, image.getexif().get(_ORIENTATION_TAG, 1))
    return None


def _tiff_16_bit(data: bytes) -> NDArray[np.uint16] | None:
    """Decode the first page of a TIFF with 16-bit whole numbers; None for every other kind."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        if page.bitspersample != 16 or page.dtype != np.uint16:
            return None
        pixels = np.asarray(page.asarray())
        if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = np.moveaxis(pixels, 0, 2)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels = 65535 - pixels
        elif page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
            return None
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if pixels.shape[2] > 4:
        raise ValueError(f"{pixels.shape[2]} channels")
    return np.ascontiguousarray(pixels.astype(np.uint16))


def _decode_tiff_alone(path: Path, data: bytes) -> Picture:
    """Read a TIFF of a kind that Pillow does not open (16 bits with gray + alpha, BigTIFF), profile included."""
    import tifffile

    try:
        pixels = _tiff_16_bit(data)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages[0]
            tags: Any = page.tags
            profile = tags["InterColorProfile"].value if "InterColorProfile" in tags else None
            orientation = int(tags["Orientation"].value) if "Orientation" in tags else 1
            inches = int(tags["ResolutionUnit"].value) == 2 if "ResolutionUnit" in tags else False
            dpi = page.resolution if inches else None
            if pixels is None and page.bitspersample == 8 and page.dtype == np.uint8:
                eight = np.asarray(page.asarray())
                eight = eight if eight.ndim == 3 else eight[..., None]
                decoded: Pixels = np.ascontiguousarray(eight)
            elif pixels is not None:
                decoded = pixels
            else:
                raise ValueError(f"{page.bitspersample} bits of {page.dtype}")
    except (OSError, ValueError, IndexError, KeyError, tifffile.TiffFileError) as error:
        raise InputError(f"cannot read '{path}': this kind of TIFF is not supported or damaged ({error}).") from error
    return Picture((_turned(decoded, orientation),), format="TIFF", metadata=Metadata(icc_profile=profile, dpi=dpi))


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn an array upright as its EXIF orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1] if orientation in (4, 8) else (pixels[::-1, ::-1])
    elif orientation in (2, 6):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    mode = image.mode
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif mode in ("RGB", "L", "1") and "transparency" in image.info:
        image = image.convert("RGBA")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        image = _converted_to_rgb(image)
    elif mode in ("PA", "La", "RGBa", "RGBX"):
        image = image.convert("RGBA" if mode != "RGBX" else "RGB")
    elif mode in ("I", "F"):
        raise ValueError(f"pixel type '{mode}' (32 bit) is not supported")
    array = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(array if array.ndim == 3 else array[..., None])


def _converted_to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("CMYK", "LAB"):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if converted is not None:
            return converted
    return image.convert("RGB")


def _save_with_pillow(partial: Path, picture: Picture, format_name: str, quality: int | None) -> None:
    images = [_pillow_image(frame, format_name) for frame in picture.frames]
    options: dict[str, Any] = {}
    metadata = picture.metadata
    if metadata.icc_profile and format_name not in ("GIF", "BMP"):
        options["icc_profile"] = metadata.icc_profile
    if metadata.exif and format_name in ("JPEG", "WEBP", "AVIF", "PNG"):
        options["exif"] = metadata.exif
    if metadata.xmp and format_name in ("JPEG", "WEBP", "AVIF"):
        options["xmp"] = metadata.xmp
    if metadata.dpi and format_name in ("JPEG", "BMP", "PNG"):
        options["dpi"] = metadata.dpi
    if format_name == "JPEG":
        options |= {"quality": quality or 95, "subsampling": 0 if (quality or 95) >= 90 else 2, "optimize": True}
    elif format_name == "WEBP":
        lossless = picture.lossless and quality is None
        options |= {"lossless": lossless, "quality": 75 if lossless else (quality or 95), "exact": True, "method": 4}
    elif format_name == "AVIF":
        options |= {"quality": quality or 90, "subsampling": "4:4:4" if (quality or 90) >= 85 else "4:2:0"}
    if picture.animated:
        if format_name not in ("GIF", "WEBP", "PNG", "AVIF"):
            raise InputError(
                f"cannot write {len(images)} frames to {format_name}: it holds no animation. "
                "Choose .gif, .webp, .png or .avif."
            )
        durations = [round(duration) for duration in picture.durations_ms]
        options |= {"save_all": True, "append_images": images[1:], "duration": durations}
        if picture.loop is not None:
            options["loop"] = picture.loop
        if format_name in ("GIF", "PNG"):
            options["disposal"] = 2 if format_name == "GIF" else 0
            if format_name == "PNG":
                options["blend"] = 0
    images[0].save(partial, format=format_name, **options)


def _exact_avif(path: Path, picture: Picture) -> bytes:
    """Encode a still as AVIF with every value as it is: RGB as such (identity matrix, 4:4:4, full range).

    Pillow always goes through YCbCr, which rounds.
    """
    from imagecodecs import avif_encode  # pyright: ignore

    pixels, metadata = picture.pixels, picture.metadata
    if picture.animated or pixels.dtype != np.uint8 or metadata != Metadata() or pixels.shape[2] == 2:
        raise InputError(
            f"cannot write '{path}' without loss: lossless AVIF is for stills of 8 bits, gray, RGB or RGB with alpha, "
            "without metadata. Choose .png or .webp."
        )
    return bytes(avif_encode(np.ascontiguousarray(pixels), level=100, speed=6))


def _pillow_image(pixels: Pixels, format_name: str) -> Image.Image:
    eight = pixels if pixels.dtype == np.uint8 else from_float(to_float(pixels), np.uint8)
    channels = eight.shape[2]
    if channels in (2, 4) and format_name in ("JPEG", "BMP"):
        flat = to_float(eight)
        flat = flat[..., :-1] * flat[..., -1:] + (1 - flat[..., -1:])
        eight, channels = from_float(flat, np.uint8), channels - 1
    if channels == 1:
        return Image.fromarray(eight[..., 0])
    if channels in (2, 4) and format_name == "GIF":  # a pixel is either there or not
        eight = eight[..., [0, 0, 0, 1] if channels == 2 else [0, 1, 2, 3]]
        eight[..., 3] = np.where(eight[..., 3] >= 128, 255, 0)
        channels = 4
    if channels == 2:
        return Image.merge("LA", [Image.fromarray(np.ascontiguousarray(eight[..., index])) for index in (0, 1)])
    return Image.fromarray(np.ascontiguousarray(eight))


@contextmanager
def _large_pictures() -> Generator[None]:
    """Let Pillow open pictures of any size while this block runs (its limit is a global of the library)."""
    with _bomb_lock:
        saved = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved
