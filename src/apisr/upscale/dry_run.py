"""What a run would do, without doing it: sizes, streams, memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from apisr.image import check_format, losses, open_picture
from apisr.upscale.job import Job
from apisr.upscale.models import Networks, network_notice
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.reuse import STORE_BYTES
from apisr.upscale.softness import file_edge_width
from apisr.upscale.tiles import default_tile_px

if TYPE_CHECKING:
    from apisr.upscale.video.plan import VideoPlan
    from apisr.video.streams import StreamPlan
    from apisr.weights import Model

#: The interpreter with its libraries.
_BASE_BYTES = 150 * 2**20


def describe(job: Job, options: UpscaleOptions, networks: Networks) -> dict[str, Any]:
    """Describe one job: kind, sizes, streams and notices, an upper estimate of the memory, and what stands in the way.

    Raises:
        InputError: the input cannot be read or the request is impossible.
    """
    row: dict[str, Any] = {"source": str(job.source), "target": str(job.target), "kind": job.kind}
    if job.target.exists() and not options.overwrite:
        row["existing"] = (
            "would be skipped: the output exists" if not job.listed else "would be refused: the output exists"
        )
    return row | (_picture(job, options, networks) if job.kind == "picture" else _video(job, options, networks))


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


def _video(job: Job, options: UpscaleOptions, networks: Networks) -> dict[str, Any]:
    from apisr.upscale.preprocess import edge_width_of, plan_preprocess
    from apisr.upscale.video.output import OutputRequest
    from apisr.upscale.video.plan import plan_video
    from apisr.video.source import VideoSource

    with VideoSource.open(job.source, stream=options.video.stream, rate=options.video.rate) as source:
        preprocess, notices = plan_preprocess(source, options.video)
        lines = preprocess.native or source.info.video.height
        model = networks.model_for(lines, lambda: edge_width_of(source), video=True)
        output = OutputRequest(job.target, options.size, options.overwrite)
        plan = plan_video(source, output, scale=model.scale, options=options.video)
    width, height = source.info.video.width, source.info.video.height
    return {
        "model": model.name,
        "size": f"{width}x{height} -> {plan.format.size[0]}x{plan.format.size[1]}",
        "network": network_notice(model, options, lines),
        "frames": plan.frames,
        "duration": f"{plan.duration_s:.3f} s",
        "encoder": str(plan.format.encoder),
        "segments": len(plan.segments),
        "streams": [_stream_line(item) for item in plan.streams],
        "notices": [*notices, *plan.notices],
        "memory": _megabytes(_video_memory(plan, model, options)),
    }


def _video_memory(plan: VideoPlan, model: Model, options: UpscaleOptions) -> int:
    video = plan.source.info.video
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
