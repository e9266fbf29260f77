"""A part of the pictures that is kept from training and becomes the validation.

Held-out pictures are degraded once, by the run's own recipe, from a generator of their own: the pairs are the same in
every validation, after resuming, and whatever the number of workers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from apisr.core.errors import InputError
from apisr.image import ImageU8
from apisr.train.config import TrainConfig
from apisr.train.data.crops import whole_pixels
from apisr.train.data.degradation import Mixture
from apisr.train.data.loader import CropSource
from apisr.train.data.pictures import FilePictures, ScenePictures
from apisr.train.data.shards import ShardCrops
from apisr.train.data.sources import DegradedCrops
from apisr.train.validate import Pair

#: Name of the validation set.
GROUP = "held-out"
#: At most so many pictures are held out: every validation enlarges all of them.
MAX_HELD_OUT = 24
#: Longest side of a held-out picture, cut from its middle after it was degraded as a whole.
MAX_SIDE_PX = 768
#: Held-out scenes: new ones, of a seed that no training uses.
_SCENES, _SCENES_SEED = 12, 0x5EED
_SPLIT_STREAM, _DEGRADE_STREAM = 21, 22

T = TypeVar("T")


def hold_out(source: CropSource, config: TrainConfig) -> tuple[CropSource, list[Pair]]:
    """Split a source into what trains and the pairs that validate.

    Args:
        source: of files, scenes or shards.
        config: the run; ``data.holdout`` is the share.

    Raises:
        InputError: fewer than two pictures, or a source of another kind.
    """
    share, seed, scale = config.data.holdout, config.run.seed, config.model.scale
    if isinstance(source, ShardCrops):
        kept, held = _split(source.high_numbers(), share, seed)
        names = source.low_names(held)[:MAX_HELD_OUT]
        pairs = [Pair(GROUP, name, *next(source.pairs(name))) for name in names]
        return source.only(kept), [_middle(pair, scale) for pair in pairs]
    if not isinstance(source, DegradedCrops):
        raise _no_holdout()
    mixture = Mixture.parse(source.degradation, scale=scale)
    if isinstance(source.pictures, ScenePictures):
        scenes = replace(source.pictures, seed=seed + _SCENES_SEED)
        loaded = [(scenes.name(index), scenes.load(0, index)) for index in range(_SCENES)]
        rest: CropSource = source
    elif isinstance(source.pictures, FilePictures):
        kept_files, held_files = _split(source.pictures.paths, share, seed)
        files = FilePictures(held_files[:MAX_HELD_OUT])
        loaded = [(files.paths[index].stem, files.load(0, index)) for index in range(len(files))]
        rest = replace(source, pictures=FilePictures(kept_files))
    else:
        raise _no_holdout()
    pairs = []
    for number, (name, picture) in enumerate(loaded):
        high = whole_pixels(picture, scale)
        low = mixture.degrade(high, np.random.default_rng((seed, _DEGRADE_STREAM, number)))
        pairs.append(_middle(Pair(GROUP, f"{number:02d}-{name}", low, high), scale))
    return rest, pairs


def _split(items: tuple[T, ...], share: float, seed: int) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """The items that stay and those that are held out (at least one of each), both in their order."""
    if len(items) < 2:
        raise InputError(
            "data.holdout needs at least two pictures. Add pictures, or set data.holdout=0.", code="no-holdout"
        )
    count = min(len(items) - 1, max(1, round(share * len(items))))
    order = np.random.default_rng((seed, _SPLIT_STREAM)).permutation(len(items))
    held = {int(place) for place in order[:count]}
    return (
        tuple(item for place, item in enumerate(items) if place not in held),
        tuple(item for place, item in enumerate(items) if place in held),
    )


def _middle(pair: Pair, scale: int) -> Pair:
    """The middle of a pair, at most :data:`MAX_SIDE_PX` long, cut at the grid of the low picture."""
    low, high = pair.read()
    side = MAX_SIDE_PX // scale
    top, left = (max(0, (length - side) // 2) for length in low.shape[:2])
    small: ImageU8 = low[top : top + side, left : left + side]
    large: ImageU8 = high[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return Pair(pair.group, pair.name, np.ascontiguousarray(small), np.ascontiguousarray(large))


def _no_holdout() -> InputError:
    return InputError(
        "data.holdout is for pictures, scenes and shards. Set it to 0 for crops of your own.", code="no-holdout"
    )
