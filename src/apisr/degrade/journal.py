"""``parameters.jsonl``: what was drawn for each picture of a folder, one line a picture."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Collection
from io import FileIO
from pathlib import Path
from typing import Any, Self

from apisr.core.errors import InputError
from apisr.core.files import atomic_path, read_plain, write_error
from apisr.core.text import parse_json
from apisr.degrade.recipe import Parameters, Recipe

Record = dict[str, Any]

#: A record has a few thousand bytes; so many hold those of half a million pictures.
_MAX_BYTES = 2 << 30


class Journal:
    """Reads what an earlier run left, appends line by line, sorts at the end.

    Args:
        path: the file.
        recipe: of this run; its name and scale must be those of the records that are there.
        seed: of this run; None while recorded parameters are repeated.
        overwrite: pay no attention to what is there.

    Raises:
        InputError: the file belongs to another recipe, scale or seed, or cannot be read.
    """

    def __init__(self, path: Path, recipe: Recipe, seed: int | None, *, overwrite: bool) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._seed = seed
        self.records: dict[str, Record] = {}
        if path.exists() and not overwrite:
            self.records = read_records(path, cut_off=True)
            self._check_identity(recipe)

    def __enter__(self) -> Self:
        """Open the file for appending."""
        try:
            self._write(list(self.records))
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise write_error(error, self._path) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def add(self, name: str, source: Path, parameters: Parameters) -> None:
        """Record one picture; may be called from several threads.

        Raises:
            RunError: the disk is full; no half a line is left.
        """
        record: Record = {"file": name, "source": str(source), "seed": self._seed, "parameters": parameters}
        with self._lock:
            if self._file is not None:
                self._append(self._file, f"{json.dumps(record)}\n".encode())
            self.records[name] = record

    def forget(self, name: str) -> None:
        """Take back what was recorded of a picture that could not be written."""
        with self._lock:
            self.records.pop(name, None)

    def _append(self, file: FileIO, line: bytes) -> None:
        whole, left = file.seek(0, os.SEEK_END), memoryview(line)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                file.truncate(whole)
            raise write_error(error, self._path) from error

    def write_sorted(self, names: Collection[str]) -> None:
        """Write the file anew in the order of the names, those of `names` first."""
        self._write(sorted(self.records, key=lambda name: (name not in names, name)))

    def _write(self, names: list[str]) -> None:
        with atomic_path(self._path, overwrite=True) as partial:
            partial.write_text("".join(f"{json.dumps(self.records[name])}\n" for name in names), encoding="utf-8")

    def _check_identity(self, recipe: Recipe) -> None:
        expected = _identity(recipe.name, recipe.scale, self._seed)
        for record in self.records.values():
            drawn = record["parameters"]
            name, scale = (
                (recipe.name, recipe.scale) if self._seed is None else (drawn.get("recipe"), drawn.get("scale"))
            )
            found = _identity(name, scale, record.get("seed"))
            if found != expected:
                raise InputError(
                    f"'{self._path.parent}' holds pictures made with {found}, but {expected} was asked for. "
                    "Give another folder or add --overwrite.",
                    code="output-of-another-run",
                )


def read_records(path: Path, *, cut_off: bool = False) -> dict[str, Record]:
    """Read records by file name.

    Args:
        path: the file.
        cut_off: pass over a last line that is not whole (an interrupted run).

    Raises:
        InputError: the file cannot be read, or a line is not a record.
    """
    try:
        text = read_plain(path, at_most=_MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read '{path}': {reason}.", code="cannot-read") from error
    records: dict[str, Record] = {}
    rows = text.split("\n")
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            record = parse_json(row)
            if not isinstance(record["parameters"], dict):
                raise TypeError("parameters are not an object")
            if not isinstance(record["file"], str):
                raise TypeError("'file' is not a name")
            records[record["file"]] = record
        except (ValueError, KeyError, TypeError) as error:
            if cut_off and number == len(rows):
                continue
            raise InputError(
                f"cannot read '{path}': line {number} is not a record of parameters ({error}).", code="bad-parameters"
            ) from error
    return records


def _identity(recipe: object, scale: object, seed: object) -> str:
    seeded = "recorded parameters" if seed is None else f"seed {seed}"
    return f"recipe {recipe}, scale {scale}, {seeded}"
