"""Matroska: what it carries, and the few things of a file that libav does not pass on.

Element numbers and meanings are those of RFC 9559.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from apisr.video.containers.base import PCM, Container
from apisr.video.containers.ebml import Element, children, content, elements, unsigned, whole
from apisr.video.info import FileStructure, TrackDetails

ENTRIES = {
    ".mkv": Container(
        "matroska",
        video=frozenset(
            {
                *("h264", "hevc", "av1", "vp8", "vp9", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3"),
                *("ffv1", "prores", "mjpeg", "theora", "dirac", "rv10", "rv20", "rv30", "rv40", "rawvideo"),
            }
        ),
        audio=(PCM - {"pcm_s8", "pcm_f32be", "pcm_f64be", "pcm_alaw", "pcm_mulaw"})
        | {
            *("aac", "mp3", "mp2", "mp1", "ac3", "eac3", "dts", "truehd", "mlp", "opus", "vorbis", "flac", "alac"),
            *("tta", "wavpack", "cook", "sipr", "ra_144", "ra_288", "atrac3"),
        },
        subtitle=frozenset({"subrip", "ass", "text", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}),
        attachments=True,
        cover=True,
        chapters=True,
        structure=True,
    )
}

HEADER, SEGMENT, CLUSTER, TRACKS, TRACK_ENTRY = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
INFO, CHAPTERS, TAGS, ATTACHMENTS, SEEK_HEAD, CUES, VOID = (
    *(0x1549A966, 0x1043A770, 0x1254C367, 0x1941A469, 0x114D9B74, 0x1C53BB6B, 0xEC),
)
TRACK_TYPE, VIDEO, TITLE, SEGMENT_UID = 0x83, 0xE0, 0x7BA9, 0x73A4
LANGUAGE_BCP47, ENABLED, CODEC_ID = 0x22B59D, 0xB9, 0x86
EDITION, EDITION_ORDERED, CHAPTER, CHAPTER_SEGMENT, CHAPTER_DISPLAY = 0x45B9, 0x45DD, 0xB6, 0x6E67, 0x80
ATTACHED_FILE, TAG, TARGETS, TARGET_LEVEL, TAG_TRACK, SIMPLE_TAG = 0x61A7, 0x7373, 0x63C0, 0x68CA, 0x63C5, 0x67C8
TAG_EDITION, TAG_CHAPTER, TAG_ATTACHMENT = 0x63C9, 0x63C4, 0x63C6
BLOCK_GROUP, BLOCKS, TRACK_NUMBER, CODEC_DELAY = 0xA0, (0xA1, 0xA3), 0xD7, 0x56AA
CLUSTER_TIME, TIME_SCALE = 0xE7, 0x2AD7B1
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
_VIDEO_TRACK = 1
#: Types of tracks that libav makes streams of: video, audio, subtitles, metadata.
_STREAM_TYPES = frozenset({_VIDEO_TRACK, 2, 0x11, 0x21})
_USUAL_LEVEL = 50
_USUAL_SCALE_NS = 1_000_000
#: A block lies at most so many units before its cluster.
_LOWEST_OFFSET = 1 << 15
#: The number of the track (up to 8 bytes) and the offset of the time.
_BLOCK_HEAD = 10
_LIBAV_ATTACHMENT_LIMIT = 1 << 28
#: libav reads this many segments of a file.
READ_SEGMENTS = 2


def declared_end(path: Path) -> int | None:
    """Return the offset at which the file says that it ends, None if it does not say."""
    with path.open("rb") as file:
        segment = _segment(file, path)
    return segment.end if segment is not None and segment.size is not None else None


def video_crop(path: Path, track: int | None = None) -> tuple[int, int, int, int]:
    """Return how many pixels of a video track are not shown: (top, bottom, left, right).

    Args:
        path: the file.
        track: position of the track in the file; None for the first video track.
    """
    with path.open("rb") as file:
        for element in top_level(file, path):
            if element.number == CLUSTER:
                break
            if element.number == TRACKS:
                return _crop_of(file, element, track)
    return 0, 0, 0, 0


def top_level(file: BinaryIO, path: Path) -> Iterator[Element]:
    """Yield the elements of the (first) segment."""
    segment = _segment(file, path)
    if segment is None:
        return
    limit = path.stat().st_size
    end = limit if segment.size is None else min(limit, segment.end)
    yield from elements(file, segment.start, end)


#: What a segment is made of.
_TOP_LEVEL = frozenset({INFO, CHAPTERS, TAGS, ATTACHMENTS, SEEK_HEAD, CUES, VOID, CLUSTER, TRACKS, 0xBF})


def break_of(path: Path) -> int | None:
    """Return the offset at which the structure of a segment breaks: libav looks for the next cluster in silence.

    None where it does not, or where the file does not say how long its parts are (as live streams).
    """
    with path.open("rb") as file:
        segment = _segment(file, path)
        if segment is None or segment.size is None:
            return None
        at, end = segment.start, min(segment.end, path.stat().st_size)
        for element in elements(file, segment.start, end):
            if element.number not in _TOP_LEVEL:
                return element.head
            if element.size is None:
                return None
            at = element.end
    return at if at < end else None


def structure(path: Path) -> FileStructure:
    """Read what a file has that libav flattens or leaves out."""
    words: dict[str, None] = {}
    with path.open("rb") as file:
        parts = [element for element in top_level(file, path) if element.number in (INFO, CHAPTERS, TAGS, TRACKS)]
        info = next((element for element in parts if element.number == INFO), None)
        chapters = next((element for element in parts if element.number == CHAPTERS), None)
        tags = [tag for element in parts if element.number == TAGS for tag in _named(file, element, TAG)]
        title = None if info is None else next(_named(file, info, TITLE), None)
        name = None if title is None else content(file, title).rstrip(b"\0").decode("utf-8", "surrogateescape")
        details = next((track_details(file, element) for element in parts if element.number == TRACKS), {})
        if chapters is not None:
            words |= dict.fromkeys(_chapter_structure(file, chapters))
        if any(_is_levelled(file, tag) for tag in tags):
            words["tags of other levels than the file and its streams"] = None
        if not words:
            return FileStructure(title=name, tracks=details)
        identity = None if info is None else next(_named(file, info, SEGMENT_UID), None)
        of_file = [tag for tag in tags if not targets(file, tag) & {TAG_TRACK, TAG_ATTACHMENT}]
        return FileStructure(
            words=tuple(words),
            title=name,
            chapters=whole(file, chapters),
            tags=tuple(whole(file, tag) for tag in of_file),
            identity=b"" if identity is None else content(file, identity),
            tracks=details,
        )


def track_details(file: BinaryIO, tracks: Element) -> dict[int, TrackDetails]:
    """Return what libav leaves out of the tracks, by number of the stream; only of those that have any.

    Args:
        file: the file.
        tracks: its element of all tracks.
    """
    found: dict[int, TrackDetails] = {}
    number = 0
    for entry in _named(file, tracks, TRACK_ENTRY):
        inside = {element.number: element for element in children(file, entry)}
        kind = inside.get(TRACK_TYPE)
        if CODEC_ID not in inside or kind is None or unsigned(file, kind) not in _STREAM_TYPES:
            continue
        language, enabled = inside.get(LANGUAGE_BCP47), inside.get(ENABLED)
        details = TrackDetails(
            "" if language is None else content(file, language).rstrip(b"\0").decode("ascii", "replace"),
            enabled is None or not enabled.size or bool(unsigned(file, enabled)),
        )
        if details != TrackDetails():
            found[number] = details
        number += 1
    return found


def targets(file: BinaryIO, tag: Element) -> set[int]:
    """Return which kinds of targets a tag names; none of them where it belongs to the file."""
    kinds = {TAG_TRACK, TAG_EDITION, TAG_CHAPTER, TAG_ATTACHMENT}
    return {
        element.number
        for group in _named(file, tag, TARGETS)
        for element in children(file, group)
        if element.number in kinds and any(content(file, element))
    }


def oversized_attachments(path: Path) -> int:
    """Return how many attachments are too large for libav, which passes over them in silence."""
    count = 0
    with path.open("rb") as file:
        for element in top_level(file, path):
            if element.number == ATTACHMENTS:
                for attached in _named(file, element, ATTACHED_FILE):
                    count += (attached.size or 0) > _LIBAV_ATTACHMENT_LIMIT
    return count


def joined_files(path: Path) -> int:
    """Return how many segments follow one another in a file: each was a file of its own."""
    with path.open("rb") as file:
        return sum(element.number == SEGMENT for element in elements(file, 0, path.stat().st_size))


def early_blocks(path: Path) -> dict[int, int]:
    """Return the times of the blocks that are shown before zero, in units of the file, by where they begin.

    Only the first clusters are looked at, up to one without such a block.
    """
    found: dict[int, int] = {}
    scale, delays = _USUAL_SCALE_NS, dict[int, int]()
    with path.open("rb") as file:
        for element in top_level(file, path):
            if element.number == INFO:
                scale = next((unsigned(file, one) for one in _named(file, element, TIME_SCALE)), scale) or scale
            elif element.number == TRACKS:
                delays = _codec_delays(file, element)
            elif element.number == CLUSTER:
                early = _early_in(file, element, {track: round(ns / scale) for track, ns in delays.items()}, path)
                found |= early
                if not early:
                    break
    return found


def _codec_delays(file: BinaryIO, tracks: Element) -> dict[int, int]:
    """Return by how many nanoseconds the times of each track are late (what its decoder throws away)."""
    delays: dict[int, int] = {}
    for entry in _named(file, tracks, TRACK_ENTRY):
        values = {
            element.number: unsigned(file, element)
            for element in children(file, entry)
            if element.number in (TRACK_NUMBER, CODEC_DELAY)
        }
        delays[values.get(TRACK_NUMBER, 0)] = values.get(CODEC_DELAY, 0)
    return delays


def _early_in(file: BinaryIO, cluster: Element, delays: dict[int, int], path: Path) -> dict[int, int]:
    found: dict[int, int] = {}
    begin = 0
    for element in children(file, cluster, None if cluster.size is not None else path.stat().st_size):
        if element.number == CLUSTER_TIME:
            begin = unsigned(file, element)
        if begin > _LOWEST_OFFSET:
            break
        blocks = children(file, element) if element.number == BLOCK_GROUP else (element,)
        for block in blocks:
            if block.number not in BLOCKS:
                continue
            head = content(file, replace(block, size=min(_BLOCK_HEAD, block.size or 0)))
            width = 9 - head[0].bit_length() if head else 0
            moment = begin + int.from_bytes(head[width : width + 2], "big", signed=True)
            if moment < 0:
                track = int.from_bytes(head[:width], "big") & ((1 << (7 * width)) - 1)
                found[block.start] = moment - delays.get(track, 0)
    return found


def _segment(file: BinaryIO, path: Path) -> Element | None:
    for element in elements(file, 0, path.stat().st_size):
        if element.number == SEGMENT:
            return element
        if element.number != HEADER:
            return None
    return None


def _named(file: BinaryIO, parent: Element, number: int) -> Iterator[Element]:
    return (element for element in children(file, parent) if element.number == number)


def _crop_of(file: BinaryIO, tracks: Element, track: int | None) -> tuple[int, int, int, int]:
    for position, entry in enumerate(_named(file, tracks, TRACK_ENTRY)):
        kind = 0
        crops = dict.fromkeys(_CROPS.values(), 0)
        for element in children(file, entry):
            if element.number == TRACK_TYPE:
                kind = unsigned(file, element)
            elif element.number == VIDEO:
                for detail in children(file, element):
                    if detail.number in _CROPS:
                        crops[_CROPS[detail.number]] = unsigned(file, detail)
        if kind == _VIDEO_TRACK and track in (None, position):
            return crops["top"], crops["bottom"], crops["left"], crops["right"]
    return 0, 0, 0, 0


def _chapter_structure(file: BinaryIO, chapters: Element) -> Iterator[str]:
    editions = list(_named(file, chapters, EDITION))
    if len(editions) > 1:
        yield f"{len(editions)} editions of chapters"
    for edition in editions:
        if any(unsigned(file, flag) for flag in _named(file, edition, EDITION_ORDERED)):
            yield "ordered chapters"
        for chapter in _named(file, edition, CHAPTER):
            inside = [element.number for element in children(file, chapter)]
            if CHAPTER in inside:
                yield "nested chapters"
            if CHAPTER_SEGMENT in inside:
                yield "chapters that lie in other files"
            if inside.count(CHAPTER_DISPLAY) > 1:
                yield "chapter titles in several languages"


def _is_levelled(file: BinaryIO, tag: Element) -> bool:
    for targets in _named(file, tag, TARGETS):
        for element in children(file, targets):
            if element.number == TARGET_LEVEL and unsigned(file, element) != _USUAL_LEVEL:
                return True
            if element.number in (TAG_EDITION, TAG_CHAPTER, TAG_ATTACHMENT) and any(content(file, element)):
                return True
    return any(
        SIMPLE_TAG in [inner.number for inner in children(file, simple)] for simple in _named(file, tag, SIMPLE_TAG)
    )
