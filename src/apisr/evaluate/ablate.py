"""The paper's ablations (tables 2 to 4) as configured runs: train each variant, evaluate it, put it in a table.

``parts`` is one of our own for small budgets: the second stage, from given weights, with everything and with one part
of the paper left out at a time (prediction-oriented compression, shuffled resize, line enhancement, anime branch,
balanced layers), and once more with another seed, which tells how much of a difference means nothing. The pictures are
degraded once, into shards, and all variants train on the same crops of them for the same number of steps.

Every variant is the base configuration with the few keys changed that the table is about. Runs go on where they were
stopped: training resumes from its checkpoints, finished variants are read from their reports, and variants whose first
stage is the same share it.

    runs/ablation/
    |-- stage1-1f0c.../     training runs, named by their configuration
    |-- stage2-77ab.../
    |-- shards/             for parts: the pictures, degraded in each way
    |-- table.txt           what was measured so far
    `-- reports/NAME/       report.json and report.html of each variant

    >>> [variant.name for variant in variants("degradation")]
    ['high order', 'random order', 'prediction-oriented', 'prediction + shuffled resize']
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from apisr.core.config import unknown_name
from apisr.core.errors import InputError, RunError
from apisr.core.files import sha256_file, write_atomic
from apisr.core.progress import Progress, ProgressFn, no_progress
from apisr.evaluate.options import EvaluateOptions
from apisr.evaluate.report import Report, read_report
from apisr.evaluate.run import Evaluation, evaluate, open_metrics, protocol_of, write_report
from apisr.evaluate.tables import measured_table

if TYPE_CHECKING:
    from apisr.train.config import FeatureTerm, TrainConfig

AblationName = Literal["dataset", "degradation", "enhancement", "parts"]
AnimeBranch = Literal["none", "flat", "balanced", "equal"]

#: Ablation -> number of the table in the paper.
TABLE_OF: dict[AblationName, int] = {"dataset": 2, "degradation": 3, "enhancement": 4}
#: Rows of table 2 and the names under which their datasets are given.
DATASETS = {
    "avc-train": "AVC-Train",
    "random": "random",
    "iqa": "I-frames + IQA",
    "ica": "I-frames + ICA",
    "ica-720p": "I-frames + ICA + 720p",
}
#: Pictures in the shards of ``parts``, and in one of its files.
SHARD_PICTURES, _PICTURES_PER_SHARD = 64, 8
_SMOKE = ("run.steps=20", "validation.every=20", "checkpoint.every=10", "log.tensorboard=false", "run.accelerator=cpu")


@dataclass(frozen=True)
class Variant:
    """One row of an ablation.

    Attributes:
        name: as in the paper's table.
        sets: ``KEY=VALUE`` for both stages.
        anime_branch: perceptual branches of stage 2: ``none`` (photo branch only), ``flat`` (anime branch with the
            photo branch's layer weights), ``balanced`` (the configuration's weights) or ``equal`` (in both branches all
            layers have one weight, with which a branch is as large as before where its weights balance the layers).
            None leaves the configuration's.
        missing: why it cannot be run, if it cannot.
    """

    name: str
    sets: tuple[str, ...] = ()
    anime_branch: AnimeBranch | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Stages:
    """What every variant is trained by.

    Attributes:
        stage1: configuration of the first stage: a preset or a TOML file of ``apisr train``.
        stage2: of the second, which starts from the first; None leaves it out.
        start: weights that the second stage starts from, in place of a first stage. They are evaluated too.
        sets: ``KEY=VALUE`` for both stages of all variants.
    """

    stage1: str = "paper-stage1"
    stage2: str | None = "paper-stage2"
    start: Path | None = None
    sets: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse weights to start from without a second stage that starts.

        Raises:
            InputError: there are such weights, and no second stage.
        """
        if self.start is not None and self.stage2 is None:
            raise InputError(
                "weights to start from are for the second stage. Name one with --stage2, or leave out --start.",
                code="options-conflict",
            )

    @classmethod
    def smoke(cls, sets: Sequence[str] = ()) -> Stages:
        """Return the smallest network, 20 steps, one stage: shows that everything runs, and nothing else."""
        return cls("tiny-test", None, None, (*_SMOKE, *sets))


@dataclass(frozen=True)
class AblationResult:
    """What became of the variants: reports by name, and the reasons of those that have none."""

    reports: dict[str, Report] = field(default_factory=dict[str, Report])
    missing: dict[str, str] = field(default_factory=dict[str, str])


def variants(ablation: AblationName, *, datasets: Mapping[str, Path] | None = None) -> list[Variant]:
    """Return the rows of an ablation, in the order of the paper's table.

    Args:
        ablation: which.
        datasets: for ``dataset``: name (a key of :data:`DATASETS`) -> folder.

    Raises:
        InputError: an unknown dataset name.
    """
    if ablation == "degradation":
        recipes = {
            "high order": "real-esrgan",
            "random order": "bsrgan",
            "prediction-oriented": "prediction",
            "prediction + shuffled resize": "apisr",
        }
        return [Variant(name, (f"data.degradation={recipe}",)) for name, recipe in recipes.items()]
    if ablation == "enhancement":
        return [
            Variant("plain", ("data.enhance=none",), "none"),
            Variant("+ sharpen", ("data.enhance=paper",), "none"),
            Variant("+ sharpen + anime loss", ("data.enhance=paper",), "flat"),
            Variant("+ sharpen + anime loss + balanced", ("data.enhance=paper",), "balanced"),
        ]
    if ablation == "parts":
        lines, harsh = "data.enhance=paper", "data.sampling_weights={apisr=1.0}"
        return [
            Variant("all parts", (lines, harsh)),
            Variant("all parts, another seed", (lines, harsh, "run.seed=1")),
            Variant("without prediction-oriented compression", (lines, "data.sampling_weights={jpeg=1.0}")),
            Variant("without shuffled resize", (lines, "data.sampling_weights={prediction=1.0}")),
            Variant("without line enhancement", (harsh, "data.enhance=none")),
            Variant("without anime branch", (lines, harsh), "none"),
            Variant("without balanced layers", (lines, harsh), "equal"),
        ]
    folders = dict(datasets or {})
    unknown = sorted(folders.keys() - DATASETS.keys())
    if unknown:
        raise unknown_name("dataset", unknown[0], DATASETS)
    rows: list[Variant] = []
    for key, name in DATASETS.items():
        if key in folders:
            rows.append(Variant(name, (f"data.folders={json.dumps([str(folders[key].resolve())])}",)))
        else:
            rows.append(Variant(name, missing=f"no folder given (--dataset {key}=FOLDER)"))
    return rows


def ablate(
    ablation: AblationName,
    folder: str | Path,
    *,
    pictures: str | Path | Sequence[str | Path],
    reference: str | Path | None = None,
    stages: Stages | None = None,
    datasets: Mapping[str, Path] | None = None,
    options: EvaluateOptions | None = None,
    progress: ProgressFn = no_progress,
) -> AblationResult:
    """Train, evaluate and collect every variant of an ablation.

    Args:
        ablation: ``dataset``, ``degradation``, ``enhancement`` or ``parts``.
        folder: for runs and reports.
        pictures: low-resolution pictures to evaluate on.
        reference: ground truth of theirs, if there is any.
        stages: what every variant is trained by, but for what the table is about.
        datasets: for ``dataset``.
        options: of :func:`apisr.evaluate.evaluate`; by default the paper's protocol.
        progress: called before each training or evaluation.

    Returns:
        The reports.

    Raises:
        InputError: configurations, data or pictures that do not fit.
        RunError: a training run was stopped before its end; the same call goes on.
        MissingExtra: torch or lightning is not installed.
    """
    stages = stages or Stages()
    stages.check()
    scoring = options or EvaluateOptions(protocol="paper")
    folder = Path(folder)
    result = AblationResult()
    rows = variants(ablation, datasets=datasets)
    notify = _notifier(progress)
    _check_needs([row for row in rows if _why_not(row, ablation, stages) is None], folder, stages)
    _check_metrics(scoring, blind=reference is None)
    if ablation == "parts":
        stages = _with_shards(stages, folder, notify)

    def score(weights: Path) -> Evaluation:
        return evaluate(pictures, reference=reference, model=weights, options=scoring)

    if stages.start is not None:
        start = stages.start
        notify(f"the start: evaluating '{start}'")
        target = folder / "reports" / f"start-{sha256_file(start)[:10]}"
        result.reports["the start"] = _kept_or_made(target, lambda: score(start))
    for variant in rows:
        if (reason := _why_not(variant, ablation, stages)) is not None:
            result.missing[variant.name] = reason
            continue
        result.reports[variant.name] = _run_variant(variant, folder, stages, notify=notify, score=score)
        table = measured_table(list(result.reports.items())) + "\n"
        write_atomic(folder / "table.txt", table.encode("utf-8"), overwrite=True)
    return result


def _check_needs(rows: Sequence[Variant], folder: Path, stages: Stages) -> None:
    """Check, before hours of work, what training needs: sound configurations and feature networks."""
    from apisr.train.losses.features import check_features

    configs = [config for row in rows for config in stage_configs(row, folder, stages)]
    for name in sorted({term.network for config in configs for term in config.loss.perceptual}):
        check_features(name)


def _check_metrics(scoring: EvaluateOptions, *, blind: bool) -> None:
    if scoring.metrics is not None:
        open_metrics(scoring, protocol_of(scoring), blind=blind)


def _notifier(progress: ProgressFn) -> Callable[[str], None]:
    return lambda message: progress(Progress("ablate", "notice", message=message))


def _why_not(variant: Variant, ablation: AblationName, stages: Stages) -> str | None:
    if variant.missing is not None:
        return variant.missing
    plain = variant.anime_branch is None or (variant.anime_branch == "none" and ablation != "parts")
    if stages.stage2 is None and not plain:
        return "it differs in the perceptual loss only, which needs the second stage"
    return None


def _with_shards(stages: Stages, folder: Path, notify: Callable[[str], None]) -> Stages:
    """Degrade the pictures of ``[data]`` in each way of ``parts``; return stages that train on them."""
    from apisr.train.config import load_config
    from apisr.train.data.degradation import Mixture
    from apisr.train.data.shards import ShardOptions, build_shards
    from apisr.train.data.sources import open_pictures

    config = load_config(stages.stage2 or stages.stage1, sets=stages.sets)
    pictures = open_pictures(config.data, seed=config.run.seed)
    count = min(SHARD_PICTURES, config.data.limit or len(pictures))
    scale = config.model.scale
    whole = Mixture.parse("apisr", scale=scale)
    notify(f"degrading {count} pictures in three ways into '{folder / 'shards'}' (what is there already is kept)")
    mixtures = {
        "apisr": whole,
        "prediction": Mixture.parse("prediction", scale=scale),
        "jpeg": whole.with_codecs(["jpeg"]),
    }
    size = min(_PICTURES_PER_SHARD, count)
    options = ShardOptions(scale, count, pictures_per_shard=size)
    build_shards(folder / "shards", pictures, mixtures, options, progress=_in_lines(notify))
    mine = ("data.scenes", "data.folders", "data.shards", "data.limit", "data.degradation")
    kept = [setting for setting in stages.sets if setting.partition("=")[0].strip() not in mine]
    shards, cache = ((folder / name).resolve() for name in ("shards", "pseudo"))
    return replace(stages, sets=(*kept, f"data.shards={shards}", "data.folders=[]", f"data.cache={cache}"))


def _in_lines(notify: Callable[[str], None]) -> ProgressFn:
    """Say how far the degrading is, in ten lines at most."""
    tenths = 0

    def show(event: Progress) -> None:
        nonlocal tenths
        if event.total and (now := int(10 * event.done / event.total)) > tenths:
            tenths = now
            notify(f"degrading: {event.done:.0f} of {event.total:.0f} {event.unit}")

    return show


def stage_configs(variant: Variant, folder: Path, stages: Stages) -> list[TrainConfig]:
    """Return the configurations of a variant's stages; a run's name says what its configuration is.

    Where there are weights to start from, there is no first stage.

    Raises:
        InputError: unknown keys or values out of range.
    """
    from apisr.train.config import load_config

    changes = [*stages.sets, *variant.sets, f"run.folder={folder}"]
    before: list[TrainConfig] = []
    start = stages.start
    if start is None or stages.stage2 is None:
        first = _named(load_config(stages.stage1, sets=changes), "stage1")
        if stages.stage2 is None:
            return [first]
        before, start = [first], first.run_folder
    second = load_config(stages.stage2, sets=[*changes, f"model.init_from={start}"])
    if variant.anime_branch is not None:
        second = _with_branches(second, variant.anime_branch, stages.stage2)
    return [*before, _named(second, "stage2")]


def _named(config: TrainConfig, stage: str) -> TrainConfig:
    return config.model_copy(update={"run": config.run.model_copy(update={"name": f"{stage}-{_digest(config)}"})})


def _with_branches(config: TrainConfig, anime_branch: AnimeBranch, name: str) -> TrainConfig:
    """Return a configuration with the perceptual branches of a variant."""
    anime = [term for term in config.loss.perceptual if not _is_photo(term.network)]
    photo = [term for term in config.loss.perceptual if _is_photo(term.network)]
    if not anime or not photo:
        raise InputError(
            f"'{name}' must have an anime and a photo branch in [[loss.perceptual]] for this ablation.",
            code="bad-setting",
        )
    if anime_branch == "none":
        anime = []
    elif anime_branch == "flat":
        flat = tuple(photo[0].weights.values())
        anime = [term.model_copy(update={"weights": dict(zip(term.weights, flat, strict=True))}) for term in anime]
    elif anime_branch == "equal":
        anime, photo = ([_with_one_weight(term) for term in terms] for terms in (anime, photo))
    return config.model_copy(update={"loss": config.loss.model_copy(update={"perceptual": (*anime, *photo)})})


def _run_variant(
    variant: Variant,
    folder: Path,
    stages: Stages,
    *,
    notify: Callable[[str], None],
    score: Callable[[Path], Evaluation],
) -> Report:
    from apisr.train.trainer import train

    configs = stage_configs(variant, folder, stages)
    target = folder / "reports" / f"{_slug(variant.name)}-{_digest(configs[-1])}"
    if (target / "report.json").is_file():
        notify(f"{variant.name}: done before, in '{target}'")
        return read_report(target)
    weights = folder
    for config in configs:
        notify(f"{variant.name}: training {config.run.name}, {config.run.steps} steps")
        result = train(config, resume=True)
        if not result.complete:
            raise RunError(
                f"stopped at step {result.step} of '{result.folder}'. Give the same command to go on.",
                code="training-stopped",
            )
        weights = result.best or result.weights
    notify(f"{variant.name}: evaluating '{weights}'")
    return _kept_or_made(target, lambda: score(weights))


def _kept_or_made(target: Path, make: Callable[[], Evaluation]) -> Report:
    if (target / "report.json").is_file():
        return read_report(target)
    made = make()
    write_report(made, target, overwrite=True)
    return made.report


def _with_one_weight(term: FeatureTerm) -> FeatureTerm:
    """All layers with the harmonic mean of their weights.

    Balanced weights are ``1/(n*d)`` with d the mean difference of a layer's features: the sum of the d times this is 1.
    """
    weight = len(term.weights) / sum(1 / value for value in term.weights.values())
    return term.model_copy(update={"weights": dict.fromkeys(term.weights, weight)})


def _digest(config: TrainConfig) -> str:
    """Name what a configuration is: everything but where it is kept."""
    values = config.model_dump(mode="json")
    for key in ("folder", "name"):
        values["run"].pop(key)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def _is_photo(network: str) -> bool:
    return "vgg" in network.lower()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
