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

    >>> collect([Path("nowhere")])                                   # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    apisr.core.errors.InputError: cannot read 'nowhere': no such file or folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

from apisr.core.errors import InputError
from apisr.core.files import sha256_file
from apisr.image import is_picture_name, read_rgb
from apisr.metrics import ImageU8

Layout = Literal["pictures", "clips", "avc-reallq"]

VIDEO_SUFFIXES = (".mkv", ".mp4", ".webm", ".mov", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".m4v", ".ogv")
#: AVC-RealLQ: number of clips, and of frames in each.
AVC_REALLQ = (46, 100)
DRAWINGS_NAME = "drawings.txt"

_NAMED = 6


@dataclass(frozen=True)
class Source:
    """A picture file, a video file, or the frames of a clip as picture files.

    Attributes:
        files: one file; several are the frames of a clip, in order.
        clip: whether this is a clip.
    """

    files: tuple[Path, ...]
    clip: bool

    @property
    def path(self) -> Path:
        """The file, or the folder of the frames."""
        return self.files[0] if self.is_file else self.files[0].parent

    @property
    def is_file(self) -> bool:
        """Whether this is one file (a picture or a video), not a folder of frames."""
        return len(self.files) == 1 and (not self.clip or not is_picture_name(self.files[0]))

    @cached_property
    def sha256(self) -> tuple[str, ...]:
        """SHA-256 of each file."""
        return tuple(sha256_file(file) for file in self.files)

    def sha256_of(self, frame: int) -> str:
        """SHA-256 of the file that holds a frame."""
        return self.sha256[0 if len(self.sha256) == 1 else frame]

    def frames(self) -> Iterator[ImageU8]:
        """Read the frames in order, as uint8 RGB ``(H, W, 3)``."""
        if self.clip and self.is_file:
            yield from _video_frames(self.files[0])
        else:
            for file in self.files:
                yield read_rgb(file)


@dataclass(frozen=True)
class Entry:
    """Something to score: an input (or output) and its ground truth."""

    name: str
    source: Source
    reference: Source | None

    @property
    def drawings_file(self) -> Path | None:
        """The list of drawing numbers beside a clip, if there is one."""
        if not self.source.clip:
            return None
        folders = [self.source.path.parent if self.source.is_file else self.source.path]
        found = [folder / DRAWINGS_NAME for folder in folders if (folder / DRAWINGS_NAME).is_file()]
        return found[0] if found else None


def collect(
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
    sources: dict[str, Source] = {}
    for path in pictures:
        for name, source in _find(path, layout).items():
            if name in sources:
                raise InputError(
                    f"two inputs are named '{name}': '{sources[name].path}' and '{source.path}'. Rename or leave "
                    f"out one."
                )
            sources[name] = source
    if layout == "avc-reallq":
        _check_avc_reallq(sources)
    if reference is None:
        return [Entry(name, sources[name], None) for name in sorted(sources)], []
    truth = _find(reference, layout)
    if len(sources) == len(truth) == 1 and all(path.is_file() for path in (*pictures, reference)):
        name = next(iter(sources))
        return [Entry(name, sources[name], next(iter(truth.values())))], []
    lone, unused = sorted(sources.keys() - truth.keys()), sorted(truth.keys() - sources.keys())
    problems = [
        f"{len(names)} {what}: {_some(names)}"
        for names, what in ((lone, "without a reference"), (unused, "references without a picture"))
        if names
    ]
    both = sorted(sources.keys() & truth.keys())
    if problems and (not allow_missing or not both):
        hint = "Names (without ending) must be the same" + (" or add --allow-missing." if both else ".")
        raise InputError(f"'{_shown(pictures)}' and '{reference}' do not pair: {'; '.join(problems)}. {hint}")
    for name in both:
        if sources[name].clip != truth[name].clip:
            raise InputError(
                f"'{sources[name].path}' and '{truth[name].path}' do not pair: one is a clip, one a picture."
            )
    return [Entry(name, sources[name], truth[name]) for name in both], [f"left out, {problem}" for problem in problems]


def read_drawings(path: Path) -> list[int]:
    """Read which drawing each frame shows: one whole number a line.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        return [int(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read '{path}': expected one whole number a line ({error}).") from error


def _find(path: Path, layout: Layout) -> dict[str, Source]:
    if "*" in str(path):
        return _find_pattern(path)
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return {path.stem: Source((path,), clip=True)}
        return {path.stem: Source((path,), clip=False)}
    if not path.is_dir():
        raise InputError(f"cannot read '{path}': no such file or folder.")
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    still = [file for file in files if is_picture_name(file)]
    if layout == "pictures":
        moving = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
        found = _by_name(path, still, clip=False)
        clashes = found.keys() & _by_name(path, moving, clip=True).keys()
        if clashes:
            raise InputError(f"'{path}' holds a picture and a video named '{min(clashes)}'. Move one elsewhere.")
        found |= _by_name(path, moving, clip=True)
    else:
        folders: dict[Path, list[Path]] = {}
        for file in still:
            folders.setdefault(file.parent, []).append(file)
        loose = folders.get(path)
        if loose:
            raise InputError(
                f"layout '{layout}' expects one folder a clip, but pictures lie in '{path}' itself: "
                f"{_some([file.name for file in loose])}."
            )
        found = {
            folder.relative_to(path).as_posix(): Source(tuple(frames), clip=True) for folder, frames in folders.items()
        }
    if not found:
        raise InputError(f"cannot read '{path}': no pictures or videos in it.")
    return found


def _by_name(folder: Path, files: Sequence[Path], *, clip: bool) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for file in files:
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(
                f"two files are named '{name}': '{found[name].path}' and '{file}'. Rename or leave out one."
            )
        found[name] = Source((file,), clip=clip)
    return found


def _find_pattern(path: Path) -> dict[str, Source]:
    text = path.as_posix()
    if text.count("*") != 1:
        raise InputError(f"cannot read '{path}': a pattern holds exactly one '*'.")
    fixed = text[: text.index("*")].rpartition("/")[0]
    root = Path(fixed or ("/" if text.startswith("/") else "."))
    expression = re.compile(re.escape(text).replace(r"\*", "([^/]+)"))
    found: dict[str, Source] = {}
    for file in sorted(root.glob(text[len(fixed) :].lstrip("/"))):
        match = expression.fullmatch(file.as_posix())
        if match and file.is_file():
            found[match[1]] = Source((file,), clip=file.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise InputError(f"cannot read '{path}': no file matches the pattern.")
    return found


def _check_avc_reallq(sources: dict[str, Source]) -> None:
    clips, frames = AVC_REALLQ
    wrong = [f"'{name}' has {len(source.files)}" for name, source in sources.items() if len(source.files) != frames]
    if len(sources) != clips:
        raise InputError(
            f"AVC-RealLQ has {clips} clips, found {len(sources)}. Give the whole set, or use --layout clips."
        )
    if wrong:
        raise InputError(f"AVC-RealLQ has {frames} frames in each clip, but {_some(wrong)}. Give the whole set.")


def _video_frames(path: Path) -> Iterator[ImageU8]:
    from apisr.video.probe import probe, scan
    from apisr.video.reader import ReadReport, read_frames

    source = probe(path)
    told = ReadReport()
    for frame in read_frames(source, scan(path, source.video), report=told):
        yield cast("ImageU8", frame.rgb)
    if told.damaged or told.failures:
        what = told.failures[0] if told.failures else f"{told.damaged} frames are damaged"
        raise InputError(f"cannot score '{path}': the video is damaged ({what}). Give a file that decodes cleanly.")


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _shown(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
