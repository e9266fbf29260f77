"""What is a picture, what is a video (by content first, then by ending), and the search for them.

One list of endings, one search, used by every command. A file whose first bytes name its format is taken for what it
is, whatever it is called; ``.jfif`` and ``.tga`` files are found like ``.jpg`` files.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.dat").write_bytes(bytes.fromhex("89504e470d0a1a0a"))
    >>> media_kind(folder / "a.dat")
    'picture'
    >>> [path.name for path in find_media(folder).found]
    ['a.dat']
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from apisr.core.dataset import MANIFEST_NAME, read_decisions
from apisr.core.errors import InputError
from apisr.core.files import open_regular, real_path
from apisr.core.text import counted, printable, some_names

MediaKind = Literal["picture", "video"]
#: Why a file (or folder) below a searched folder is not taken.
LeftOut = Literal["other-kind", "not-a-file", "missing", "cannot-read", "not-accepted", "earlier-output"]
#: :data:`LeftOut`, or the reasons of a caller that has more of them.
Reason = TypeVar("Reason", bound=str)

# fmt: off
#: Endings of pictures that some decoder of ours reads.
PICTURE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".dib",
    ".gif", ".tga", ".pnm", ".ppm", ".pgm", ".pbm", ".pam", ".pfm", ".ico", ".psd", ".qoi", ".jp2", ".j2k", ".jpx",
    ".jxl", ".heic", ".heif",
})
#: Endings of videos.
VIDEO_SUFFIXES = frozenset({
    ".mkv", ".mp4", ".m4v", ".mov", ".webm", ".avi", ".divx", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob",
    ".m2v", ".wmv", ".asf", ".flv", ".ogv", ".ogm", ".3gp", ".3g2", ".y4m", ".mxf", ".rm", ".rmvb", ".h264", ".264",
    ".avc", ".h265", ".265", ".hevc", ".nut", ".dv",
})
# fmt: on
#: Enough of a file to know its format.
HEAD_BYTES = 4096

_HEADS: tuple[tuple[bytes, MediaKind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF87a", "picture"),
    (b"GIF89a", "picture"),
    (b"BM", "picture"),
    (b"II*\0", "picture"),
    (b"MM\0*", "picture"),
    (b"II+\0", "picture"),
    (b"MM\0+", "picture"),
    (b"8BPS", "picture"),
    (b"qoif", "picture"),
    (b"\xff\x0a", "picture"),
    (b"\0\0\0\x0cJXL ", "picture"),
    (b"\0\0\0\x0cjP  ", "picture"),
    (b"\xff\x4f\xff\x51", "picture"),
    (b"\0\0\x01\0", "picture"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"FLV\x01", "video"),
    (b"OggS", "video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),
    (b"\0\0\x01\xba", "video"),
    (b"\0\0\x01\xb3", "video"),
    (b".RMF", "video"),
    (b"YUV4MPEG2", "video"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "video"),
    (b"nut/multimedia container\0", "video"),
)
_WHY: dict[LeftOut, str] = {
    "not-a-file": "a pipe, a device, or a link that leads nowhere",
    "missing": "named by its dataset and not there",
    "cannot-read": "a file or folder that cannot be read",
    "not-accepted": "not accepted in its dataset",
    "earlier-output": "written by an earlier run",
}
#: Work of a run that is not finished.
_UNFINISHED = ".partial.segments"
#: Where commands put sheets and panels, and the file by which such a folder is known.
LOOK_FOLDER, _SET_APART = "_look", ".not-sources"
_PICTURE_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}


@dataclass(frozen=True)
class MediaListing:
    """What a search found.

    Attributes:
        kinds: pictures and videos in the order of their names, and which they are.
        left_out: files that are not taken, and folders that cannot be read, and why, in the order of their names.
    """

    kinds: dict[Path, MediaKind]
    left_out: dict[Path, LeftOut]

    @property
    def found(self) -> tuple[Path, ...]:
        """Pictures and videos in the order of their names."""
        return tuple(self.kinds)


def left_out_lines(left_out: Mapping[Path, LeftOut], kinds: Collection[MediaKind]) -> list[str]:
    """Return what of searched folders was not taken: a line for each reason, with the number and the first names.

    Args:
        left_out: files and folders, and why.
        kinds: what was searched for.

    >>> left_out_lines({Path("a.txt"): "other-kind", Path("b.png"): "not-accepted"}, ("picture",))
    ['1 file left out (not a picture): a.txt', '1 file left out (not accepted in its dataset): b.png']
    """
    why: dict[LeftOut, str] = {"other-kind": "not a " + " or a ".join(kinds), **_WHY}
    names = names_by_reason(left_out)
    return [
        f"{counted(len(names[reason]), 'file')} left out ({text}): {some_names(names[reason])}"
        for reason, text in why.items()
        if reason in names
    ]


def not_taken(left_out: Mapping[Path, Reason], taken: Collection[Path]) -> dict[Path, Reason]:
    """Return what was left out, without the files that were taken all the same, as they were named one by one.

    >>> left_out = not_taken({Path("a.txt"): "other-kind", Path("a_x2.png"): "earlier-output"}, {Path("a_x2.png")})
    >>> [path.name for path in left_out]
    ['a.txt']
    """
    return {path: reason for path, reason in left_out.items() if path not in taken}


def names_by_reason(left_out: Mapping[Path, Reason]) -> dict[Reason, list[str]]:
    """Return the names of files that were left out, as they can be shown, for each reason.

    >>> names_by_reason({Path("a/b.txt"): "other-kind", Path("c.txt"): "other-kind"})
    {'other-kind': ['b.txt', 'c.txt']}
    """
    names: dict[Reason, list[str]] = {}
    for path, reason in left_out.items():
        names.setdefault(reason, []).append(printable(path.name))
    return names


def kind_of_content(head: bytes) -> MediaKind | None:
    """Return what the first bytes of a file (:data:`HEAD_BYTES` of them) say it is; None where they do not say."""
    for mark, kind in _HEADS:
        if head.startswith(mark):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "picture", b"AVI ": "video"}.get(head[8:12])  # type: ignore[return-value]
    if head[4:8] == b"ftyp":
        brands = {
            head[8:12],
            *(head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4)),
        }
        return (
            "picture"
            if head[8:12] in _PICTURE_BRANDS or (brands & _PICTURE_BRANDS and b"isom" not in brands)
            else "video"
        )
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "video"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "video"
    if len(head) > 388 and head[4] == head[196] == head[388] == 0x47:
        return "video"
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3] in b" \t\r\n":
        return "picture"
    return None


def kind_of_name(path: Path) -> MediaKind | None:
    """Return what the ending of a name says, in any case of its letters; None for other endings."""
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    return "video" if suffix in VIDEO_SUFFIXES else None


def media_kind(path: Path) -> MediaKind | None:
    """Return what a file is: by its first bytes, else by its ending; None for files that are neither.

    Pipes, sockets and devices are neither, and are not opened.
    """
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except InputError:
        return None
    except OSError:
        return kind_of_name(path)
    return kind_of_content(head) or kind_of_name(path)


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a dataset: its pictures were accepted or not (:mod:`apisr.core.dataset`)."""
    return (folder / MANIFEST_NAME).is_file()


def set_apart(folder: Path) -> Path:
    """Make a folder for sheets, panels and thumbnails: :func:`find_media` does not take them for pictures.

    Raises:
        InputError: a link stands in its place.

    >>> import tempfile
    >>> look = set_apart(Path(tempfile.mkdtemp()) / LOOK_FOLDER)
    >>> _ = (look / "sheet.png").write_bytes(bytes.fromhex("89504e470d0a1a0a"))
    >>> find_media(look.parent).found
    ()
    """
    if folder.is_symlink():
        raise InputError(f"cannot write into '{folder}': it is a link. Remove it.", code="cannot-write")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _SET_APART).touch()
    return folder


def find_media(
    folder: Path,
    *,
    kinds: Collection[MediaKind] = ("picture", "video"),
    recursive: bool = True,
    skip: Callable[[Path], bool] = lambda path: False,
) -> MediaListing:
    """Search a folder.

    Hidden files and folders (a name that begins with a dot), unfinished work (``NAME.partial.ext``,
    ``NAME.partial.segments``) and folders of pictures to look at (:func:`set_apart`) are passed over without being
    counted. Of a dataset (:mod:`apisr.core.dataset`) the accepted pictures are found and its other pictures left out;
    thumbnails and records are passed over. Folders reached twice through links are visited once.

    Args:
        folder: where to search.
        kinds: what is looked for; the other kind is neither found nor left out.
        recursive: whether subfolders are searched.
        skip: called with every folder and file; what it is true for is passed over without being counted.

    Raises:
        MissingExtra: there is a dataset, and the package that reads its manifest is not installed.
        InputError: the folder cannot be read; the manifest of a dataset cannot be read, or leads out of it.
    """
    found: dict[Path, MediaKind] = {}
    left_out: dict[Path, LeftOut] = {}
    for path, refused in _files(folder, recursive=recursive, skip=skip):
        kind = None if refused else media_kind(path)
        if kind is None:
            left_out[path] = refused or "other-kind"
        elif kind in kinds:
            found[path] = kind
    return MediaListing(dict(sorted(found.items())), dict(sorted(left_out.items())))


def _files(folder: Path, *, recursive: bool, skip: Callable[[Path], bool]) -> Iterator[tuple[Path, LeftOut | None]]:
    """Yield the files of a folder, and why they are not taken before they are looked into, None where they may be."""
    visited: set[Path] = set()
    refused: list[OSError] = []
    for base, folders, names in os.walk(folder, followlinks=True, onerror=refused.append):
        here = Path(base)
        real = real_path(here)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        if MANIFEST_NAME in names:
            folders.clear()
            names = []
            for path, accepted in read_decisions(here).items():
                if not skip(path):
                    yield path, _why_not_a_file(path) if accepted else "not-accepted"
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and not name.endswith(_UNFINISHED)
            and not os.path.exists(here / name / _SET_APART)  # noqa: PTH110 - pathlib raises where it may not look
            and not skip(here / name)
        )
        for name in sorted(names):
            path = here / name
            if not name.startswith(".") and not path.stem.endswith(".partial") and not skip(path):
                yield path, _why_not_a_file(path)
        if not recursive:
            break
    for error in refused:
        if error.filename == os.fspath(folder):
            raise InputError(f"cannot read the folder '{folder}': {error.strerror}.", code="cannot-read")
        if not isinstance(error, FileNotFoundError):
            yield Path(error.filename), "cannot-read"


def _why_not_a_file(path: Path) -> LeftOut | None:
    """Return why a path does not lead to a file that may be looked at, None where it does."""
    try:
        if path.is_file():
            return None
    except PermissionError:
        return "cannot-read"
    return "not-a-file" if os.path.lexists(path) else "missing"
