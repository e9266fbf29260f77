"""What there is to review below a folder: datasets, and the reports that other commands wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from apisr.core.media import is_dataset

#: How deep below the folder is searched, and how many folders and entries are shown at most.
MAX_DEPTH = 6
MAX_FOLDERS = 20_000
MAX_ENTRIES = 500
#: Marks of our reports, and how many bytes from their start are searched for one.
_MARKS = (b"apisr", b"Dataset report")
_HEAD_BYTES = 8192


@dataclass
class Library:
    """What was found.

    Attributes:
        datasets: folders of datasets.
        reports: HTML files of ours.
        more: whether the search ended before the end.
    """

    datasets: list[Path] = field(default_factory=list[Path])
    reports: list[Path] = field(default_factory=list[Path])
    more: bool = False


def find_library(folder: Path) -> Library:
    """Search a folder for datasets and reports; links are not followed, the inside of datasets is not searched."""
    library = Library()
    for walked, (here, folders, files) in enumerate(os.walk(folder, followlinks=False)):
        path = Path(here)
        if walked >= MAX_FOLDERS or len(library.datasets) + len(library.reports) >= MAX_ENTRIES:
            library.more = True
            break
        library.reports += [path / name for name in files if name.endswith(".html") and is_report(path / name)]
        if is_dataset(path):
            library.datasets.append(path)
            folders.clear()
        elif len(path.relative_to(folder).parts) >= MAX_DEPTH:
            library.more = library.more or bool(folders)
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))
    for found in (library.datasets, library.reports):
        found.sort(key=lambda path: str(path).lower())
    return library


def is_report(path: Path) -> bool:
    """Return whether a file is a page that one of our commands wrote."""
    if path.suffix != ".html" or path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return any(mark in head for mark in _MARKS)
