"""Making shards of folders, datasets or composed scenes: what ``apisr shards`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from apisr.core.errors import InputError
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.image import rgb_losses
from apisr.synthesis.assets import Assets
from apisr.train.data.crops import CropOptions
from apisr.train.data.degradation import Mixture
from apisr.train.data.pictures import FilePictures, Pictures, ScenePictures, find_training_pictures
from apisr.train.data.shards import INDEX_NAME, ShardCrops, ShardOptions, build_shards
from apisr.train.data.teacher_outputs import build_targets, build_teacher_outputs, find_target_model

#: Scenes that are composed unless another number is asked for.
DEFAULT_SCENES = 256
_DEFAULT_DEGRADATION = "all=apisr"


@dataclass(frozen=True)
class ShardRequest:
    """What is to be made.

    Attributes:
        pictures: folders and datasets; with `compose` one folder of art.
        folder: of the shards.
        scale: high over low resolution.
        degradations: ``NAME=MIXTURE``; none: the whole recipe of the paper.
        compose: compose scenes of the pictures.
        count: pictures or scenes; 0: all pictures, or :data:`DEFAULT_SCENES`.
        teachers: models whose outputs are kept too.
        targets: ``NAME=MODEL``: models whose outputs take the place of the drawings of that degradation.
        seed: of all draws.
        workers: files that are made at the same time.
    """

    pictures: tuple[Path, ...]
    folder: Path
    scale: int = 2
    degradations: tuple[str, ...] = ()
    compose: bool = False
    count: int = 0
    teachers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    seed: int = 0
    workers: int = 1


class ShardsResult(BaseModel):
    """What was made.

    Attributes:
        folder: of the shards.
        pictures: how many high pictures they hold.
        degradations: names of the degradations of this call.
        teachers: models whose outputs are kept.
        targets: degradation -> the model whose outputs take the place of its drawings.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    pictures: int
    degradations: tuple[str, ...]
    teachers: tuple[str, ...] = ()
    targets: dict[str, str] = {}


def prepare_shards(
    request: ShardRequest, *, progress: ProgressFn = no_progress, cancel: Cancel | None = None
) -> ShardsResult:
    """Make shards, or what is missing of them.

    Raises:
        InputError: pictures, degradations, teachers or targets that are not there or do not fit.
    """
    mixtures = dict(_parsed(text, request.scale) for text in request.degradations or (_DEFAULT_DEGRADATION,))
    targets = dict(_target(text) for text in request.targets)
    for kind in targets.keys() - mixtures.keys():
        _check_kind(request, kind, tuple(mixtures))
    target_models = {
        kind: find_target_model(name, scale=request.scale, option="--target") for kind, name in targets.items()
    }
    teachers = [find_target_model(name, scale=request.scale, option="--teacher") for name in request.teachers]
    options = ShardOptions(request.scale, request.count, request.seed, workers=request.workers)
    pictures = _opened(request)
    for line in rgb_losses(pictures.paths) if isinstance(pictures, FilePictures) else ():
        progress(Progress("shards", "notice", message=line))
    made = build_shards(request.folder, pictures, mixtures, options, progress=progress, cancel=cancel)
    if teachers or targets:
        source = ShardCrops.open(request.folder, CropOptions(scale=request.scale, patch_px=request.scale))
        build_targets(source, target_models, progress=progress, cancel=cancel)
        if teachers:
            build_teacher_outputs(source, teachers, progress=progress, cancel=cancel)
    return ShardsResult(
        folder=request.folder,
        pictures=made,
        degradations=tuple(mixtures),
        teachers=request.teachers,
        targets=targets,
    )


def _check_kind(request: ShardRequest, kind: str, named: tuple[str, ...]) -> None:
    """Check that shards that are there have a degradation that --target alone names.

    Raises:
        InputError: they do not, or there are none.
    """
    if (request.folder / INDEX_NAME).is_file():
        ShardCrops.open(request.folder, CropOptions(scale=request.scale, patch_px=request.scale)).of_kind(kind)
        return
    raise InputError(
        f"--target {kind}=...: no degradation is called '{kind}'. Expected one of: {', '.join(named)}.",
        code="bad-degradation-name",
    )


def _opened(request: ShardRequest) -> Pictures:
    if not request.compose:
        return FilePictures(find_training_pictures(request.pictures))
    if len(request.pictures) != 1:
        raise InputError(f"--compose takes one folder of art, got {len(request.pictures)}.", code="several-origins")
    folder = request.pictures[0]
    fonts = folder / "fonts"
    assets = Assets.open(folder, fonts=fonts if fonts.is_dir() else None)
    return ScenePictures(assets, count=request.count or DEFAULT_SCENES, seed=request.seed)


def _parsed(text: str, scale: int) -> tuple[str, Mixture]:
    name, separator, mixture = text.partition("=")
    if not separator:
        raise InputError(
            f"--degradation {text}: expected NAME=MIXTURE, for example web=video.", code="bad-degradation-name"
        )
    return name.strip(), Mixture.parse(mixture, scale=scale)


def _target(text: str) -> tuple[str, str]:
    name, separator, model = (part.strip() for part in text.partition("="))
    if not (name and separator and model):
        raise InputError(
            f"--target {text}: expected NAME=MODEL, for example old=apisr-x4-max.", code="bad-degradation-name"
        )
    return name, model
