"""H.264 (x264) and H.265 (x265)."""

from __future__ import annotations

from apisr.core.errors import InputError
from apisr.degrade.codecs.base import CodecSettings, VideoCodec, taken

#: Effort levels of x264 and x265.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


def _x264(settings: CodecSettings) -> dict[str, str]:
    crf = str(taken(settings, "crf", None, 0, 51))
    return {"crf": crf, "preset": _preset(settings), "flags": "+global_header"}


def _x265(settings: CodecSettings) -> dict[str, str]:
    quiet = "pools=none:frame-threads=1:wpp=0:log-level=none"  # no thread pool to start for one frame; same decisions
    crf = str(taken(settings, "crf", None, 0, 51))
    return {"crf": crf, "preset": _preset(settings), "x265-params": quiet, "flags": "+global_header"}


def _preset(settings: CodecSettings) -> str:
    preset = settings.pop("preset", "medium")
    if preset not in PRESETS:
        raise InputError(f"unknown preset '{preset}'. Use one of {', '.join(PRESETS)}.", code="codec-setting-range")
    return str(preset)


#: Name -> codec; each takes `crf` (0 to 51) and `preset`.
CODECS = {
    "h264": VideoCodec("libx264", "h264", _x264),
    "h265": VideoCodec("libx265", "hevc", _x265, smallest_px=32),
}
