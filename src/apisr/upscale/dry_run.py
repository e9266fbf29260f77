"""What a run would do, without doing it: sizes, streams, memory."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apisr.core.errors import InputError, ModelError
from apisr.core.progress import Cancel, no_progress
from apisr.core.text import counted
from apisr.image import check_format, losses, open_picture
from apisr.upscale.existing import resolve_existing
from apisr.upscale.job import Job, JobContext, JobPlan, failed_result
from apisr.upscale.models import Networks, large_notice, network_notice
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.planned import JobEstimate, PlannedFile, UpscalePlan
from apisr.upscale.results import JobResult, Kind
from apisr.upscale.reuse import STORE_BYTES
from apisr.upscale.tiles import default_tile_px

if TYPE_CHECKING:
    from apisr.image import PictureInfo
    from apisr.upscale.video.plan import VideoPlan
    from apisr.upscale.video_job import PlannedVideo
    from apisr.video.info import VideoInfo
    from apisr.video.streams import StreamPlan
    from apisr.weights import Model

#: The interpreter with its libraries.
_BASE_BYTES = 150 * 2**20
#: So many videos of a run are tried; the others are estimated from them.
MOST_TRIED = 12


@dataclass(frozen=True)
class _TriedVideo:
    """What trying a video said.

    Attributes:
        model: the hash of its network.
        sizes: width and height of the source and of the output.
        frames: of the video.
        estimate: for all of them.
    """

    model: str
    sizes: tuple[int, int, int, int]
    frames: int
    estimate: JobEstimate

    @property
    def pixels(self) -> int:
        """Pixels of all frames of the output."""
        return self.frames * self.sizes[2] * self.sizes[3]


class DryRun:
    """Describes jobs without doing them.

    Args:
        options: of the run.
        networks: chosen and loaded models.
        estimate: kinds of files of which a part is tried, for time and size; on a cluster none is.
    """

    def __init__(self, options: UpscaleOptions, networks: Networks, *, estimate: Collection[Kind] = ("video",)) -> None:
        self._tries = estimate if options.cluster is None else ()
        self._context = JobContext(options, networks, no_progress, Cancel())
        self._tried: dict[tuple[object, ...], JobEstimate] = {}
        self._videos: dict[tuple[str, str, tuple[int, int]], _TriedVideo] = {}
        self._tries_left = MOST_TRIED

    def describe_all(self, plan: JobPlan) -> UpscalePlan:
        """Describe all jobs of a run; as in the run, a file of several that cannot be read does not stop the others.

        Raises:
            InputError: the only input cannot be read, the request is impossible, or a model cannot be used.
        """
        self._context.networks.expect(len(plan.jobs))
        self._tries_left = MOST_TRIED
        files: list[PlannedFile] = []
        failed: list[JobResult] = []
        for job in plan.jobs:
            try:
                files.append(self.describe(job))
            except InputError as error:
                if len(plan.jobs) == 1 or isinstance(error, ModelError):
                    raise
                failed.append(failed_result(job, error))
        estimates = [file.estimate for file in files if file.estimate is not None]
        total = functools.reduce(operator.add, estimates) if estimates else None
        return UpscalePlan(files=tuple(files), failed=tuple(failed), left_out=plan.left_out, estimate=total)

    def describe(self, job: Job) -> PlannedFile:
        """Describe one job: kind, sizes, streams and notices, estimates, and what stands in the way.

        Each video is tried, up to :data:`MOST_TRIED` of a run; the others are estimated from those.

        Raises:
            InputError: the input cannot be read or the request is impossible.
        """
        job, existing = resolve_existing(job, self._context)
        planned = self._picture(job) if job.kind == "picture" else self._video(job)
        if existing is None:
            return planned
        refused = f"would be {'skipped' if existing.status == 'skipped' else 'refused'}: {existing.message}"
        return planned.model_copy(update={"existing": refused, "estimate": None})

    def _video(self, job: Job) -> PlannedFile:
        from apisr.upscale.video_job import plan_video_job

        options = self._context.options
        with plan_video_job(job, self._context) as planned:
            plan, model = planned.plan, planned.model
            estimate, remarks = self._try_video(planned) if "video" in self._tries else (None, ())
        video = planned.source.info.video
        return PlannedFile(
            source=job.source,
            target=job.target,
            kind="video",
            model=model.name,
            size=(video.width, video.height),
            output_size=plan.format.size,
            frames=plan.frames,
            duration_s=float(plan.duration_s),
            encoder=str(plan.format.encoder),
            segments=len(plan.segments),
            streams=tuple(_stream_line(item) for item in plan.streams),
            notices=(*planned.notices, *plan.notices, *remarks),
            memory_bytes=_video_memory(video, plan, model, options),
            estimate=estimate,
        )

    def _try_video(self, planned: PlannedVideo) -> tuple[JobEstimate, tuple[str, ...]]:
        """Estimate a video; the second part says so where it is not tried itself."""
        from apisr.upscale.video.estimate import estimate_video
        from apisr.upscale.video.run import VideoRun
        from apisr.upscale.video.work_folder import WorkFolder

        plan, video = planned.plan, planned.source.info.video
        key = (plan.sha256, planned.model.sha256, plan.format.size)
        one = self._videos.get(key)
        if one is not None:
            return one.estimate, ()
        sizes = (video.width, video.height, *plan.format.size)
        alike = [tried for tried in self._videos.values() if tried.model == planned.model.sha256]
        alike = [tried for tried in alike if tried.sizes == sizes] or alike
        if self._tries_left <= 0 and alike:
            share = plan.frames * sizes[2] * sizes[3] / sum(tried.pixels for tried in alike)
            total = functools.reduce(operator.add, (tried.estimate for tried in alike))
            videos = counted(len(alike), "video that was", "videos that were")
            remark = f"time and size are scaled from those of {videos} tried; this one was not."
            return JobEstimate(total.seconds * share, round(total.size_bytes * share)), (remark,)
        folder = WorkFolder.beside(plan.target)
        run = VideoRun(planned.source, plan, folder, plan.segments, planned.processing, self._context.options.video)
        tried = _TriedVideo(planned.model.sha256, sizes, plan.frames, estimate_video(run))
        self._tries_left -= 1
        self._videos[key] = tried
        return tried.estimate, ()

    def _picture(self, job: Job) -> PlannedFile:
        options, networks = self._context.options, self._context.networks
        with open_picture(job.source, max_pixels=options.picture.max_pixels) as picture:
            info = picture.info
        model = networks.picture_model(job.source, info)
        final = options.size.of_picture(info.height, info.width, scale=model.scale)
        check_format(job.target, *final)
        remarks = (network_notice(model, options, info.height), large_notice(model, options))
        return PlannedFile(
            source=job.source,
            target=job.target,
            kind="picture",
            model=model.name,
            size=(info.width, info.height),
            output_size=(final[1], final[0]),
            frames=info.frame_count,
            channels=info.channels,
            bits=8 * info.dtype.itemsize,
            notices=(*(remark for remark in remarks if remark), *info.notices, *losses(info, job.target)),
            memory_bytes=_picture_memory(info, job, model, options),
            estimate=self._try_picture(job, model) if "picture" in self._tries else None,
        )

    def _try_picture(self, job: Job, model: Model) -> JobEstimate:
        from apisr.upscale.picture_estimate import estimate_picture

        key = (job.source, job.source.stat().st_mtime_ns, job.target.suffix)
        if key not in self._tried:
            engine = self._context.networks.engine(model)
            self._tried[key] = estimate_picture(job, engine, self._context.options)
        return self._tried[key]


def _picture_memory(info: PictureInfo, job: Job, model: Model, options: UpscaleOptions) -> int:
    height, width, channels, traits = info.height, info.width, info.channels, model.traits
    final = options.size.of_picture(height, width, scale=model.scale)
    tile = min(options.picture.tile_px or default_tile_px(traits), max(height, width)) + 2 * (traits.halo_px or 0)
    streamed = job.target.suffix.lower() in (".png", ".tif", ".tiff") and info.kind != "animation"
    output_rows = model.scale * tile if streamed else final[0]
    return (
        _BASE_BYTES
        + 2 * height * width * channels * info.dtype.itemsize
        + tile * tile * traits.bytes_per_px
        + 3 * output_rows * final[1] * channels * info.dtype.itemsize
    )


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
