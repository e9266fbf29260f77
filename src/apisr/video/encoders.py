"""Video encoders: which exist, what they are called, how quality is set, what they can hold.

A choice is checked completely before any frame is decoded: the name, every option, the pixel format, and whether the
encoder really opens with this size (a graphics card may be absent, a size odd).

    >>> encoder_named("h264").name
    'libx264'
    >>> encoder_named("libx264x")
    Traceback (most recent call last):
    apisr.core.errors.InputError: unknown codec 'libx264x'. Did you mean 'libx264'? (see 'apisr doctor' for all)
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, cast

import av
from av.codec import Codec, CodecContext, find_best_pix_fmt_of_list
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from apisr.core.errors import InputError
from apisr.core.processes import leave_realtime
from apisr.video.colour import Colour, chroma_shift
from apisr.video.info import MasteringDisplay
from apisr.video.libav import reports

Purpose = Literal["archive", "share", "edit"]


@dataclass(frozen=True)
class Encoder:
    """One encoder and how it is driven.

    Attributes:
        name: libav's name.
        codec: the format that it writes.
        aliases: other names that people use.
        quality: name of its constant-quality option, None for lossless or profile-driven ones.
        quality_range: allowed values.
        quality_default: visually clean for anime.
        preset: name of its speed option, None if it has none.
        preset_default: its value.
        presets: its values, where they are names that the library checks only noisily.
        options: further options that are always set.
        lossless: whether nothing is lost after the pixel format.
        hardware: what device it needs, None for the processor.
    """

    name: str
    codec: str
    aliases: tuple[str, ...] = ()
    quality: str | None = "crf"
    quality_range: tuple[float, float] = (0, 51)
    quality_default: float | None = None
    preset: str | None = None
    preset_default: str | None = None
    presets: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict[str, str])
    lossless: bool = False
    hardware: str | None = None


def _hardware(
    name: str, codec: str, device: str, quality: str, quality_range: tuple[float, float], default: float, **rest: Any
) -> Encoder:
    return Encoder(
        name, codec, quality=quality, quality_range=quality_range, quality_default=default, hardware=device, **rest
    )


_X26X_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_NVENC: dict[str, Any] = {"preset": "preset", "preset_default": "p5", "options": {"rc": "vbr", "b": "0"}}
_AMF: dict[str, Any] = {"preset": "quality", "preset_default": "quality", "options": {"rc": "cqp"}}
_QSV: dict[str, Any] = {"preset": "preset", "preset_default": "slow"}

ENCODERS: dict[str, Encoder] = {
    encoder.name: encoder
    for encoder in (
        Encoder(
            "libx264",
            "h264",
            ("h264", "x264", "avc"),
            quality_default=16,
            preset="preset",
            preset_default="medium",
            presets=_X26X_PRESETS,
        ),
        Encoder(
            "libx265",
            "hevc",
            ("hevc", "h265", "x265"),
            quality_default=17,
            preset="preset",
            preset_default="medium",
            presets=_X26X_PRESETS,
            options={
                "x265-params": "log-level=error:info=0"
            },  # its note on the processor would differ between machines
        ),
        Encoder(
            "libsvtav1",
            "av1",
            ("av1", "svtav1", "svt-av1"),
            quality_range=(0, 63),
            quality_default=20,
            preset="preset",
            preset_default="6",
        ),
        Encoder(
            "libvpx-vp9",
            "vp9",
            ("vp9",),
            quality_range=(0, 63),
            quality_default=18,
            preset="cpu-used",
            preset_default="3",
            options={"b": "0", "row-mt": "1", "deadline": "good"},
        ),
        Encoder("ffv1", "ffv1", quality=None, lossless=True, options={"level": "3", "slicecrc": "1", "g": "1"}),
        Encoder(
            "prores_ks",
            "prores",
            ("prores",),
            quality=None,
            preset="profile",
            preset_default="hq",
            presets=("proxy", "lt", "standard", "hq", "4444", "4444xq"),
            options={"vendor": "apl0"},
        ),
        Encoder("mpeg2video", "mpeg2video", ("mpeg2",), quality="qscale", quality_range=(1, 31), quality_default=2),
        Encoder("mpeg4", "mpeg4", quality="qscale", quality_range=(1, 31), quality_default=2),
        _hardware("h264_nvenc", "h264", "an NVIDIA card", "cq", (0, 51), 19, **_NVENC),
        _hardware("hevc_nvenc", "hevc", "an NVIDIA card", "cq", (0, 51), 20, **_NVENC),
        _hardware("av1_nvenc", "av1", "an NVIDIA card", "cq", (0, 63), 24, **_NVENC),
        _hardware("h264_qsv", "h264", "an Intel graphics device", "global_quality", (1, 51), 19, **_QSV),
        _hardware("hevc_qsv", "hevc", "an Intel graphics device", "global_quality", (1, 51), 20, **_QSV),
        _hardware("av1_qsv", "av1", "an Intel graphics device", "global_quality", (1, 51), 22, **_QSV),
        _hardware("h264_vaapi", "h264", "a VAAPI device", "qp", (1, 51), 19),
        _hardware("hevc_vaapi", "hevc", "a VAAPI device", "qp", (1, 51), 20),
        _hardware("h264_videotoolbox", "h264", "macOS", "global_quality", (1, 100), 70),
        _hardware("hevc_videotoolbox", "hevc", "macOS", "global_quality", (1, 100), 70),
        _hardware("h264_amf", "h264", "an AMD card", "qp_i", (0, 51), 19, **_AMF),
        _hardware("hevc_amf", "hevc", "an AMD card", "qp_i", (0, 51), 20, **_AMF),
    )
}

#: What each purpose stands for: encoder, quality, preset, pixel format, container.
PURPOSES: dict[str, dict[str, Any]] = {
    "archive": {"codec": "ffv1", "suffix": ".mkv"},
    "share": {"codec": "libx264", "crf": 18.0, "preset": "slow", "pix_fmt": "yuv420p", "suffix": ".mp4"},
    "edit": {"codec": "prores_ks", "preset": "hq", "pix_fmt": "yuv422p10le", "suffix": ".mov"},
}


@dataclass(frozen=True)
class EncoderChoice:
    """A checked choice of encoder.

    Attributes:
        name: libav's name.
        codec: the format it writes.
        pixel_format: what it is fed.
        options: all options, as libav takes them.
        threads: 0 for automatic.
    """

    name: str
    codec: str
    pixel_format: str
    options: dict[str, str]
    threads: int = 0

    def __str__(self) -> str:
        shown = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} {self.pixel_format} {shown}".strip()


def encoder_named(name: str) -> Encoder:
    """Find an encoder by libav's name or a usual one.

    Raises:
        InputError: unknown, or not in this build of PyAV.
    """
    plain = name.strip().lower()
    for encoder in ENCODERS.values():
        if plain == encoder.name or plain in encoder.aliases:
            if encoder.name not in av.codecs_available:
                raise InputError(
                    f"the encoder '{encoder.name}' is not part of the installed PyAV {av.__version__}. "
                    f"Choose another with --codec, for example libx264.",
                    code="encoder-not-installed",
                )
            return encoder
    names = [*ENCODERS, *(alias for encoder in ENCODERS.values() for alias in encoder.aliases)]
    near = difflib.get_close_matches(plain, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(ENCODERS)}."
    raise InputError(f"unknown codec '{name}'. {hint} (see 'apisr doctor' for all)", code="unknown-encoder")


@dataclass(frozen=True)
class EncoderRequest:
    """What an encoder is to be set up for.

    Attributes:
        source_format: pixel format of the source; depth and subsampling are kept where the encoder can.
        size: (width, height) of the frames to encode.
        rate: frames per second (for rate control only).
        crf: quality on the encoder's own scale, None for its default.
        preset: speed setting, None for its default.
        pixel_format: None to follow the source.
        extra: further options; they win over everything else.
        colour: decides the chroma position that is written.
        mastering: written where the encoder can.
        light_level: written where the encoder can.
        threads: 0 for automatic.
    """

    source_format: str
    size: tuple[int, int]
    rate: Fraction
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
    extra: dict[str, str] = field(default_factory=dict[str, str])
    colour: Colour | None = None
    mastering: MasteringDisplay | None = None
    light_level: tuple[int, int] | None = None
    threads: int = 0


def choose(name: str, request: EncoderRequest) -> EncoderChoice:
    """Turn a request into the options of one encoder, and try them out.

    Args:
        name: see :func:`encoder_named`.
        request: what it is to be set up for.

    Raises:
        InputError: anything unknown or impossible, with the valid values.
    """
    encoder = encoder_named(name)
    pixel_format = _pixel_format(encoder, request.source_format, request.pixel_format)
    _check_size(encoder, request.size)
    options = {**encoder.options, **_quality(encoder, request.crf), **_preset(encoder, request.preset)}
    placed = chroma_shift(pixel_format) != (0, 0) and encoder.codec in ("h264", "hevc", "av1", "ffv1")
    if request.colour is not None and placed:
        options["chroma_sample_location"] = request.colour.chroma
    if encoder.name == "libx265" and request.threads:
        options["x265-params"] += f":frame-threads={min(4, request.threads)}"
    for key, value in _hdr_options(encoder, request.mastering, request.light_level).items():
        options[key] = f"{options[key]}:{value}" if key in options else value
    for key, value in request.extra.items():
        _check_option(encoder, key)
        options[key] = f"{options[key]}:{value}" if key in options and key.endswith("-params") else value
    choice = EncoderChoice(encoder.name, encoder.codec, pixel_format, options, request.threads)
    try_open(choice, coded_size(request.size, pixel_format), request.rate)
    return choice


def configure(context: VideoCodecContext, choice: EncoderChoice, size: tuple[int, int], rate: Fraction) -> None:
    """Set up an encoder's context (not yet open): frames are counted, one tick each."""
    context.width, context.height = size
    context.pix_fmt = choice.pixel_format
    context.framerate = rate
    context.time_base = 1 / rate
    context.thread_count = choice.threads
    if choice.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # its library writes to standard error by itself
    options = dict(choice.options)
    if "global_quality" in options:
        context.global_quality = int(float(options.pop("global_quality")))
    context.options = options


def try_open(choice: EncoderChoice, size: tuple[int, int], rate: Fraction) -> None:
    """Open the encoder once.

    Raises:
        InputError: it refuses.
    """
    context = cast(VideoCodecContext, CodecContext.create(choice.name, "w"))
    configure(context, choice, size, rate)
    failure: Exception | None = None
    with reports() as lines:
        try:
            context.open()
            if choice.name == "libsvtav1":
                leave_realtime()
        except (FFmpegError, ValueError, OverflowError) as error:
            failure = error
    if failure is not None:
        reason = lines[0].text if lines else str(failure).split("(")[0].strip()
        device = ENCODERS[choice.name].hardware
        need = f" It needs {device}." if device else ""
        raise InputError(
            f"the encoder refuses {choice} at {size[0]}x{size[1]} ({reason.rstrip('.')}).{need} "
            "Change --codec, --preset, --pix-fmt or --encoder-option.",
            code="encoder-refused",
        ) from failure


def _quality(encoder: Encoder, crf: float | None) -> dict[str, str]:
    """Return the options of a quality on the encoder's own scale."""
    if crf is not None:
        if encoder.quality is None:
            raise InputError(f"{encoder.name} has no quality setting. Leave --crf out.", code="no-quality-setting")
        low, high = encoder.quality_range
        if not low <= crf <= high:
            raise InputError(
                f"--crf {crf:g} is out of range for {encoder.name} (expected {low:g} to {high:g}).",
                code="bad-quality",
            )
    quality = crf if crf is not None else encoder.quality_default
    return _quality_options(encoder.quality, quality) if encoder.quality and quality is not None else {}


def _preset(encoder: Encoder, preset: str | None) -> dict[str, str]:
    """Return the option of a speed setting."""
    if preset and encoder.presets and preset not in encoder.presets:
        raise InputError(
            f"{encoder.name} has no preset '{preset}' (it has: {', '.join(encoder.presets)}).",
            code="unknown-encoder-preset",
        )
    if preset and not encoder.preset:
        raise InputError(f"{encoder.name} has no presets. Leave --preset out.", code="unknown-encoder-preset")
    chosen = preset or encoder.preset_default
    return {encoder.preset: chosen} if encoder.preset and chosen else {}


def _quality_options(option: str, quality: float) -> dict[str, str]:
    if option == "qscale":
        return {"qmin": f"{quality:g}", "qmax": f"{quality:g}", "b": "200M"}
    if option == "qp_i":
        return {"qp_i": f"{quality:g}", "qp_p": f"{quality:g}"}
    return {option: f"{quality:g}"}


def _pixel_format(encoder: Encoder, source: str, requested: str | None) -> str:
    formats = [layout.name for layout in Codec(encoder.name, "w").video_formats or []]
    if requested is not None:
        known = ", ".join(formats)
        if formats and requested not in formats:
            raise InputError(
                f"{encoder.name} cannot write the pixel format '{requested}' (it can: {known}).",
                code="bad-pixel-format",
            )
        try:
            VideoFormat(requested)
        except ValueError as error:
            raise InputError(
                f"unknown pixel format '{requested}' (it can: {known}).", code="bad-pixel-format"
            ) from error
        return requested
    plain = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}.get(source, source)
    if not formats:
        return plain
    usable = [
        name
        for name in formats
        if not name.startswith("yuvj") and not any(part.is_alpha for part in VideoFormat(name).components)
    ]
    if plain in usable:
        return plain
    best, _ = find_best_pix_fmt_of_list(usable or formats, plain)
    return best.name if best else (usable or formats)[0]


def _check_size(encoder: Encoder, size: tuple[int, int]) -> None:
    limit = {"h264": 16384, "hevc": 16384, "av1": 16384, "vp9": 65535}.get(encoder.codec, 65535)
    if max(size) > limit:
        raise InputError(
            f"{encoder.name} writes at most {limit} pixels a side, not {size[0]}x{size[1]}. Use a smaller --scale.",
            code="too-large-to-encode",
        )


def _check_option(encoder: Encoder, key: str) -> None:
    context = CodecContext.create(encoder.name, "w")
    known = {
        option.name
        for group in (context.supported_options.generic, context.supported_options.private)
        for option in group
    }
    if key not in known:
        near = difflib.get_close_matches(key, sorted(known), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else f" 'ffmpeg -h encoder={encoder.name}' lists them."
        raise InputError(f"{encoder.name} has no option '{key}'.{hint}", code="unknown-encoder-option")


def _hdr_options(encoder: Encoder, mastering: MasteringDisplay | None, light: tuple[int, int] | None) -> dict[str, str]:
    """Write mastering display and light level in the words of each encoder (units of 0.00002 and 0.0001)."""
    if mastering is None and light is None:
        return {}
    parts: list[str] = []
    if encoder.name in ("libx264", "libx265"):
        if mastering:
            red, green, blue = (f"({round(x * 50000)},{round(y * 50000)})" for x, y in mastering.primaries)
            white = f"({round(mastering.white[0] * 50000)},{round(mastering.white[1] * 50000)})"
            low, high = (round(value * 10000) for value in mastering.luminance)
            key = "master-display" if encoder.name == "libx265" else "mastering-display"
            parts.append(f"{key}=G{green}B{blue}R{red}WP{white}L({high},{low})")
        if light:
            parts.append(f"{'max-cll' if encoder.name == 'libx265' else 'cll'}={light[0]},{light[1]}")
        return {f"{encoder.name.removeprefix('lib')}-params": ":".join(parts)}
    if encoder.name == "libsvtav1":
        if mastering:
            red, green, blue = (f"({float(x):.5f},{float(y):.5f})" for x, y in mastering.primaries)
            white = f"({float(mastering.white[0]):.5f},{float(mastering.white[1]):.5f})"
            low, high = (f"{float(value):.4f}" for value in mastering.luminance)
            parts.append(f"mastering-display=G{green}B{blue}R{red}WP{white}L({high},{low})")
        if light:
            parts.append(f"content-light={light[0]},{light[1]}")
        return {"svtav1-params": ":".join(parts)}
    return {}


def keeps_hdr_metadata(name: str) -> bool:
    """Return whether an encoder can write mastering display and content light level."""
    return name in ("libx264", "libx265", "libsvtav1")


def coded_size(size: tuple[int, int], pixel_format: str) -> tuple[int, int]:
    """Return (width, height) rounded up to what the pixel format needs."""
    across, down = needs_even(pixel_format)
    return -(-size[0] // across) * across, -(-size[1] // down) * down


def needs_even(pixel_format: str) -> tuple[int, int]:
    """Return the (width, height) multiples that a pixel format needs."""
    across, down = chroma_shift(pixel_format)
    return 1 << across, 1 << down
