"""What other networks make of the low pictures of shards, computed once and kept beside them.

*Teachers* give a second target beside the drawing (:func:`build_teacher_outputs`); a *target model* takes the drawing's
place (:func:`build_targets`).

A teacher's output is a target that a small network can reach, where much of the difference to the drawing itself can be
won by nobody. Several teachers are mixed by their local error: around every pixel, each counts by the inverse of its
mean squared error against the drawing, and the drawing itself counts the more the larger the error of the best teacher
is. So where teachers invent or lose something, the drawing wins.

    >>> import numpy as np
    >>> drawing = np.full((32, 32, 3), 100, np.uint8)
    >>> wrong, right = drawing + np.uint8(80), drawing + np.uint8(1)
    >>> int(np.abs(mixed_target(drawing, [wrong, right]).astype(int) - drawing).max())
    1
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from apisr.core.errors import InputError
from apisr.core.files import atomic_path, read_plain, sha256_file, write_atomic
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.core.text import parse_json
from apisr.engines import Engine, open_engine
from apisr.image import ImageU8
from apisr.train.data.shards import ShardCrops, target_name, teacher_name
from apisr.train.init.weights import find_weights
from apisr.upscale import upscale_pixels
from apisr.weights import Model, resolve_model

#: Side of the window in which errors are looked at.
WINDOW_PX = 9
#: Says by which models the files were made: the SHA-256 of each.
MAKERS_NAME = "made_by.json"
#: Mean squared error (in squares of [0, 1]) at which the drawing counts as much as the best teacher: 26 dB.
DRAWING_ERROR = 2.5e-3
#: Standard deviation of the blur, in pixels of the high picture, whose frequencies a target takes from the drawing.
COLOUR_BLUR_PX = 10.0
#: Pixels of a low picture that are mirrored at each rim.
RIM_PX = 16
_FLOOR = 1e-5


def find_target_model(name: str, *, scale: int, option: str) -> Model:
    """Find a teacher or a target model, before anything is made.

    Args:
        name: a run's folder, a weights file, or the name of a model.
        scale: what it must enlarge by.
        option: where it is named, for messages.

    Raises:
        InputError: there is none, or it enlarges by another factor (codes ``no-weights``, ``other-scale``).
        ModelError: the file is damaged, its network unknown, or it does not enlarge.
    """
    model = resolve_model(find_weights(Path(name), key=option))
    if model.scale != scale:
        raise InputError(
            f"{option} {name}: it enlarges by {model.scale}, but the scale of the shards is {scale}. "
            f"Name another model, or another --scale.",
            code="other-scale",
        )
    return model


def build_teacher_outputs(
    source: ShardCrops, teachers: Sequence[Model], *, progress: ProgressFn = no_progress, cancel: Cancel | None = None
) -> None:
    """Write the mixed target of every low file that has none yet.

    Args:
        source: the shards.
        teachers: of :func:`find_target_model`.
        progress: called after every file.
        cancel: stops after a file.

    Raises:
        InputError: no teachers, or files that other teachers made.
    """
    if not teachers:
        raise InputError("no teacher is named. Give one with --teacher.", code="no-teacher")
    _check_makers(source, source.shards, teacher_name, teachers)
    engines = [open_engine(model) for model in teachers]

    def mixed(low: ImageU8, drawing: ImageU8) -> ImageU8:
        return mixed_target(drawing, [enlarged(engine, low) for engine in engines])

    for event in _write_missing("teach", source, source.shards, teacher_name, mixed, cancel):
        progress(event)


def build_targets(
    source: ShardCrops,
    models: Mapping[str, Model],
    *,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> None:
    """Write what takes the place of the drawings, for every low file of some degradations that has none yet.

    Args:
        source: the shards.
        models: degradation -> the model (of :func:`find_target_model`) whose outputs are learned.
        progress: called after every file.
        cancel: stops after a file.

    Raises:
        InputError: a degradation that the shards do not have, or files of another model.
    """
    for kind, model in models.items():
        shards = source.of_kind(kind)
        _check_makers(source, shards, target_name, [model])
        opened = open_engine(model)

        def coloured(low: ImageU8, drawing: ImageU8, engine: Engine = opened) -> ImageU8:
            return with_colours_of(drawing, enlarged(engine, low))

        for event in _write_missing("targets", source, shards, target_name, coloured, cancel):
            progress(event)


def _check_makers(
    source: ShardCrops, shards: Sequence[str], name_of: Callable[[str], str], models: Sequence[Model]
) -> None:
    """Check that what is there was made by the same models, and write down by which the rest is made.

    Raises:
        InputError: other models made it, or the same before their files changed (code ``other-settings``).
    """
    path, maker = source.folder / MAKERS_NAME, ", ".join(sorted(sha256_file(model.path) for model in models))
    try:
        known = dict(cast("dict[str, str]", parse_json(read_plain(path))))
    except (OSError, ValueError, TypeError):
        known = {}
    made = [name for name in map(name_of, shards) if (source.folder / f"{name}.npy").is_file()]
    other = next((name for name in made if known.get(name, maker) != maker), None)
    if other is not None:
        raise InputError(
            f"'{source.folder / other}.npy' was made by other models, or by these before their files changed. Remove "
            f"the files of that kind there, or give another folder with -o.",
            code="other-settings",
        )
    known |= {name_of(shard): maker for shard in shards}
    write_atomic(path, json.dumps(known, indent=1).encode(), overwrite=True)


def _write_missing(
    stage: str,
    source: ShardCrops,
    shards: Sequence[str],
    name_of: Callable[[str], str],
    make: Callable[[ImageU8, ImageU8], ImageU8],
    cancel: Cancel | None,
) -> Iterator[Progress]:
    """Write a file beside each low one that has none yet, of what `make` gives for (low, drawing); tell after each."""
    for number, shard in enumerate(shards):
        if cancel is not None:
            cancel.check()
        path = source.folder / f"{name_of(shard)}.npy"
        if not path.is_file():
            made = [make(low, drawing) for low, drawing in source.pairs(shard)]
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.save(file, np.stack(made))
        yield Progress(stage, item=shard, done=number + 1, total=len(shards), unit="files")


def with_colours_of(drawing: ImageU8, output: ImageU8) -> ImageU8:
    """Give an output the drawing's low frequencies (a Gaussian blur of :data:`COLOUR_BLUR_PX`).

    A strong network darkens and recolours a little; its lines are what is worth learning.

    Args:
        drawing: ``(H, W, 3)`` uint8.
        output: like `drawing`.
    """
    difference = drawing.astype(np.float32) - output.astype(np.float32)
    slow = cv2.GaussianBlur(difference, (0, 0), COLOUR_BLUR_PX)
    return np.clip(np.rint(output.astype(np.float32) + slow), 0, 255).astype(np.uint8)


def enlarged(engine: Engine, low: ImageU8) -> ImageU8:
    """What a model makes of a whole low picture: uint8 ``(h, w, 3)`` to uint8 ``(s*h, s*w, 3)``.

    The picture is mirrored at its rims, where networks that fill up with black go wrong.
    """
    output = upscale_pixels(np.pad(low, ((RIM_PX, RIM_PX), (RIM_PX, RIM_PX), (0, 0)), "symmetric"), engine)
    rim = RIM_PX * engine.traits.scale
    return cast("ImageU8", np.ascontiguousarray(output[rim:-rim, rim:-rim]))


def mixed_target(drawing: ImageU8, outputs: Sequence[ImageU8]) -> ImageU8:
    """Mix outputs of teachers by their local error against the drawing, and the drawing where all of them err.

    Args:
        drawing: the high picture, ``(H, W, 3)`` uint8.
        outputs: of the teachers, like `drawing`.
    """
    errors = np.stack([_local_error(output, drawing) for output in outputs])
    weights = 1 / (errors + _FLOOR)
    weights /= weights.sum(axis=0)
    mixed = sum(weight[..., None] * output.astype(np.float32) for weight, output in zip(weights, outputs, strict=True))
    trust = 1 / (1 + _local_error(np.asarray(mixed, np.float32), drawing) / DRAWING_ERROR)[..., None]
    target = trust * mixed + (1 - trust) * drawing
    return np.clip(np.rint(target), 0, 255).astype(np.uint8)


def _local_error(output: np.ndarray, drawing: ImageU8) -> np.ndarray:
    """Mean squared error around every pixel, over the channels, in squares of [0, 1]."""
    difference = (output.astype(np.float32) - drawing.astype(np.float32)) / np.float32(255)
    squared = np.square(difference).mean(axis=2)
    return cv2.blur(squared, (WINDOW_PX, WINDOW_PX), borderType=cv2.BORDER_REFLECT_101)
