"""Sources of crops: a whole picture is degraded in memory, then cut (paper section 3.2).

A codec predicts across the picture, so degrading a crop would hide what the paper is about. Degrading is the expensive
part, so every degraded picture gives several crops, which :mod:`apisr.train.data.loader` mixes with those of others.

Every crop is a function of (seed, epoch, picture): no state, no files, no order of workers enters it.

    >>> import numpy as np
    >>> class Noise:
    ...     fixed = True
    ...     def __len__(self): return 1
    ...     def name(self, index): return "noise"
    ...     def load(self, epoch, index): return np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
    >>> source = DegradedCrops(Noise(), CropOptions(scale=2, patch_px=16, crops_per_picture=3), "bicubic")
    >>> [tuple(crop["lr"].shape) + tuple(crop["gt"].shape) for crop in source.crops(epoch=0, index=0)]
    [(3, 8, 8, 3, 16, 16), (3, 8, 8, 3, 16, 16), (3, 8, 8, 3, 16, 16)]
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from apisr.core.errors import ApisrError, InputError
from apisr.core.processes import usable_cores
from apisr.image import open_picture, rgb_losses
from apisr.synthesis.assets import Assets
from apisr.train.config import DataConfig
from apisr.train.data.crops import CROPS_STREAM, CropOptions, bilinear_error, check_large_enough, cut_all, whole_pixels
from apisr.train.data.degradation import Mixture
from apisr.train.data.loader import CropSource
from apisr.train.data.pictures import (
    SCENES_PER_EPOCH,
    FilePictures,
    Pictures,
    ScenePictures,
    find_training_pictures,
)
from apisr.train.data.pseudo_gt import pseudo_gt
from apisr.train.data.shards import ShardCrops, ShardPictures
from apisr.train.validate import Pair

#: Bytes from the middle of a file by which it is known again.
_SAMPLE_BYTES = 4096


@dataclass
class DegradedCrops:
    """Aligned crops of pictures that are degraded on the fly.

    Attributes:
        pictures: the high-resolution pictures.
        options: how they are cut.
        degradation: recipe or mixture, see :meth:`Mixture.parse`.
    """

    pictures: Pictures
    options: CropOptions
    degradation: str = "apisr"
    _mixture: Mixture = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read the mixture."""
        self._mixture = Mixture.parse(self.degradation, scale=self.options.scale)

    def recipes(self) -> str:
        """What the degradation means: the content of its recipes, which may be files."""
        return repr(self._mixture)

    @property
    def crops_per_picture(self) -> int:
        """Crops that a picture gives."""
        return self.options.crops_per_picture

    def __len__(self) -> int:
        """How many pictures an epoch has."""
        return len(self.pictures)

    def crops(self, epoch: int, index: int) -> list[dict[str, Tensor]]:
        """Degrade picture `index` and cut it.

        Returns:
            `crops_per_picture` crops (:mod:`apisr.train.data.crops`) with ``lr``, ``gt`` and, if asked, ``pseudo``.

        Raises:
            InputError: the picture is smaller than a crop or cannot be read.
            RunError: a codec failed.
        """
        options = self.options
        rng = np.random.default_rng((options.seed, CROPS_STREAM, epoch, index))
        high = whole_pixels(self.pictures.load(epoch, index), options.scale)
        check_large_enough([(self.pictures.name(index), (high.shape[0], high.shape[1]))], options.patch_px)
        low = self._mixture.degrade(high, rng)
        parts = {"lr": low, "gt": high}
        pseudo = pseudo_gt(high, options.enhance, options.cache if self.pictures.fixed else None)
        if pseudo is not None:
            parts["pseudo"] = pseudo
        return cut_all(parts, options, rng, bilinear_error=bilinear_error(low, high))


def open_source(config: DataConfig, *, scale: int, seed: int, cleans_colours: bool = False) -> CropSource:
    """Open what the section ``[data]`` of a configuration names; the rest as of :class:`CropOptions`.

    Raises:
        InputError: it names nothing, what it names is not there, or pictures are smaller than a crop.
    """
    options = CropOptions.of(config, scale=scale, seed=seed, cleans_colours=cleans_colours)
    check_one_origin(config)
    if config.shards is not None:
        return ShardCrops.open(config.shards, options, sampling_weights=config.sampling_weights)
    if config.sampling_weights:
        raise InputError(
            "data.sampling_weights is for data.shards. Weigh recipes in data.degradation: 'bicubic:1, apisr:2'.",
            code="weights-without-shards",
        )
    pictures = open_pictures(config, seed=seed)
    if isinstance(pictures, FilePictures):
        check_large_enough(_sizes(pictures.paths, scale), options.patch_px)
    return DegradedCrops(pictures, options, config.degradation)


def open_pictures(config: DataConfig, *, seed: int) -> Pictures:
    """Open the high-resolution pictures that the section ``[data]`` names: files, scenes, or those of shards.

    Raises:
        InputError: it names nothing, or what it names is not there.
    """
    check_one_origin(config)
    if config.shards is not None:
        return ShardPictures.open(config.shards)
    if config.scenes is not None:
        fonts = config.scenes / "fonts"
        assets = Assets.open(config.scenes, fonts=fonts if fonts.is_dir() else None)
        return ScenePictures(assets, count=config.limit or SCENES_PER_EPOCH, seed=seed)
    paths = find_training_pictures(config.folders)
    return FilePictures(paths[: config.limit] if config.limit else paths)


def _sizes(paths: Sequence[Path], scale: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Names and sizes by the headers, in whole pixels of the low picture; files that cannot be read are passed over."""

    def size_of(path: Path) -> tuple[int, int] | None:
        with contextlib.suppress(ApisrError), open_picture(path, header_only=True) as picture:
            return picture.info.height // scale * scale, picture.info.width // scale * scale
        return None

    with ThreadPoolExecutor(usable_cores()) as pool:
        for path, size in zip(paths, pool.map(size_of, paths), strict=True):
            if size is not None:
                yield str(path), size


def fingerprint(source: CropSource) -> str | None:
    """Return a SHA-256 over what crops come from: names, sizes and a sample of the files, and the recipes.

    None for sources without files (composed scenes, and those of others).
    """
    if isinstance(source, ShardCrops):
        files = [path for shard in source.shards for path in source.files(shard)]
        digest = hashlib.sha256()
    elif isinstance(source, DegradedCrops) and isinstance(source.pictures, FilePictures):
        files = list(source.pictures.paths)
        digest = hashlib.sha256(source.recipes().encode())
    else:
        return None
    for path in files:
        size = path.stat().st_size
        digest.update(os.fsencode(f"{path.name} {size}\n"))
        with path.open("rb") as file:
            file.seek(max(0, size // 2 - _SAMPLE_BYTES // 2))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def unread(source: CropSource, pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Return what of the picture files of a training and of its validation is not read, a sentence a kind."""
    files = [part for pair in pairs for part in (pair.low, pair.high) if isinstance(part, Path)]
    if isinstance(source, DegradedCrops) and isinstance(source.pictures, FilePictures):
        files += source.pictures.paths
    return rgb_losses(files)


def worker_count(config: DataConfig) -> int:
    """How many processes make crops: what the configuration says, or by the cores that this machine has.

    Crops of shards cost next to nothing and are cut in the training process.
    """
    if config.workers != "auto":
        return config.workers
    return 0 if config.shards is not None else max(0, min(8, usable_cores() - 1))


def check_one_origin(config: DataConfig) -> None:
    """Refuse a configuration that names no pictures, or pictures of several kinds.

    Raises:
        InputError: with code ``"no-data"`` or ``"several-origins"``.
    """
    sources = {
        "folders": bool(config.folders),
        "scenes": config.scenes is not None,
        "shards": config.shards is not None,
    }
    named = [f"data.{name}" for name, is_set in sources.items() if is_set]
    if not named:
        raise InputError(
            "the configuration names no pictures. Set data.folders to folders of pictures, data.scenes to a folder of "
            "art to compose, or data.shards to a folder made by apisr shards.",
            code="no-data",
        )
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} are both set. Give one of them.", code="several-origins")
