"""A dataset for other tools: a Hugging Face ``imagefolder``, or plain folders of pictures.

>>> export_dataset(Path("dataset"), Path("out"), kind="imagefolder")  # doctest: +SKIP
118
"""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from apisr.core.errors import InputError, RunError
from apisr.core.files import atomic_path, path_inside, sha256_file
from apisr.core.text import printable
from apisr.curate.manifest import Row, read_manifest

ExportKind = Literal["imagefolder", "plain"]


def export_dataset(dataset: Path, target: Path, *, kind: ExportKind, enhanced: bool = False) -> int:
    """Copy the accepted pictures out of a dataset; files are linked where the file system can.

    ``imagefolder`` makes ``train/ID.png`` with ``train/metadata.csv`` (readable by
    ``datasets.load_dataset("imagefolder")``) and the dataset card; ``plain`` makes ``ID.png`` alone. Nothing is read
    outside the dataset or written outside the target, whatever the manifest says.

    Args:
        dataset: a dataset's folder.
        target: a missing or empty folder.
        kind: see above.
        enhanced: the pictures with enhanced lines instead.

    Returns:
        How many pictures were copied.

    Raises:
        InputError: no dataset, a manifest whose paths lead out of it, a target with something in it, or no enhanced
            pictures.
        RunError: a picture is missing or not what the manifest says, or the disk is full.
    """
    rows = [row for row in read_manifest(dataset)[0] if row.decision == "accept"]
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            f"'{printable(target)}' exists and is not an empty folder. Give another name.", code="output-exists"
        )
    sources = [_source(dataset, row, enhanced=enhanced) for row in rows]
    folder = target / "train" if kind == "imagefolder" else target
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{row.id}{source.suffix}" for row, source in zip(rows, sources, strict=True)]
    for source, name in zip(sources, names, strict=True):
        copy = path_inside(folder, name)
        try:
            os.link(source, copy, follow_symlinks=True)
        except OSError:
            _copy(source, copy)
    if kind == "imagefolder":
        _write_metadata(folder / "metadata.csv", rows, names)
        card = path_inside(dataset, "README.md")
        if card.is_file():
            _copy(card, target / "README.md")
    return len(names)


def _copy(source: Path, copy: Path) -> None:
    with atomic_path(copy) as partial:
        shutil.copyfile(source, partial)


def _source(dataset: Path, row: Row, *, enhanced: bool) -> Path:
    file, digest = (row.enhanced_file, row.enhanced_sha256) if enhanced else (row.file, row.file_sha256)
    if file is None:
        raise InputError(
            f"the dataset '{printable(dataset)}' has no enhanced pictures. Make it with --enhance.", code="no-enhanced"
        )
    source = path_inside(dataset, file)
    if not source.is_file() or sha256_file(source) != digest:
        raise RunError(
            f"'{printable(source)}' is missing or damaged. Remove '{row.id}' or curate its video again.",
            code="damaged-picture",
        )
    return source


def _write_metadata(path: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    fields = ["file_name", "source", "time_s", "score", "native_height", "width", "height", "flags"]
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        for row, name in zip(rows, names, strict=True):
            values = dataclasses.asdict(row) | {"file_name": name, "flags": " ".join(row.flags)}
            writer.writerow({field: values[field] for field in fields})
