"""The pictures of a folder, with the names their outputs are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apisr.core.errors import InputError
from apisr.core.files import not_a_file, real_path
from apisr.core.media import LeftOut, find_media, not_taken


@dataclass(frozen=True)
class PictureListing:
    """What a search for pictures found.

    Attributes:
        found: each picture with the relative name that its output takes.
        left_out: other files of the folders that were searched, and why they are not taken.
    """

    found: tuple[tuple[Path, Path], ...]
    left_out: dict[Path, LeftOut]


def find_pictures(source: Path | Sequence[Path], *, without: Path | None = None) -> PictureListing:
    """List the pictures of folders with their subfolders, and single files, with their relative names.

    Args:
        source: a picture file or a folder, or several.
        without: a folder (that of the output) that is left out.

    Raises:
        InputError: no such file or folder (``"cannot-read"``), a pipe or a device (``"not-a-file"``), or no picture in
            it (``"nothing-found"``).
    """
    sources = [source] if isinstance(source, Path) else source
    listings = [_pictures_of(one, without) for one in sources]
    found = dict.fromkeys(entry for listing in listings for entry in listing.found)
    left_out: dict[Path, LeftOut] = {}
    for listing in listings:
        left_out |= listing.left_out
    return PictureListing(tuple(found), not_taken(left_out, {path for path, _ in found}))


def _pictures_of(source: Path, without: Path | None) -> PictureListing:
    if source.is_file():
        return PictureListing(((source, Path(source.name)),), {})
    if not source.exists():
        raise InputError(f"cannot read '{source}': no such file or folder.", code="cannot-read")
    if not source.is_dir():
        raise not_a_file(source)
    skipped = real_path(without) if without is not None and real_path(without) != real_path(source) else None
    listing = find_media(source, skip=lambda path: real_path(path) == skipped)
    pictures = [path for path, kind in listing.kinds.items() if kind == "picture"]
    if not pictures:
        raise InputError(f"no pictures found in '{source}'. Give pictures or a folder of them.", code="nothing-found")
    videos: dict[Path, LeftOut] = {path: "other-kind" for path, kind in listing.kinds.items() if kind != "picture"}
    left_out = dict(sorted((listing.left_out | videos).items()))
    return PictureListing(tuple((path, path.relative_to(source)) for path in pictures), left_out)
