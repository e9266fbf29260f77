"""A sequence through a video codec in memory: encoder and decoder hand packets to each other, one thread each."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from apisr.core.errors import InputError, RunError
from apisr.core.processes import leave_realtime
from apisr.degrade.codecs.base import CodecSettings, VideoCodec, check_all_taken
from apisr.image import ImageU8

if TYPE_CHECKING:
    import av
    from av.packet import Packet

_MATRICES = {"bt601": "ITU601", "bt709": "ITU709"}
#: SWS_BICUBIC, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT and SWS_FULL_CHR_H_INP of libswscale. Its quick default cuts off
#: instead of rounding and darkens a picture by about one level each time; a network that learns from it brightens.
_SWSCALE = 0x4 | 0x40000 | 0x2000 | 0x4000


def code_sequence(
    pictures: Sequence[ImageU8], name: str, codec: VideoCodec, settings: CodecSettings
) -> tuple[list[ImageU8], list[int]]:
    """Code and decode a sequence.

    Args:
        pictures: arrays of one size, ``(H, W, 3)`` uint8 RGB.
        name: of the codec, for messages.
        codec: which encoder and decoder.
        settings: what `codec` takes, and `matrix` (``"bt601"``, ``"bt709"``).

    Returns:
        The decoded pictures in order, and the size of each packet in bytes.

    Raises:
        InputError: a setting is unknown or out of range.
        RunError: the encoder or decoder failed.
    """
    import av.error as error_module

    settings = dict(settings)
    matrix = str(settings.pop("matrix", "bt601"))
    if matrix not in _MATRICES:
        raise InputError(f"unknown colour matrix '{matrix}'. Use bt601 or bt709.", code="codec-setting-range")
    options = dict(codec.options(settings))
    check_all_taken(name, settings)
    height, width = pictures[0].shape[:2]
    try:
        encoder, packets = _encode(pictures, codec, options, matrix)
        if codec.realtime:
            leave_realtime()
        decoded = _decode(packets, codec, encoder.extradata, matrix, (height, width))
    except (error_module.FFmpegError, ValueError) as error:
        message = f"the {name} codec failed on a {width}x{height} picture: {error}."
        raise RunError(message, code="codec-failed") from error
    if len(decoded) != len(pictures):
        raise RunError(f"the {name} codec returned {len(decoded)} of {len(pictures)} frames.", code="codec-failed")
    return decoded, [packet.size for packet in packets]


def _encode(
    pictures: Sequence[ImageU8], codec: VideoCodec, options: dict[str, str], matrix: str
) -> tuple[av.VideoCodecContext, list[Packet[av.VideoStream]]]:
    import av
    from av.video.reformatter import Colorspace, VideoReformatter

    height, width = pictures[0].shape[:2]
    bottom, right = (max(codec.smallest_px, side + side % 2) - side for side in (height, width))
    encoder = cast("av.VideoCodecContext", av.CodecContext.create(codec.encoder, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = width + right, height + bottom, codec.pixel_format
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.thread_count = 1
    encoder.options = options
    scaler = VideoReformatter()
    packets: list[Packet[av.VideoStream]] = []
    for index, picture in enumerate(pictures):
        if bottom or right:
            picture = cast("ImageU8", cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE))
        frame = scaler.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(picture, np.uint8), format="rgb24"),
            format=codec.pixel_format,
            dst_colorspace=Colorspace[_MATRICES[matrix]],
            interpolation=_SWSCALE,
        )
        frame.pts, frame.time_base = index, Fraction(1, 25)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return encoder, packets


def _decode(
    packets: Sequence[Packet[av.VideoStream]],
    codec: VideoCodec,
    extradata: bytes | None,
    matrix: str,
    size: tuple[int, int],
) -> list[ImageU8]:
    import av
    from av.video.reformatter import Colorspace, VideoReformatter

    decoder = cast("av.VideoCodecContext", av.CodecContext.create(codec.decoder, "r"))
    decoder.thread_count = 1
    if extradata:
        decoder.extradata = extradata
    frames: list[av.VideoFrame] = []
    for packet in packets:
        frames += decoder.decode(packet)
    frames += decoder.decode(None)
    scaler = VideoReformatter()
    colours = Colorspace[_MATRICES[matrix]]
    return [
        np.ascontiguousarray(
            scaler.reformat(frame, format="rgb24", src_colorspace=colours, interpolation=_SWSCALE).to_ndarray()[
                : size[0], : size[1]
            ],
            np.uint8,
        )
        for frame in frames
    ]
