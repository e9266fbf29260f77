"""What a run would do, without doing it: sizes, streams, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apisr.image import check_format, read_picture
from apisr.upscale.engine import NetworkTraits
from apisr.upscale.pictures import output_size
from apisr.upscale.reuse import STORE_BYTES
from apisr.upscale.run import Job, Settings, video_options
from apisr.upscale.tiles import default_tile_px

if TYPE_CHECKING:
    from apisr.video.streams import StreamPlan

#: The interpreter with its libraries.
_BASE_BYTES = 150 * 2**20


def describe(job: Job, settings: Settings) -> dict[str, Any]:
    """Describe one job: kind, sizes, streams and notices, an upper estimate of the memory, and what stands in the way.

    Raises:
        InputError: the input cannot be read or the request is impossible.
    """
    traits = NetworkTraits.of(settings.model)
    row: dict[str, Any] = {"source": str(job.source), "target": str(job.target), "kind": job.kind}
    if job.target.exists() and not settings.overwrite:
        row["existing"] = (
            "would be skipped: the output exists" if not job.listed else "would be refused: the output exists"
        )
    if job.kind == "picture":
        picture = read_picture(job.source)
        height, width, channels = picture.pixels.shape
        final = output_size(
            height,
            width,
            settings.model.scale,
            output_height=settings.output_height,
            output_scale=settings.output_scale,
        )
        check_format(job.target, *final)
        row["size"] = f"{width}x{height} -> {final[1]}x{final[0]}"
        row["channels"] = f"{channels} of {8 * picture.pixels.itemsize} bit"
        if picture.animated:
            row["frames"] = len(picture.frames)
        tile = min(settings.tile_px or default_tile_px(traits), max(height, width)) + 2 * (settings.model.halo_px or 0)
        streamed = job.target.suffix.lower() in (".png", ".tif", ".tiff") and not picture.animated
        output_rows = settings.model.scale * tile if streamed else final[0] * len(picture.frames)
        row["memory"] = _megabytes(
            _BASE_BYTES
            + 2 * picture.pixels.nbytes * len(picture.frames)
            + tile * tile * traits.bytes_per_px
            + 3 * output_rows * final[1] * channels * picture.pixels.itemsize
        )
        return row
    from apisr.upscale.videos import VideoOptions, plan_video

    plan = plan_video(job.source, job.target, video_options(settings, VideoOptions()), settings.model.scale)
    video = plan.source.video
    row["size"] = f"{video.width}x{video.height} -> {plan.size[0]}x{plan.size[1]}"
    row["frames"] = plan.frames
    row["duration"] = f"{plan.duration_s:.3f} s"
    row["encoder"] = str(plan.encoder)
    row["segments"] = len(plan.spans)
    row["streams"] = [_stream_line(item) for item in plan.streams]
    row["notices"] = list(plan.notices)
    frame_bytes = 3 * (2 if plan.dtype == "uint16" else 1)
    input_px, output_px = video.width * video.height, plan.network_size[0] * plan.network_size[1]
    row["memory"] = _megabytes(
        _BASE_BYTES
        + min(input_px, 2**20) * traits.bytes_per_px
        + 12 * frame_bytes * (input_px + output_px)
        + 12 * frame_bytes * plan.size[0] * plan.size[1]
        + STORE_BYTES * (settings.reuse == "exact")
    )
    return row


def _stream_line(plan: StreamPlan) -> str:
    becomes = f" to {plan.codec}" if plan.codec else ""
    return f"{plan.stream.label}: {plan.action}{becomes}{f' ({plan.reason})' if plan.reason else ''}"


def _megabytes(count: float) -> str:
    return f"about {count / 2**20:.0f} MiB"
