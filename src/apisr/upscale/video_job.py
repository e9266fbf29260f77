"""One video of a run: opened, its network chosen, upscaled here or on a cluster."""

from __future__ import annotations

from apisr.upscale.job import Job, JobContext, JobReport
from apisr.upscale.models import fast_notice, network_notice
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.preprocess import Preprocess, edge_width_of, plan_preprocess
from apisr.upscale.remote import NetworkRecipe
from apisr.upscale.results import VideoResult
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.video.output import OutputRequest
from apisr.upscale.video.run import Processing, SegmentRunner
from apisr.upscale.video.segments import LocalRunner
from apisr.upscale.video.upscale import upscale_video
from apisr.video.source import VideoSource
from apisr.weights import Model


def upscale_video_file(job: Job, context: JobContext, report: JobReport) -> VideoResult:
    """Upscale one video of a run.

    Raises:
        ApisrError: see :func:`apisr.upscale.video.upscale.upscale_video`.
    """
    options = context.options
    with VideoSource.open(job.source, stream=options.video.stream, rate=options.video.rate) as source:
        preprocess, notices = plan_preprocess(source, options.video)
        lines = preprocess.native or source.info.video.height
        model = context.networks.model_for(lines, lambda: edge_width_of(source), video=True)
        notice = network_notice(model, options, lines)
        result = upscale_video(
            source,
            OutputRequest(job.target, options.size, options.overwrite),
            _processing(context, model, preprocess),
            options.video,
            runner=_runner(options),
            progress=report.forward,
            cancel=context.cancel,
        )
    notices += [text for text in (notice, fast_notice(model, options)) if text]
    held = result.hold
    if held is not None and held.blocks:
        notices.append(
            f"hold filter: {100 * held.held_blocks / held.blocks:.1f} % of the blocks were held, "
            f"{held.whole_frames} of {held.frames} frames whole, {held.shots} shots."
        )
    return result.model_copy(update={"model": model.name, "notices": (*notices, *result.notices)})


def _processing(context: JobContext, model: Model, preprocess: Preprocess) -> Processing:
    options = context.options
    if options.cluster is None:
        engine = context.networks.engine(model)
        return Processing(
            lambda: CanvasUpscaler(engine, reuse=options.video.reuse),
            model.scale,
            f"{model.sha256} {engine.name}",
            preprocess,
        )
    # A device that is asked for by name may exist on the workers only.
    auto = options.device == "auto"
    flips = ", flips" if options.tta else ""
    name = context.networks.engine(model).name if auto else f"{model.format} ({options.device}){flips}"
    return Processing(NetworkRecipe.of(model, options), model.scale, f"{model.sha256} {name}", preprocess)


def _runner(options: UpscaleOptions) -> SegmentRunner:
    if options.cluster is None:
        return LocalRunner(options.workers or 1)
    from apisr.upscale.video.remote import ClusterRunner

    return ClusterRunner(options.cluster, workers=options.workers)
