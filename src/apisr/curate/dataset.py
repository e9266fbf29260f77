"""The folder of a dataset: what lies where, who may work on it, and what it was made with.

Layout::

    manifest.parquet      one row a picture (apisr.curate.manifest)
    settings.json         the options it was made with; it is continued with the same ones or not at all
    README.md             the dataset card
    report.html           histograms and tables
    images/VIDEO/ID.png   the pictures; VIDEO is the start of the video's SHA-256
    enhanced/VIDEO/ID.png pictures with enhanced lines, where asked
    thumbs/VIDEO/ID.jpg   small pictures for the review page
    videos/VIDEO.json     what is known of each finished video (apisr.curate.records)
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Generator
from pathlib import Path

from apisr.core.errors import InputError
from apisr.core.files import read_plain, write_atomic
from apisr.core.locks import hold_lock
from apisr.core.text import printable
from apisr.core.version import __version__
from apisr.curate.records import record_path
from apisr.curate.settings import CurateSettings, load_settings

#: Folders that hold one folder a video.
VIDEO_FOLDERS = ("images", "enhanced", "thumbs")

_SETTINGS_NAME = "settings.json"


@contextlib.contextmanager
def hold_dataset(dataset: Path, *, create: bool = False) -> Generator[None]:
    """Hold a dataset for this process alone; the lock goes with the process, however it ends.

    Raises:
        InputError: another process holds it (code ``dataset-busy``), or the folder cannot be made or is not a dataset.
    """
    shown = printable(dataset)
    if dataset.exists() and not dataset.is_dir():
        raise InputError(f"'{shown}' is a file. Give a folder for the dataset.", code="not-a-dataset")
    if create:
        _check_ours(dataset)
        try:
            dataset.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make '{shown}': {error.strerror}.", code="cannot-write") from error
    elif not dataset.is_dir():
        raise InputError(f"no dataset in '{shown}': no such folder.", code="no-dataset")
    busy = f"the dataset '{shown}' is in use by another apisr. Wait for it, or stop it."
    with hold_lock(dataset / ".lock", busy=busy, code="dataset-busy"):
        yield


def _check_ours(dataset: Path) -> None:
    if not dataset.is_dir() or (dataset / _SETTINGS_NAME).exists():
        return
    other = [child.name for child in dataset.iterdir() if child.name != ".lock"]
    if other:
        raise InputError(
            f"'{printable(dataset)}' is not a dataset and not empty ('{printable(min(other))}'). "
            "Choose another folder with -o.",
            code="not-a-dataset",
        )


def read_settings(dataset: Path) -> CurateSettings | None:
    """Return the settings a dataset was made with, None where there is no dataset.

    Raises:
        InputError: they are damaged.
    """
    path = dataset / _SETTINGS_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(read_plain(path))["settings"]
        if not isinstance(values, dict):
            raise TypeError("'settings' is not a table")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"cannot read '{printable(path)}': {printable(str(error))}. Choose another folder.", code="bad-settings"
        ) from error
    return load_settings(overrides={str(key): value for key, value in values.items()})


def keep_settings(dataset: Path, settings: CurateSettings) -> None:
    """Write the settings of a new dataset; check those of one that is continued.

    Raises:
        InputError: it was made with other settings (code ``other-settings``).
    """
    before = read_settings(dataset)
    if before is None:
        values = {"apisr": __version__, "settings": settings.model_dump(mode="json")}
        write_atomic(dataset / _SETTINGS_NAME, (json.dumps(values, indent=2) + "\n").encode("utf-8"))
        return
    for name in CurateSettings.model_fields:
        old, new = getattr(before, name), getattr(settings, name)
        if old != new:
            raise InputError(
                f"the dataset '{printable(dataset)}' was made with {name} = {old!r}, now it is {new!r}. "
                "Continue it with the same options, or choose another folder with -o.",
                code="other-settings",
            )


def work_folder(dataset: Path) -> Path:
    """Return the folder in which videos are worked on before their pictures are moved into place."""
    return dataset / ".work"


def remove_leftovers(dataset: Path) -> None:
    """Remove what a killed run left: folders in work, and pictures of videos without a record."""
    remove_tree(work_folder(dataset))
    for kind in VIDEO_FOLDERS:
        for folder in (dataset / kind).glob("*"):
            if folder.is_dir() and not folder.is_symlink() and not record_path(dataset, folder.name).is_file():
                shutil.rmtree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder that this package made, if it is there and no link."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
