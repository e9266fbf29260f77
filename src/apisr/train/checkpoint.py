"""The saved state of a run: complete files only, the last few kept, enough in them to go on bit for bit.

A checkpoint ``checkpoints/step-00012000.pt`` holds the generator, its running mean, the discriminator, both optimisers,
the gradient scalers, the step and the best score. Nothing else is needed: the learning rate and the randomness of a
step are functions of the step, and the batches of the number of samples.

Files are written under another name, flushed to the disk and renamed, so that a process killed at any moment leaves
the checkpoint before it whole. What a disk does to a file later is seen by its checksums: the run then goes on from the
one before.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from apisr.core.errors import InputError, ModelError
from apisr.core.files import atomic_path
from apisr.weights.formats.pickle import check_archive

#: Values by name: arrays, numbers, and state dicts of modules and optimisers.
State = dict[str, Any]

#: Number of the layout of the file.
FORMAT = 2
_NAME = re.compile(r"step-(\d{8,})\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """The name of the checkpoint of a step in a run's folder."""
    return folder / "checkpoints" / f"step-{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The complete checkpoints of a run, oldest first."""
    found = [
        (int(match[1]), path)
        for path in (folder / "checkpoints").glob("step-*.pt")
        if (match := _NAME.fullmatch(path.name))
    ]
    return sorted(found)


def save_checkpoint(folder: Path, state: State, *, step: int, keep: int) -> Path:
    """Save the state of `step` and remove all but the last `keep` checkpoints of this run.

    Raises:
        RunError: the disk is full.
    """
    target = checkpoint_path(folder, step)
    with atomic_path(target, overwrite=True) as partial, partial.open("wb") as file:
        torch.save({"format": FORMAT, "step": step, **state}, file)
    for _, old in list_checkpoints(folder)[:-keep]:
        with contextlib.suppress(OSError):
            old.unlink()
    return target


def load_checkpoint(path: Path) -> State:
    """Read a checkpoint onto the processor.

    Raises:
        InputError: it cannot be read.
        ModelError: it is damaged or of another kind.
    """
    try:
        check_archive(path)
        state = cast("object", torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}.", code="cannot-read") from error
    except Exception as error:  # torch reports damage in many ways
        raise ModelError(
            f"cannot read '{path}': not a complete checkpoint ({type(error).__name__}).", code="damaged-checkpoint"
        ) from error
    if not isinstance(state, dict) or cast("State", state).get("format") != FORMAT:
        raise ModelError(
            f"cannot go on from '{path}': expected a checkpoint of 'apisr train' in format {FORMAT}. "
            "As weights to start from (model.init_from) it can be used.",
            code="other-checkpoint",
        )
    return cast("State", _with_own_storage(cast("object", state)))


def load_newest(paths: Sequence[Path]) -> tuple[State, list[Path]]:
    """Read the first of several checkpoints (newest first) that is whole.

    Returns:
        Its state, and the damaged ones before it.

    Raises:
        InputError: one cannot be read.
        ModelError: all are damaged, or one is of another kind.
    """
    damaged: list[Path] = []
    for path in paths:
        try:
            return load_checkpoint(path), damaged
        except ModelError as error:
            if error.code != "damaged-checkpoint":
                raise
            damaged.append(path)
    folder = paths[0].parent.parent
    names = ", ".join(path.name for path in damaged)
    raise ModelError(
        f"cannot go on with '{folder}': every checkpoint in it is damaged ({names}). Begin another run with its last "
        f"weights: --set run.name=OTHER --set model.init_from='{folder}'.",
        code="damaged-checkpoint",
    )


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it counts neither as the last one nor as one that is kept."""
    target = path.with_suffix(".damaged")
    path.replace(target)
    return target


def remove_partial(folder: Path) -> None:
    """Remove what a killed run left half written among its checkpoints."""
    for path in (folder / "checkpoints").glob("step-*.partial.pt"):
        with contextlib.suppress(OSError):
            path.unlink()


def _with_own_storage(value: object) -> object:
    """Give tensors that repeat one stored value (as slices of training travel) memory of their own."""
    if isinstance(value, torch.Tensor):
        return value.contiguous() if 0 in value.stride() and value.numel() > 1 else value
    if isinstance(value, dict):
        return {key: _with_own_storage(inner) for key, inner in cast("dict[object, object]", value).items()}
    return value
