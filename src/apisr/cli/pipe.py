"""``apisr upscale -`` and ``-o -``: a picture or a y4m stream from standard input, to standard output.

Pictures may have a file at one end: ``apisr upscale - -o large.png``, ``apisr upscale a.png -o -``. A y4m stream
(:mod:`apisr.cli.y4m`) has a pipe at both.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from apisr.cli.options import is_typed
from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.worker_folder import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

    from apisr.cli.display import Display
    from apisr.core.progress import Progress
    from apisr.upscale.options import UpscaleOptions

#: The name that stands for standard input and standard output.
PIPE = Path("-")
_Y4M = b"YUV4MPEG2"
#: Options that have an effect on everything that goes through a pipe.
_ALWAYS = {
    *("inputs", "output", "scale", "height", "model", "strength", "source", "tta", "profile"),
    *("engine", "precision", "device", "threads", "quiet", "progress"),
}
_OF_PICTURES = {"format", "quality", "tile", "max_pixels", "provenance", "overwrite"}
_OF_STREAMS = {"reuse", "deinterlace"}


def is_pipe(inputs: Sequence[Path], output: Path | None) -> bool:
    """Return whether a run reads or writes a pipe.

    Raises:
        InputError: it does, and there are other inputs too, or no output.
    """
    if PIPE not in inputs and output != PIPE:
        return False
    if len(inputs) != 1:
        raise InputError("a pipe takes one input, and there are several. Give one.", code="bad-pipe")
    if output is None:
        raise InputError(
            "standard input has no name to make one of. Say with -o where the result goes: -o large.png, or -o - for "
            "standard output.",
            code="bad-pipe",
        )
    return True


def upscale_pipe(context: typer.Context, source: Path, output: Path, options: UpscaleOptions, display: Display) -> None:
    """Upscale what comes on standard input, or to standard output.

    Args:
        context: of the command, which knows the options that were given.
        source: a picture, or :data:`PIPE`.
        output: a file, or :data:`PIPE`.
        options: of the run.
        display: shows how far the work is.

    Raises:
        InputError: standard input is empty, or neither a picture nor y4m; or an option can do nothing here.
        RunError: it ends in the middle.
    """
    if cast("object", sys.stdin) is None or cast("object", sys.stdout) is None:
        raise InputError("standard input or standard output is closed. Open both ends of the pipe.", code="bad-pipe")
    sink = sys.stdout.buffer
    if source != PIPE:
        _check_options(context, _OF_PICTURES, "a picture in a pipe")
        _check_picture_file(source)
        _upscale_picture(source, None, sink, options, display)
        return
    pipe = sys.stdin.buffer
    head = pipe.read(len(_Y4M))
    if not head:
        raise InputError("standard input is empty. Pipe a picture or a y4m stream into apisr.", code="empty-input")
    if head != _Y4M:
        _check_options(context, _OF_PICTURES, "a picture in a pipe")
        _upscale_content(head + pipe.read(), output, sink, options, display)
        return
    from apisr.cli.y4m import upscale_y4m

    _check_options(context, _OF_STREAMS, "a y4m stream")
    if output != PIPE:
        raise InputError(
            f"a y4m stream goes to standard output, not to '{output}'. Give -o - and pipe it into an encoder, "
            "for example: | ffmpeg -i - out.mkv",
            code="bad-pipe",
        )
    upscale_y4m(head, pipe, sink, options, display)


def _check_options(context: typer.Context, useful: set[str], what: str) -> None:
    """Refuse options on the command line that can do nothing here."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if is_typed(context, name) and name not in _ALWAYS | useful:
            option = parameter.opts[0]
            raise InputError(f"{option} can do nothing for {what}. Leave {option} out.", code="cannot-apply")


def _check_picture_file(source: Path) -> None:
    from apisr.core.media import media_kind

    if not source.is_file():
        raise InputError(
            f"cannot write '{source}' to standard output: it is not a file. Give one picture.", code="bad-pipe"
        )
    if media_kind(source) == "video":
        raise InputError(
            f"cannot write '{source}' to standard output: it is a video. Give a file with -o, or pipe its frames as "
            f"y4m: ffmpeg -i '{source}' -f yuv4mpegpipe - | apisr upscale - -o -",
            code="bad-pipe",
        )


def _upscale_content(content: bytes, output: Path, sink: BinaryIO, options: UpscaleOptions, display: Display) -> None:
    """Upscale a picture that came on standard input."""
    from apisr.core.media import HEAD_BYTES, kind_of_content

    if kind_of_content(content[:HEAD_BYTES]) != "picture":
        raise InputError("standard input is neither a picture nor y4m. Give a file for other formats.", code="bad-pipe")
    with temporary_folder("apisr-pipe-") as folder:
        source = folder / "standard input.png"
        source.write_bytes(content)
        _upscale_picture(source, None if output == PIPE else output, sink, options, display, label="standard input")


def _upscale_picture(
    source: Path, output: Path | None, sink: BinaryIO, options: UpscaleOptions, display: Display, *, label: str = ""
) -> None:
    """Upscale a picture file; without an output it goes to standard output, as PNG if no format was asked for.

    Args:
        source: the file.
        output: the file to write, None for standard output.
        sink: standard output.
        options: of the run.
        display: shows how far the work is.
        label: what people call the source, where it is not its path.
    """
    from apisr.upscale.jobs import plan_jobs, run_jobs

    with temporary_folder("apisr-pipe-") as folder:
        target = output or folder / f"out.{options.picture.format or 'png'}"
        names = {str(source): label or str(source), str(target): str(output or "standard output")}

        def named(text: str) -> str:
            for path, name in names.items():
                text = text.replace(f"'{path}'", name if name.startswith("standard") else f"'{name}'")
                text = text.replace(path, name)
            return text

        def show(event: Progress) -> None:
            display.show_or_stop(replace(event, item=named(event.item), message=named(event.message)))

        plan = plan_jobs([source], target, options)
        (result,) = run_jobs(plan.jobs, options, progress=show, cancel=display.cancel)
        if result.code == "disk-full" and output is None:
            raise RunError(f"the folder of temporary files, '{folder.parent}', is full.", code="disk-full")
        if isinstance(result.error, ApisrError):
            kind = InputError if result.error.exit_code == 2 else RunError
            raise kind(named(str(result.error)), code=result.error.code)
        if result.error is not None:
            raise result.error
        if output is None:
            sink.write(target.read_bytes())
            sink.flush()
