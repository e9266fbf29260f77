"""The pictures of a folder, with the names their outputs are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from apisr.core.errors import InputError
from apisr.core.media import find_media


def find_pictures(source: Path | Sequence[Path], *, without: Path | None = None) -> list[tuple[Path, Path]]:
    """List the pictures of folders with their subfolders, and single files, with their relative names.

    Args:
        source: a picture file or a folder, or several.
        without: a folder (that of the output) that is left out.

    Raises:
        InputError: no such file or folder (``"cannot-read"``), or no picture in it (``"nothing-found"``).
    """
    sources = [source] if isinstance(source, Path) else source
    return list(dict.fromkeys(found for one in sources for found in _pictures_of(one, without)))


def _pictures_of(source: Path, without: Path | None) -> list[tuple[Path, Path]]:
    if source.is_file():
        return [(source, Path(source.name))]
    if not source.is_dir():
        raise InputError(f"cannot read '{source}': no such file or folder.", code="cannot-read")
    skipped = without.resolve() if without is not None and without.resolve() != source.resolve() else None
    listing = find_media(source, kinds=("picture",), skip=lambda path: path.resolve() == skipped)
    if not listing.found:
        raise InputError(f"no pictures found in '{source}'. Give pictures or a folder of them.", code="nothing-found")
    return [(path, path.relative_to(source)) for path in listing.found]
