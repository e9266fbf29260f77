"""What is done where an output exists, by one rule for single files and folders.

An output that was made of this file with these settings is skipped. Another file is never touched without
``--overwrite``: a default name gets what differs appended (``a_x2_tta.png``), a name that was given is refused.
"""

from __future__ import annotations

from dataclasses import replace

from apisr.core.errors import ApisrError, InputError
from apisr.core.files import check_target, source_changed
from apisr.image import open_picture
from apisr.upscale.job import Job, JobContext, failed_result, job_result
from apisr.upscale.provenance import carries_mark, distinguishing_label, run_mark, settings_of
from apisr.upscale.results import JobResult
from apisr.video.sequence import sha256_of
from apisr.weights import Model


def resolve_existing(job: Job, context: JobContext) -> tuple[Job, JobResult | None]:
    """Decide what becomes of a job whose output may exist.

    Returns:
        The job, perhaps with another name of the output, and its result if it is not to be done: skipped, or failed
        because the output cannot be written. Nothing is raised.
    """
    try:
        if context.options.overwrite or not job.target.is_file():
            check_target(job.target, overwrite=context.options.overwrite)
            return job, None
        model = model_of(job, context)
        mark = mark_of(job, context, model)
        if carries_mark(job.target, mark):
            return job, _skipped(job)
        label = distinguishing_label(model, context.options, job.kind) if job.default_name else ""
        other = replace(job, target=job.target.with_stem(f"{job.target.stem}_{label}")) if label else job
        if label and carries_mark(other.target, mark):
            return other, _skipped(other)
        if other.target.exists():
            raise InputError(
                f"'{other.target}' exists and was not made of this file with these settings. "
                "Give another name or add --overwrite.",
                code="output-exists",
            )
        return other, None
    except (ApisrError, OSError) as error:
        return job, failed_result(job, error)


def model_of(job: Job, context: JobContext) -> Model:
    """Return the model that a job needs."""
    options = context.options
    if job.kind == "picture":
        most = options.picture.max_pixels
        with open_picture(job.source, max_pixels=most, header_only=True) as picture:
            return context.networks.picture_model(job.source, picture.info)
    from apisr.upscale.preprocess import plan_preprocess
    from apisr.upscale.video_job import video_model
    from apisr.video.source import VideoSource  # pictures do without the video libraries

    with VideoSource.open(job.source, stream=options.video.stream, rate=options.video.rate) as source:
        return video_model(source, plan_preprocess(source, options.video)[0], context.networks)


def mark_of(job: Job, context: JobContext, model: Model) -> str:
    """Return the mark of the output of a job, whose source is or was open.

    Raises:
        RunError: the source is no longer there.
    """
    settings = settings_of(context.options, job.kind, model)
    try:
        return run_mark(sha256_of(job.source), model.sha256, settings)
    except OSError as error:
        raise source_changed(job.source) from error


def _skipped(job: Job) -> JobResult:
    """The result of a job that was done before; what a kill left of its segments goes."""
    if job.kind == "video":
        from apisr.upscale.video.work_folder import WorkFolder

        WorkFolder.beside(job.target).remove_useless()
    return job_result(job, "skipped", message="it was made of this file with these settings before")
