"""Crops for training: a whole picture is degraded in memory, then cut (paper section 3.2).

A codec predicts across the picture, so degrading a crop would hide what the paper is about. Degrading is the expensive
part, so every degraded picture gives several crops, which :mod:`apisr.train.feed` mixes with those of other pictures.
Low picture, high picture and pseudo-GT (line enhancement, section 3.3) are cut, flipped and turned together.

Every crop is a function of (seed, epoch, picture): no state, no files, no order of workers enters it.

Pictures come from folders (plain ones, or datasets with a ``manifest.parquet``) or are composed
(:mod:`apisr.train.scenes`). The degradation is one recipe or a mixture: ``"bicubic:0.35, video:0.4, apisr:0.25"``.

    >>> import numpy as np
    >>> class Noise:
    ...     fixed = True
    ...     def __len__(self): return 1
    ...     def name(self, index): return "noise"
    ...     def load(self, epoch, index): return np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
    >>> source = DegradedCrops(Noise(), scale=2, degradation="bicubic", patch_px=16, crops_per_picture=3)
    >>> [tuple(crop["lr"].shape) + tuple(crop["gt"].shape) for crop in source.crops(epoch=0, index=0)]
    [(3, 8, 8, 3, 16, 16), (3, 8, 8, 3, 16, 16), (3, 8, 8, 3, 16, 16)]

Where processors are few, :func:`build_pool` degrades pictures once into files and :class:`PoolCrops` cuts crops from
those: the models in the wheel were trained that way.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apisr.core.errors import InputError
from apisr.core.files import atomic_path
from apisr.degrade.recipe import CompressStage, Recipe, apply, load_recipe, sample
from apisr.image import is_picture_name, read_rgb
from apisr.train.scenes import Art, compose

if TYPE_CHECKING:
    from apisr.train.config import DataConfig
    from apisr.train.feed import Source

Bytes = NDArray[np.uint8]
Enhance = Literal["none", "paper", "reference"]

#: Scenes in one epoch when the configuration sets no limit; every epoch composes others.
SCENES_PER_EPOCH = 1000
_CROPS, _SCENES, _POOL = 11, 12, 13


class Pictures(Protocol):
    """High-resolution pictures to make crops of."""

    @property
    def fixed(self) -> bool:
        """Whether a picture is the same in every epoch (its pseudo-GT can then be kept)."""
        ...

    def __len__(self) -> int:
        """How many pictures an epoch has."""
        ...

    def name(self, index: int) -> str:
        """Name for messages."""
        ...

    def load(self, epoch: int, index: int) -> Bytes:
        """The picture, ``(H, W, 3)`` uint8 RGB."""
        ...


@dataclass(frozen=True)
class FilePictures:
    """Picture files.

    Attributes:
        paths: the files, in order.
    """

    paths: tuple[Path, ...]
    fixed: bool = True

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.paths)

    def name(self, index: int) -> str:
        """Path of the file."""
        return str(self.paths[index])

    def load(self, epoch: int, index: int) -> Bytes:
        """Read the file; the epoch does not matter."""
        return read_rgb(self.paths[index])


@dataclass(frozen=True)
class ScenePictures:
    """Composed scenes: new ones in every epoch.

    Attributes:
        art: what to compose from.
        count: scenes in an epoch.
        seed: of all scenes.
        height: of a scene in pixels.
        width: of a scene in pixels.
    """

    art: Art
    count: int = SCENES_PER_EPOCH
    seed: int = 0
    height: int = 720
    width: int = 1280
    fixed: bool = False

    def __len__(self) -> int:
        """How many scenes an epoch has."""
        return self.count

    def name(self, index: int) -> str:
        """Number of the scene."""
        return f"scene {index}"

    def load(self, epoch: int, index: int) -> Bytes:
        """Compose the scene."""
        return compose(
            self.art, np.random.default_rng((self.seed, _SCENES, epoch, index)), height=self.height, width=self.width
        )


@dataclass(frozen=True)
class Mixture:
    """Several recipes, one of which is drawn for each picture.

    Attributes:
        recipes: the recipes.
        weights: their probabilities.
    """

    recipes: tuple[Recipe, ...]
    weights: tuple[float, ...]

    @classmethod
    def parse(cls, text: str, *, scale: int) -> Mixture:
        """Read ``"apisr"``, ``"my.toml"`` or ``"bicubic:0.35, video:0.4, apisr:0.25"``.

        Raises:
            InputError: unknown recipe, or a weight that is not a number above 0.
        """
        recipes: list[Recipe] = []
        weights: list[float] = []
        for part in text.split(","):
            name, _, weight = part.strip().partition(":")
            try:
                value = float(weight) if weight else 1.0
            except ValueError:
                value = 0.0
            if not 0 < value < float("inf"):
                raise InputError(
                    f"cannot read the degradation '{text}': the weight '{weight}' of {name} is not above 0."
                )
            recipes.append(load_recipe("apisr" if name == "paper" else name, scale=scale))
            weights.append(value)
        return cls(tuple(recipes), tuple(value / sum(weights) for value in weights))

    def with_codecs(self, names: Sequence[str]) -> Mixture:
        """The same recipes with only these codecs, where a recipe has one of them (to see what the others do).

        Raises:
            InputError: a recipe compresses with none of them.
        """
        return replace(self, recipes=tuple(_with_codecs(recipe, names) for recipe in self.recipes))

    def degrade(self, picture: Bytes, rng: np.random.Generator) -> Bytes:
        """Draw a recipe and its parameters, and degrade the whole picture ``(H, W, 3)`` uint8 to its low resolution."""
        recipe = self.recipes[int(rng.choice(len(self.recipes), p=self.weights))]
        return apply(picture, sample(recipe, rng, *picture.shape[:2]))


@dataclass
class DegradedCrops:
    """Aligned crops of pictures that are degraded on the fly: a source for :class:`apisr.train.feed.Feed`.

    Attributes:
        pictures: the high-resolution pictures.
        scale: high over low resolution.
        degradation: recipe or mixture, see :meth:`Mixture.parse`.
        patch_px: side of a high-resolution crop.
        crops_per_picture: crops cut from each picture.
        enhance: preset of the pseudo-GT; ``none`` gives none.
        flips: mirror with probability 1/2 each way and turn by 90 degrees with probability 1/2.
        busy: see :func:`cut`.
        recolor: see :func:`cut`.
        seed: of everything random.
        cache: folder that keeps the pseudo-GTs of files; None computes them each time.
    """

    pictures: Pictures
    scale: int
    degradation: str = "apisr"
    patch_px: int = 256
    crops_per_picture: int = 8
    enhance: Enhance = "none"
    flips: bool = True
    busy: float = 0.0
    recolor: float = 0.0
    seed: int = 0
    cache: Path | None = None
    _mixture: Mixture = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.patch_px % self.scale:
            raise InputError(f"a crop of {self.patch_px} pixels is not a multiple of the scale {self.scale}.")
        self._mixture = Mixture.parse(self.degradation, scale=self.scale)

    def __len__(self) -> int:
        """How many pictures an epoch has."""
        return len(self.pictures)

    def crops(self, epoch: int, index: int) -> list[dict[str, Tensor]]:
        """Degrade picture `index` and cut it.

        Returns:
            `crops_per_picture` dicts of uint8 tensors: ``lr`` (3, p/scale, p/scale), ``gt`` (3, p, p) and, if asked,
            ``pseudo`` like ``gt``; and ``blurred``, see :func:`blurred_error`.

        Raises:
            InputError: the picture is smaller than a crop or cannot be read.
            RunError: a codec failed.
        """
        rng = np.random.default_rng((self.seed, _CROPS, epoch, index))
        high = _whole(self.pictures.load(epoch, index), self.scale)
        if min(high.shape[:2]) < self.patch_px:
            raise InputError(
                f"'{self.pictures.name(index)}' is {high.shape[1]}x{high.shape[0]} pixels, smaller than a crop of "
                f"{self.patch_px}. Leave it out, or set data.patch_px lower."
            )
        low = self._mixture.degrade(high, rng)
        pseudo = _pseudo(high, self.enhance, self.cache if self.pictures.fixed else None)
        return _cut_all(self, low, high, pseudo, blurred_error(low, high), rng)


def cut(
    low: Bytes,
    high: Bytes,
    pseudo: Bytes | None,
    *,
    scale: int,
    patch_px: int,
    flips: bool,
    busy: float = 0.0,
    recolor: float = 0.0,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Cut one aligned crop at a place of the low-resolution grid; flip, turn and recolour all parts alike.

    Args:
        low: ``(h, w, 3)`` uint8.
        high: ``(scale*h, scale*w, 3)`` uint8.
        pseudo: like `high`, or None.
        scale: high over low resolution.
        patch_px: side of the high-resolution crop.
        flips: whether to flip and turn.
        busy: probability that two places are drawn and the busier one is taken. Drawn pictures are mostly flat: half of
            all crops at random places teach next to nothing.
        recolor: probability that the colour channels are permuted: colours that the pictures lack, lines as before.
        rng: source of the place and all choices.

    Returns:
        Contiguous uint8 tensors ``lr``, ``gt`` and, if given, ``pseudo``.
    """
    side = patch_px // scale
    top, left = _place(low, side, rng)
    if busy and rng.random() < busy:
        other = _place(low, side, rng)
        first, second = (
            _busyness(high[y * scale :, x * scale :][:patch_px, :patch_px]) for y, x in ((top, left), other)
        )
        top, left = other if second > first else (top, left)
    parts = {"lr": low[top : top + side, left : left + side]}
    for name, picture in (("gt", high), ("pseudo", pseudo)):
        if picture is not None:
            parts[name] = picture[top * scale : top * scale + patch_px, left * scale : left * scale + patch_px]
    if flips:
        mirror, upside, turn = (bool(value) for value in rng.random(3) < 0.5)
        for name, part in parts.items():
            part = part[:, ::-1] if mirror else part
            part = part[::-1] if upside else part
            parts[name] = np.rot90(part) if turn else part
    if recolor and rng.random() < recolor:
        order = rng.permutation(3)
        parts = {name: part[..., order] for name, part in parts.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1))) for name, part in parts.items()}


def find_pictures(folders: Iterable[Path]) -> tuple[Path, ...]:
    """List the pictures of plain folders and of datasets (those with a ``manifest.parquet``: its kept rows), sorted.

    Raises:
        InputError: no such folder, no pictures, or a manifest without a column of files.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"cannot read the data folder '{folder}': no such folder.")
        manifest = folder / "manifest.parquet"
        paths = _of_manifest(manifest) if manifest.is_file() else [p for p in folder.rglob("*") if is_picture_name(p)]
        if not paths:
            raise InputError(f"the data folder '{folder}' holds no pictures.")
        found += sorted(paths)
    return tuple(found)


def open_source(config: DataConfig, *, scale: int, seed: int) -> Source:
    """Open what the section ``[data]`` of a configuration names.

    Raises:
        InputError: it names nothing, or what it names is not there.
    """
    if config.scenes is not None and (config.scenes / _POOL_FILE).is_file():
        return PoolCrops.open(
            config.scenes, scale=scale, patch_px=config.patch_px, crops_per_picture=config.crops_per_picture,
            enhance=config.enhance, flips=config.flips, busy=config.busy, recolor=config.recolor, seed=seed,
            cache=config.cache, shares=config.shares,
        )  # fmt: skip
    if config.shares:
        raise InputError(
            "data.shares is for a pool of degraded pictures. Weigh recipes in data.degradation: 'bicubic:1, apisr:2'."
        )
    return DegradedCrops(
        open_pictures(config, seed=seed),
        scale=scale,
        degradation=config.degradation,
        patch_px=config.patch_px,
        crops_per_picture=config.crops_per_picture,
        enhance=config.enhance,
        flips=config.flips,
        busy=config.busy,
        recolor=config.recolor,
        seed=seed,
        cache=config.cache,
    )


def open_pictures(config: DataConfig, *, seed: int) -> Pictures:
    """Open the high-resolution pictures that the section ``[data]`` names: files, scenes, or those of a pool.

    Raises:
        InputError: it names nothing, or what it names is not there.
    """
    if config.scenes is not None:
        if config.folders:
            raise InputError("give data.folders or data.scenes, not both.")
        if (config.scenes / _POOL_FILE).is_file():
            files = tuple(sorted(path.name for path in config.scenes.glob("gt_[0-9]*.npy")))
            return PoolPictures(config.scenes, files, _shard_of(config.scenes))
        fonts = config.scenes / "fonts"
        art = Art.open(config.scenes, fonts=fonts if fonts.is_dir() else None)
        return ScenePictures(art, count=config.limit or SCENES_PER_EPOCH, seed=seed)
    if not config.folders:
        raise InputError("the configuration names no data. Set data.folders to folders of pictures, or data.scenes.")
    paths = find_pictures(config.folders)
    return FilePictures(paths[: config.limit] if config.limit else paths)


# --- pool: degraded once, cut many times -----------------------------------------------------------------------------

_POOL_FILE = "pool.json"
#: A low file: degradation, number of its high file and, where that was degraded again, a letter.
_LOW_NAME = re.compile(r"lr\d+_(?P<kind>.+)_(?P<number>\d{4,})[a-z]?")


def build_pool(
    folder: Path,
    pictures: Pictures,
    *,
    scale: int,
    mixtures: Mapping[str, str | Mixture],
    count: int,
    seed: int = 0,
    shard: int = 32,
) -> None:
    """Write `count` high pictures and their low ones to a folder, in shards that are read without copying.

    Builds what is missing, so that an interrupted build goes on where it stopped and a later one can add to it.

    Args:
        folder: where the shards go: ``gt_0000.npy`` and, for each mixture, ``lr2_NAME_0000.npy``.
        pictures: all of one size.
        scale: high over low resolution.
        mixtures: degradations by name (text: see :meth:`Mixture.parse`); each picture is degraded once with each.
        count: pictures, rounded up to whole shards.
        seed: of the degradations.
        shard: pictures in a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parsed = {
        name: given if isinstance(given, Mixture) else Mixture.parse(given, scale=scale)
        for name, given in mixtures.items()
    }
    described = {
        name: given if isinstance(given, str) else ", ".join(recipe.name for recipe in given.recipes)
        for name, given in mixtures.items()
    }
    with atomic_path(folder / _POOL_FILE, overwrite=True) as partial:
        partial.write_text(json.dumps({"format": 1, "shard": shard, "mixtures": described}, indent=1))
    for number in range(-(-count // shard)):
        high_path = folder / f"gt_{number:04d}.npy"
        if not high_path.is_file():
            chosen = [divmod(number * shard + place, len(pictures)) for place in range(shard)]
            _save(high_path, [_whole(pictures.load(epoch, index), scale) for epoch, index in chosen])
        for place, (name, mixture) in enumerate(parsed.items()):
            low_path = folder / f"lr{scale}_{name}_{number:04d}.npy"
            if not low_path.is_file():
                rng = np.random.default_rng((seed, _POOL, scale, place, number))
                _save(low_path, [mixture.degrade(np.array(high), rng) for high in np.load(high_path, mmap_mode="r")])


@dataclass(frozen=True)
class PoolPictures:
    """The high pictures of a pool, to be degraded in other ways.

    Attributes:
        folder: of the pool.
        files: names of its high files.
        shard: pictures in a file.
    """

    folder: Path
    files: tuple[str, ...]
    shard: int
    fixed: bool = True

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.files) * self.shard

    def name(self, index: int) -> str:
        """File and place."""
        return f"{self.folder / self.files[index // self.shard]}, picture {index % self.shard}"

    def load(self, epoch: int, index: int) -> Bytes:
        """Read the picture; the epoch does not matter."""
        name = self.files[index // self.shard]
        return np.array(np.load(self.folder / name, mmap_mode="r")[index % self.shard])


@dataclass
class PoolCrops:
    """Crops of a pool: a source for :class:`apisr.train.feed.Feed` that costs next to nothing.

    Attributes:
        folder: of the pool.
        shards: numbers and names of its low files.
        scale: high over low resolution.
        shard: pictures in a file.
        patch_px: side of a high-resolution crop.
        crops_per_picture: crops of each picture in an epoch.
        enhance: preset of the pseudo-GT; ``none`` gives none.
        flips: as for :class:`DegradedCrops`, like `busy` and `recolor`.
        busy: see :func:`cut`.
        recolor: see :func:`cut`.
        seed: of everything random.
        cache: folder that keeps the pseudo-GTs; None computes them each time.
        shares: degradation -> how often it is drawn. Empty: every low picture once in an epoch.
    """

    folder: Path
    shards: tuple[str, ...]
    scale: int
    shard: int
    patch_px: int = 192
    crops_per_picture: int = 4
    enhance: Enhance = "none"
    flips: bool = True
    busy: float = 0.0
    recolor: float = 0.0
    seed: int = 0
    cache: Path | None = None
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    _errors: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float], repr=False)

    @classmethod
    def open(cls, folder: Path, *, scale: int, **options: Any) -> PoolCrops:
        """Find the low files of a scale.

        Raises:
            InputError: no pool, none of this scale, or shares of degradations that it does not have.
        """
        size = _shard_of(folder)
        shards = tuple(sorted(path.stem for path in folder.glob(f"lr{scale}_*_[0-9]*.npy")))
        if not shards:
            raise InputError(f"the pool '{folder}' has no pictures for scale {scale}.")
        pool = cls(folder, shards, scale, size, **options)
        kinds = sorted({_low_name(shard)[0] for shard in shards})
        wrong = [kind for kind, share in pool.shares.items() if kind not in kinds or not 0 <= share < float("inf")]
        if wrong or (pool.shares and not sum(pool.shares.values())):
            which = f"'{wrong[0]}'" if wrong else "nothing"
            raise InputError(f"data.shares names {which}: expected shares above 0 of {', '.join(kinds)} in '{folder}'.")
        return pool

    def __len__(self) -> int:
        """How many low pictures there are."""
        return len(self.shards) * self.shard

    def crops(self, epoch: int, index: int) -> list[dict[str, Tensor]]:
        """Cut crops of low picture `index`; see :meth:`DegradedCrops.crops`."""
        rng = np.random.default_rng((self.seed, _CROPS, epoch, index))
        name, place = self.shards[index // self.shard], index % self.shard
        if self.shares:
            total = sum(self.shares.values())
            kind = str(rng.choice(list(self.shares), p=[share / total for share in self.shares.values()]))
            of_kind = [shard for shard in self.shards if _low_name(shard)[0] == kind]
            name, place = of_kind[int(rng.integers(len(of_kind)))], int(rng.integers(self.shard))
        low = cast("Bytes", np.load(self.folder / f"{name}.npy", mmap_mode="r")[place])
        high = cast("Bytes", np.load(self.folder / f"gt_{_low_name(name)[1]}.npy", mmap_mode="r")[place])
        pseudo = _pseudo(high, self.enhance, self.cache)
        if (name, place) not in self._errors:
            self._errors[name, place] = blurred_error(low, high)
        return _cut_all(self, low, high, pseudo, self._errors[name, place], rng)


# --- details ---------------------------------------------------------------------------------------------------------


def _whole(picture: Bytes, scale: int) -> Bytes:
    """Cut up to ``scale - 1`` rows and columns off, so that the low picture's grid covers the high one's exactly."""
    height, width = (side - side % scale for side in picture.shape[:2])
    return picture[:height, :width]


def _cut_all(
    source: DegradedCrops | PoolCrops,
    low: Bytes,
    high: Bytes,
    pseudo: Bytes | None,
    error: float,
    rng: np.random.Generator,
) -> list[dict[str, Tensor]]:
    """All crops of a picture, each with ``blurred``, the picture's `error`."""
    crops = [
        cut(
            low,
            high,
            pseudo,
            scale=source.scale,
            patch_px=source.patch_px,
            flips=source.flips,
            busy=source.busy,
            recolor=source.recolor,
            rng=rng,
        )
        for _ in range(source.crops_per_picture)
    ]
    return [{**crop, "blurred": torch.tensor(error)} for crop in crops]


def blurred_error(low: Bytes, high: Bytes) -> float:
    """The mean squared error of the bilinear enlargement of `low` against `high`, in squares of [0, 1]."""
    enlarged = cv2.resize(low, (high.shape[1], high.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.norm(enlarged, high, cv2.NORM_L2SQR) / high.size / 255**2


def _place(low: Bytes, side: int, rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(low.shape[0] - side + 1)), int(rng.integers(low.shape[1] - side + 1))


def _busyness(crop: Bytes) -> float:
    """Mean difference between neighbours three pixels apart, over both directions."""
    sparse = crop[::3, ::3].astype(np.int16)
    return sum(float(np.abs(np.diff(sparse, axis=axis)).mean()) for axis in (0, 1))


def _shard_of(folder: Path) -> int:
    """How many pictures a file of a pool holds."""
    try:
        return int(json.loads((folder / _POOL_FILE).read_text(encoding="utf-8"))["shard"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read the pool '{folder}': {error}. Build it with apisr.train.data.build_pool."
        ) from error


def _with_codecs(recipe: Recipe, names: Sequence[str]) -> Recipe:
    passes: list[Any] = []
    for one in recipe.passes:
        stages: list[Any] = []
        for stage in one.stages:
            if isinstance(stage, CompressStage):
                codecs = {name: choice for name, choice in stage.codecs.items() if name in names}
                if not codecs:
                    raise InputError(f"the recipe '{recipe.name}' compresses with none of {', '.join(names)}.")
                stages.append(stage.model_copy(update={"codecs": codecs}))
            else:
                stages.append(stage)
        passes.append(one.model_copy(update={"stages": tuple(stages)}))
    return recipe.model_copy(update={"passes": tuple(passes), "name": f"{recipe.name} ({', '.join(names)})"})


def _low_name(shard: str) -> tuple[str, str]:
    """Degradation and number of a low file of a pool."""
    match = _LOW_NAME.fullmatch(shard)
    if match is None:
        raise InputError(
            f"'{shard}.npy' is not a low file of a pool (lrSCALE_NAME_0000.npy). Take it out of the folder."
        )
    return match["kind"], match["number"]


def _pseudo(high: Bytes, preset: Enhance, cache: Path | None) -> Bytes | None:
    """The pseudo-GT of a picture, kept in `cache` under a name made of what it depends on."""
    if preset == "none":
        return None
    from apisr.enhance import enhance

    if cache is None:
        return _enhanced(enhance, np.array(high), preset)
    digest = hashlib.sha256(high.tobytes() + f"{high.shape} {preset}".encode()).hexdigest()[:24]
    path = cache / f"{digest}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r")
    pseudo = _enhanced(enhance, np.array(high), preset)
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=True) as partial, partial.open("wb") as file:
        np.save(file, pseudo)
    return pseudo


def _enhanced(function: Any, high: Bytes, preset: str) -> Bytes:
    result = function(high.astype(np.float32) / np.float32(255), preset=preset)
    return cast("Bytes", np.asarray(cv2.addWeighted(result, 255.0, result, 0.0, 0.0, dtype=cv2.CV_8U)))


def _save(path: Path, pictures: Sequence[Bytes]) -> None:
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError("the pictures of a pool must all be of one size. Cut them to one, or give data.scenes.")
    with atomic_path(path, overwrite=True) as partial, partial.open("wb") as file:
        np.save(file, np.stack(pictures))


def _of_manifest(path: Path) -> list[Path]:
    import pyarrow.parquet as parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    kept = [row for row in rows if row.get("decision", "accept") == "accept"]
    if rows and not kept:
        folder, count = path.parent, len(rows)
        raise InputError(f"none of the {count} pictures of '{folder}' is accepted. Decide with: apisr review {folder}")
    names = [row.get("file") for row in kept]
    if any(not isinstance(name, str) for name in names):
        raise InputError(
            f"the manifest '{path}' names no picture files (column 'file'). Make the dataset again with apisr curate."
        )
    return [path.parent / cast("str", name) for name in names]
