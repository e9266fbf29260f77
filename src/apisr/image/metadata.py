"""EXIF, XMP and texts: reading the orientation, taking it out once the pixels are turned, adding provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from html import escape

from PIL import Image, TiffImagePlugin

from apisr.image.types import Metadata, TextEntry

#: Keywords of PNG's texts that TIFF and EXIF have a tag for.
TEXT_TAGS = {"Description": 270, "Software": 305, "Creation Time": 306, "Author": 315, "Copyright": 33432}

_MAKE, _MODEL = 271, 272
_GPS_IFD = 0x8825
_ORIENTATION = 0x0112
_SOFTWARE = 0x0131
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_CM_PER_INCH, _MOST_DPI = 2.54, 1e6
_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_XMP_ORIENTATION = re.compile(
    rb"""\s*\btiff:Orientation\s*=\s*("[^"]*"|'[^']*')|<tiff:Orientation\b[^>]*/>|"""
    rb"""<tiff:Orientation\b[^>]*>[^<]*</tiff:Orientation\s*>"""
)
_XMP_START = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_XMP_NAMESPACE = "https://apisr.invalid/ns/1.0/"


class _Exact(str):
    """A text of EXIF as Pillow reads it, byte by byte; written back as the same bytes (Pillow would write ``?``)."""

    __slots__ = ()

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        """Return the bytes that it was read from."""
        del encoding
        return super().encode("latin-1", errors)


def orientation_of(exif: bytes | None, xmp: bytes | None) -> int:
    """Return the orientation (1 to 8) of EXIF, else of XMP, else 1."""
    stated = _exif(exif).get(_ORIENTATION) if exif else None
    if stated is None and xmp:
        found = _XMP_ORIENTATION.search(xmp)
        digits = re.findall(rb"[1-8]", found.group()) if found else []
        stated = int(digits[-1]) if digits else None
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def without_orientation(metadata: Metadata) -> Metadata:
    """Return the metadata of a picture whose pixels have been turned upright: neither EXIF nor XMP turns it again."""
    exif, xmp = metadata.exif, metadata.xmp
    if exif is not None:
        parsed = _exif(exif)
        parsed.pop(_ORIENTATION, None)
        exif = _exif_bytes(parsed)
    if xmp is not None:
        xmp = _XMP_ORIENTATION.sub(b"", xmp)
    return replace(metadata, exif=exif, xmp=xmp)


def with_provenance(metadata: Metadata, provenance: Mapping[str, str] | None, format_name: str) -> Metadata:
    """Add what made a picture to its metadata, where the format has a place for it.

    PNG gets a text for each entry, GIF a comment, TIFF its Software tag and XMP; JPEG, WebP and AVIF get EXIF's
    Software tag and XMP. BMP has no place.

    Args:
        metadata: of the picture.
        provenance: names and values, for example ``{"Software": "apisr 1.0", "Model": "apisr-x2"}``.
        format_name: of the output.
    """
    if not provenance or format_name == "BMP":
        return metadata
    if format_name == "PNG":
        # A text of another program stays and comes last: readers of prompts go by it ("Software": "NovelAI").
        kept = [entry for entry in metadata.text if not _of_same_program(entry, provenance)]
        return replace(metadata, text=(*(TextEntry(name, value) for name, value in provenance.items()), *kept))
    if format_name == "GIF":
        summary = "; ".join(f"{name}: {value}" for name, value in provenance.items())
        return replace(metadata, text=(*metadata.text, TextEntry("Comment", summary)))
    metadata = replace(metadata, xmp=_xmp_with(metadata.xmp, provenance))
    software = provenance.get("Software")
    if software and format_name == "TIFF":
        kept = [entry for entry in metadata.text if entry.keyword != "Software"]
        return replace(metadata, text=(*kept, TextEntry("Software", software)))
    if software:
        exif = _exif(metadata.exif)
        exif[_SOFTWARE] = software
        return replace(metadata, exif=_exif_bytes(exif))
    return metadata


def exif_with_texts(metadata: Metadata) -> bytes | None:
    """Return EXIF with the texts that it has a tag for.

    The text "parameters" becomes the user comment, where image generators look for it.
    """
    texts = {entry.keyword: entry.text for entry in metadata.text}
    tags = {tag: texts[keyword] for keyword, tag in TEXT_TAGS.items() if keyword in texts}
    if not tags and "parameters" not in texts:
        return metadata.exif
    exif = _exif(metadata.exif)
    for tag, text in tags.items():
        if tag not in exif:
            exif[tag] = text if text.isascii() else text.encode()
    details = exif.get_ifd(_EXIF_IFD)
    if "parameters" in texts and _USER_COMMENT not in details:
        details[_USER_COMMENT] = b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
        exif[_EXIF_IFD] = details
    return _exif_bytes(exif)


def exif_with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes | None:
    """Return EXIF with the dots per inch, where it does not state them itself."""
    parsed = _exif(exif)
    if _X_RESOLUTION not in parsed:
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), dpi, strict=True):
            parsed[tag] = TiffImagePlugin.IFDRational(round(value * 1000), 1000)
        parsed[_RESOLUTION_UNIT] = 2
    return _exif_bytes(parsed)


def resolution_of(exif: bytes | None) -> tuple[float, float] | None:
    """Return the dots per inch (horizontal, vertical) that EXIF states; None where it states none, or only a shape."""
    parsed = _exif(exif)
    per_unit = {2: 1.0, 3: _CM_PER_INCH}.get(parsed.get(_RESOLUTION_UNIT, 2))
    if per_unit is None:
        return None
    try:
        across, down = (float(parsed[tag]) * per_unit for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if is_resolution(across, down) else None


def is_resolution(across: float, down: float) -> bool:
    """Whether two numbers can be the dots per inch of a picture.

    >>> is_resolution(300, 300), is_resolution(float("nan"), 72), is_resolution(0, 0)
    (True, False, False)
    """
    return all(0 < value < _MOST_DPI for value in (across, down))


def described(source: Image.Exif) -> bytes | None:
    """Return what of a TIFF file's tags describes the picture (not what lays it out) as EXIF."""
    exif = Image.Exif()
    for tag in (_MAKE, _MODEL, *TEXT_TAGS.values()):
        if tag in source:
            exif[tag] = _exact(source[tag])
    for tag in (_EXIF_IFD, _GPS_IFD):
        directory = source.get_ifd(tag)
        if directory:
            exif[tag] = {key: _exact(value) for key, value in directory.items()}
    content = _exif_bytes(exif)
    return readable_exif(content) if content else None


def tiff_tags(exif: bytes) -> dict[int, bytes]:
    """Return the texts of EXIF's first directory by their tags, as bytes."""
    parsed = _exif(exif)
    return {tag: _encoded(parsed[tag]) for tag in (_MAKE, _MODEL, *TEXT_TAGS.values()) if tag in parsed}


def _encoded(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")


def tiff_directory(exif: bytes, tag: int, offset: int) -> bytes | None:
    """Return a directory of EXIF as a TIFF file has it at an offset; None where there is none.

    Args:
        exif: the block.
        tag: 0x8769 for the details of the shot, 0x8825 for GPS.
        offset: where in the file it is going to be.
    """
    entries = _exif(exif).get_ifd(tag)
    if not entries:
        return None
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II", group=tag)
    for key, value in entries.items():
        directory[key] = value
    return directory.tobytes(offset)


def iptc_segment(iptc: bytes) -> bytes:
    """Return the segment of JPEG that holds a record of IPTC, as Photoshop writes it."""
    resource = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + b"\0" * (len(iptc) % 2)
    content = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + (len(content) + 2).to_bytes(2, "big") + content


def comment_of(metadata: Metadata) -> bytes | None:
    """Return the comments as one block of bytes, for formats that have just that."""
    texts = [entry.text for entry in metadata.text if entry.keyword == "Comment"]
    return "\n".join(texts).encode() if texts else None


def readable_exif(exif: bytes) -> bytes | None:
    """Return EXIF that can be written back, None if it is damaged."""
    parsed = _exif(exif)
    return _exif_bytes(parsed)


def _of_same_program(entry: TextEntry, provenance: Mapping[str, str]) -> bool:
    ours = provenance.get(entry.keyword)
    return ours is not None and (entry.keyword != "Software" or entry.text.split()[:1] == ours.split()[:1])


def _exif(content: bytes | None) -> Image.Exif:
    exif = Image.Exif()
    if content:
        try:
            exif.load(content)
            for tag, value in list(exif.items()):
                exif[tag] = _exact(value)
            for directory in (exif.get_ifd(tag) for tag in (_EXIF_IFD, _GPS_IFD)):
                directory |= {tag: _exact(value) for tag, value in directory.items()}
            exif.tobytes()
        except Exception:  # noqa: BLE001 - Pillow's parser of EXIF raises almost anything on damaged blocks
            return Image.Exif()
    return exif


def _exact(value: object) -> object:
    return _Exact(value) if isinstance(value, str) and not value.isascii() else value


def _exif_bytes(exif: Image.Exif) -> bytes | None:
    return exif.tobytes() if len(exif) else None


def _attribute(value: str) -> str:
    """Return the value of an XML attribute in quotes; line breaks and tabs in it are kept."""
    text = escape(value)
    for character in "\t\n\r":
        text = text.replace(character, f"&#{ord(character)};")
    return f'"{text}"'


def _xmp_with(xmp: bytes | None, provenance: Mapping[str, str]) -> bytes:
    attributes = "".join(
        f"\n  apisr:{re.sub(r'[^A-Za-z0-9_]', '', name) or 'Note'}={_attribute(value)}"
        for name, value in provenance.items()
        if name != "Software"
    )
    tool = f"<xmp:CreatorTool>{escape(provenance['Software'])}</xmp:CreatorTool>" if "Software" in provenance else ""
    described = (
        f'<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:apisr="{_XMP_NAMESPACE}"'
        f"{attributes}>{tool}</rdf:Description>"
    ).encode()
    if xmp and xmp.count(b"</rdf:RDF>") == 1:
        kept = re.sub(rb"<xmp:CreatorTool>[^<]*</xmp:CreatorTool>|\s+xmp:CreatorTool=\"[^\"]*\"", b"", xmp)
        return kept.replace(b"</rdf:RDF>", described + b"</rdf:RDF>")
    return (
        _XMP_START
        + b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        + described
        + b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
