"""Compression in memory: picture codecs through Pillow and OpenCV, video codecs through PyAV (paper 3.2).

A video codec given a single frame can only predict inside the picture: "prediction-oriented compression". Encoder and
decoder pass packets to each other directly, without a process, a container or a file; every call has its own
contexts, so that calls may run in parallel threads. All codecs code 4:2:0; odd sizes are padded by repeating the last
row and column and cut back afterwards. Video codecs convert RGB to limited-range YCbCr with the matrix asked for
(BT.601 as the ``ffmpeg`` program does by default, or BT.709), and back with the same one.

    >>> import numpy as np
    >>> ramp = np.arange(64, dtype=np.uint8)[None, :, None].repeat(48, 0).repeat(3, 2) * 3
    >>> result = round_trip(ramp, "h264", crf=28, preset="medium")
    >>> result.picture.shape, result.size_bytes > 0
    ((48, 64, 3), True)
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apisr.core.errors import InputError, RunError
from apisr.core.processes import leave_realtime

if TYPE_CHECKING:
    import av

Bytes = NDArray[np.uint8]
Codec = Literal["jpeg", "webp", "avif", "mpeg2", "mpeg4", "h264", "h265", "vp9", "av1", "mjpeg"]
CODECS: tuple[str, ...] = get_args(Codec)
Matrix = Literal["bt601", "bt709"]

#: How x264, x265 and SVT-AV1 call their effort levels.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class RoundTrip:
    """A picture after coding and decoding.

    Attributes:
        picture: ``(H, W, 3)`` uint8 RGB, the size of the input.
        size_bytes: what the coded picture takes (for video codecs: all packets).
    """

    picture: Bytes
    size_bytes: int


@dataclass(frozen=True)
class _VideoCodec:
    encoder: str
    decoder: str
    options: Callable[[dict[str, Any]], dict[str, str]]
    pixel_format: str = "yuv420p"  # the j of yuvj420p: full range


def round_trip(picture: Bytes, codec: Codec, **settings: Any) -> RoundTrip:
    """Code and decode a picture.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
        codec: one of :data:`CODECS`.
        **settings: ``jpeg``: `quality` (1 to 100). ``webp``: `quality`, `method` (0 fast to 6). ``avif``: `quality`,
            `speed` (0 to 10, default 6). ``mpeg2``, ``mpeg4``, ``mjpeg``: `quantizer` (1 to 31). ``h264``, ``h265``:
            `crf` (0 to 51), `preset`. ``vp9``: `crf` (0 to 63), `speed` (0 to 8, default 5). ``av1``: `crf` (1 to 63),
            `preset` (0 to 13, default 8). All video codecs: `matrix` ("bt601", "bt709"), and `frames` (default 1)
            with `motion` (pixels right and down from frame to frame): the picture is the last frame of a short pan, so
            that it is predicted from other frames as well.

    Raises:
        InputError: unknown codec or setting, or a value out of range.
        RunError: the encoder or decoder failed.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(f"expected an RGB picture (H, W, 3) uint8, got {picture.shape} {picture.dtype}.")
    if codec in ("jpeg", "webp", "avif"):
        return _picture_round_trip(picture, codec, settings)
    if codec not in _VIDEO:
        raise InputError(f"unknown codec '{codec}'. Use one of {', '.join(CODECS)}.")
    frames, motion = _taken(settings, "frames", 1, 1, 64), settings.pop("motion", (0, 0))
    sequence = [picture] if frames == 1 else _pan(picture, int(frames), motion)
    decoded, sizes = video_round_trip(sequence, codec, **settings)
    return RoundTrip(decoded[-1], sum(sizes))


def video_round_trip(pictures: Sequence[Bytes], codec: Codec, **settings: Any) -> tuple[list[Bytes], list[int]]:
    """Code and decode a sequence with a video codec.

    Args:
        pictures: arrays of one size, ``(H, W, 3)`` uint8 RGB.
        codec: one of the video codecs of :data:`CODECS`.
        **settings: as for :func:`round_trip`, without `frames` and `motion`.

    Returns:
        The decoded pictures in order, and the size of each packet in bytes.
    """
    import av
    import av.error as error_module
    import av.video.reformatter as reformatter

    settings = dict(settings)
    kind = _VIDEO[codec]
    matrix = settings.pop("matrix", "bt601")
    if matrix not in ("bt601", "bt709"):
        raise InputError(f"unknown colour matrix '{matrix}'. Use bt601 or bt709.")
    colours = reformatter.Colorspace.ITU601 if matrix == "bt601" else reformatter.Colorspace.ITU709
    options = kind.options(settings)
    if settings:
        raise InputError(f"the codec {codec} has no setting '{next(iter(settings))}'.")
    height, width = pictures[0].shape[:2]
    coded_height, coded_width = _coded_size(codec, height, width)
    try:
        encoder = cast("av.VideoCodecContext", av.CodecContext.create(kind.encoder, "w"))
        encoder.width, encoder.height, encoder.pix_fmt = coded_width, coded_height, kind.pixel_format
        encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
        encoder.thread_count = 1
        encoder.options = options
        scaler = reformatter.VideoReformatter()
        packets: list[Any] = []
        for index, picture in enumerate(pictures):
            if (height, width) != (coded_height, coded_width):
                bottom, right = coded_height - height, coded_width - width
                picture = cast("Bytes", cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE))
            frame = scaler.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(picture, np.uint8), format="rgb24"),
                format=kind.pixel_format,
                dst_colorspace=colours,
                interpolation=reformatter.Interpolation.BICUBIC,
            )
            frame.pts, frame.time_base = index, Fraction(1, 25)
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        if kind.encoder == "libsvtav1":
            leave_realtime()
        decoder = cast("av.VideoCodecContext", av.CodecContext.create(kind.decoder, "r"))
        decoder.thread_count = 1
        if encoder.extradata:
            decoder.extradata = encoder.extradata
        frames: list[av.VideoFrame] = []
        for packet in packets:
            frames += decoder.decode(packet)
        frames += decoder.decode(None)
        back = reformatter.VideoReformatter()
        decoded = [
            back.reformat(
                frame, format="rgb24", src_colorspace=colours, interpolation=reformatter.Interpolation.BICUBIC
            ).to_ndarray()[:height, :width]
            for frame in frames
        ]
    except (error_module.FFmpegError, ValueError) as error:
        raise RunError(f"the {codec} codec failed on a {width}x{height} picture: {error}.") from error
    if len(decoded) != len(pictures):
        raise RunError(f"the {codec} codec gave {len(decoded)} of {len(pictures)} frames back.")
    return [np.ascontiguousarray(one, np.uint8) for one in decoded], [packet.size for packet in packets]


def _picture_round_trip(picture: Bytes, codec: str, settings: dict[str, Any]) -> RoundTrip:
    settings = dict(settings)
    quality = int(_taken(settings, "quality", None, 1, 100))
    if codec == "jpeg":
        _refuse(codec, settings)
        options = [
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        ]
        done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
        if decoded is None:
            raise RunError(f"the jpeg codec failed on a {picture.shape[1]}x{picture.shape[0]} picture.")
        return RoundTrip(cast("Bytes", cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)), int(data.size))
    if codec == "webp":
        extra: dict[str, Any] = {"method": int(_taken(settings, "method", 4, 0, 6))}
    else:
        extra = {"speed": int(_taken(settings, "speed", 6, 0, 10)), "subsampling": "4:2:0", "max_threads": 1}
    _refuse(codec, settings)
    stream = io.BytesIO()
    try:
        Image.fromarray(picture).save(stream, codec.upper(), quality=quality, **extra)
        if codec == "webp":  # the same decoder without Pillow's way through RGBA
            swapped = cv2.imdecode(np.frombuffer(stream.getbuffer(), np.uint8), cv2.IMREAD_COLOR)
            if swapped is None:
                raise ValueError("the coded picture cannot be decoded")
            decoded = cast("Bytes", cv2.cvtColor(swapped, cv2.COLOR_BGR2RGB))
        else:
            with Image.open(stream) as image:
                decoded = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"the {codec} codec failed on a {picture.shape[1]}x{picture.shape[0]} picture: {error}."
        ) from error
    return RoundTrip(decoded, stream.getbuffer().nbytes)


def _pan(picture: Bytes, frames: int, motion: Sequence[int]) -> list[Bytes]:
    """Make a short pan that ends on `picture`."""
    right, down = int(motion[0]), int(motion[1])
    reach_x, reach_y = abs(right) * (frames - 1), abs(down) * (frames - 1)
    wide = cast("Bytes", cv2.copyMakeBorder(picture, reach_y, reach_y, reach_x, reach_x, cv2.BORDER_REFLECT_101))
    height, width = picture.shape[:2]
    sequence: list[Bytes] = []
    for back in range(frames - 1, -1, -1):
        top, left = reach_y + down * back, reach_x + right * back
        sequence.append(wide[top : top + height, left : left + width])
    return sequence


def _coded_size(codec: str, height: int, width: int) -> tuple[int, int]:
    smallest = {"h265": 32, "av1": 64}.get(codec, 2)
    return max(smallest, height + height % 2), max(smallest, width + width % 2)


def _taken(settings: dict[str, Any], name: str, default: float | None, low: float, high: float) -> float:
    value = settings.pop(name, default)
    if value is None:
        raise InputError(f"the setting '{name}' is missing: give a value from {low} to {high}.")
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} {value!r} is out of range. Give a value from {low} to {high}.")
    return value


def _refuse(codec: str, settings: dict[str, Any]) -> None:
    if settings:
        raise InputError(f"the codec {codec} has no setting '{next(iter(settings))}'.")


def _fixed_quantizer(settings: dict[str, Any]) -> dict[str, str]:
    # Both ends of the range at one value, and no other factor for I-frames: the same as `-q:v` of the ffmpeg program.
    quantizer = str(int(_taken(settings, "quantizer", None, 1, 31)))
    return {"qmin": quantizer, "qmax": quantizer, "i_qfactor": "1"}


def _x264(settings: dict[str, Any]) -> dict[str, str]:
    crf = str(_taken(settings, "crf", None, 0, 51))
    return {"crf": crf, "preset": _preset(settings), "flags": "+global_header"}


def _x265(settings: dict[str, Any]) -> dict[str, str]:
    quiet = "pools=none:frame-threads=1:wpp=0:log-level=none"  # no thread pool to start for one frame; same decisions
    crf = str(_taken(settings, "crf", None, 0, 51))
    return {"crf": crf, "preset": _preset(settings), "x265-params": quiet, "flags": "+global_header"}


def _vp9(settings: dict[str, Any]) -> dict[str, str]:
    crf, speed = _taken(settings, "crf", None, 0, 63), _taken(settings, "speed", 5, 0, 8)
    return {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": str(speed)}


def _svt_av1(settings: dict[str, Any]) -> dict[str, str]:
    os.environ.setdefault("SVT_LOG", "1")  # the only way to keep this encoder from writing a page to standard error
    crf, preset = _taken(settings, "crf", None, 1, 63), _taken(settings, "preset", 8, 0, 13)
    return {"crf": str(crf), "preset": str(preset), "svtav1-params": "lp=1"}


def _preset(settings: dict[str, Any]) -> str:
    preset = settings.pop("preset", "medium")
    if preset not in PRESETS:
        raise InputError(f"unknown preset '{preset}'. Use one of {', '.join(PRESETS)}.")
    return preset


_VIDEO: dict[str, _VideoCodec] = {
    "mpeg2": _VideoCodec("mpeg2video", "mpeg2video", _fixed_quantizer),
    "mpeg4": _VideoCodec("mpeg4", "mpeg4", _fixed_quantizer),
    "h264": _VideoCodec("libx264", "h264", _x264),
    "h265": _VideoCodec("libx265", "hevc", _x265),
    "vp9": _VideoCodec("libvpx-vp9", "vp9", _vp9),
    "av1": _VideoCodec("libsvtav1", "libdav1d", _svt_av1),
    "mjpeg": _VideoCodec("mjpeg", "mjpeg", _fixed_quantizer, "yuvj420p"),
}
