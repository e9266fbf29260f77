"""apisr: restore and upscale anime, from video to score.

    >>> import numpy, apisr
    >>> model = apisr.load(scale=2)                                # kept; on a processor or a graphics card
    >>> model(numpy.zeros((10, 12, 3), numpy.uint8)).shape
    (20, 24, 3)
    >>> results = apisr.upscale(["a.png", "ep.mkv"], "out", options=apisr.VideoOptions(crf=16))    # doctest: +SKIP

Everything else is loaded on first use, so that ``import apisr`` stays light (neither numpy nor torch nor onnxruntime
nor av is imported). The method is that of "APISR: Anime Production Inspired Real-World Anime Super-Resolution"
(CVPR 2024).
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, overload

from apisr.core.errors import ApisrError, Cancelled, InputError, MissingExtra, ModelError, RunError
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.core.version import __version__

if TYPE_CHECKING:
    from fractions import Fraction

    from apisr.curate.run import CurateResult
    from apisr.curate.settings import CurateSettings
    from apisr.engines import PrecisionChoice
    from apisr.evaluate import Evaluation
    from apisr.evaluate.options import EvaluateOptions
    from apisr.image import ImageF32, ImageU8, ImageU16
    from apisr.model import LoadedModel
    from apisr.train.config import TrainConfig
    from apisr.train.trainer import TrainResult
    from apisr.upscale.options import PictureOptions, UpscaleOptions, VideoOptions
    from apisr.upscale.planned import JobEstimate, PlannedFile, UpscalePlan
    from apisr.upscale.results import JobResult, PictureResult, VideoResult
    from apisr.upscaler import Upscaler
    from apisr.video.source import VideoSource
    from apisr.weights import Model

__all__ = [
    "ApisrError",
    "Cancel",
    "Cancelled",
    "EvaluateOptions",
    "InputError",
    "JobEstimate",
    "JobResult",
    "LoadedModel",
    "MissingExtra",
    "Model",
    "ModelError",
    "PictureOptions",
    "PictureResult",
    "PlannedFile",
    "Progress",
    "RunError",
    "UpscaleOptions",
    "UpscalePlan",
    "Upscaler",
    "VideoOptions",
    "VideoResult",
    "__version__",
    "curate",
    "default_model",
    "degrade",
    "enhance",
    "evaluate",
    "list_models",
    "load",
    "open_video",
    "plan",
    "train",
    "upscale",
]

#: Classes that are loaded on first use, and where they live.
_LAZY = {
    "EvaluateOptions": "apisr.evaluate.options",
    "JobEstimate": "apisr.upscale.planned",
    "JobResult": "apisr.upscale.results",
    "LoadedModel": "apisr.model",
    "Model": "apisr.weights.model",
    "PictureOptions": "apisr.upscale.options",
    "PictureResult": "apisr.upscale.results",
    "PlannedFile": "apisr.upscale.planned",
    "UpscaleOptions": "apisr.upscale.options",
    "UpscalePlan": "apisr.upscale.planned",
    "Upscaler": "apisr.upscaler",
    "VideoOptions": "apisr.upscale.options",
    "VideoResult": "apisr.upscale.results",
}


def load(
    model: str | Path | None = None,
    *,
    scale: float | None = None,
    strength: float | None = None,
    engine: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
    tta: bool = False,
) -> LoadedModel:
    """Load a model once, to be called on many pictures.

    Args:
        model: a name (``apisr models``), a model file, or None for the one that ships for the scale.
        scale: factor that is needed; it chooses the model where none is named.
        strength: 0 (faithful) to 1 (vivid) where the model has a vivid twin.
        engine: what runs it.
        device: ``auto``, ``cpu``, ``cuda``, ...
        precision: of the arithmetic; ``auto`` takes the fastest that is accurate enough.
        threads: processor threads; None for all.
        tta: the mean over eight flips and turns.

    Returns:
        A callable: ``model(picture)`` takes ``(H, W, C)`` uint8, uint16 or float32, or a batch of them.

    Raises:
        ModelError: unknown or damaged, or no model has that scale.
        MissingExtra: what the file needs is not installed.
    """
    from apisr.engines import open_engine
    from apisr.model import LoadedModel
    from apisr.weights import choose_model

    chosen = choose_model(model, scale=scale, strength=strength)
    opened = open_engine(chosen, engine=engine, device=device, precision=precision, threads=threads, tta=tta)
    return LoadedModel(chosen, opened)


def upscale(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    model: LoadedModel | str | Path | None = None,
    options: UpscaleOptions | PictureOptions | VideoOptions | None = None,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> list[JobResult]:
    """Upscale files: pictures, videos, and folders of them, as the command ``apisr upscale`` does.

    Args:
        inputs: files and folders.
        output: a folder, a file (for one input), or None for names beside the inputs.
        model: from :func:`load`, a name, a file, or None for the one that ships for the factor.
        options: of the run, or only those of pictures or of videos.
        progress: called with every event.
        cancel: stops the run; what was finished is kept.

    Returns:
        One result per file, in the order of the files; an error of one file is in its result, not raised.

    Raises:
        InputError: nothing to do, or the request makes no sense.
    """
    from apisr.upscaler import Upscaler

    return Upscaler(options, model=model).run(inputs, output, progress=progress, cancel=cancel)


def plan(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    model: LoadedModel | str | Path | None = None,
    options: UpscaleOptions | PictureOptions | VideoOptions | None = None,
    estimate: bool = False,
) -> UpscalePlan:
    """Say what :func:`upscale` would do, as the command ``apisr upscale --dry-run`` does. Nothing is written.

    Args:
        inputs: files and folders.
        output: as for :func:`upscale`.
        model: as for :func:`upscale`.
        options: as for :func:`upscale`.
        estimate: try a part of the files, for time and size.

    Returns:
        The plan: for every file its sizes, model, kept streams, notices, memory, and what was estimated; and the
        files of several that cannot be read.

    Raises:
        InputError: nothing to do, the only input cannot be read, or the request makes no sense.
    """
    from apisr.upscaler import Upscaler

    return Upscaler(options, model=model).plan(inputs, output, estimate=estimate)


def list_models() -> list[Model]:
    """Return the models that ship, by name: each with its scale, its traits and its card."""
    from apisr.weights import list_models as list_shipped

    return list_shipped()


def default_model(scale: int | None = None) -> str:
    """Return the name of the model that is taken where none is named.

    Args:
        scale: factor that is needed; None takes the default of all models.

    Raises:
        ModelError: no model that ships has this scale.
    """
    from apisr.weights import default_model as default_shipped

    return default_shipped(scale)


def open_video(path: str | Path, *, stream: int | None = None, rate: Fraction | None = None) -> VideoSource:
    """Open a video for reading.

    Args:
        path: the file, or a pattern of numbered pictures (``frames/%05d.png``).
        stream: number of the stream; None takes the main one.
        rate: frames per second of numbered pictures and raw streams.

    Returns:
        The source: ``.info``, ``.index`` (exact times of all frames), ``.frames()``, and iteration over the frames.

    Raises:
        InputError: no such file, not a video, or no such stream.
    """
    from apisr.video.source import VideoSource

    return VideoSource.open(path, stream=stream, rate=rate)


@overload
def enhance(picture: ImageU8, *, preset: Literal["paper", "reference"] = ..., gamma: float = ...) -> ImageU8: ...
@overload
def enhance(picture: ImageU16, *, preset: Literal["paper", "reference"] = ..., gamma: float = ...) -> ImageU16: ...
@overload
def enhance(picture: ImageF32, *, preset: Literal["paper", "reference"] = ..., gamma: float = ...) -> ImageF32: ...
def enhance(
    picture: ImageU8 | ImageU16 | ImageF32, *, preset: Literal["paper", "reference"] = "paper", gamma: float = 0.975
) -> ImageU8 | ImageU16 | ImageF32:
    """Sharpen the hand-drawn lines of a picture and nothing else (the paper's pseudo ground truth, section 3.3).

    Args:
        picture: ``(H, W, 3)`` RGB, uint8, uint16 or float32 in [0, 1].
        preset: outside the lines, ``paper`` keeps the picture and ``reference`` sharpens it once.
        gamma: weight of the wide Gaussian of the line finder; larger finds more.

    Returns:
        The picture with sharper lines, of the same shape and dtype.

    Raises:
        InputError: a shape, a dtype, a preset or a value that is not one of these.
    """
    from apisr.enhance import enhance as enhance_lines

    return enhance_lines(cast("ImageU8", picture), preset=preset, gamma=gamma)


def degrade(picture: ImageU8 | ImageF32, *, recipe: str | Path = "apisr", scale: int = 4, seed: int = 0) -> ImageU8:
    """Degrade a picture as real anime is: blur, noise, resize, codecs (section 3.2).

    Args:
        picture: ``(H, W, 3)`` RGB, uint8 or float32 in [0, 1].
        recipe: a shipped one (``apisr``, ``real-esrgan``, ``video``, ``tv``, ...) or a TOML file.
        scale: how much smaller the result is: 1, 2 or 4.
        seed: the same seed gives the same bytes.

    Returns:
        ``(ceil(H / scale), ceil(W / scale), 3)`` uint8 RGB.

    Raises:
        InputError: the picture is not RGB, the recipe is unknown or damaged, or the scale is not one of these.
        RunError: a codec failed.
    """
    import numpy as np

    from apisr.degrade import apply, load_recipe, sample

    chosen = load_recipe(recipe, scale=scale)
    parameters = sample(chosen, np.random.default_rng(seed), *picture.shape[:2])
    return apply(picture, parameters)


def curate(
    inputs: str | Path | Sequence[str | Path],
    dataset: str | Path,
    *,
    settings: CurateSettings | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> CurateResult:
    """Choose the best frames of videos and make a training set of them (section 3.1).

    Args:
        inputs: videos, and folders that are searched for videos.
        dataset: the folder to make or to continue.
        settings: from :func:`apisr.curate.settings.load_settings`; None for the paper's.
        workers: processes, a video each; None for one a core, 0 for this process.
        cluster: address of a Ray cluster.
        progress: called with every event.
        cancel: stops the run; finished videos are kept.

    Returns:
        What became of the videos.

    Raises:
        InputError: a missing input, a folder that is not a dataset, a dataset in use, or one with other settings.
        RunError: the manifest cannot be written.
        Cancelled: a stop was asked for.
    """
    from apisr.curate.run import curate as run_curation
    from apisr.curate.settings import load_settings

    listed = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    return run_curation(
        [Path(item) for item in listed],
        Path(dataset),
        settings=settings or load_settings(),
        workers=workers,
        cluster=cluster,
        progress=progress,
        cancel=cancel,
    )


def train(
    config: TrainConfig | str | Path,
    *,
    sets: Sequence[str] = (),
    resume: bool = False,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> TrainResult:
    """Train a network as a configuration says.

    Args:
        config: a preset (``apisr train --help``), a TOML file, or a configuration.
        sets: single values, ``"data.batch=8"``; for presets and files.
        resume: go on from the run's last checkpoint.
        progress: called with every event.
        cancel: stops the run after the step, with a checkpoint.

    Returns:
        Where the weights are, and the last scores.

    Raises:
        InputError: the configuration, data, weights or folders do not fit; a run exists and `resume` is false; the
            machine is too small.
        RunError: the loss is not finite or diverges, a picture failed, or the disk is full.
        MissingExtra: a package is not installed.
    """
    from apisr.train.config import load_config
    from apisr.train.trainer import train as run_training

    chosen = load_config(config, sets=sets) if isinstance(config, (str, Path)) else config
    return run_training(chosen, resume=resume, progress=progress, cancel=cancel)


def evaluate(
    pictures: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    model: str | Path | None = None,
    options: EvaluateOptions | None = None,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> Evaluation:
    """Score pictures, clips or a model.

    Args:
        pictures: outputs, or with `model` inputs: files, folders or patterns.
        reference: ground truth with the same names.
        model: who enlarges the pictures first: a name, a file, ``lanczos`` or ``bicubic``.
        options: metrics, protocol and more.
        progress: called with every event.
        cancel: stops the run.

    Returns:
        The evaluation; ``.report`` is what ``apisr evaluate --json`` prints.

    Raises:
        InputError: pictures that cannot be read or paired, sizes that differ, unknown metrics, an unusable model.
        MissingExtra: a metric that was asked for needs an extra that is not installed.
        Cancelled: a stop was asked for.
    """
    from apisr.evaluate import evaluate as run_evaluation

    return run_evaluation(pictures, reference=reference, model=model, options=options, progress=progress, cancel=cancel)


class _Package(types.ModuleType):
    """This package: its public functions are not replaced by the subpackages of the same names.

    Importing ``apisr.upscale.jobs`` makes Python set the attribute ``upscale`` of this package to the subpackage. The
    functions stay; subpackages are reached by ``from apisr.upscale import ...``, which looks in ``sys.modules``.
    (``import apisr.upscale.jobs as jobs`` asks the function for ``jobs`` and fails: a function has no attributes that
    are found on demand, and a module that can be called would hide the function from editors and ``help``.)
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, types.ModuleType) and isinstance(self.__dict__.get(name), types.FunctionType):
            return
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> object:
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module 'apisr' has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Package
