"""One video of a run: opened, its network chosen, upscaled here or on a cluster."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator
from dataclasses import dataclass

from apisr.upscale.job import Job, JobContext, JobReport
from apisr.upscale.models import Networks, fast_notice, network_notice
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.preprocess import Preprocess, edge_width_of, plan_preprocess
from apisr.upscale.provenance import provenance_tags, run_mark, settings_of, video_tags
from apisr.upscale.recipe import NetworkRecipe
from apisr.upscale.results import VideoResult
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.video.output import OutputRequest
from apisr.upscale.video.plan import VideoPlan, plan_video
from apisr.upscale.video.run import Processing, SegmentRunner
from apisr.upscale.video.segments import LocalRunner
from apisr.upscale.video.upscale import upscale_video
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.source import VideoSource
from apisr.weights import Model


@dataclass(frozen=True)
class PlannedVideo:
    """One video of a run before the work.

    Attributes:
        source: the video, open.
        output: what file is asked for.
        model: the network.
        processing: how one frame becomes a larger one.
        options: of the run.
        notices: everything worth saying that the plan does not say.
    """

    source: VideoSource
    output: OutputRequest
    model: Model
    processing: Processing
    options: UpscaleOptions
    notices: tuple[str, ...]

    @functools.cached_property
    def plan(self) -> VideoPlan:
        """What will be done."""
        return plan_video(self.source, self.output, scale=self.model.scale, options=self.options.video)


@contextlib.contextmanager
def plan_video_job(job: Job, context: JobContext) -> Generator[PlannedVideo]:
    """Open a video and choose what it needs.

    Raises:
        InputError: it cannot be read, or no model fits.
    """
    options = context.options
    with VideoSource.open(job.source, stream=options.video.stream, rate=options.video.rate) as source:
        preprocess, notices = plan_preprocess(source, options.video)
        lines = preprocess.native_height or source.info.video.height
        model = video_model(source, preprocess, context.networks)
        remarks = (network_notice(model, options, lines), fast_notice(model, options))
        mark = run_mark(source.sha256(), model.sha256, settings_of(options, "video", model))
        tags = video_tags(provenance_tags(mark, model, options, "video"), job.target)
        yield PlannedVideo(
            source,
            OutputRequest(job.target, options.size, options.overwrite, tuple(tags.items())),
            model,
            _processing(job, context, model, preprocess),
            options,
            (*(remark for remark in remarks if remark), *notices),
        )


def video_model(source: VideoSource, preprocess: Preprocess, networks: Networks) -> Model:
    """Choose the network of a video, by the lines that it gets and by how soft they are."""
    lines = preprocess.native_height or source.info.video.height
    return networks.model_for(lines, lambda: edge_width_of(source), video=True)


def upscale_video_file(job: Job, context: JobContext, report: JobReport) -> VideoResult:
    """Upscale one video of a run.

    Raises:
        ApisrError: see :func:`apisr.upscale.video.upscale.upscale_video`.
    """
    options = context.options
    with plan_video_job(job, context) as planned:
        for notice in planned.notices:
            report.notice(notice)
        result = upscale_video(
            planned.source,
            planned.plan,
            planned.processing,
            options.video,
            runner=_runner(options),
            progress=report.forward,
            cancel=context.cancel,
        )
    return result.model_copy(update={"model": planned.model.name, "notices": (*planned.notices, *result.notices)})


def _processing(job: Job, context: JobContext, model: Model, preprocess: Preprocess) -> Processing:
    options = context.options
    if options.cluster is None:
        engine = context.networks.engine(model, earlier=_earlier_engine(job, model, options))
        return Processing(
            lambda: CanvasUpscaler(engine, reuse=options.video.reuse),
            model.scale,
            f"{model.sha256} {engine.name}",
            preprocess,
        )
    # A device that is asked for by name may exist on the workers only: those must agree then.
    if options.device == "auto":
        name = context.networks.engine(model, earlier=_earlier_engine(job, model, options)).name
        recipe = NetworkRecipe.of(model, options, engine_name=name)
    else:
        name = f"{model.format} ({options.device}){', flips' if options.tta else ''}"
        recipe = NetworkRecipe.of(model, options)
    return Processing(recipe, model.scale, f"{model.sha256} {name}", preprocess)


def _earlier_engine(job: Job, model: Model, options: UpscaleOptions) -> str:
    """Name of the engine that made the segments of an interrupted run; empty where none is continued."""
    if options.video.restart:
        return ""
    sha256, _, name = str(WorkFolder.beside(job.target).settings().get("model", "")).partition(" ")
    return name if sha256 == model.sha256 else ""


def _runner(options: UpscaleOptions) -> SegmentRunner:
    if options.cluster is None:
        return LocalRunner(options.workers or 1)
    from apisr.upscale.video.remote import ClusterRunner

    return ClusterRunner(options.cluster, workers=options.workers)
