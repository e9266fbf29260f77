"""A dataset for other tools: a Hugging Face ``imagefolder``, or plain folders of pictures.

>>> export_dataset(Path("dataset"), Path("out"), kind="imagefolder")  # doctest: +SKIP
118
"""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Literal

from apisr.core.errors import InputError, RunError
from apisr.core.files import atomic_path, sha256_file
from apisr.curate.manifest import read_manifest

ExportKind = Literal["imagefolder", "plain"]


def export_dataset(dataset: Path, target: Path, *, kind: ExportKind, enhanced: bool = False) -> int:
    """Copy the accepted pictures out of a dataset; files are linked where the file system can.

    ``imagefolder`` makes ``train/ID.png`` with ``train/metadata.csv`` (readable by
    ``datasets.load_dataset("imagefolder")``) and the dataset card; ``plain`` makes ``ID.png`` alone.

    Args:
        dataset: a dataset's folder.
        target: a missing or empty folder.
        kind: see above.
        enhanced: the pictures with enhanced lines instead.

    Returns:
        How many pictures were copied.

    Raises:
        InputError: no dataset, a target with something in it, or no enhanced pictures.
        RunError: a picture is missing or not what the manifest says.
    """
    rows = [row for row in read_manifest(dataset)[0] if row.decision == "accept"]
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"'{target}' exists and is not an empty folder. Give another name.")
    folder = target / "train" if kind == "imagefolder" else target
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for row in rows:
        file, digest = (row.enhanced_file, row.enhanced_sha256) if enhanced else (row.file, row.file_sha256)
        if file is None:
            raise InputError(f"the dataset '{dataset}' has no enhanced pictures. Make it with --enhance.")
        source = dataset / file
        if not source.is_file() or sha256_file(source) != digest:
            raise RunError(f"'{source}' is missing or damaged. Remove '{row.id}' or curate its video again.")
        names.append(f"{row.id}{source.suffix}")
        try:
            os.link(source, folder / names[-1])
        except OSError:
            shutil.copyfile(source, folder / names[-1])
    if kind == "imagefolder":
        fields = ["file_name", "source", "time_s", "score", "native_height", "width", "height", "flags"]
        with atomic_path(folder / "metadata.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            for row, name in zip(rows, names, strict=True):
                values = dataclasses.asdict(row) | {"file_name": name, "flags": " ".join(row.flags)}
                writer.writerow({field: values[field] for field in fields})
        if (dataset / "README.md").is_file():
            shutil.copyfile(dataset / "README.md", target / "README.md")
    return len(names)
