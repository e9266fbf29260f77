"""A y4m stream from a pipe to a pipe, frame by frame, so that it may be of any length.

What did not change between two frames is not computed again. The header line comes through but for the size, so that
aspect, rate and the words that other programs put there stay. Colour is converted as that of a file: with the range and
the chroma position that the header states, and the matrix of the usual rules, for y4m has no word for it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from apisr.core.errors import InputError, RunError
from apisr.core.progress import Progress

if TYPE_CHECKING:
    import av
    from _typeshed import ReadableBuffer
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

    from apisr.cli.display import Display
    from apisr.upscale.options import UpscaleOptions
    from apisr.upscale.sequence import FrameSequence
    from apisr.video.colour import Colour

_FRAME = b"FRAME\n"
#: y4m with more than 8 bits is an extension of the format.
_DEEP = {"strict": "-1"}
#: The header line of a stream is shorter.
_HEADER_BYTES = 1024
#: Header words of progressive streams; ``I?`` says nothing.
_PROGRESSIVE = (b"Ip", b"I?")


def upscale_y4m(head: bytes, source: BinaryIO, sink: BinaryIO, options: UpscaleOptions, display: Display) -> None:
    """Upscale a y4m stream.

    Args:
        head: the bytes that were read of it already.
        source: the rest.
        sink: where the result goes.
        options: of the run; those of videos that concern frames count.
        display: shows how far the work is.

    Raises:
        InputError: the stream is interlaced, and the options do not leave that alone.
        RunError: it ends in the middle of a frame.
    """
    import av
    from av.error import FFmpegError

    done = 0
    joined, large = _Joined(head, source), _Sink(sink)
    try:
        with (
            av.open(cast("BinaryIO", joined), format="yuv4mpegpipe") as reader,
            av.open(cast("BinaryIO", large), "w", format="yuv4mpegpipe", options=_DEEP) as writer,
        ):
            stream = reader.streams.video[0]
            _check_progressive(joined.words, options)
            colour = _colour(stream, joined.words)
            upscaler = _opened(stream, options, display)
            _say_matrix(colour, stream, upscaler, display)
            large.header = joined.header_for(*upscaler.size_of(stream.height, stream.width))
            for packets in _upscaled(cast("InputContainer", reader), writer, upscaler, colour):
                writer.mux(packets)
                done += bool(packets)
                display.show_or_stop(Progress("upscale", item="standard input", done=done, unit="frames"))
            left = joined.left_over(done, _frame_bytes(stream))
    except FFmpegError as error:
        if large.closed_by_reader:
            raise BrokenPipeError from error
        raise RunError(f"standard input broke off after frame {done}: {error.strerror}.", code="pipe-broken") from error
    large.flush()
    if left:
        raise RunError(
            f"standard input broke off in frame {done + 1}; {done} were upscaled. Look at the program that writes it.",
            code="pipe-broken",
        )


def _check_progressive(words: list[bytes], options: UpscaleOptions) -> None:
    fields = next((word for word in words if word.startswith(b"I")), _PROGRESSIVE[0])
    if fields not in _PROGRESSIVE and options.video.deinterlace != "off":
        raise InputError(
            f"standard input is interlaced ({fields.decode('ascii', 'replace')}). Deinterlace it before (ffmpeg -vf "
            "bwdif), or add --deinterlace off to take its frames as they are.",
            code="interlaced",
        )


def _colour(stream: VideoStream, words: list[bytes]) -> Colour:
    """Return what the numbers of the frames mean."""
    from apisr.video.colour import UNSPECIFIED, describe
    from apisr.video.integrity import chroma_of_y4m_words

    name = stream.format.name
    full = b"XCOLORRANGE=FULL" in words or name.startswith("yuvj")
    return describe(
        matrix=UNSPECIFIED,
        primaries=UNSPECIFIED,
        transfer=UNSPECIFIED,
        colour_range=2 if full else 1,
        height=stream.height,
        pixel_format=name,
        chroma=chroma_of_y4m_words(words),
    )


def _say_matrix(colour: Colour, stream: VideoStream, upscaler: FrameSequence, display: Display) -> None:
    """Say that the result is no longer what its size makes players think."""
    from apisr.video.colour import MATRICES, describe

    height, _ = upscaler.size_of(stream.height, stream.width)
    name = stream.format.name
    guess = describe(matrix=2, primaries=2, transfer=2, colour_range=1, height=height, pixel_format=name)
    if guess.matrix != colour.matrix and len(stream.format.components) >= 3:
        matrix = MATRICES[colour.matrix]
        display.line(
            f"colour: the frames are taken as {matrix} and stay so, but players guess otherwise at {height} lines: tag "
            f"the video where it is encoded (ffmpeg: -colorspace {matrix})."
        )


def _frame_bytes(stream: VideoStream) -> int:
    """Return the size of one frame in a y4m stream, without its header."""
    parts = stream.format.components
    return sum(part.width * part.height * (1 if part.bits <= 8 else 2) for part in parts)


def _opened(stream: VideoStream, options: UpscaleOptions, display: Display) -> FrameSequence:
    """Choose and load the network as for a video file, and return what upscales the frames."""
    from apisr.upscale.models import Networks, fast_notice, network_notice
    from apisr.upscale.sequence import FrameSequence

    networks = Networks(options)
    model = networks.model_for(stream.height, video=True)
    for notice in (fast_notice(model, options), network_notice(model, options, stream.height)):
        if notice:
            display.line(notice)
    return FrameSequence(networks.engine(model), size=options.size, reuse=options.video.reuse)


def _upscaled(
    reader: InputContainer, writer: OutputContainer, upscaler: FrameSequence, colour: Colour
) -> Iterator[list[av.Packet[Any]]]:
    """Give the packets of the upscaled frames."""
    import numpy as np

    from apisr.video.rgb import FromRgb, ToRgb

    stream = reader.streams.video[0]
    name = stream.format.name
    rate = stream.average_rate or Fraction(24)
    height, width = upscaler.size_of(stream.height, stream.width)
    output = writer.add_stream("rawvideo", rate=rate)
    output.width, output.height, output.pix_fmt = width, height, name
    time_base: Any = 1 / rate  # PyAV 18 and 19 take different kinds of fractions
    output.codec_context.time_base = time_base
    to_rgb = ToRgb(colour, np.uint16 if stream.format.components[0].bits > 8 else np.uint8)
    from_rgb = FromRgb(colour, name)
    for number, frame in enumerate(reader.decode(stream)):
        made = from_rgb(cast("Any", upscaler(cast("Any", to_rgb(frame)))))
        made.pts = number
        made.time_base = time_base
        yield output.encode(made)
    yield output.encode(None)


class _Joined(io.RawIOBase):
    """A stream whose first bytes were read already, and which remembers how much it gave."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest
        self._begin = b""
        self._given = 0

    @property
    def words(self) -> list[bytes]:
        """The words of the header line."""
        return self._begin.partition(b"\n")[0].split(b" ")

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read at most so many bytes."""
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
        else:
            part = self._rest.read(size)
        self._given += len(part)
        if len(self._begin) < _HEADER_BYTES:
            self._begin += part[:_HEADER_BYTES]
        return part

    def header_for(self, height: int, width: int) -> bytes:
        """Return the header line of the stream with another size: aspect, fields, colour range and so on stay."""
        sizes = {b"W": b"W%d" % width, b"H": b"H%d" % height}
        return b" ".join([self.words[0], *(sizes.get(word[:1], word) for word in self.words[1:])])

    def left_over(self, frames: int, frame_bytes: int) -> int:
        """Return how many bytes came after so many whole frames; 0 where frames have parameters of their own."""
        header, _, rest = self._begin.partition(b"\n")
        if rest and not rest.startswith(_FRAME[: len(rest)]):
            return 0
        return max(0, self._given - len(header) - 1 - frames * (len(_FRAME) + frame_bytes))


class _Sink(io.RawIOBase):
    """A stream for writing that puts in its own header line, and remembers that its reader went away.

    Attributes:
        header: in place of the first line that is written.
        closed_by_reader: whether nobody reads any more.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.header = b""
        self.closed_by_reader = False
        self._first: bytes | None = b""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, content: ReadableBuffer, /) -> int:
        """Write all of it."""
        part = bytes(content)
        try:
            if self._first is not None:
                line, end, rest = (self._first + part).partition(b"\n")
                self._first = None if end else line
                self._sink.write(self.header + end + rest if end else b"")
            else:
                self._sink.write(part)
        except BrokenPipeError:
            self.closed_by_reader = True
            raise
        return len(part)

    def flush(self) -> None:
        """Write what is held back."""
        self._sink.flush()
