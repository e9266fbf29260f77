"""What a run would do, without doing it: sizes, streams, memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from apisr.core.progress import Cancel, no_progress
from apisr.image import check_format, losses, open_picture
from apisr.upscale.existing import resolve_existing
from apisr.upscale.job import Job, JobContext
from apisr.upscale.models import Networks, network_notice
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.reuse import STORE_BYTES
from apisr.upscale.softness import file_edge_width
from apisr.upscale.tiles import default_tile_px

if TYPE_CHECKING:
    from apisr.upscale.video.estimate import JobEstimate
    from apisr.upscale.video.plan import VideoPlan
    from apisr.upscale.video_job import PlannedVideo
    from apisr.video.info import VideoInfo
    from apisr.video.streams import StreamPlan
    from apisr.weights import Model

#: The interpreter with its libraries.
_BASE_BYTES = 150 * 2**20


class DryRun:
    """Describes jobs without doing them.

    Args:
        options: of the run.
        networks: chosen and loaded models.
        estimate: whether a few frames of videos are tried, for time and size.

    Attributes:
        total: the estimates of all videos described so far, together.
    """

    def __init__(self, options: UpscaleOptions, networks: Networks, *, estimate: bool = True) -> None:
        self.total: JobEstimate | None = None
        self._tries = estimate and options.cluster is None
        self._context = JobContext(options, networks, no_progress, Cancel())
        self._tried: dict[tuple[object, ...], tuple[JobEstimate, int]] = {}

    def describe(self, job: Job) -> dict[str, Any]:
        """Describe one job: kind, sizes, streams and notices, estimates, and what stands in the way.

        Videos of one size are tried once; the others are estimated from that by their number of frames.

        Raises:
            InputError: the input cannot be read or the request is impossible.
        """
        job, existing = resolve_existing(job, self._context)
        row: dict[str, Any] = {"source": str(job.source), "target": str(job.target), "kind": job.kind}
        if existing is not None:
            row["existing"] = f"would be {'skipped' if existing.status == 'skipped' else 'refused'}: {existing.message}"
        options, networks = self._context.options, self._context.networks
        if job.kind == "picture":
            return row | _picture(job, options, networks)
        return row | self._video(job)

    def _video(self, job: Job) -> dict[str, Any]:
        from apisr.upscale.video_job import plan_video_job

        options = self._context.options
        with plan_video_job(job, self._context) as planned:
            plan, model = planned.plan, planned.model
            estimate = self._estimate(planned) if self._tries else None
        video = planned.source.info.video
        return {
            "model": model.name,
            "size": f"{video.width}x{video.height} -> {plan.format.size[0]}x{plan.format.size[1]}",
            "frames": plan.frames,
            "duration": f"{plan.duration_s:.3f} s",
            "encoder": str(plan.format.encoder),
            "segments": len(plan.segments),
            "streams": [_stream_line(item) for item in plan.streams],
            "notices": [*planned.notices, *plan.notices],
            "memory": _megabytes(_video_memory(video, plan, model, options)),
            "estimate": None if estimate is None else estimate.text,
        }

    def _estimate(self, planned: PlannedVideo) -> JobEstimate:
        from apisr.upscale.video.estimate import JobEstimate, estimate_video
        from apisr.upscale.video.run import VideoRun
        from apisr.upscale.video.work_folder import WorkFolder

        plan, video = planned.plan, planned.source.info.video
        key = (planned.model.sha256, video.width, video.height, plan.format.size)
        if key not in self._tried:
            folder = WorkFolder.beside(plan.target)
            options = self._context.options.video
            run = VideoRun(planned.source, plan, folder, plan.segments, planned.processing, options)
            self._tried[key] = (estimate_video(run), plan.frames)
        tried, frames = self._tried[key]
        share = plan.frames / frames
        estimate = JobEstimate(tried.seconds * share, round(tried.size_bytes * share))
        self.total = estimate if self.total is None else self.total + estimate
        return estimate


def _picture(job: Job, options: UpscaleOptions, networks: Networks) -> dict[str, Any]:
    with open_picture(job.source, max_pixels=options.picture.max_pixels) as picture:
        info = picture.info
    height, width, channels = info.height, info.width, info.channels
    model = networks.model_for(height, partial(file_edge_width, job.source, options.picture.max_pixels))
    traits = model.traits
    final = options.size.of_picture(height, width, scale=model.scale)
    check_format(job.target, *final)
    row: dict[str, Any] = {
        "model": model.name,
        "size": f"{width}x{height} -> {final[1]}x{final[0]}",
        "network": network_notice(model, options, height),
        "channels": f"{channels} of {8 * info.dtype.itemsize} bit",
    }
    if info.kind != "still":
        row["frames"] = info.frame_count
    notices = [*info.notices, *losses(info, job.target)]
    if notices:
        row["notices"] = notices
    tile = min(options.picture.tile_px or default_tile_px(traits), max(height, width)) + 2 * (traits.halo_px or 0)
    streamed = job.target.suffix.lower() in (".png", ".tif", ".tiff") and info.kind != "animation"
    output_rows = model.scale * tile if streamed else final[0]
    row["memory"] = _megabytes(
        _BASE_BYTES
        + 2 * height * width * channels * info.dtype.itemsize
        + tile * tile * traits.bytes_per_px
        + 3 * output_rows * final[1] * channels * info.dtype.itemsize
    )
    return row


def _video_memory(video: VideoInfo, plan: VideoPlan, model: Model, options: UpscaleOptions) -> int:
    frame_bytes = 3 * (2 if plan.format.dtype == "uint16" else 1)
    input_px = video.width * video.height
    final_px = plan.format.size[0] * plan.format.size[1]
    return (
        _BASE_BYTES
        + min(input_px, 2**20) * model.traits.bytes_per_px
        + 12 * frame_bytes * (input_px * (1 + model.scale**2) + final_px)
        + STORE_BYTES * (options.video.reuse == "exact")
    )


def _stream_line(plan: StreamPlan) -> str:
    becomes = f" to {plan.codec}" if plan.codec else ""
    return f"{plan.stream.label}: {plan.action}{becomes}{f' ({plan.reason})' if plan.reason else ''}"


def _megabytes(count: float) -> str:
    return f"about {count / 2**20:.0f} MiB"
