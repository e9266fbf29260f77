"""``apisr upscale - -o -``: a picture or a y4m stream from standard input to standard output.

A y4m stream goes frame by frame, so that it may be of any length; unchanged parts are not computed again.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import av
    from _typeshed import ReadableBuffer
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

    from apisr.cli.display import Display
    from apisr.upscale.options import UpscaleOptions
    from apisr.upscale.sequence import FrameSequence

#: The name that stands for standard input and standard output.
PIPE = Path("-")
_Y4M = b"YUV4MPEG2"
_FRAME = b"FRAME\n"
#: y4m with more than 8 bits is an extension of the format.
_DEEP = {"strict": "-1"}
#: The header line of a stream is shorter.
_HEADER_BYTES = 1024


def is_pipe(inputs: Sequence[Path], output: Path | None) -> bool:
    """Return whether a run goes through pipes.

    Raises:
        InputError: only one side is a pipe, or there are other inputs too.
    """
    if PIPE not in inputs and output != PIPE:
        return False
    if list(inputs) == [PIPE] and output == PIPE:
        return True
    raise InputError(
        "a pipe has one input and one output: apisr upscale - -o - (PNG and other pictures, or y4m).", code="bad-pipe"
    )


def upscale_pipe(options: UpscaleOptions, display: Display) -> None:
    """Upscale what comes on standard input.

    Raises:
        InputError: standard input is empty, or neither a picture nor y4m.
        RunError: it ends in the middle.
    """
    if cast("object", sys.stdin) is None or cast("object", sys.stdout) is None:
        raise InputError("standard input or standard output is closed. Open both ends of the pipe.", code="bad-pipe")
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    head = source.read(len(_Y4M))
    if not head:
        raise InputError("standard input is empty. Pipe a picture or a y4m stream into apisr.", code="empty-input")
    if head == _Y4M:
        _upscale_y4m(_Joined(head, source), _Sink(sink), options, display)
    else:
        _upscale_picture(head + source.read(), sink, options, display)


def _upscale_picture(content: bytes, sink: BinaryIO, options: UpscaleOptions, display: Display) -> None:
    from apisr.core.media import kind_of_content
    from apisr.upscale.jobs import plan_jobs, run_jobs

    if kind_of_content(content[:4096]) != "picture":
        raise InputError("standard input is neither a picture nor y4m. Give a file for other formats.", code="bad-pipe")
    with tempfile.TemporaryDirectory(prefix="apisr-") as folder:
        source, target = Path(folder) / "standard input.png", Path(folder) / f"out.{options.picture.format or 'png'}"
        source.write_bytes(content)
        plan = plan_jobs([source], target, options)

        def show(event: Progress) -> None:
            if event.kind in ("started", "advanced"):
                display.show_or_stop(replace(event, item="standard input"))

        (result,) = run_jobs(plan.jobs, options, progress=show, cancel=display.cancel)
        if isinstance(result.error, ApisrError):
            named = str(result.error).replace(f"'{source}'", "standard input")
            raise (InputError if result.error.exit_code == 2 else RunError)(named, code=result.error.code)
        if result.error is not None:
            raise result.error
        sink.write(target.read_bytes())
        sink.flush()


def _upscale_y4m(source: _Joined, sink: _Sink, options: UpscaleOptions, display: Display) -> None:
    import av
    from av.error import FFmpegError

    done = 0
    try:
        with (
            av.open(cast("BinaryIO", source), format="yuv4mpegpipe") as reader,
            av.open(cast("BinaryIO", sink), "w", format="yuv4mpegpipe", options=_DEEP) as writer,
        ):
            upscaler = _opened(reader.streams.video[0], options)
            sink.header = source.header_for(
                *upscaler.size_of(reader.streams.video[0].height, reader.streams.video[0].width)
            )
            for frame in _upscaled(cast("InputContainer", reader), writer, upscaler):
                writer.mux(frame)
                done += bool(frame)
                display.show_or_stop(Progress("upscale", item="standard input", done=done, unit="frames"))
            left = source.left_over(done, _frame_bytes(reader.streams.video[0]))
    except FFmpegError as error:
        if sink.closed_by_reader:
            raise BrokenPipeError from error
        raise RunError(f"standard input broke off after frame {done}: {error.strerror}.", code="pipe-broken") from error
    sink.flush()
    if left:
        raise RunError(
            f"standard input broke off in frame {done + 1}; {done} were upscaled. Look at the program that writes it.",
            code="pipe-broken",
        )


def _frame_bytes(stream: VideoStream) -> int:
    """Return the size of one frame in a y4m stream, without its header."""
    parts = stream.format.components
    return sum(part.width * part.height * (1 if part.bits <= 8 else 2) for part in parts)


def _opened(stream: VideoStream, options: UpscaleOptions) -> FrameSequence:
    """Load the network for a stream and return what upscales its frames."""
    from apisr.upscale.models import Networks
    from apisr.upscale.sequence import FrameSequence

    networks = Networks(options)
    engine = networks.engine(networks.model_for(stream.height))
    return FrameSequence(engine, size=options.size, reuse=options.video.reuse)


def _upscaled(
    reader: InputContainer, writer: OutputContainer, upscaler: FrameSequence
) -> Iterator[list[av.Packet[Any]]]:
    """Give the packets of the upscaled frames."""
    import av
    import numpy as np

    stream = reader.streams.video[0]
    deep = stream.format.components[0].bits > 8
    height, width = upscaler.size_of(stream.height, stream.width)
    output = writer.add_stream("rawvideo", rate=stream.average_rate or 24)
    output.width, output.height, output.pix_fmt = width, height, stream.format.name
    time_base: Any = 1 / (stream.average_rate or 24)  # PyAV 18 and 19 take different kinds of fractions
    output.codec_context.time_base = time_base
    for number, frame in enumerate(reader.decode(stream)):
        rgb = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
        big = upscaler(cast("Any", rgb))
        made = av.VideoFrame.from_ndarray(cast("Any", np.ascontiguousarray(big)), format="rgb48le" if deep else "rgb24")
        made = made.reformat(format=stream.format.name)
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
        words = self._begin.partition(b"\n")[0].split(b" ")
        sizes = {b"W": b"W%d" % width, b"H": b"H%d" % height}
        return b" ".join([words[0], *(sizes.get(word[:1], word) for word in words[1:])])

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
