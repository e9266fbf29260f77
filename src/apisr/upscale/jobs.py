"""From files and folders to results: what is read, where it goes, what became of each.

>>> from apisr.upscale.options import UpscaleOptions
>>> plan = plan_jobs([Path("ep.mkv"), Path("a.png")], Path("out"), UpscaleOptions())    # doctest: +SKIP
>>> results = run_jobs(plan.jobs, UpscaleOptions(), progress=print)                     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from apisr.core.errors import Cancelled, InputError
from apisr.core.files import not_a_file, real_path
from apisr.core.media import HEAD_BYTES, LeftOut, MediaListing, find_media, kind_of_name, media_kind, not_taken
from apisr.core.progress import Cancel, ProgressFn, no_progress
from apisr.upscale.existing import mark_of, resolve_existing
from apisr.upscale.job import Job, JobContext, JobPlan, JobReport, failed_result, job_result
from apisr.upscale.models import Networks, large_notice
from apisr.upscale.options import PictureOptions, UpscaleOptions, VideoOptions
from apisr.upscale.outputs import check_output, default_target, earlier_outputs, output_suffix, part_label
from apisr.upscale.provenance import provenance_tags
from apisr.upscale.results import JobResult, Kind, PictureResult, VideoResult
from apisr.video.sequence import is_sequence

#: How names begin that are no names of files.
_ADDRESSES = (("http:",), ("https:",), ("ftp:",))


def plan_jobs(
    inputs: Sequence[Path], output: Path | None, options: UpscaleOptions, *, networks: Networks | None = None
) -> JobPlan:
    """Find what is to be done.

    Args:
        inputs: files, folders that are searched with their subfolders for pictures and videos, and patterns for
            numbered pictures (``frames/%05d.png``), which are taken for one video.
        output: a folder, a file (for one input file), or None: beside the input, ``name_LABEL.ext``, and for a folder
            ``FOLDER_LABEL`` beside it, where LABEL is ``x2`` or ``1080p``.
        options: of the run.
        networks: chosen and loaded models, for those that are loaded already.

    Raises:
        InputError: no such input, nothing found, two inputs would become one output, or an option cannot apply.
    """
    check_output(inputs, output, options)
    scale = (networks or Networks(options)).model_for().scale
    label = f"{options.height}p" if options.size.height is not None else f"x{options.scale or scale:g}"
    jobs: list[Job] = []
    left_out: dict[Path, LeftOut] = {}
    single = len(inputs) == 1 and not inputs[0].is_dir()
    for source in inputs:
        if source.is_dir():
            resolved = source.resolve()
            base = output if output is not None else resolved.with_name(f"{resolved.name}_{label}")
            listing = _media_below(source, base)
            earlier = earlier_outputs(listing.found)
            left_out |= {**listing.left_out, **dict.fromkeys(sorted(earlier), "earlier-output")}
            jobs += [
                _job_below(source, path, kind, base, options, named=output is not None)
                for path, kind in listing.kinds.items()
                if path not in earlier
            ]
        else:
            jobs.append(_listed_job(source, output, label, options, single=single))
    if not jobs:
        where = ", ".join(f"'{source}'" for source in inputs)
        raise InputError(
            f"no pictures or videos found in {where}. Expected files like .png, .jpg, .webp, .mkv or .mp4.",
            code="nothing-found",
        )
    _check_distinct(jobs)
    _check_options(jobs, options)
    return JobPlan(tuple(jobs), not_taken(left_out, {job.source for job in jobs}))


def run_jobs(
    jobs: Sequence[Job],
    options: UpscaleOptions,
    *,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
    networks: Networks | None = None,
) -> list[JobResult]:
    """Do all jobs; one that fails does not stop the others.

    They are done in order, except that a cluster makes all pictures first, as many at a time as it has workers.

    Args:
        jobs: from :func:`plan_jobs`.
        options: of the run.
        progress: takes an event for everything that happens; the unit is ``pixels`` or ``frames``.
        cancel: stops the run; what was finished is kept.
        networks: chosen and loaded models, for those that are loaded already.

    Returns:
        One result per job, in the order of the jobs.
    """
    context = JobContext(options, networks or Networks(options), progress, cancel or Cancel())
    context.networks.expect(len(jobs))
    results: dict[int, JobResult] = {}
    if options.cluster is not None and any(job.kind == "picture" for job in jobs):
        from apisr.upscale.remote import pictures_on_cluster

        results = pictures_on_cluster(jobs, context)
    for index, job in enumerate(jobs, start=1):
        if index not in results:
            results[index] = _run_job(job, index, len(jobs), context)
    return [results[index] for index in sorted(results)]


def _run_job(job: Job, index: int, count: int, context: JobContext) -> JobResult:
    job, result = resolve_existing(job, context)
    report = JobReport(job, index, count, context.progress)
    if result is None and context.cancel.requested:
        result = failed_result(job, Cancelled("stopped before it began."))
    if result is None:
        options = context.options
        if options.model is not None and options.cluster is None and options.height is None:
            context.networks.engine(context.networks.model_for())  # a model that cannot be loaded ends the run
        try:
            do = _upscale_picture if job.kind == "picture" else _upscale_video
            result = job_result(job, "done", result=do(job, context, report))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one file, the others are done
            result = failed_result(job, error)
    return report.ended(result)


def _upscale_picture(job: Job, context: JobContext, report: JobReport) -> PictureResult:
    from apisr.image import open_picture
    from apisr.upscale.picture import upscale_picture_file

    options = context.options

    def advanced(done: int, total: int) -> None:
        context.cancel.check()
        report.advanced(done, total)

    with open_picture(job.source, max_pixels=options.picture.max_pixels) as picture:
        report.advanced(0, picture.info.height * picture.info.width * picture.info.frame_count)
        model = context.networks.picture_model(job.source, picture.info)
        if remark := large_notice(model, options):
            report.notice(remark)
        tags = provenance_tags(mark_of(job, context, model), model, options, "picture")
        result = upscale_picture_file(
            job.source,
            job.target,
            context.networks.engine(model),
            replace(options.picture, provenance=tags),
            size=options.size,
            overwrite=options.overwrite,
            picture=picture,
            on_pixels=advanced,
        )
    return result.model_copy(update={"model": model.name})


def _upscale_video(job: Job, context: JobContext, report: JobReport) -> VideoResult:
    from apisr.upscale.video_job import upscale_video_file

    return upscale_video_file(job, context, report)


def _media_below(folder: Path, base: Path) -> MediaListing:
    inside = real_path(base) != real_path(folder)
    return find_media(folder, skip=lambda path: inside and real_path(path) == real_path(base))


def _job_below(folder: Path, source: Path, kind: Kind, base: Path, options: UpscaleOptions, *, named: bool) -> Job:
    target = (base / source.relative_to(folder)).with_suffix(
        part_label(kind, options) + output_suffix(source, kind, options)
    )
    return Job(source, target, kind, default_name=not named)


def _listed_job(source: Path, output: Path | None, label: str, options: UpscaleOptions, *, single: bool) -> Job:
    sequence = is_sequence(source)
    if sequence and output is None:
        raise InputError(
            f"'{source}' is a series of pictures. Say with -o where it goes: out.mkv or out/%05d.png.",
            code="output-needed",
        )
    if not sequence and not source.exists():
        advice = " Addresses are not fetched: save the file first." if source.parts[:1] in _ADDRESSES else ""
        raise InputError(f"cannot read '{source}': no such file or folder.{advice}", code="no-such-file")
    if not sequence and not source.is_file():
        raise not_a_file(source)
    kind: Kind = "video" if sequence else media_kind(source) or _kind_of_neither(source)
    suffix = part_label(kind, options) + output_suffix(source, kind, options)
    target = default_target(source, output, label=label, suffix=suffix, single=single)
    if kind == "picture" and (kind_of_name(target) == "video" or is_sequence(target)):
        if _is_animation(source):
            kind = "video"  # an animation becomes a video, or numbered pictures
        elif kind_of_name(target) == "video":
            raise InputError(
                f"cannot write '{target}': '{source}' is one picture. Give -o an ending like .png, or make the video "
                "of numbered pictures: frames/%05d.png.",
                code="picture-to-video",
            )
    return Job(source, target, kind, default_name=output is None)


def _is_animation(source: Path) -> bool:
    from apisr.image import open_picture

    with open_picture(source, header_only=True) as picture:
        return picture.info.kind == "animation"


def _kind_of_neither(source: Path) -> Kind:
    """Return as what a file is tried that is neither: as a picture if its refusal can name it, else by libav."""
    from apisr.image.formats import is_named_kind

    with source.open("rb") as file:
        return "picture" if is_named_kind(file.read(HEAD_BYTES)) else "video"


def _check_distinct(jobs: Sequence[Job]) -> None:
    sources: dict[Path, Path] = {}
    for job in jobs:
        target = real_path(job.target)
        if target in sources and sources[target] != job.source:
            raise InputError(
                f"'{sources[target]}' and '{job.source}' would both become '{job.target}'. "
                "Give them different names or output folders.",
                code="same-output",
            )
        if target == real_path(job.source):
            raise InputError(
                f"the output '{job.target}' is the input itself. Choose another name or folder with -o.",
                code="output-is-input",
            )
        sources[target] = job.source


def _check_options(jobs: Sequence[Job], options: UpscaleOptions) -> None:
    """Refuse options that concern none of the files."""
    for kind, group, defaults in (
        ("picture", options.picture, PictureOptions()),
        ("video", options.video, VideoOptions()),
    ):
        if any(job.kind == kind for job in jobs):
            continue
        changed = [field.name for field in fields(group) if getattr(group, field.name) != getattr(defaults, field.name)]
        if changed:
            names = ", ".join(f"--{name.removesuffix('_px').replace('_', '-')}" for name in changed)
            raise InputError(
                f"{names} {'is' if len(changed) == 1 else 'are'} for {kind}s, and there is no {kind} among the inputs. "
                f"Leave {names} out.",
                code="option-does-not-apply",
            )
