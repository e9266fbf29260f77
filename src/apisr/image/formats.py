"""The one table of picture formats: what is read, what is written, what each can hold.

A file is taken for what its first bytes say, whatever it is called. Only the decoders of this table are ever run.

>>> sniff_format(b"GIF89a", ".png")
'GIF'
>>> output_suffix(Path("a.TGA")), output_suffix(Path("a.webp"))
('.png', '.webp')
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apisr.core.errors import InputError, MissingExtra
from apisr.image.metadata import TEXT_TAGS
from apisr.image.types import PictureInfo

_HUGE = 2**31 - 1
#: What a segment of JPEG holds of EXIF and of XMP (whose name takes 29 bytes of it).
JPEG_EXIF_BYTES = 65_533
JPEG_XMP_BYTES = JPEG_EXIF_BYTES - 29
#: The same of IPTC, inside a resource of Photoshop.
JPEG_IPTC_BYTES = JPEG_EXIF_BYTES - 28


@dataclass(frozen=True)
class PictureFormat:
    """What a format that we write can hold.

    Attributes:
        name: ``"PNG"``, ...
        suffixes: endings of its files.
        max_side_px: longest side.
        sixteen_bit: whether our writer keeps 16 bits.
        alpha: ``"full"``, ``"on-off"`` (a pixel is there or not) or None.
        frames: what it holds more than one of.
        profile: whether an ICC profile is kept.
        exif: whether EXIF is kept.
        xmp: whether XMP is kept.
        text: which texts are kept.
        colours: how many a picture has at most.
        gray: whether gray stays gray and is not written as RGB.
        quality: whether it is written with a quality, 1 to 100.
    """

    name: str
    suffixes: tuple[str, ...]
    max_side_px: int = _HUGE
    sixteen_bit: bool = False
    alpha: Literal["full", "on-off"] | None = "full"
    frames: Literal["animation", "pages"] | None = None
    profile: bool = True
    exif: bool = True
    xmp: bool = True
    text: Literal["all", "comment", "tags"] | None = None
    colours: int | None = None
    gray: bool = True
    quality: bool = False


WRITTEN: dict[str, PictureFormat] = {
    entry.name: entry
    for entry in (
        PictureFormat("PNG", (".png", ".apng"), sixteen_bit=True, frames="animation", text="all"),
        PictureFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), 65_535, alpha=None, text="comment", quality=True),
        PictureFormat("WEBP", (".webp",), 16_383, frames="animation", gray=False, quality=True),
        PictureFormat("AVIF", (".avif",), 65_535, frames="animation", quality=True),
        PictureFormat("TIFF", (".tif", ".tiff"), sixteen_bit=True, frames="pages", text="tags"),
        PictureFormat("BMP", (".bmp", ".dib"), alpha=None, profile=False, exif=False, xmp=False),
        PictureFormat(
            "GIF",
            (".gif",),
            65_535,
            alpha="on-off",
            frames="animation",
            profile=False,
            exif=False,
            xmp=False,
            text="comment",
            colours=256,
        ),
    )
}
#: File endings that are written, and the format each stands for.
FORMATS = {suffix: entry.name for entry in WRITTEN.values() for suffix in entry.suffixes}

#: Formats that are read, in the order of messages.
READ = (*WRITTEN, "JPEG 2000", "JPEG XL", "HEIF", "TGA", "PNM", "PSD", "ICO", "QOI")

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"8BPS", "PSD"),
    (b"qoif", "QOI"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\x01\0", "ICO"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_BY_SUFFIX = {
    ".tga": "TGA",
    ".icb": "TGA",
    ".vda": "TGA",
    ".vst": "TGA",
    ".dib": "BMP",
}
#: What else a file may turn out to be, for messages.
_REFUSED = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript drawing"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript drawing"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"DDS ", "a DDS texture"),
    (b"\xabKTX", "a KTX texture"),
    (b"gimp xcf", "a GIMP project"),
    (b"\x0a\x05\x01", "a PCX picture"),
    (b"\x01\xda\x01", "an SGI picture"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"icns", "an Apple icon"),
    (b"FORM", "an IFF picture"),
    (b"\x1aE\xdf\xa3", "a Matroska video"),
    (b"OggS", "an Ogg file"),
    (b"RIFF", "an AVI or WAVE file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\0\0\x02\0", "a Windows cursor"),
    (b"<svg", "an SVG drawing"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
)


def sniff_format(head: bytes, suffix: str) -> str | None:
    """Return the format of a file from its first bytes, else its ending; None where it is none of :data:`READ`."""
    for mark, name in _SIGNATURES:
        if head.startswith(mark):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        size = min(len(head), int.from_bytes(head[:4], "big"))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & _HEIF_BRANDS else None
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3] in b" \t\r\n#":
        return "PNM"
    return _BY_SUFFIX.get(suffix.lower())  # formats without a signature


def not_a_picture(path: Path, head: bytes) -> InputError:
    """Return the error for a file that is none of the formats that are read; it names what the file is if it can."""
    known = _refused_as(head)
    kind = f"it is {known}, which is not read" if known else "it is not a picture in a known format"
    return InputError(f"cannot read '{path}': {kind}. Expected one of {', '.join(READ)}.", code="not-a-picture")


def is_named_kind(head: bytes) -> bool:
    """Whether the first bytes of a file name a kind of file that is not read (an SVG drawing, a PDF document)."""
    return _refused_as(head) is not None


def _refused_as(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return "an MP4 or QuickTime video"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<?xml") and b"<svg" in head:
        return "an SVG drawing"
    return next((name for mark, name in _REFUSED if start.startswith(mark) or head.startswith(mark)), None)


def format_of(path: Path) -> str:
    """Return the format that the ending of an output stands for.

    Raises:
        InputError: unknown ending.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"cannot write '{path}': unknown ending '{path.suffix}'. Use one of {', '.join(FORMATS)}.",
            code="unknown-ending",
        ) from None


def output_suffix(source: Path) -> str:
    """Return the ending of the output that belongs to a source: its own if it can be written, else ``.png``."""
    return source.suffix if source.suffix.lower() in FORMATS else ".png"


def has_quality(path: Path) -> bool:
    """Return whether a file of this name is written with a quality (JPEG, WebP and AVIF)."""
    name = FORMATS.get(path.suffix.lower())
    return name is not None and WRITTEN[name].quality


def check_format(path: Path, height: int, width: int) -> None:
    """Check that the format of `path` can hold a picture of this size.

    Raises:
        InputError: it cannot; the message names one that can.
    """
    entry = WRITTEN[format_of(path)]
    if max(height, width) > entry.max_side_px:
        raise InputError(
            f"cannot write '{path}': {entry.name} holds at most {entry.max_side_px} pixels a side, "
            f"got {width}x{height}. Choose .png or .tif with -o or --format.",
            code="side-too-long",
        )


def check_lossless(path: Path) -> None:
    """Check that the format of `path` can be written without loss on this machine.

    Raises:
        InputError: the format loses something (JPEG, GIF).
        MissingExtra: AVIF, and imagecodecs is not installed.
    """
    format_name = format_of(path)
    if format_name in ("JPEG", "GIF"):
        raise InputError(
            f"cannot write '{path}' without loss: {format_name} cannot. Choose .png, .webp or .tif.",
            code="not-lossless",
        )
    if format_name == "AVIF" and importlib.util.find_spec("imagecodecs") is None:
        raise MissingExtra("avif", "to write AVIF without loss")


def frames_kept(info: PictureInfo, target: Path) -> int:
    """Return how many frames of a picture the format of `target` takes.

    Raises:
        InputError: an animation, and the format holds none.
    """
    entry = WRITTEN[format_of(target)]
    if info.kind == "still" or entry.frames == info.kind:
        return info.frame_count
    if info.kind == "animation":
        raise InputError(
            f"cannot write {info.frame_count} frames to '{target}': {entry.name} holds no animation. "
            "Choose .gif, .webp, .png or .avif.",
            code="no-animation",
        )
    return 1


def losses(info: PictureInfo, target: Path) -> tuple[str, ...]:
    """Say what of a picture the format of `target` cannot hold, one sentence each, before any work is done.

    Raises:
        InputError: see :func:`frames_kept`.
    """
    entry = WRITTEN[format_of(target)]
    lost: list[str] = []
    if frames_kept(info, target) < info.frame_count:
        lost.append(f"only the first of {info.frame_count} pages is written: {entry.name} holds one (choose .tif)")
    if info.dtype.itemsize == 2 and (not entry.sixteen_bit or (info.kind == "animation" and entry.name != "PNG")):
        lost.append(f"16 bit was reduced to 8: {entry.name} holds no more here (choose .png or .tif)")
    if info.channels in (2, 4) and entry.alpha is None:
        lost.append(f"transparency was laid over white: {entry.name} has none (choose .png, .webp or .avif)")
    if info.channels in (2, 4) and entry.alpha == "on-off" and info.format != "GIF":
        lost.append(f"partial transparency becomes all or nothing: {entry.name} has no more (choose .png or .webp)")
    if entry.colours is not None and info.format != entry.name:
        lost.append(
            f"colours become at most {entry.colours} in a picture: {entry.name} has no more (choose .png or .webp)"
        )
    if info.kind == "animation" and entry.name == "AVIF" and info.plays:
        lost.append("AVIF holds no number of repetitions: viewers play it for ever (choose .gif, .webp or .png)")
    iptc = info.metadata.iptc
    if iptc is not None and not (entry.name == "TIFF" or (entry.name == "JPEG" and len(iptc) <= JPEG_IPTC_BYTES)):
        lost.append(f"IPTC (captions and keywords) cannot be kept: {entry.name} has no place for it (choose .tif)")
    return (*lost, *_metadata_losses(info, entry))


def _metadata_losses(info: PictureInfo, entry: PictureFormat) -> list[str]:
    metadata = info.metadata
    lost = [
        label
        for label, present, kept in (
            (
                "the colour profile",
                metadata.icc_profile is not None,
                entry.profile and (entry.gray or info.channels > 2),
            ),
            ("EXIF", metadata.exif is not None, entry.exif and _fits(entry, metadata.exif, JPEG_EXIF_BYTES)),
            ("XMP", metadata.xmp is not None, entry.xmp and _fits(entry, metadata.xmp, JPEG_XMP_BYTES)),
            ("the gamma of its values", metadata.gamma is not None, entry.name == "PNG" or entry.profile),
            ("the dots per inch", metadata.dpi is not None, entry.name != "GIF"),
            ("cICP (colour signalling)", metadata.cicp is not None, entry.name == "PNG"),
        )
        if present and not kept
    ]
    names = [item.keyword for item in metadata.text if not _keeps_text(entry, item.keyword)]
    if names:
        lost.append(f"text ({', '.join(dict.fromkeys(names))})")
    return [f"{', '.join(lost)} cannot be kept: {entry.name} has no place for it (choose .png)"] if lost else []


def _fits(entry: PictureFormat, block: bytes | None, limit: int) -> bool:
    return entry.name != "JPEG" or block is None or len(block) <= limit


def _keeps_text(entry: PictureFormat, keyword: str) -> bool:
    if entry.text == "all":
        return True
    if keyword in TEXT_TAGS:
        return entry.exif
    if keyword == "parameters":  # goes where image generators look for it
        return entry.exif and entry.text != "tags"
    return entry.text == "comment" and keyword == "Comment"
