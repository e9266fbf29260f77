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

from apisr.core.errors import InputError, RunError
from apisr.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import av
    from av.container import InputContainer, OutputContainer

    from apisr.cli.display import Display
    from apisr.upscale.options import UpscaleOptions

#: The name that stands for standard input and standard output.
PIPE = Path("-")
_Y4M = b"YUV4MPEG2"


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
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    head = source.read(len(_Y4M))
    if not head:
        raise InputError("standard input is empty. Pipe a picture or a y4m stream into apisr.", code="empty-input")
    if head == _Y4M:
        _upscale_y4m(cast("BinaryIO", _Joined(head, source)), sink, options, display)
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
        if result.error is not None:
            raise result.error
        sink.write(target.read_bytes())
        sink.flush()


def _upscale_y4m(source: BinaryIO, sink: BinaryIO, options: UpscaleOptions, display: Display) -> None:
    import av
    from av.error import FFmpegError

    done = 0
    try:
        with av.open(source, format="yuv4mpegpipe") as reader, av.open(sink, "w", format="yuv4mpegpipe") as writer:
            for frame in _upscaled(cast("InputContainer", reader), writer, options):
                writer.mux(frame)
                done += 1
                display.show_or_stop(Progress("upscale", item="standard input", done=done, unit="frames"))
    except BrokenPipeError:
        raise
    except FFmpegError as error:
        raise RunError(f"standard input broke off after frame {done}: {error.strerror}.", code="pipe-broken") from error
    sink.flush()


def _upscaled(
    reader: InputContainer, writer: OutputContainer, options: UpscaleOptions
) -> Iterator[list[av.Packet[Any]]]:
    """Give the packets of the upscaled frames."""
    import av
    import numpy as np

    from apisr.upscale.models import Networks
    from apisr.upscale.sequence import FrameSequence

    stream = reader.streams.video[0]
    networks = Networks(options)
    model = networks.model_for(stream.height)
    upscaler = FrameSequence(networks.engine(model), size=options.size, reuse=options.video.reuse)
    high_bit_depth = stream.format.components[0].bits > 8
    height, width = upscaler.size_of(stream.height, stream.width)
    output = writer.add_stream("rawvideo", rate=stream.average_rate or 24)
    output.width, output.height, output.pix_fmt = width, height, stream.format.name
    time_base: Any = 1 / (stream.average_rate or 24)  # PyAV 18 and 19 take different kinds of fractions
    output.codec_context.time_base = time_base
    for number, frame in enumerate(reader.decode(stream)):
        rgb = frame.to_ndarray(format="rgb48le" if high_bit_depth else "rgb24")
        big = upscaler(cast("Any", rgb))
        made = av.VideoFrame.from_ndarray(
            cast("Any", np.ascontiguousarray(big)), format="rgb48le" if high_bit_depth else "rgb24"
        )
        made = made.reformat(format=stream.format.name)
        made.pts = number
        made.time_base = time_base
        yield output.encode(made)
    yield output.encode(None)


class _Joined(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read at most so many bytes."""
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        return self._rest.read(size)
