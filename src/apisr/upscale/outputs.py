"""Where the results of a run go: names, endings, and what must not be written over.

>>> default_target(Path("a/b.png"), None, label="x4").as_posix()
'a/b_x4.png'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from apisr.core.errors import InputError
from apisr.core.media import VIDEO_SUFFIXES, kind_of_name
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.provenance import MARK, carries_mark
from apisr.upscale.results import Kind

#: Containers that are written as they were; other videos become ``.mkv``.
KEPT_CONTAINERS = frozenset({".mkv", ".mp4", ".m4v", ".mov", ".webm", ".avi", ".ts", ".m2ts", ".mts"})
_LABEL = re.compile(r"_(?=x\d|\d+p)")
#: Endings of formats that have no place for provenance.
_UNMARKED = frozenset({".bmp", ".dib", ".ts", ".m2ts", ".mts"})
#: Endings that a purpose asks for.
_PURPOSE_SUFFIXES = {"archive": ".mkv", "share": ".mp4", "edit": ".mov"}


def part_label(kind: Kind, options: UpscaleOptions) -> str:
    """Return what is put into the name of an output that is not the whole result: a part, or a comparison."""
    if kind == "picture":
        return ""
    preview = ".preview" if options.video.start is not None or options.video.end is not None else ""
    return preview + (".compare" if options.video.compare is not None else "")


def default_target(source: Path, output: Path | None, *, label: str, suffix: str = "", single: bool = True) -> Path:
    """Return where the result of one file goes.

    Args:
        source: the file.
        output: a folder, a file name (for one input), or None for a name beside the source.
        label: what the default name ends with: ``x2``, ``1080p``.
        suffix: ending of the output, perhaps after what :func:`part_label` says; by default that of the source.
        single: whether the source is the only input.
    """
    suffix = suffix or source.suffix
    if output is None:
        return source.with_name(f"{source.stem}_{label}{suffix}")
    if single and not output.is_dir() and is_file_name(output):
        return output
    return output / f"{source.stem}{suffix}"


def earlier_outputs(found: Sequence[Path]) -> set[Path]:
    """Return the files that an earlier run wrote beside their sources.

    Their names go on from that of another file beside them (``a.png``, ``a_x2.png``), and they carry the mark of a run;
    in formats without a place for it the name decides.

    >>> sorted(path.name for path in earlier_outputs([Path("a.bmp"), Path("a_x2.bmp"), Path("b_x2.bmp")]))
    ['a_x2.bmp']
    """
    stems = {(path.parent, path.stem) for path in found}

    def follows_another(path: Path) -> bool:
        places = [place.start() for place in _LABEL.finditer(path.stem)]
        return any((path.parent, path.stem[:place]) in stems for place in places)

    return {
        path
        for path in found
        if follows_another(path) and (path.suffix.lower() in _UNMARKED or carries_mark(path, MARK))
    }


def output_suffix(source: Path, kind: Kind, options: UpscaleOptions) -> str:
    """Return the ending of the output of one file."""
    if kind == "picture":
        from apisr.image.formats import output_suffix as picture_suffix

        return f".{options.picture.format}" if options.picture.format else picture_suffix(source)
    if options.video.container:
        return f".{options.video.container}"
    if options.video.purpose:
        return _PURPOSE_SUFFIXES[options.video.purpose]
    return source.suffix if source.suffix.lower() in KEPT_CONTAINERS else ".mkv"


def is_file_name(output: Path) -> bool:
    """Return whether an output that does not exist names a file: it has an ending."""
    return bool(output.suffix)


def is_media_name(output: Path) -> bool:
    """Return whether a name ends like a picture or a video."""
    return kind_of_name(output) is not None


def check_output(inputs: Iterable[Path], output: Path | None, options: UpscaleOptions) -> None:
    """Check that the output can take what comes, and that no option contradicts its ending.

    Raises:
        InputError: several inputs or a folder and the name of a file, or another ending than an option asks for.
    """
    if output is None or output.is_dir() or not is_media_name(output):
        return
    listed = list(inputs)
    if len(listed) > 1:
        raise InputError(
            f"{len(listed)} inputs cannot become the one file '{output}'. Give a folder with -o.", code="one-output"
        )
    if listed[0].is_dir():
        raise InputError(
            f"'{listed[0]}' is a folder, but the output '{output}' is a file name. Give a folder with -o.",
            code="one-output",
        )
    kind: Kind = "video" if output.suffix.lower() in VIDEO_SUFFIXES else "picture"
    asked = options.picture.format if kind == "picture" else options.video.container
    if asked is not None and output_suffix(listed[0], kind, options).lower() != output.suffix.lower():
        name = "--format" if kind == "picture" else "--container"
        raise InputError(
            f"'{output}' ends in {output.suffix}, but {name} asks for {asked}. Leave one of them out.",
            code="option-does-not-apply",
        )
