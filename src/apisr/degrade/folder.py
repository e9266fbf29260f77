"""Degrading files: folders of pictures to folders of low-resolution pictures, with what was drawn on record.

Each picture draws from its own generator, seeded by the run's seed and its relative name, so that the result depends
neither on the order nor on the number of workers nor on what was done before. The output folder holds the pictures
(PNG, under their relative names), ``parameters.jsonl`` with one line a picture, and ``_look/contact_sheet.png``.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.files import real_path
from apisr.core.media import LOOK_FOLDER, LeftOut, set_apart
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.degrade.journal import Journal, Record, read_records
from apisr.degrade.recipe import Recipe, apply, low_size, sample
from apisr.degrade.sheet import Example, contact_sheet
from apisr.image import find_pictures, read_rgb, rgb_losses, write_picture

PARAMETERS_NAME = "parameters.jsonl"
SHEET_NAME = f"{LOOK_FOLDER}/contact_sheet.png"
#: Pictures shown on the contact sheet.
SHEET_EXAMPLES = 12


@dataclass(frozen=True)
class DegradeOptions:
    """How a folder is degraded.

    Attributes:
        seed: of all draws.
        workers: pictures degraded at the same time (threads; codecs and filters do not hold Python's lock).
        overwrite: replace what an earlier run wrote.
        sheet: make the contact sheet.
        replay: a ``parameters.jsonl`` to repeat instead of drawing.
    """

    seed: int = 0
    workers: int = 1
    overwrite: bool = False
    sheet: bool = True
    replay: Path | None = None


class DegradeResult(BaseModel):
    """What a run did.

    Attributes:
        done: relative names of the pictures written now.
        skipped: of those that an earlier, interrupted run had written.
        failed: relative name -> reason.
        sheet: the contact sheet, if one was made.
        left_out: files of searched folders that were not taken, and why.
        notices: what of the pictures done now was not read (see :func:`apisr.image.rgb_losses`).
    """

    model_config = ConfigDict(frozen=True)

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    sheet: Path | None
    left_out: dict[Path, LeftOut] = {}
    notices: tuple[str, ...] = ()


def degrade_folder(
    source: Path | Sequence[Path],
    output: Path,
    recipe: Recipe,
    options: DegradeOptions = DegradeOptions(),
    *,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> DegradeResult:
    """Degrade pictures and folders of pictures.

    Args:
        source: a picture file or a folder (searched with its subfolders), or several.
        output: folder to write to; a run that was interrupted is taken up where it stopped.
        recipe: what may happen, and the scale.
        options: seed, workers and what is written.
        progress: called before the work for what of the pictures is not read, and after each picture.
        cancel: stops the run between two pictures.

    Raises:
        InputError: nothing to read, an output that belongs to another recipe or seed, two inputs with one name.
        Cancelled: the run was stopped; what was finished is kept.
    """
    run = _Run(source, output, recipe, options)
    cancel = cancel or Cancel()
    total = len(run.pictures)
    done: list[str] = []
    failed: dict[str, str] = {}
    notices = rgb_losses(run.pictures[name] for name in run.todo)
    for line in notices:
        progress(Progress("degrade", "notice", message=line))
    output.mkdir(parents=True, exist_ok=True)
    with run.journal:
        for name, error in run.results(cancel):
            if error is None:
                done.append(name)
            else:
                failed[name] = str(error)
            finished = len(run.before) + len(done) + len(failed)
            progress(Progress("degrade", item=str(output), done=finished, total=total, unit="pictures"))
    cancel.check()
    run.journal.write_sorted(run.pictures)
    sheet = run.write_sheet(anew=bool(done)) if options.sheet else None
    before = tuple(run.before)
    return DegradeResult(
        done=tuple(done), skipped=before, failed=failed, sheet=sheet, left_out=run.left_out, notices=notices
    )


class _Run:
    """One call of :func:`degrade_folder`: its pictures, its journal, and the work on one picture."""

    def __init__(self, source: Path | Sequence[Path], output: Path, recipe: Recipe, options: DegradeOptions) -> None:
        if options.workers < 1:
            raise InputError(f"{options.workers} workers are out of range. Give 1 or more.", code="out-of-range")
        if output.exists() and not output.is_dir():
            raise InputError(f"cannot write into '{output}': it is a file. Give a folder with -o.", code="not-a-folder")
        self.output, self.recipe, self.options = output, recipe, options
        listing = find_pictures(source, without=output)
        self.pictures, self.left_out = _named(listing.found), listing.left_out
        self.recorded = _recorded(options.replay, self.pictures)
        seed = None if options.replay is not None else options.seed
        self.journal = Journal(output / PARAMETERS_NAME, recipe, seed, overwrite=options.overwrite)
        self.before = [name for name in self.pictures if name in self.journal.records and (output / name).is_file()]
        for name, path in self.pictures.items():
            if real_path(output / name) == real_path(path):
                raise InputError(
                    f"the output '{output / name}' is the input itself. Choose another folder with -o.",
                    code="output-is-input",
                )
        known = set(self.before)
        self.todo = [name for name in self.pictures if name not in known]
        for name in self.todo:
            if (output / name).exists() and not options.overwrite:
                raise InputError(
                    f"'{output / name}' exists. Give another folder or add --overwrite.", code="output-exists"
                )

    def results(self, cancel: Cancel) -> Iterator[tuple[str, ApisrError | None]]:
        """Degrade what is to be done; yield each name with the reason if it failed."""
        waiting: dict[Future[None], str] = {}
        with ThreadPoolExecutor(self.options.workers) as pool:
            try:
                for name in self.todo:
                    if cancel.requested:
                        break
                    waiting[pool.submit(self.degrade, name)] = name
                    while len(waiting) >= 2 * self.options.workers:
                        yield from _finished(waiting)
                while waiting:
                    yield from _finished(waiting)
            except BaseException:
                for future in waiting:
                    future.cancel()
                raise

    def degrade(self, name: str) -> None:
        """Degrade, write and record one picture."""
        high = read_rgb(self.pictures[name])
        if self.options.replay is not None:
            parameters = self.recorded[name]["parameters"]
        else:
            generator = np.random.default_rng([self.options.seed, zlib.crc32(os.fsencode(name))])
            parameters = sample(self.recipe, generator, *high.shape[:2])
        low = apply(high, parameters)
        self.journal.add(name, self.pictures[name], parameters)  # first: a picture without a record would be in the way
        try:
            write_picture(self.output / name, low, overwrite=self.options.overwrite)
        except ApisrError:
            self.journal.forget(name)
            raise

    def write_sheet(self, *, anew: bool) -> Path | None:
        """Write the contact sheet (if it is there already: only when asked to); return its path if there is one."""
        path = self.output / SHEET_NAME
        if not anew and path.exists():
            return path
        records = self.journal.records
        shown = [name for name in self.pictures if name in records][:: max(1, len(records) // SHEET_EXAMPLES)]
        examples: list[Example] = []
        for name in shown[:SHEET_EXAMPLES]:
            with contextlib.suppress(InputError):  # a source that is no longer there
                examples.append(self._example(name))
        if examples:
            set_apart(path.parent)
            write_picture(path, contact_sheet(examples), overwrite=True)
        return path if path.exists() else None

    def _example(self, name: str) -> Example:
        parameters = self.journal.records[name]["parameters"]
        high, low = read_rgb(self.pictures[name]), read_rgb(self.output / name)
        height, width = low_size(high.shape[0], high.shape[1], parameters["scale"])
        if low.shape[:2] != (height, width):
            found = f"{low.shape[1]}x{low.shape[0]}"
            raise RunError(
                f"'{self.output / name}' is {found}, expected {width}x{height}. Add --overwrite.", code="output-changed"
            )
        return Example(Path(name).name, high, low, parameters)


def _finished(waiting: dict[Future[None], str]) -> Iterator[tuple[str, ApisrError | None]]:
    """Wait for one or more pictures and take them out of `waiting`."""
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        name, error = waiting.pop(future), future.exception()
        if error is not None and not isinstance(error, ApisrError):
            raise error
        yield name, error


def _recorded(replay: Path | None, pictures: dict[str, Path]) -> dict[str, Record]:
    if replay is None:
        return {}
    recorded = read_records(replay)
    if missing := [name for name in pictures if name not in recorded]:
        raise InputError(
            f"'{replay}' has no parameters for '{missing[0]}' ({len(missing)} pictures without). "
            "Give the pictures that were degraded with it.",
            code="bad-parameters",
        )
    return recorded


def _named(found: Sequence[tuple[Path, Path]]) -> dict[str, Path]:
    """Return the output names of the pictures."""
    named: dict[str, Path] = {}
    for source, relative in found:
        name = relative.with_suffix(".png").as_posix()
        if name in (PARAMETERS_NAME, SHEET_NAME):
            raise InputError(
                f"'{source}' would be written as '{name}', a name of the run's own files. Rename it.", code="name-taken"
            )
        if name in named:
            raise InputError(
                f"'{named[name]}' and '{source}' would both be written as '{name}'. Rename one of them.",
                code="name-taken",
            )
        named[name] = source
    return named
