"""From paths on the command line to pairs of pictures and clips; whatever does not fit is named.

A path is a file, a folder (read with all folders below) or a quoted pattern with one ``*``. The name of a picture is
its path below the folder without the ending, or what the ``*`` stood for: ``--reference 'clips/*/gt.mkv'`` belongs to
``'clips/*/web.mkv'``.

Layouts: ``pictures`` (every picture for itself, every video a clip), ``clips`` (every folder of pictures is a clip, its
frames in the order of their names) and ``avc-reallq``: clips as in AVC-RealLQ, the real-world test set of AnimeSR,
whose 46 clips of 100 frames are counted, because a mean over part of it is another number::

    AVC-RealLQ/
    |-- 0/        one folder a clip, any names
    |   |-- 00000.png ... 00099.png
    `-- ...       46 folders

    >>> find_entries([Path("nowhere")])                                   # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    apisr.core.errors.InputError: cannot read 'nowhere': no such file or folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from apisr.core.errors import InputError
from apisr.core.files import not_a_file, read_plain, sha256_file
from apisr.core.media import LeftOut, MediaKind, find_media, left_out_lines, media_kind
from apisr.core.text import lines_by_kind, printable, some_names
from apisr.evaluate.options import Layout
from apisr.image import open_picture, rgb_and_losses
from apisr.image.types import ImageU8

#: AVC-RealLQ: number of clips, and of frames in each.
AVC_REALLQ = (46, 100)
DRAWINGS_NAME = "drawings.txt"


@dataclass(frozen=True)
class MediaInput:
    """A picture file, a video file, or the frames of a clip as picture files.

    Attributes:
        files: one file; several are the frames of a clip, in order.
        clip: whether this is a clip.
        video: whether the one file is a video.
    """

    files: tuple[Path, ...]
    clip: bool = False
    video: bool = False

    @property
    def path(self) -> Path:
        """The file, or the folder of the frames."""
        return self.files[0] if self.video or not self.clip else self.files[0].parent

    @cached_property
    def sha256(self) -> tuple[str, ...]:
        """SHA-256 of each file."""
        return tuple(sha256_file(file) for file in self.files)

    def sha256_of(self, frame: int) -> str:
        """SHA-256 of the file that holds a frame."""
        return self.sha256[0 if len(self.sha256) == 1 else frame]

    def frames(self, on_open: Callable[[Path, Sequence[str]], None] | None = None) -> Iterator[ImageU8]:
        """Read the frames in order, as uint8 RGB ``(H, W, 3)``.

        Args:
            on_open: called with every file that is read, and what reading it loses.
        """
        if self.video:
            yield from _video_frames(self.files[0], on_open)
            return
        for file in self.files:
            with open_picture(file) as picture:
                pixels, losses = rgb_and_losses(picture)
            if on_open is not None:
                on_open(file, losses)
            yield pixels


@dataclass(frozen=True)
class Entry:
    """Something to score: an input (or output) and its ground truth."""

    name: str
    source: MediaInput
    reference: MediaInput | None

    @property
    def drawings_file(self) -> Path | None:
        """The list of drawing numbers beside a clip, if there is one."""
        if not self.source.clip:
            return None
        path = (self.source.path.parent if self.source.video else self.source.path) / DRAWINGS_NAME
        return path if path.is_file() else None


def find_entries(
    pictures: Sequence[Path],
    *,
    reference: Path | None = None,
    layout: Layout = "pictures",
    allow_missing: bool = False,
) -> tuple[list[Entry], list[str]]:
    """Find what is to be scored.

    Args:
        pictures: files, folders, or patterns with one ``*``.
        reference: a file, a folder or a pattern with the same names below it.
        layout: see the module.
        allow_missing: score the pairs that there are and name the rest, instead of stopping.

    Returns:
        Entries by name, and notices (one sentence each) on what is left out.

    Raises:
        InputError: nothing there, two files of one name, a file without a partner, a set of the wrong size.
    """
    sources: dict[str, MediaInput] = {}
    left_out: dict[Path, LeftOut] = {}
    for path in pictures:
        found, others = _find(path, layout)
        left_out |= others
        for name, source in found.items():
            if name in sources:
                raise _same_name(name, sources[name].path, source.path)
            sources[name] = source
    if layout == "avc-reallq":
        _check_avc_reallq(sources)
    if reference is None:
        return [Entry(name, sources[name], None) for name in sorted(sources)], _left_out(left_out)
    truth, others = _find(reference, layout)
    notices = _left_out({**left_out, **others})
    if len(sources) == len(truth) == 1 and all(path.is_file() for path in (*pictures, reference)):
        name = next(iter(sources))
        return [Entry(name, sources[name], next(iter(truth.values())))], notices
    what = f"'{_listed(pictures)}' and '{printable(reference)}'"
    entries, lone = _paired(sources, truth, what, allow_missing=allow_missing)
    return entries, [*lone, *notices]


def _left_out(files: Mapping[Path, LeftOut]) -> list[str]:
    """Name what of the folders is not scored, but for the reports of earlier evaluations and lists of drawings."""
    reports = (".json", ".html")
    named: dict[Path, LeftOut] = {
        file: why for file, why in files.items() if file.suffix not in reports and file.name != DRAWINGS_NAME
    }
    return left_out_lines(named, ("picture", "video"))


def _paired(
    sources: dict[str, MediaInput], truth: dict[str, MediaInput], what: str, *, allow_missing: bool
) -> tuple[list[Entry], list[str]]:
    """Put inputs and ground truth of the same name together."""
    lone, unused = sorted(sources.keys() - truth.keys()), sorted(truth.keys() - sources.keys())
    problems = [
        f"{len(names)} {kind}: {some_names(names)}"
        for names, kind in (
            (lone, "without a reference"),
            (unused, "reference without a picture" if len(unused) == 1 else "references without a picture"),
        )
        if names
    ]
    both = sorted(sources.keys() & truth.keys())
    if problems and (not allow_missing or not both):
        hint = "Names (without ending) must be the same" + (" or add --allow-missing." if both else ".")
        raise InputError(f"{what} do not pair: {'; '.join(problems)}. {hint}", code="no-pairs")
    for name in both:
        if sources[name].clip != truth[name].clip:
            raise InputError(
                f"'{printable(sources[name].path)}' and '{printable(truth[name].path)}' do not pair: "
                "one is a clip, one a picture.",
                code="no-pairs",
            )
    return [Entry(name, sources[name], truth[name]) for name in both], [f"left out, {problem}" for problem in problems]


class Unscored:
    """Collects what of the pictures and videos takes no part in their scores, while they are read.

    Scores are of 8-bit RGB: what a file holds beyond that could be wrong and would not be seen.
    """

    def __init__(self) -> None:
        self._found: list[tuple[str, Sequence[str]]] = []

    def observe(self, file: Path, losses: Sequence[str]) -> None:
        """Note what is lost of a file that is read."""
        self._found.append((printable(file.name), losses))

    def notices(self) -> tuple[str, ...]:
        """Return one sentence for each kind."""
        return lines_by_kind(self._found)


def read_drawings(path: Path) -> list[int]:
    """Read which drawing each frame shows: one whole number a line.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        return [int(line) for line in read_plain(path).decode("utf-8").split()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read '{printable(path)}': expected one whole number a line ({printable(str(error))}).",
            code="bad-drawings",
        ) from error


def _find(path: Path, layout: Layout) -> tuple[dict[str, MediaInput], dict[Path, LeftOut]]:
    """What is to be scored, by name, and what of a folder is not."""
    if "*" in str(path):
        return _find_pattern(path), {}
    if path.is_file():
        return {printable(path.stem): _of_file(path, media_kind(path))}, {}
    if not path.exists():
        raise InputError(f"cannot read '{printable(path)}': no such file or folder.", code="cannot-read")
    if not path.is_dir():
        raise not_a_file(path)
    listing = find_media(path)
    files = listing.kinds
    found = _single_files(path, files) if layout == "pictures" else _folders(path, files, layout)
    if not found:
        raise InputError(f"cannot read '{printable(path)}': no pictures or videos in it.", code="no-pictures")
    return found, listing.left_out


def _of_file(path: Path, kind: MediaKind | None) -> MediaInput:
    return MediaInput((path,), clip=kind == "video", video=kind == "video")


def _single_files(folder: Path, files: Mapping[Path, MediaKind]) -> dict[str, MediaInput]:
    found: dict[str, MediaInput] = {}
    for file, kind in files.items():
        name = printable(file.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise _same_name(name, found[name].path, file)
        found[name] = _of_file(file, kind)
    return found


def _folders(folder: Path, files: Mapping[Path, MediaKind], layout: Layout) -> dict[str, MediaInput]:
    """Every folder of pictures is a clip, its frames in the order of their names."""
    frames: dict[Path, list[Path]] = {}
    for file, kind in files.items():
        if kind == "picture":
            frames.setdefault(file.parent, []).append(file)
    loose = frames.get(folder)
    if loose:
        raise InputError(
            f"layout '{layout}' expects one folder for each clip, but pictures lie in '{printable(folder)}' itself: "
            f"{some_names([printable(file.name) for file in loose])}.",
            code="bad-layout",
        )
    return {
        printable(clip.relative_to(folder).as_posix()): MediaInput(tuple(pictures), clip=True)
        for clip, pictures in frames.items()
    }


def _find_pattern(path: Path) -> dict[str, MediaInput]:
    text = path.as_posix()
    if text.count("*") != 1:
        raise InputError(f"cannot read '{printable(path)}': a pattern holds exactly one '*'.", code="bad-pattern")
    fixed = text[: text.index("*")].rpartition("/")[0]
    root = Path(fixed or ("/" if text.startswith("/") else "."))
    expression = re.compile(re.escape(text).replace(r"\*", "([^/]+)"))
    found: dict[str, MediaInput] = {}
    for file in sorted(root.glob(text[len(fixed) :].lstrip("/"))):
        match = expression.fullmatch(file.as_posix())
        if match and file.is_file():
            found[printable(match[1])] = _of_file(file, media_kind(file))
    if not found:
        raise InputError(f"cannot read '{printable(path)}': no file matches the pattern.", code="cannot-read")
    return found


def _check_avc_reallq(sources: dict[str, MediaInput]) -> None:
    clips, frames = AVC_REALLQ
    other = [f"'{name}' has {len(source.files)}" for name, source in sources.items() if len(source.files) != frames]
    if len(sources) != clips:
        raise InputError(
            f"AVC-RealLQ has {clips} clips, found {len(sources)}. Give the whole set, or use --layout clips.",
            code="incomplete-set",
        )
    if other:
        raise InputError(
            f"AVC-RealLQ has {frames} frames in each clip, but {some_names(other)}. Give the whole set.",
            code="incomplete-set",
        )


def _video_frames(path: Path, on_open: Callable[[Path, Sequence[str]], None] | None) -> Iterator[ImageU8]:
    from apisr.video.losses import losses_as_rgb
    from apisr.video.reader import ReadReport
    from apisr.video.source import VideoSource
    from apisr.video.verify import source_problems

    report = ReadReport()
    times: list[int] = []
    with VideoSource.open(path) as source:
        if on_open is not None:
            on_open(path, losses_as_rgb(source.info))
        for frame in source.frames(report=report):
            times.append(frame.pts)
            yield np.asarray(frame.rgb, np.uint8)
        problems = source_problems(source.info, source.index, times, damaged=report.damaged)
    if problems:
        raise InputError(
            f"cannot score '{printable(path)}': the video is damaged ({printable(problems[0])}). "
            "Give a file that decodes cleanly.",
            code="damaged-video",
        )


def _same_name(name: str, first: Path, second: Path) -> InputError:
    return InputError(
        f"two inputs are named '{name}': '{printable(first)}' and '{printable(second)}'. Rename or leave out one.",
        code="same-name",
    )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(printable(path) for path in paths)
