"""What a file says about itself beside its packets: declared sizes, indexes, page and packet numbers.

libav passes over what is damaged and goes on, often without a word. These numbers do not come from what it reads, so
they show what it passed over. Nothing here decodes anything.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from apisr.core.errors import InputError
from apisr.video.colour import ChromaPosition, bit_depth, chroma_shift
from apisr.video.containers import asf, avi, matroska, nut, obu, ogg, quicktime, realmedia
from apisr.video.index import PacketIndex
from apisr.video.info import SourceInfo
from apisr.video.sequence import is_sequence

_JPEG, _JPEG_END, _TAIL_BYTES = b"\xff\xd8", b"\xff\xd9", 4096
_IVF_FRAME_BYTES = 12
_Y4M_FRAME = b"FRAME\n"
_Y4M_HEADER_BYTES = 4096


def truncation(path: Path, container: str) -> str | None:
    """Compare the size that a container declares with the size of the file; return what is wrong, in words."""
    if is_sequence(path):
        return None
    readers = {
        "matroska": matroska.declared_end,
        "mov": quicktime.declared_end,
        "avi": avi.declared_end,
        "asf": asf.declared_end,
    }
    reader = next((reader for name, reader in readers.items() if name in container), None)
    declared, size = None if reader is None else reader(path), path.stat().st_size
    return f"it declares {declared} bytes and has {size}" if declared is not None and declared > size else None


def check_joined(path: Path, container: str) -> None:
    """Check that nothing follows in a file that players and libav leave out.

    Raises:
        InputError: several complete files stand one after another in it, and only the first are read.
    """
    if is_sequence(path):
        return
    counters = (
        ("matroska", matroska.joined_files, matroska.READ_SEGMENTS),
        ("mov", quicktime.joined_files, 1),
        ("avi", avi.joined_files, 1),
    )
    for name, count, read in counters:
        found = count(path) if name in container.split(",") else 0
        if found > read:
            raise InputError(
                f"'{path}' is {found} files joined end to end, of which {read} can be read. Take them apart, or join "
                "them with a program that knows the format (mkvmerge, ffmpeg).",
                code="joined-files",
            )


def lost_parts(source: SourceInfo, index: PacketIndex) -> list[str]:
    """Return what is missing in a file by its own numbers, in words."""
    if is_sequence(source.path):
        return []
    check = next((check for name, check in _CHECKS.items() if name in source.container.split(",")), None)
    return check(source, index) if check is not None else []


def unshown_beginning(index: PacketIndex) -> str | None:
    """Say that a video begins with pictures that refer to others which are not in the file; None where it does not.

    A recording begins so that was started in the middle, and a file whose first picture is damaged.
    """
    count = index.before_keyframe
    if not count:
        return None
    return f"its first {count} pictures come before the first keyframe: what they refer to is not in the file."


def _ogg(source: SourceInfo, _: PacketIndex) -> list[str]:
    missing, open_ended = ogg.missing_pages(source.path)
    return [
        *([f"{missing} pages are missing"] if missing else []),
        *([f"{open_ended} streams end without their last page"] if open_ended else []),
    ]


def _avi(source: SourceInfo, _: PacketIndex) -> list[str]:
    problem = avi.index_problem(source.path)
    return [problem] if problem else []


def _asf(source: SourceInfo, _: PacketIndex) -> list[str]:
    breaks = asf.broken_numbers(source.path)
    return [f"the numbers of its pieces break at {breaks} places"] if breaks else []


def _realmedia(source: SourceInfo, _: PacketIndex) -> list[str]:
    missing, declared = realmedia.missing_packets(source.path)
    return [f"{missing} of {declared} packets cannot be reached"] if missing else []


def _quicktime(source: SourceInfo, _: PacketIndex) -> list[str]:
    tail = quicktime.empty_tail(source.path)
    return [
        *(f"the tables of a track differ ({found})" for found in quicktime.differing_tables(source.path)),
        *([f"its last {tail} bytes are empty"] if tail else []),
    ]


def _matroska(source: SourceInfo, _: PacketIndex) -> list[str]:
    at = matroska.break_of(source.path)
    return [] if at is None else [f"its structure breaks at byte {at}"]


def _nut(source: SourceInfo, index: PacketIndex) -> list[str]:
    """Compare the end that the index states with that of the video, where nothing else is in the file."""
    stated = nut.last_time_s(source.path) if len(source.streams) == 1 else None
    last = int(index.pts[-1]) * source.video.time_base
    if stated is None or stated - last < 1 / (2 * index.rate):
        return []
    return [f"its index states a last frame at {float(stated):.3f} s, found is one at {float(last):.3f} s"]


def _pictures(source: SourceInfo, _: PacketIndex) -> list[str]:
    """A row of JPEG pictures that begins with something else is what is left of another file."""
    with source.path.open("rb") as file:
        if file.read(2) != _JPEG:
            return ["it does not begin with a picture"]
        file.seek(max(0, file.seek(0, io.SEEK_END) - _TAIL_BYTES))
        return [] if file.read().rstrip(b"\0").endswith(_JPEG_END) else ["it ends inside a picture"]


def _ivf(source: SourceInfo, _: PacketIndex) -> list[str]:
    """Follow the frames of an IVF file, each of which states its size."""
    size = source.path.stat().st_size
    with source.path.open("rb") as file:
        end = int.from_bytes(file.read(8)[6:], "little")
        while end < size:
            file.seek(end)
            end += _IVF_FRAME_BYTES + int.from_bytes(file.read(4), "little")
    return [f"its last frame ends at byte {end} of {size}"] if end > size else []


def _dv(source: SourceInfo, index: PacketIndex) -> list[str]:
    """Compare the size of a file of DV frames with their number: 10 or 12 sequences of 12,000 bytes each, or more."""
    with source.path.open("rb") as file:
        head = file.read(4)
    frame = 144_000 if head[3:] >= b"\x80" else 120_000
    size = source.path.stat().st_size
    whole = index.frames > 0 and size % index.frames == 0 and (size // index.frames) % frame == 0
    return [] if whole else [f"{index.frames} frames and a part of one are in its {size} bytes"]


def _obu(source: SourceInfo, index: PacketIndex) -> list[str]:
    """Compare the frames with the marks that stand before each in a plain AV1 stream."""
    marks, rest = obu.temporal_units(source.path)
    if rest:
        return [f"its structure breaks, {rest} bytes are not read"]
    return [f"it holds {marks} frames, of which {index.frames} are found"] if marks > index.frames else []


def _y4m(source: SourceInfo, index: PacketIndex) -> list[str]:
    """Compare the size of a file of plain frames with that of its frames."""
    frames = index.frames
    with source.path.open("rb") as file:
        head = file.read(_Y4M_HEADER_BYTES)
    begin = head.find(b"\n") + 1
    name = source.video.pixel_format
    if not begin or not head.startswith(_Y4M_FRAME, begin):
        return []
    width, height = source.video.width, source.video.height
    across, down = chroma_shift(name)
    planes = 1 if name.startswith("gray") else 3 + name.startswith("yuva")
    samples = width * height * (2 if planes == 4 else 1)
    if planes > 1:
        samples += 2 * (-(-width >> across)) * (-(-height >> down))
    size = begin + frames * (len(_Y4M_FRAME) + samples * (2 if bit_depth(name) > 8 else 1))
    actual = source.path.stat().st_size
    return [f"{frames} frames take {size} bytes and it has {actual}"] if size != actual else []


_CHECKS: dict[str, Callable[[SourceInfo, PacketIndex], list[str]]] = {
    "asf": _asf,
    "avi": _avi,
    "dv": _dv,
    "ivf": _ivf,
    "matroska": _matroska,
    "mjpeg": _pictures,
    "mov": _quicktime,
    "nut": _nut,
    "obu": _obu,
    "ogg": _ogg,
    "rm": _realmedia,
    "yuv4mpegpipe": _y4m,
}


def chroma_of_y4m(path: Path) -> ChromaPosition | None:
    """Return where the header of a Y4M file puts the colour samples of 4:2:0; without a word they are centred."""
    with path.open("rb") as file:
        return chroma_of_y4m_words(file.readline(1 << 12).split())


def chroma_of_y4m_words(words: Sequence[bytes]) -> ChromaPosition | None:
    """Return the same for the words of a header line; None where it is not 4:2:0 in 8 bits."""
    kind = next((word[1:] for word in words if word.startswith(b"C")), b"420jpeg")
    names: dict[bytes, ChromaPosition] = {
        b"420": "center",
        b"420jpeg": "center",
        b"420mpeg2": "left",
        b"420paldv": "topleft",
    }
    return names.get(kind)
