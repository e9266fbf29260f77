"""What a finished Matroska file lacks after libav wrote it, put in without moving a single frame.

Three things are done. The display size of the video: PyAV does not pass the shape of the pixels to the muxer, and
codecs without a field for it (VP9) would be shown squeezed. Its element goes into the track, in the room of a padded
name that is trimmed again. In the same way tracks get their language as a tag of BCP 47, and the flag of those that are
switched off. And the structure of a Matroska source: editions, nested and ordered chapters, their languages, the
levels of tags, the identity of the segment. These elements are copied byte for byte to the end of the file; what libav
wrote in their place becomes void, and the table of contents points to the new ones.

Numbers and meanings of elements: RFC 9559; their form: RFC 8794.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import BinaryIO

from apisr.video.containers import matroska
from apisr.video.containers.ebml import Element, children, content, elements, encoded, unsigned, whole
from apisr.video.info import FileStructure, TrackDetails

#: So many bytes of padding in the name of the video track are enough for its display size.
_DISPLAY_PADDING = 24
_PAD = b" "
_CRC, _SEEK, _SEEK_ID, _SEEK_POSITION = 0xBF, 0x4DBB, 0x53AB, 0x53AC
_NAME, _PIXEL_WIDTH, _PIXEL_HEIGHT, _STEREO = 0x536E, 0xB0, 0xBA, 0x53B8
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_TAG_NAME = 0x45A3
_SIDE_BY_SIDE, _ABOVE = {1, 11}, {2, 3}
_LEAST_VOID = 2


def name_padding(details: TrackDetails) -> str:
    """Return what the name of a track must end with, so that :func:`describe_tracks` finds room in it."""
    return (_PAD * (_DISPLAY_PADDING + len(_elements_of(details)))).decode()


def describe_tracks(path: Path, video: int, sar: Fraction | None, details: Mapping[int, TrackDetails]) -> None:
    """Write into the tracks what libav does not, and trim their padded names.

    Args:
        path: the finished file.
        video: place of the upscaled video among the tracks, whose name is padded.
        sar: width over height of one of its pixels, None if unknown.
        details: of the tracks that have any, by their place; their names are padded.
    """
    with path.open("r+b") as file:
        tracks = _first(file, path, matroska.TRACKS)
        entries = [] if tracks is None else list(children(file, tracks))
        for place, entry in enumerate(entry for entry in entries if entry.number == matroska.TRACK_ENTRY):
            if place == video or place in details:
                shape = sar if place == video else None
                _rewrite(file, entry, _described_entry(file, entry, shape, details.get(place, TrackDetails())))
        if tracks is not None:
            _renew_checksum(file, tracks)


def _elements_of(details: TrackDetails) -> bytes:
    language = details.language.encode("ascii", "ignore")
    return (encoded(matroska.LANGUAGE_BCP47, language, size_bytes=_size_bytes(language)) if language else b"") + (
        b"" if details.enabled else encoded(matroska.ENABLED, b"\0", size_bytes=1)
    )


def keep_structure(path: Path, structure: FileStructure, own_tags: Collection[str]) -> None:
    """Put the chapters, tags and segment identity of a Matroska source into the finished file.

    Args:
        path: the finished file.
        structure: what was read from the file that it was made from.
        own_tags: names of tags that are the output's own and are kept beside those of the source.
    """
    with path.open("r+b") as file:
        written = _first(file, path, matroska.TAGS)
        _append(
            file,
            path,
            {matroska.CHAPTERS: structure.chapters, matroska.TAGS: _tags(structure, file, written, own_tags)},
        )
        _set_identity(structure, file, _first(file, path, matroska.INFO))


def _described_entry(file: BinaryIO, entry: Element, sar: Fraction | None, details: TrackDetails) -> bytes:
    """Return the content of a track entry with what libav did not write, and without the padding of its name."""
    parts: list[bytes] = []
    replaced = {matroska.LANGUAGE_BCP47} if details.language else set[int]()
    for element in children(file, entry):
        if element.number == _NAME:
            name = content(file, element).removesuffix(name_padding(details).encode())
            parts += [encoded(_NAME, name, size_bytes=_size_bytes(name))] if name else []
        elif element.number == matroska.VIDEO and sar is not None:
            video = _video_with_size(file, element, sar)
            parts.append(encoded(matroska.VIDEO, video, size_bytes=_size_bytes(video)))
        elif element.number not in replaced:
            parts.append(whole(file, element))
    return b"".join(parts) + _elements_of(details)


def _video_with_size(file: BinaryIO, video: Element, sar: Fraction) -> bytes:
    skipped = {_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT}
    kept = [element for element in children(file, video) if element.number not in skipped]
    values = {element.number: unsigned(file, element) for element in kept if (element.size or 0) <= 8}
    width, height = display_size((values[_PIXEL_WIDTH], values[_PIXEL_HEIGHT]), sar, values.get(_STEREO, 0))
    sizes = ((_DISPLAY_WIDTH, width), (_DISPLAY_HEIGHT, height))
    new = b"".join(encoded(number, _number(value), size_bytes=1) for number, value in sizes)
    return b"".join(whole(file, element) for element in kept) + new


def display_size(pixels: tuple[int, int], sar: Fraction, stereo_mode: int = 0) -> tuple[int, int]:
    """Return whole numbers in exactly the shape in which pictures are shown, about as large as they are.

    Args:
        pixels: (width, height) of the coded pictures.
        sar: width over height of one pixel.
        stereo_mode: of RFC 9559; of two views in a picture the size of one is meant.

    >>> display_size((1440, 960), Fraction(8, 9)), display_size((192, 128), Fraction(32, 27))
    ((1280, 960), (240, 135))
    """
    across = pixels[0] * sar.numerator
    down = pixels[1] * sar.denominator
    if stereo_mode in _SIDE_BY_SIDE:
        down *= 2
    elif stereo_mode in _ABOVE:
        across *= 2
    shared = gcd(across, down)
    across, down = across // shared, down // shared
    lines = pixels[1] // 2 if stereo_mode in _ABOVE else pixels[1]
    times = max(1, -(-lines // down))
    return across * times, down * times


def _rewrite(file: BinaryIO, parent: Element, payload: bytes) -> None:
    """Replace the content of an element by a shorter one; the rest becomes void."""
    room = (parent.size or 0) - len(payload)
    if (room and room < _LEAST_VOID) or room < 0:
        return
    file.seek(parent.start)
    file.write(payload + _void(room))


def _void(size: int) -> bytes:
    """Return a void element of `size` bytes in all (0, or at least 2)."""
    if not size:
        return b""
    if size < 9:
        return encoded(matroska.VOID, bytes(size - 2), size_bytes=1)
    return encoded(matroska.VOID, bytes(size - 9), size_bytes=8)


def _renew_checksum(file: BinaryIO, parent: Element) -> None:
    """Compute the checksum of an element again, where it begins with one."""
    first = next(children(file, parent), None)
    if first is None or first.number != _CRC:
        return
    file.seek(first.end)
    checksum = zlib.crc32(file.read(parent.end - first.end))
    file.seek(first.start)
    file.write(checksum.to_bytes(4, "little"))


def _tags(structure: FileStructure, file: BinaryIO, written: Element | None, own: Collection[str]) -> bytes:
    """Return tags: those of the source, and of the output those of tracks and its own."""
    if not structure.tags:
        return b""
    parts = list(structure.tags)
    for tag in children(file, written) if written is not None else ():
        if tag.number != matroska.TAG:
            continue
        targets = matroska.targets(file, tag)
        if matroska.TAG_TRACK in targets:
            parts.append(whole(file, tag))
        elif not targets:
            inside = list(children(file, tag))
            kept = [element for element in inside if element.number != matroska.SIMPLE_TAG]
            own_ones = [element for element in inside if element not in kept and _name_of(file, element) in own]
            if own_ones:
                parts.append(encoded(matroska.TAG, b"".join(whole(file, element) for element in [*kept, *own_ones])))
    return encoded(matroska.TAGS, b"".join(parts))


def _name_of(file: BinaryIO, simple: Element) -> str:
    names = [content(file, element) for element in children(file, simple) if element.number == _TAG_NAME]
    return names[0].decode("utf-8", "replace") if names else ""


def _append(file: BinaryIO, path: Path, parts: dict[int, bytes]) -> None:
    """Append elements to the segment, void those that they replace, and write the table of contents anew."""
    before = list(matroska.top_level(file, path))
    segment = next(element for element in elements(file, 0, path.stat().st_size) if element.number == matroska.SEGMENT)
    seek_head = next((element for element in before if element.number == matroska.SEEK_HEAD), None)
    closed = segment.size is not None and segment.end == path.stat().st_size and segment.start - segment.head == 12
    if not closed or seek_head is None:
        return
    places = {element.number: element.head for element in reversed(before) if element.number != matroska.VOID}
    end = segment.end
    for number, payload in parts.items():
        if not payload:
            continue
        for element in before:
            if element.number == number:
                _overwrite(file, element.head, element.end - element.head)
        places[number] = end
        file.seek(end)
        file.write(payload)
        end += len(payload)
    _write_seek_head(file, segment, seek_head, before, places)
    file.seek(segment.start - 8)
    file.write(((end - segment.start) | 1 << 56).to_bytes(8, "big"))


def _overwrite(file: BinaryIO, at: int, size: int) -> None:
    file.seek(at)
    file.write(_void(size))


def _write_seek_head(
    file: BinaryIO, segment: Element, seek_head: Element, before: Sequence[Element], places: dict[int, int]
) -> None:
    """Write the table of contents into its old room and that of the void after it."""
    following = next((element for element in before if element.head == seek_head.end), None)
    room = seek_head.end - seek_head.head
    if following is not None and following.number == matroska.VOID:
        room += following.end - following.head
    listed = (matroska.INFO, matroska.TRACKS, matroska.CHAPTERS, matroska.ATTACHMENTS, matroska.TAGS, matroska.CUES)
    entries = b"".join(_seek(number, places[number] - segment.start) for number in listed if number in places)
    checksum = encoded(_CRC, zlib.crc32(entries).to_bytes(4, "little"), size_bytes=1)
    table = encoded(matroska.SEEK_HEAD, checksum + entries, size_bytes=_size_bytes(checksum + entries))
    rest = room - len(table)
    if rest == 0 or rest >= _LEAST_VOID:
        file.seek(seek_head.head)
        file.write(table + _void(rest))


def _seek(number: int, position: int) -> bytes:
    place = encoded(_SEEK_POSITION, _number(position), size_bytes=1)
    return encoded(_SEEK, encoded(_SEEK_ID, number.to_bytes(4, "big"), size_bytes=1) + place, size_bytes=1)


def _set_identity(structure: FileStructure, file: BinaryIO, info: Element | None) -> None:
    """Give the segment the identity of the source, by which other files refer to it."""
    if info is None or not structure.identity:
        return
    own = next((element for element in children(file, info) if element.number == matroska.SEGMENT_UID), None)
    if own is not None and own.size == len(structure.identity):
        file.seek(own.start)
        file.write(structure.identity)
        _renew_checksum(file, info)


def _first(file: BinaryIO, path: Path, number: int) -> Element | None:
    return next((element for element in matroska.top_level(file, path) if element.number == number), None)


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _size_bytes(payload: bytes) -> int:
    """Return how many bytes the size of a content needs."""
    return next(count for count in range(1, 9) if len(payload) < (1 << (7 * count)) - 1)
