"""From files and folders to outcomes: what is read, where it goes, what became of each.

>>> from pathlib import Path
>>> target_for(Path("a/b.png"), None, label="x4").as_posix()
'a/b_x4.png'
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.files import atomic_path, check_target
from apisr.image import FORMATS, is_picture_name
from apisr.upscale import EngineName, choose_model, load_engine
from apisr.video.sequence import is_sequence

if TYPE_CHECKING:
    from apisr.upscale.cluster import NetworkRecipe
    from apisr.upscale.engine import Engine
    from apisr.upscale.hold import Hold
    from apisr.upscale.pictures import PictureOutcome
    from apisr.upscale.prepare import Native
    from apisr.upscale.reuse import Reuse
    from apisr.upscale.videos import VideoOptions, VideoOutcome
    from apisr.weights import Model

Kind = Literal["picture", "video"]
Status = Literal["done", "skipped", "failed"]

#: Endings taken for videos when a folder is searched.
VIDEO_SUFFIXES = frozenset(
    {
        *(".mkv", ".mp4", ".m4v", ".mov", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob"),
        *(".wmv", ".asf", ".flv", ".ogv", ".ogm", ".3gp", ".y4m", ".mxf"),
    }
)
#: Containers that are written as they were; other videos become ``.mkv``.
_KEPT_CONTAINERS = frozenset({".mkv", ".mp4", ".m4v", ".mov", ".webm", ".avi", ".ts", ".m2ts", ".mts"})


@dataclass(frozen=True)
class Job:
    """One file to upscale. `listed` tells whether it was named itself (and not found in a folder)."""

    source: Path
    target: Path
    kind: Kind
    listed: bool = True


@dataclass(frozen=True)
class Settings:
    """How all files of a run are upscaled.

    Attributes:
        model: the network.
        output_scale: factor of the outputs; None is the model's own.
        output_height: rows of the outputs, in place of a factor.
        tile_px: side of the pieces of pictures.
        quality: of lossy picture formats.
        overwrite: replace existing files.
        reuse: see :mod:`apisr.upscale.reuse`.
        hold: whether held drawings of compressed videos are held, see :mod:`apisr.upscale.hold`.
        native: whether videos are shrunk to the size they were drawn at, see :mod:`apisr.upscale.prepare`.
        cluster: address of a Ray cluster that makes pictures and the segments of videos; None for this process.
        workers: how many of the cluster, see :func:`apisr.upscale.cluster.spans_on_cluster`.
        engine: see :func:`apisr.upscale.load_engine`.
        device: likewise.
        threads: likewise; of each worker of a cluster.
        tta: likewise.
        video: how videos are encoded; None for the defaults.
    """

    model: Model
    output_scale: float | None = None
    output_height: int | None = None
    tile_px: int | None = None
    quality: int | None = None
    overwrite: bool = False
    reuse: Reuse = "exact"
    hold: Hold = "auto"
    native: Native = "off"
    cluster: str | None = None
    workers: int | None = None
    engine: EngineName = "auto"
    device: str = "auto"
    threads: int | None = None
    tta: bool = False
    video: VideoOptions | None = None

    def load_engine(self) -> Engine:
        """Load the network as these settings say."""
        return load_engine(self.model, engine=self.engine, device=self.device, threads=self.threads, tta=self.tta)


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
        job: the job.
        status: done, skipped (the output exists) or failed.
        seconds: wall time.
        message: why it failed or was skipped.
        result: details of a finished picture or video.
        exit_code: 0, or that of the error.
        error: the error itself.
    """

    job: Job
    status: Status
    seconds: float = 0.0
    message: str = ""
    result: PictureOutcome | VideoOutcome | None = None
    exit_code: int = 0
    error: Exception | None = None


@dataclass
class Listener:
    """Callbacks of a run; each may be left out.

    Attributes:
        started: called with the job, its number from 1, and the number of jobs.
        progressed: called with the job, units done, units in all if known (pixels for pictures, frames for videos).
        ended: called with the outcome.
    """

    started: Callable[[Job, int, int], None] = field(default=lambda job, index, count: None)
    progressed: Callable[[Job, int, int | None], None] = field(default=lambda job, done, total: None)
    ended: Callable[[Outcome], None] = field(default=lambda outcome: None)


def plan_jobs(
    inputs: Sequence[Path],
    output: Path | None,
    *,
    label: str,
    picture_suffix: str | None = None,
    video_suffix: str | None = None,
) -> list[Job]:
    """Find what is to be done.

    Args:
        inputs: files, folders that are searched with their subfolders for pictures and videos, and patterns for
            numbered pictures (``frames/%05d.png``), which are taken for one video.
        output: a folder, a file (for one input file), or None: beside the input, ``name_LABEL.ext``, and for a folder
            ``FOLDER_LABEL`` beside it.
        label: ``x2``, ``1080p``, ...
        picture_suffix: ending of picture outputs (``.png``); by default that of the input.
        video_suffix: ending of video outputs; by default that of the input if it can be written, else ``.mkv``.

    Raises:
        InputError: no such input, nothing found, or two inputs would become one output.
    """
    jobs: list[Job] = []
    single = len(inputs) == 1 and not inputs[0].is_dir()
    for given in inputs:
        if given.is_dir():
            base = output if output is not None else given.resolve().with_name(f"{given.resolve().name}_{label}")
            if (
                output is not None
                and output.suffix
                and not output.is_dir()
                and (is_picture_name(output) or output.suffix in VIDEO_SUFFIXES)
            ):
                raise InputError(
                    f"'{given}' is a folder, but the output '{output}' is a file name. Give a folder with -o."
                )
            for source in _files_below(given, without=base):
                kind: Kind = "picture" if is_picture_name(source) else "video"
                name = source.relative_to(given)
                jobs.append(
                    Job(
                        source,
                        (base / name).with_suffix(_suffix(source, kind, picture_suffix, video_suffix)),
                        kind,
                        listed=False,
                    )
                )
        elif is_sequence(given) and output is None:
            raise InputError(f"'{given}' is a series of pictures. Say with -o where it goes: out.mkv or out/%05d.png.")
        elif given.exists() or is_sequence(given):
            kind = _kind_of(given)
            suffix = _suffix(given, kind, picture_suffix, video_suffix)
            jobs.append(Job(given, target_for(given, output, label=label, suffix=suffix, single=single), kind))
        else:
            raise InputError(f"cannot read '{given}': no such file or folder.")
    if not jobs:
        where = ", ".join(f"'{given}'" for given in inputs)
        raise InputError(
            f"no pictures or videos found in {where}. Expected files ending in {', '.join(FORMATS)}, .mkv, .mp4, ..."
        )
    _check_distinct(jobs)
    return jobs


def target_for(
    source: Path, output: Path | None, *, label: str, suffix: str | None = None, single: bool = True
) -> Path:
    """Return where the result of one file goes (see :func:`plan_jobs`)."""
    suffix = suffix or source.suffix
    if output is None:
        return source.with_name(f"{source.stem}_{label}{suffix}")
    known = is_picture_name(output) or output.suffix.lower() in VIDEO_SUFFIXES
    if single and not output.is_dir() and (known or output.suffix):
        return output
    return output / f"{source.stem}{suffix}"


def run_jobs(
    jobs: Sequence[Job], settings: Settings, engine: Callable[[], Engine], listener: Listener
) -> list[Outcome]:
    """Do all jobs; one that fails does not stop the others.

    They are done in order, except that a cluster makes all pictures first, as many at a time as it has workers.

    Args:
        jobs: from :func:`plan_jobs`.
        settings: how.
        engine: gives the loaded network; called once, when the first job needs it.
        listener: told of everything that happens.

    Returns:
        One outcome per job, in the order of the jobs.
    """
    load = functools.cache(engine)
    outcomes: dict[int, Outcome] = {}
    if settings.cluster is not None and any(job.kind == "picture" for job in jobs):
        outcomes = _pictures_on_cluster(jobs, settings, settings.cluster, listener)
    for index, job in enumerate(jobs, start=1):
        if index in outcomes:
            continue
        listener.started(job, index, len(jobs))
        began = time.monotonic()
        outcome = _refused(job, settings)
        if outcome is None:
            if settings.cluster is None or settings.device == "auto":
                load()  # a model that cannot be loaded ends the run
            try:
                outcome = Outcome(job, "done", result=_do(job, settings, load, listener))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one file, the others are done
                outcome = _failed(job, error)
        outcome = replace(outcome, seconds=time.monotonic() - began)
        outcomes[index] = outcome
        listener.ended(outcome)
    return [outcomes[index] for index in sorted(outcomes)]


def exit_code_of(outcomes: Iterable[Outcome]) -> int:
    """0 if nothing failed; the error's own code for a single file; 1 for a batch with failures."""
    listed = list(outcomes)
    failed = [outcome for outcome in listed if outcome.status == "failed"]
    if not failed:
        return 0
    return failed[0].exit_code if len(listed) == 1 else 1


def upscale_files(
    inputs: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    scale: float | None = None,
    height: int | None = None,
    model: str | Path | None = None,
    strength: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    **settings: Any,
) -> list[Outcome]:
    """Upscale files and folders, as the command does.

    Args:
        inputs: files and folders.
        output: folder, file, or None for names beside the inputs.
        scale: factor (default: that of the model, 2 without one).
        height: rows of the outputs, in place of a factor.
        model: name or file of a model.
        strength: 0 (faithful) to 1 (vivid), see :func:`apisr.upscale.upscale`.
        device: see :func:`apisr.upscale.load_engine`.
        overwrite: replace existing files.
        settings: further fields of :class:`Settings`.

    Returns:
        One outcome per file; failures are in it, not raised.

    Raises:
        InputError: nothing to do, or the request makes no sense.
    """
    chosen = choose_model(model, scale=scale, strength=strength)
    label = f"{height}p" if height else f"x{scale or chosen.scale:g}"
    jobs = plan_jobs([Path(item) for item in inputs], None if output is None else Path(output), label=label)
    options = Settings(
        model=chosen, output_scale=scale, output_height=height, overwrite=overwrite, device=device, **settings
    )
    return run_jobs(jobs, options, options.load_engine, Listener())


def _failed(job: Job, error: Exception) -> Outcome:
    if isinstance(error, ApisrError):
        return Outcome(job, "failed", message=str(error), exit_code=error.exit_code, error=error)
    said = f"'{job.source}': unexpected {type(error).__name__}: {error}".replace("\n", " ")
    return Outcome(job, "failed", message=said, exit_code=RunError.exit_code, error=error)


def _refused(job: Job, settings: Settings) -> Outcome | None:
    """Return the outcome of a job that is not to be done: its output exists or cannot be written."""
    if job.target.exists() and not settings.overwrite and not job.listed:
        return Outcome(job, "skipped", message="the output exists")
    try:
        check_target(job.target, overwrite=settings.overwrite)
    except ApisrError as error:
        return _failed(job, error)
    return None


def _do(job: Job, settings: Settings, load: Callable[[], Engine], listener: Listener) -> PictureOutcome | VideoOutcome:
    if job.kind == "picture":
        from apisr.upscale.pictures import upscale_picture_file

        return upscale_picture_file(
            job.source,
            job.target,
            load(),
            output_height=settings.output_height,
            output_scale=settings.output_scale,
            tile_px=settings.tile_px,
            quality=settings.quality,
            overwrite=settings.overwrite,
            on_pixels=lambda done, total: listener.progressed(job, done, total),
        )
    from apisr.upscale.hold import HoldStats
    from apisr.upscale.prepare import preparation_for
    from apisr.upscale.videos import VideoOptions, upscale_video

    preparation, notices = preparation_for(job.source, hold=settings.hold, native=settings.native)
    make, run_spans, ran_by = _where(settings, load)
    outcome = upscale_video(
        job.source,
        job.target,
        make,
        video_options(settings, VideoOptions()),
        lambda done, total: listener.progressed(job, done, total),
        scale=settings.model.scale,
        identity=f"{settings.model.sha256} {ran_by} {preparation.identity}",
        prepare=preparation if preparation.wanted else None,
        run_spans=run_spans,
    )
    held = HoldStats()
    for part in preparation.stats:
        held.add(part)
    if held.blocks:
        notices.append(
            f"hold filter: {100 * held.held_blocks / held.blocks:.1f} % of the blocks were held, "
            f"{held.whole_frames} of {held.frames} frames whole, {held.shots} shots."
        )
    return replace(outcome, notices=(*notices, *outcome.notices))


def _where(settings: Settings, load: Callable[[], Engine]) -> tuple[Callable[[], Any], Callable[..., None] | None, str]:
    """Give what makes an upscaler, what makes the segments (this process or a cluster), and the engine's name."""
    from apisr.upscale.reuse import CanvasUpscaler

    if settings.cluster is None:
        engine = load()
        return lambda: CanvasUpscaler(engine, reuse=settings.reuse), None, engine.name
    from apisr.upscale.cluster import spans_on_cluster

    # A device that is asked for by name may exist on the workers only.
    flips = ", flips" if settings.tta else ""
    name = load().name if settings.device == "auto" else f"{settings.model.format} ({settings.device}){flips}"
    return _recipe(settings), spans_on_cluster(settings.cluster, workers=settings.workers), name


def _recipe(settings: Settings) -> NetworkRecipe:
    from apisr.upscale.cluster import NetworkRecipe

    return NetworkRecipe.of(
        settings.model,
        reuse=settings.reuse,
        engine=settings.engine,
        device=settings.device,
        threads=settings.threads,
        tta=settings.tta,
    )


def _pictures_on_cluster(
    jobs: Sequence[Job], settings: Settings, address: str, listener: Listener
) -> dict[int, Outcome]:
    """Upscale all pictures on a cluster; files are read and written here."""
    from apisr.upscale.cluster import PictureFile, PictureTask, pictures_on_cluster

    outcomes: dict[int, Outcome] = {}
    began: dict[int, float] = {}

    def finish(index: int, outcome: Outcome) -> None:
        outcomes[index] = replace(outcome, seconds=time.monotonic() - began[index])
        listener.ended(outcomes[index])

    def files() -> Iterator[PictureFile]:
        for index, job in enumerate(jobs, start=1):
            if job.kind != "picture":
                continue
            listener.started(job, index, len(jobs))
            began[index] = time.monotonic()
            refused = _refused(job, settings)
            if refused is None:
                try:
                    content = job.source.read_bytes()
                except OSError as error:
                    refused = _failed(job, InputError(f"cannot read '{job.source}': {error.strerror or error}."))
                else:
                    yield PictureFile(index, job.source, job.target, content)
                    continue
            finish(index, refused)

    task = PictureTask(
        _recipe(settings),
        output_height=settings.output_height,
        output_scale=settings.output_scale,
        tile_px=settings.tile_px,
        quality=settings.quality,
    )
    for picture, answer in pictures_on_cluster(task, files(), address=address, workers=settings.workers):
        index = picture.number
        job = jobs[index - 1]
        if isinstance(answer, Exception):
            finish(index, _failed(job, answer))
            continue
        content, result = answer
        try:
            with atomic_path(job.target, overwrite=settings.overwrite) as partial:
                partial.write_bytes(content)
        except ApisrError as error:
            finish(index, _failed(job, error))
            continue
        area = result.size[0] * result.size[1] * result.frames
        listener.progressed(job, area, area)
        finish(index, Outcome(job, "done", result=result))
    return outcomes


def video_options(settings: Settings, default: VideoOptions) -> VideoOptions:
    """Return how videos are made: the given options with the size and the permission to overwrite of the whole run."""
    own_scale = settings.output_scale is None or settings.output_scale == settings.model.scale
    return replace(
        settings.video or default,
        overwrite=settings.overwrite,
        height=settings.output_height,
        factor=None if own_scale else settings.output_scale,
    )


def _files_below(folder: Path, *, without: Path) -> list[Path]:
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and (is_picture_name(path) or path.suffix.lower() in VIDEO_SUFFIXES)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.stem.endswith(".partial")
        and (without == folder or without.resolve() not in path.resolve().parents)
    ]
    return sorted(found)


def _kind_of(path: Path) -> Kind:
    return "picture" if is_picture_name(path) and not is_sequence(path) else "video"


def _suffix(source: Path, kind: Kind, picture_suffix: str | None, video_suffix: str | None) -> str:
    if kind == "picture":
        return picture_suffix or source.suffix
    if video_suffix:
        return video_suffix
    return source.suffix if source.suffix.lower() in _KEPT_CONTAINERS else ".mkv"


def _check_distinct(jobs: list[Job]) -> None:
    seen: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in seen and seen[target] != job.source:
            raise InputError(
                f"'{seen[target]}' and '{job.source}' would both become '{job.target}'. "
                "Give them different names or output folders."
            )
        if target == job.source.resolve():
            raise InputError(f"the output '{job.target}' is the input itself. Choose another name or folder with -o.")
        seen[target] = job.source
