"""The one place that knows how PyAV is called: file names, exact fractions, side data, and what libav reports.

PyAV 18 gives fractions as :class:`fractions.Fraction` and decodes tags strictly unless told otherwise; PyAV 19 has a
class of its own for fractions and keeps bytes that are not UTF-8 by itself. Both are supported, and nothing outside
this file depends on the difference.

    >>> rational(Fraction(24000, 1001)), rational(None)
    (Fraction(24000, 1001), None)
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import av
from av import logging as av_logging
from av.codec.context import Flags as DecoderFlags
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

_lock = threading.Lock()
_listeners: list[int] = []
# While one thread listens, what others report goes to Python's logging; a library leaves that to the program.
logging.getLogger("libav").addHandler(logging.NullHandler())
_MAJOR = int(av.__version__.split(".")[0])
#: PyAV 18 refuses tags that are not UTF-8 unless it is given this; PyAV 19 does not know the argument.
_TAGS: dict[str, Any] = {"metadata_errors": "surrogateescape"} if _MAJOR < 19 else {}


def open_read(path: Path, *, format: str | None = None, options: dict[str, str] | None = None) -> InputContainer:  # noqa: A002
    """Open a local file for reading; tags that are not UTF-8 survive as they are."""
    return av.open(local_name(path), "r", format=format, options=options, **_TAGS)


def open_write(path: Path, *, format: str, options: dict[str, str] | None = None) -> OutputContainer:  # noqa: A002
    """Open a local file for writing; tags that are not UTF-8 are written as they were."""
    return av.open(local_name(path), "w", format=format, options=options, **_TAGS)


def local_name(path: Path) -> str:
    """Return the name by which libav finds a local file.

    A name with a colon (``Re:Zero - 01.mkv``) would be taken for a protocol; an absolute name never is.
    """
    return str(path.absolute())


def rational(value: object) -> Fraction | None:
    """Return a fraction of libav as a :class:`fractions.Fraction`; None where it is missing, zero or undefined."""
    try:
        return exact(value)
    except ValueError:
        return None


def exact(value: object) -> Fraction:
    """Return a fraction that libav always knows (the time base of a packet).

    Raises:
        ValueError: it does not know it.
    """
    numerator, denominator = getattr(value, "numerator", 0), getattr(value, "denominator", 0)
    if not (numerator and denominator):
        raise ValueError(f"expected a fraction, got {value!r}")
    return Fraction(int(numerator), int(denominator))


def crop_exactly(stream: VideoStream) -> None:
    """Let the decoder of a stream cut off what its headers say, to the pixel.

    Otherwise it keeps up to 64 pixels at the left that are not to be shown, so that its rows begin at even addresses.
    """
    stream.codec_context.flags |= DecoderFlags.unaligned


def side_data(frame: av.VideoFrame) -> list[tuple[str, Any]]:
    """Return the (kind, buffer) pairs beside a decoded frame; kinds that this PyAV has no name for are left out."""
    entries = cast(Any, frame.side_data)
    result: list[tuple[str, Any]] = []
    number = 0
    while True:
        try:
            entry = entries[number]
        except IndexError:
            return result
        number += 1
        with contextlib.suppress(ValueError):
            result.append((str(entry.type.name), entry))


if TYPE_CHECKING:
    #: A packet of any stream.
    AnyPacket: TypeAlias = av.Packet[Any]
else:  # where the class is no generic
    AnyPacket = av.Packet


class Report(NamedTuple):
    """One line that a part of libav reported."""

    by: str
    text: str


@contextlib.contextmanager
def reports(level: int = av_logging.ERROR) -> Generator[list[Report], None, None]:
    """Collect what libav reports in this thread while the block runs, up to `level` (filled in when it ends)."""
    collected: list[Report] = []
    with _listening(level), av_logging.Capture() as messages:
        try:
            yield collected
        finally:
            collected += [Report(name, text.strip()) for rank, name, text in messages if rank <= level and text.strip()]


def demuxer_problems(lines: Iterable[Report], container: str) -> tuple[str, ...]:
    """Return what the demuxer of a format reported: parts of the file are damaged.

    Decoders and parsers report errors, too, where nothing is wrong: at the start of a broadcast they miss what came
    before it.
    """
    return tuple(line.text for line in lines if line.by == container)


@contextlib.contextmanager
def _listening(level: int) -> Generator[None, None, None]:
    """Make libav report up to `level` while any thread listens; the level is one for the whole process."""
    global _listeners
    with _lock:
        _listeners = [*_listeners, level]
        av_logging.set_skip_repeated(False)  # the same damage in the next file is reported again
        av_logging.set_level(max(_listeners))
    try:
        yield
    finally:
        with _lock:
            remaining = list(_listeners)
            remaining.remove(level)
            _listeners = remaining
            av_logging.set_level(max(_listeners) if _listeners else None)


def reason(error: BaseException) -> str:
    """Return why libav or the system refused, as one short line."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).rstrip(".").replace("\n", " ")[:160]
