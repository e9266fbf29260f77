"""What the output video is: its size, encoder, colour and depth, decided from the source's description and the options.

>>> OutputRequest(Path("out.mkv"), SizeRequest(height=1080)).size.of_video((640, 360), (1280, 720))
(1920, 1080)
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from apisr.core.errors import InputError
from apisr.upscale.options import VideoOptions
from apisr.upscale.sizes import SizeRequest
from apisr.video.colour import Colour, aspect_after, bit_depth, has_alpha
from apisr.video.encoders import (
    PURPOSES,
    EncoderChoice,
    EncoderRequest,
    choose,
    coded_size,
    encoder_named,
    keeps_hdr_metadata,
)
from apisr.video.probe import VideoInfo
from apisr.video.streams import Container, check_video_codec

#: Results of some encoders depend on the number of their threads, so it is part of the settings.
_MOST_ENCODER_THREADS = 16


@dataclass(frozen=True)
class OutputRequest:
    """What file is asked for.

    Attributes:
        target: the output, or a pattern for numbered pictures.
        size: of its pictures.
        overwrite: replace an existing file.
        tags: what is written into the file about its making.
    """

    target: Path
    size: SizeRequest = field(default_factory=SizeRequest)
    overwrite: bool = False
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class OutputFormat:
    """How the output video is coded.

    Attributes:
        size: (width, height) as shown, of both halves together where source and result stand side by side.
        single: (width, height) of one picture.
        sar: pixel aspect ratio.
        colour: what the numbers mean.
        encoder: checked encoder.
        dtype: what frames are processed in, ``"uint8"`` or ``"uint16"``.
        display_matrix: how players turn the pictures (libav's nine numbers), None where they do not.
        notices: everything worth saying, one sentence each.
    """

    size: tuple[int, int]
    single: tuple[int, int]
    sar: Fraction | None
    colour: Colour
    encoder: EncoderChoice
    dtype: str
    display_matrix: tuple[int, ...] | None
    notices: tuple[str, ...] = ()


def plan_format(
    video: VideoInfo, rate: Fraction, output: OutputRequest, container: Container, scale: int, options: VideoOptions
) -> OutputFormat:
    """Decide how the output is coded.

    Args:
        video: the source's video stream.
        rate: frames per second of the output.
        output: what is asked for.
        container: of the output.
        scale: of the network.
        options: of videos.

    Raises:
        InputError: unknown or impossible settings, or a codec that the container cannot hold.
    """
    shown = (video.width, video.height)
    single = output.size.of_video(shown, (video.width * scale, video.height * scale))
    size = (single[0] * 2, single[1]) if options.compare == "side" else single
    settings = _with_purpose(options)
    depth = bit_depth(video.pixel_format)
    if container.pictures_only:
        depth = depth if container.muxer == "image2" else 8  # animations hold 8 bits
        settings = _for_pictures(settings, output.target, depth)
    encoder = encoder_named(settings.codec or container.default_video)
    check_video_codec(output.target, encoder.codec, encoder.name)
    extra = dict(options.encoder_options)
    if container.muxer == "avi":
        extra.setdefault("bf", "0")  # its frames carry no presentation times
    choice = choose(
        encoder.name,
        EncoderRequest(
            source_format=video.pixel_format,
            size=size,
            rate=rate,
            crf=settings.crf,
            preset=settings.preset,
            pixel_format=settings.pix_fmt,
            extra=extra,
            colour=video.colour,
            mastering=video.mastering,
            light_level=video.light_level,
            threads=min(_MOST_ENCODER_THREADS, os.cpu_count() or 1),
        ),
    )
    coded_depth = bit_depth(choice.pixel_format)
    return OutputFormat(
        size=size,
        single=single,
        sar=aspect_after(video.sar, shown, single),
        display_matrix=video.display_matrix,
        colour=_output_colour(video.colour, choice.pixel_format),
        encoder=choice,
        dtype=np.dtype(np.uint16 if max(coded_depth, depth) > 8 else np.uint8).name,
        notices=(
            *(["the transparency of the video is not kept."] if has_alpha(video.pixel_format) else []),
            *_format_notices(video, choice, size, depth - coded_depth),
        ),
    )


def _format_notices(video: VideoInfo, choice: EncoderChoice, size: tuple[int, int], lost_bits: int) -> list[str]:
    notices: list[str] = []
    if lost_bits > 0:
        depth = bit_depth(video.pixel_format)
        notices.append(f"{choice.name} writes {depth - lost_bits} bits; the source has {depth}.")
    padded = coded_size(size, choice.pixel_format)
    if padded != size:
        notices.append(
            f"{choice.pixel_format} needs even sizes: {size[0]}x{size[1]} is padded to {padded[0]}x{padded[1]}."
        )
    if (video.mastering or video.light_level) and not keeps_hdr_metadata(choice.name):
        notices.append(f"{choice.name} cannot write the HDR metadata (mastering display, light level); libx265 can.")
    return notices


def _with_purpose(options: VideoOptions) -> VideoOptions:
    if options.purpose is None:
        return options
    preset = PURPOSES[options.purpose]
    same = options.codec is None or encoder_named(options.codec).name == preset["codec"]
    return replace(
        options,
        codec=options.codec or preset["codec"],
        crf=options.crf if options.crf is not None or not same else preset.get("crf"),
        preset=options.preset or (preset.get("preset") if same else None),
        pix_fmt=options.pix_fmt or preset.get("pix_fmt"),
    )


def _for_pictures(options: VideoOptions, target: Path, depth: int) -> VideoOptions:
    """Segments of a sequence of pictures are lossless RGB.

    Raises:
        InputError: an encoder was named.
    """
    if options.codec not in (None, "ffv1") or options.pix_fmt or options.crf is not None or options.preset:
        raise InputError(
            f"the frames of '{target.name}' are pictures: leave --codec, --crf, --preset and --pix-fmt out.",
            code="option-does-not-apply",
        )
    return replace(options, codec="ffv1", pix_fmt="bgr0" if depth <= 8 else "gbrp16le")


def _output_colour(colour: Colour, pixel_format: str) -> Colour:
    from av.video.format import VideoFormat

    if VideoFormat(pixel_format).is_rgb:
        return replace(colour, matrix=0, full_range=True)
    if colour.matrix == 0:
        return replace(colour, matrix=1, full_range=False, chroma="left")
    return colour
