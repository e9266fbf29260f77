"""Shards: pictures that were degraded ahead, into files, and the crops cut from them.

Degrading on the fly costs more than a training step of a small network. Where processors are few, :func:`build_shards`
degrades every picture once (in several ways, if asked), and :class:`ShardCrops` cuts crops from the files at next to no
cost::

    shards/
    |-- shards.json            what the files hold
    |-- gt_0000.npy            high pictures, (n, H, W, 3) uint8, read without copying
    |-- lr2_web_0000.npy       the same pictures, half as large, degraded as "web"
    |-- lr2_dvd_0000.npy
    |-- teacher2_web_0000.npy  what teachers made of lr2_web_0000 (:mod:`apisr.train.data.teacher_outputs`)
    `-- target2_dvd_0000.npy   what takes the place of gt_0000 where lr2_dvd_0000 is the input

Pictures in one file have one size; with one picture in a file they may differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor

from apisr.core.errors import InputError
from apisr.core.files import atomic_path, read_plain, write_atomic
from apisr.core.pipeline import map_ordered
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.core.text import parse_json
from apisr.image import ImageU8
from apisr.train.data.crops import CROPS_STREAM, CropOptions, bilinear_error, check_large_enough, cut_all, whole_pixels
from apisr.train.data.degradation import Mixture
from apisr.train.data.pictures import Pictures
from apisr.train.data.pseudo_gt import cached_path, kept_pseudo_gt, pseudo_gt

#: What makes a folder one of shards.
INDEX_NAME = "shards.json"
#: Number of the layout.
FORMAT = 2
_MADE_AGAIN = "Remove it and run the same apisr shards again: it makes what is missing."
_BUILD_STREAM = 13
#: A low file: degradation, number of its high file and, where that was degraded again, a letter.
_LOW_NAME = re.compile(r"lr\d+_(?P<kind>.+)_(?P<number>\d{4,})[a-z]?")


@dataclass(frozen=True)
class ShardOptions:
    """How shards are built.

    Attributes:
        scale: high over low resolution.
        count: pictures, rounded up to whole shards; 0: as many as there are.
        seed: of the degradations.
        pictures_per_shard: pictures in a file; above 1 they must be of one size.
        workers: files that are made at the same time.
    """

    scale: int
    count: int = 0
    seed: int = 0
    pictures_per_shard: int = 1
    workers: int = 1


def build_shards(
    folder: Path,
    pictures: Pictures,
    mixtures: Mapping[str, Mixture],
    options: ShardOptions,
    *,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> int:
    """Write high pictures and their low ones to a folder.

    Builds what is missing, so that an interrupted build goes on where it stopped and a later one can add to it.

    Args:
        folder: where the shards go.
        pictures: of one size, if a shard holds several.
        mixtures: degradations by name; each picture is degraded once with each.
        options: scale, count, seed, size of the files, workers.
        progress: called after every shard.
        cancel: stops after a shard.

    Returns:
        How many pictures the shards hold.

    Raises:
        InputError: a name that cannot be part of a file's name, one that means another degradation or seed in these
            shards, or pictures of a shard that differ in size.
    """
    wrong = [name for name in mixtures if not re.fullmatch(r"[a-z][a-z0-9-]*", name)]
    if wrong or not mixtures:
        raise InputError(
            f"a degradation is called '{''.join(wrong[:1])}'. Expected a name of small letters: web=video.",
            code="bad-degradation-name",
        )
    index = {
        "format": FORMAT,
        "pictures_per_shard": options.pictures_per_shard,
        "degradations": _all_degradations(folder, mixtures, options.seed),
    }
    write_atomic(folder / INDEX_NAME, json.dumps(index, indent=1).encode(), overwrite=True)
    shards = -(-(options.count or len(pictures)) // options.pictures_per_shard)

    def build(number: int) -> int:
        _build_shard(folder, pictures, mixtures, options, number)
        return number

    for number in map_ordered(build, range(shards), workers=options.workers, cancel=cancel):
        progress(Progress("shards", item=str(folder), done=number + 1, total=shards, unit="files"))
    return shards * options.pictures_per_shard


def _all_degradations(folder: Path, mixtures: Mapping[str, Mixture], seed: int) -> dict[str, str]:
    """What every name stands for in the shards, those of earlier builds too.

    Raises:
        InputError: a name stands for something else there: its files would be kept, and called what they are not.
    """
    try:
        content = cast("dict[str, object]", parse_json(read_plain(folder / INDEX_NAME)))
        known = cast("dict[str, str]", content["degradations"])
        before = {str(name): str(text) for name, text in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        before = {}  # no shards yet, or of a version that did not say it
    for name, mixture in mixtures.items():
        parts = zip(mixture.recipes, mixture.weights, strict=True)
        text = f"{', '.join(f'{recipe.name}:{weight:.4g}' for recipe, weight in parts)}, seed {seed}"
        if before.setdefault(name, text) != text:
            raise InputError(
                f"'{name}' is {before[name]} in the shards of '{folder}', and {text} now. Give another name, or "
                "another folder with -o.",
                code="other-settings",
            )
    return before


def _build_shard(
    folder: Path, pictures: Pictures, mixtures: Mapping[str, Mixture], options: ShardOptions, number: int
) -> None:
    size, scale = options.pictures_per_shard, options.scale
    high_path = folder / f"gt_{number:04d}.npy"
    if not high_path.is_file():
        places = [divmod(number * size + place, len(pictures)) for place in range(size)]
        _save(high_path, [whole_pixels(pictures.load(epoch, index), scale) for epoch, index in places])
    for place, (name, mixture) in enumerate(mixtures.items()):
        low_path = folder / f"lr{scale}_{name}_{number:04d}.npy"
        if not low_path.is_file():
            rng = np.random.default_rng((options.seed, _BUILD_STREAM, scale, place, number))
            _save(low_path, [mixture.degrade(np.array(high), rng) for high in _open(high_path)])


@dataclass(frozen=True)
class ShardPictures:
    """The high pictures of shards, to be degraded in other ways.

    Attributes:
        folder: of the shards.
        files: names of its high files.
        pictures_per_shard: pictures in a file.
    """

    folder: Path
    files: tuple[str, ...]
    pictures_per_shard: int
    fixed: bool = True

    @classmethod
    def open(cls, folder: Path) -> ShardPictures:
        """Find the high files.

        Raises:
            InputError: the folder holds no shards.
        """
        files = tuple(sorted(path.name for path in folder.glob("gt_[0-9]*.npy")))
        return cls(folder, files, read_pictures_per_shard(folder))

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.files) * self.pictures_per_shard

    def name(self, index: int) -> str:
        """File and place."""
        shard, place = divmod(index, self.pictures_per_shard)
        return f"{self.folder / self.files[shard]}, picture {place}"

    def load(self, epoch: int, index: int) -> ImageU8:
        """Read the picture; the epoch does not matter.

        Raises:
            InputError: the file is damaged (``"bad-shards"``).
        """
        shard, place = divmod(index, self.pictures_per_shard)
        return np.array(_open(self.folder / self.files[shard])[place])


@dataclass
class ShardCrops:
    """Crops of shards: a source that costs next to nothing.

    Attributes:
        folder: of the shards.
        shards: names of its low files, without their ending.
        pictures_per_shard: pictures in a file.
        options: how crops are cut.
        sampling_weights: degradation -> how often it is drawn. Empty: every low picture once in an epoch.
    """

    folder: Path
    shards: tuple[str, ...]
    pictures_per_shard: int
    options: CropOptions
    sampling_weights: Mapping[str, float] = field(default_factory=dict[str, float])
    _errors: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float], repr=False)
    _pseudo_paths: dict[tuple[str, int], Path] = field(default_factory=dict[tuple[str, int], Path], repr=False)

    @classmethod
    def open(
        cls, folder: Path, options: CropOptions, *, sampling_weights: Mapping[str, float] | None = None
    ) -> ShardCrops:
        """Find the low files of the scale.

        Raises:
            InputError: no shards, none of this scale, pictures smaller than a crop, or weights of degradations that
                they do not have.
        """
        size = read_pictures_per_shard(folder)
        shards = tuple(sorted(path.stem for path in folder.glob(f"lr{options.scale}_*_[0-9]*.npy")))
        if not shards:
            raise InputError(
                f"the shards in '{folder}' have no pictures for scale {options.scale}. Make them with apisr shards.",
                code="no-shards-of-scale",
            )
        weights = dict(sampling_weights or {})
        kinds = sorted({_parse_low_name(shard)[0] for shard in shards})
        wrong = [kind for kind, weight in weights.items() if kind not in kinds or not 0 <= weight < float("inf")]
        if wrong or (weights and not sum(weights.values())):
            which = f"'{wrong[0]}'" if wrong else "nothing"
            raise InputError(
                f"data.sampling_weights names {which}: expected weights above 0 of {', '.join(kinds)} in '{folder}'.",
                code="bad-sampling-weights",
            )
        opened = cls(folder, shards, size, options, weights)
        sizes = [(shard, opened.check(shard)) for shard in shards]
        check_large_enough(sizes, options.patch_px)
        return opened

    @property
    def crops_per_picture(self) -> int:
        """Crops that a picture gives."""
        return self.options.crops_per_picture

    def __len__(self) -> int:
        """How many low pictures there are."""
        return len(self.shards) * self.pictures_per_shard

    def crops(self, epoch: int, index: int) -> list[dict[str, Tensor]]:
        """Cut crops of low picture `index`; see :meth:`apisr.train.data.sources.DegradedCrops.crops`."""
        options = self.options
        rng = np.random.default_rng((options.seed, CROPS_STREAM, epoch, index))
        shard, place = self._drawn(index, rng)
        low_path, high_path, *teacher = self.files(shard)
        low, high = _open(low_path)[place], _open(high_path)[place]
        parts = {"lr": low, "gt": high}
        if options.enhance != "none":
            parts["pseudo"] = self._pseudo_gt(high, (shard, place))
        if teacher:
            parts["teacher"] = _open(teacher[0])[place]
        if (shard, place) not in self._errors:
            self._errors[shard, place] = bilinear_error(low, high)
        return cut_all(parts, options, rng, bilinear_error=self._errors[shard, place])

    def files(self, shard: str) -> list[Path]:
        """The files that the crops of a low file come from: low, drawings or what takes their place, teachers'."""
        target, teacher = (self.folder / f"{name(shard)}.npy" for name in (target_name, teacher_name))
        high = target if target.is_file() else self._drawings(shard)
        return [self.folder / f"{shard}.npy", high, *([teacher] if teacher.is_file() else [])]

    def check(self, shard: str) -> tuple[int, int]:
        """Check that the files of a low file are whole and belong together.

        Returns:
            Height and width of its high pictures.

        Raises:
            InputError: they do not (code ``bad-shards``).
        """
        low_path, *others = self.files(shard)
        count, height, width, _ = _open(low_path).shape
        scale = self.options.scale
        for path, expected in (
            (low_path, (self.pictures_per_shard, height, width, 3)),
            *((path, (count, height * scale, width * scale, 3)) for path in others),
        ):
            if (shape := _open(path).shape) != expected:
                raise InputError(
                    f"'{path}' holds {shape}, expected {expected} beside '{low_path.name}'. {_MADE_AGAIN}",
                    code="bad-shards",
                )
        return height * scale, width * scale

    def high_numbers(self) -> tuple[str, ...]:
        """Numbers of the high files that have low ones, in order."""
        return tuple(sorted({_parse_low_name(shard)[1] for shard in self.shards}))

    def only(self, numbers: Collection[str]) -> ShardCrops:
        """The same source with the low files of these high files alone."""
        return replace(self, shards=tuple(shard for shard in self.shards if _parse_low_name(shard)[1] in numbers))

    def low_names(self, numbers: Collection[str]) -> list[str]:
        """The low files of these high files that the weights may draw, in order."""
        chosen = [shard for shard in self.shards if _parse_low_name(shard)[1] in numbers]
        weights = self.sampling_weights
        return [name for name in chosen if not weights or weights.get(_parse_low_name(name)[0], 0.0) > 0]

    def pairs(self, shard: str) -> Iterator[tuple[ImageU8, ImageU8]]:
        """The low pictures of a file, each with its drawing.

        Raises:
            InputError: a file is damaged (``"bad-shards"``).
        """
        yield from zip(_open(self.folder / f"{shard}.npy"), _open(self._drawings(shard)), strict=True)

    def of_kind(self, kind: str) -> list[str]:
        """The low files of a degradation, in order.

        Raises:
            InputError: there are none.
        """
        chosen = [shard for shard in self.shards if _parse_low_name(shard)[0] == kind]
        if not chosen:
            kinds = ", ".join(sorted({_parse_low_name(shard)[0] for shard in self.shards}))
            raise InputError(
                f"the shards in '{self.folder}' have no degradation '{kind}'. Expected one of: {kinds}.",
                code="bad-degradation-name",
            )
        return chosen

    def _drawings(self, shard: str) -> Path:
        return self.folder / f"gt_{_parse_low_name(shard)[1]}.npy"

    def _pseudo_gt(self, high: ImageU8, key: tuple[str, int]) -> ImageU8:
        """The pseudo-GT of a high picture; where it is kept is found out once: hashing takes longer than cutting."""
        options = self.options
        if options.cache is None:
            return cast("ImageU8", pseudo_gt(high, options.enhance, None))
        if key not in self._pseudo_paths:
            self._pseudo_paths[key] = cached_path(high, options.enhance, options.cache)
        return kept_pseudo_gt(high, options.enhance, self._pseudo_paths[key])

    def _drawn(self, index: int, rng: np.random.Generator) -> tuple[str, int]:
        """The low file and the place in it that stand at `index`, or that the weights draw."""
        if not self.sampling_weights:
            return self.shards[index // self.pictures_per_shard], index % self.pictures_per_shard
        total = sum(self.sampling_weights.values())
        shares = [weight / total for weight in self.sampling_weights.values()]
        kind = str(rng.choice(list(self.sampling_weights), p=shares))
        of_kind = self.of_kind(kind)
        return of_kind[int(rng.integers(len(of_kind)))], int(rng.integers(self.pictures_per_shard))


def read_pictures_per_shard(folder: Path) -> int:
    """Return how many pictures a file of the shards holds.

    Raises:
        InputError: the folder has no index, or one that cannot be read.
    """
    try:
        content = cast("object", parse_json(read_plain(folder / INDEX_NAME)))
        if not isinstance(content, dict):
            raise TypeError("expected an object")
        return int(cast("dict[str, int]", content)["pictures_per_shard"])
    except (OSError, ValueError, OverflowError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read the shards in '{folder}': {INDEX_NAME}: {error}. Make them with apisr shards.",
            code="bad-shards",
        ) from error


def teacher_name(low_name: str) -> str:
    """Name of the file with what teachers made of a low file, both without ending.

    >>> teacher_name("lr2_web_0000")
    'teacher2_web_0000'
    """
    return "teacher" + low_name.removeprefix("lr")


def target_name(low_name: str) -> str:
    """Name of the file with what takes the place of the drawings of a low file, both without ending.

    >>> target_name("lr4_tv_0000")
    'target4_tv_0000'
    """
    return "target" + low_name.removeprefix("lr")


def _parse_low_name(shard: str) -> tuple[str, str]:
    """Degradation and number of a low file."""
    match = _LOW_NAME.fullmatch(shard)
    if match is None:
        raise InputError(
            f"'{shard}.npy' is not a low file of shards (lrSCALE_NAME_0000.npy). Take it out of the folder.",
            code="bad-shards",
        )
    return match["kind"], match["number"]


def _open(path: Path) -> ImageU8:
    """The pictures of a file, ``(n, H, W, 3)`` uint8, mapped into memory.

    Raises:
        InputError: it is not there, cut off, or holds something else (code ``bad-shards``).
    """
    try:
        found: object = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, OverflowError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "damaged, or cut off"
        raise InputError(f"cannot read '{path}': {reason}. {_MADE_AGAIN}", code="bad-shards") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.ndim != 4 or found.shape[3] != 3:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "several arrays"
        if isinstance(found, np.lib.npyio.NpzFile):
            found.close()
        raise InputError(
            f"'{path}' holds {what}, expected uint8 (pictures, height, width, 3). {_MADE_AGAIN}", code="bad-shards"
        )
    return cast("ImageU8", found)


def _save(path: Path, pictures: Sequence[ImageU8]) -> None:
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError(
            "the pictures of a shard must all be of one size. Cut them to one, compose scenes, or take one a shard.",
            code="shard-sizes-differ",
        )
    with atomic_path(path, overwrite=True) as partial, partial.open("wb") as file:
        np.save(file, np.stack(pictures))
