"""EXIF, XMP and texts: reading the orientation, taking it out once the pixels are turned, adding provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from PIL import Image

from apisr.image.types import Metadata, TextEntry

_ORIENTATION = 0x0112
_SOFTWARE = 0x0131
_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_XMP_ORIENTATION = re.compile(
    rb"""\s*\btiff:Orientation\s*=\s*("[^"]*"|'[^']*')|<tiff:Orientation\b[^>]*/>|"""
    rb"""<tiff:Orientation\b[^>]*>[^<]*</tiff:Orientation\s*>"""
)
_XMP_START = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_XMP_NAMESPACE = "https://apisr.invalid/ns/1.0/"


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
        kept = [entry for entry in metadata.text if entry.keyword not in provenance]
        return replace(metadata, text=(*kept, *(TextEntry(name, value) for name, value in provenance.items())))
    if format_name == "GIF":
        said = "; ".join(f"{name}: {value}" for name, value in provenance.items())
        return replace(metadata, text=(*metadata.text, TextEntry("Comment", said)))
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


def exif_with_parameters(metadata: Metadata) -> bytes | None:
    """Return EXIF with the text "parameters" as its user comment, where image generators look for it."""
    text = next((entry.text for entry in metadata.text if entry.keyword == "parameters"), None)
    if text is None:
        return metadata.exif
    exif = _exif(metadata.exif)
    details = exif.get_ifd(_EXIF_IFD)
    if _USER_COMMENT not in details:
        details[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
        exif[_EXIF_IFD] = details
    return _exif_bytes(exif)


def comment_of(metadata: Metadata) -> bytes | None:
    """Return the comments as one block of bytes, for formats that have just that."""
    texts = [entry.text for entry in metadata.text if entry.keyword == "Comment"]
    return "\n".join(texts).encode() if texts else None


def readable_exif(exif: bytes) -> bytes | None:
    """Return EXIF that can be written back, None if it is damaged."""
    parsed = _exif(exif)
    return _exif_bytes(parsed)


def _exif(content: bytes | None) -> Image.Exif:
    exif = Image.Exif()
    if content:
        try:
            exif.load(content)
            exif.tobytes()
        except Exception:  # noqa: BLE001 - Pillow's parser of EXIF raises almost anything on damaged blocks
            return Image.Exif()
    return exif


def _exif_bytes(exif: Image.Exif) -> bytes | None:
    return exif.tobytes() if len(exif) else None


def _xmp_with(xmp: bytes | None, provenance: Mapping[str, str]) -> bytes:
    attributes = "".join(
        f"\n  apisr:{re.sub(r'[^A-Za-z0-9_]', '', name) or 'Note'}={quoteattr(value)}"
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
