"""Degrading files: folders of pictures to folders of low-resolution pictures, with what was drawn on record.

Each picture draws from its own generator, seeded by the run's seed and its relative name, so that the result depends
neither on the order nor on the number of workers nor on what was done before. The output folder holds the pictures
(PNG, under their relative names), ``parameters.jsonl`` with one line a picture, and ``contact_sheet.png``.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.files import atomic_path
from apisr.degrade.recipe import Bytes, Parameters, Recipe, apply, low_size, sample
from apisr.degrade.sheet import Example, contact_sheet
from apisr.image import find_pictures, read_rgb, write_picture

PARAMETERS_NAME = "parameters.jsonl"
SHEET_NAME = "contact_sheet.png"
#: Pictures shown on the contact sheet.
SHEET_EXAMPLES = 12


@dataclass(frozen=True)
class FolderOutcome:
    """What a run did.

    Attributes:
        done: relative names of the pictures written now.
        skipped: of those that an earlier, interrupted run had written.
        failed: relative name -> why.
        sheet: the contact sheet, if one was made.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    sheet: Path | None


def degrade_folder(
    given: Path,
    output: Path,
    recipe: Recipe,
    *,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    sheet: bool = True,
    replay: Path | None = None,
    progressed: Callable[[int, int], None] | None = None,
) -> FolderOutcome:
    """Degrade a picture or a folder of pictures.

    Args:
        given: a picture file or a folder (searched with its subfolders).
        output: folder to write to; a run that was interrupted is taken up where it stopped.
        recipe: what may happen, and the scale.
        seed: of all draws.
        workers: pictures degraded at the same time (threads; codecs and filters do not hold Python's lock).
        overwrite: replace what an earlier run wrote.
        sheet: make the contact sheet.
        replay: a ``parameters.jsonl`` to repeat instead of drawing.
        progressed: called with (finished, all) pictures.

    Raises:
        InputError: nothing to read, an output that belongs to another recipe or seed, two inputs with one name.
    """
    if workers < 1:
        raise InputError(f"{workers} workers are out of range. Give 1 or more.")
    if output.exists() and not output.is_dir():
        raise InputError(f"cannot write into '{output}': it is a file. Give a folder with -o.")
    named = _named(find_pictures(given, without=output))
    recorded = _read_lines(replay) if replay is not None else {}
    if replay is not None and (missing := [name for name in named if name not in recorded]):
        raise InputError(f"'{replay}' has no parameters for '{missing[0]}' ({len(missing)} pictures without).")
    journal = _Journal(output / PARAMETERS_NAME, recipe, seed, overwrite=overwrite, replayed=replay is not None)
    before = [name for name in named if name in journal.lines and (output / name).is_file()]
    todo = [name for name in named if name not in set(before)]
    for name in todo:
        if (output / name).exists() and not overwrite:
            raise InputError(f"'{output / name}' exists. Give another folder or add --overwrite.")
    failed: dict[str, str] = {}
    done: list[str] = []

    def work(name: str) -> None:
        high = read_rgb(named[name])
        if replay is not None:
            parameters = recorded[name]["parameters"]
        else:
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            parameters = sample(recipe, generator, *high.shape[:2])
        low = apply(high, parameters)
        write_picture(output / name, low, overwrite=overwrite)
        journal.add(name, named[name], parameters)

    def finished(name: str, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            done.append(name)
        elif isinstance(error, ApisrError):
            failed[name] = str(error)
        else:
            raise error
        if progressed is not None:
            progressed(len(before) + len(done) + len(failed), len(named))

    output.mkdir(parents=True, exist_ok=True)
    with journal, ThreadPoolExecutor(workers) as pool:
        waiting: dict[Future[None], str] = {}
        try:
            for name in todo:
                waiting[pool.submit(work, name)] = name
                while len(waiting) >= 2 * workers:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        finished(waiting.pop(future), future)
            for future, name in list(waiting.items()):
                finished(name, future)
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
    journal.write_sorted(named)
    sheet_path = output / SHEET_NAME if sheet else None
    if sheet_path is not None and (done or not sheet_path.exists()):
        chosen = [name for name in named if name in journal.lines][:: max(1, len(journal.lines) // SHEET_EXAMPLES)]
        examples = [_example(named[name], output / name, journal.lines[name], name) for name in chosen[:SHEET_EXAMPLES]]
        if examples:
            write_picture(sheet_path, contact_sheet(examples), overwrite=True)
    return FolderOutcome(tuple(done), tuple(before), failed, sheet_path)


class _Journal:
    """``parameters.jsonl``: read what an earlier run left, append line by line, sort at the end."""

    def __init__(self, path: Path, recipe: Recipe, seed: int, *, overwrite: bool, replayed: bool) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: Any = None
        self._identity = {"recipe": recipe.name, "scale": recipe.scale, "seed": None if replayed else seed}
        self.lines: dict[str, dict[str, Any]] = {}
        if path.exists() and not overwrite:
            self.lines = _read_lines(path, cut_off=True)
            for line in self.lines.values():
                found = {
                    "recipe": line["parameters"].get("recipe"),
                    "scale": line["parameters"].get("scale"),
                    "seed": line.get("seed"),
                }
                if replayed:
                    found["recipe"], found["scale"] = recipe.name, recipe.scale
                if found != self._identity:
                    raise InputError(
                        f"'{path.parent}' holds pictures made with {_words(found)}, asked for are "
                        f"{_words(self._identity)}. Give another folder or add --overwrite."
                    )

    def __enter__(self) -> None:
        try:
            text = "".join(f"{json.dumps(line)}\n" for line in self.lines.values())
            with atomic_path(self._path, overwrite=True) as partial:
                partial.write_text(text, encoding="utf-8")
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise RunError(f"cannot write '{self._path}': {error.strerror or error}.") from error

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, source: Path, parameters: Parameters) -> None:
        line = {"file": name, "source": str(source), "seed": self._identity["seed"], "parameters": parameters}
        with self._lock:
            self.lines[name] = line
            self._file.write(f"{json.dumps(line)}\n")
            self._file.flush()

    def write_sorted(self, names: dict[str, Path]) -> None:
        ordered = sorted(self.lines, key=lambda name: (name not in names, name))
        with atomic_path(self._path, overwrite=True) as partial:
            partial.write_text("".join(f"{json.dumps(self.lines[name])}\n" for name in ordered), encoding="utf-8")


def _words(identity: dict[str, Any]) -> str:
    seed = "replayed parameters" if identity["seed"] is None else f"seed {identity['seed']}"
    return f"recipe {identity['recipe']}, scale {identity['scale']}, {seed}"


def _named(found: Sequence[tuple[Path, Path]]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for source, relative in found:
        name = relative.with_suffix(".png").as_posix()
        if name in (PARAMETERS_NAME, SHEET_NAME):
            raise InputError(f"'{source}' would be written as '{name}', a name of the run's own files. Rename it.")
        if name in named:
            raise InputError(f"'{named[name]}' and '{source}' would both be written as '{name}'. Rename one of them.")
        named[name] = source
    return named


def _read_lines(path: Path, *, cut_off: bool = False) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}.") from error
    lines: dict[str, dict[str, Any]] = {}
    rows = text.split("\n")
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            line = json.loads(row)
            if not isinstance(line["parameters"], dict):
                raise TypeError("parameters are no object")
            lines[line["file"]] = line
        except (ValueError, KeyError, TypeError) as error:
            if cut_off and number == len(rows):  # the last line of an interrupted run
                continue
            raise InputError(f"cannot read '{path}': line {number} is not a record of parameters ({error}).") from error
    return lines


def _example(source: Path, target: Path, line: dict[str, Any], name: str) -> Example:
    high: Bytes = read_rgb(source)
    low: Bytes = read_rgb(target)
    expected = low_size(high.shape[0], high.shape[1], line["parameters"]["scale"])
    if low.shape[:2] != expected:
        raise RunError(f"'{target}' is {low.shape[1]}x{low.shape[0]}, expected {expected[1]}x{expected[0]}.")
    return Example(os.path.basename(name), high, low, line["parameters"])  # noqa: PTH119 - a name, not a file
