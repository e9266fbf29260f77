"""VP9 (libvpx) and AV1 (SVT-AV1, decoded by dav1d)."""

from __future__ import annotations

import os

from apisr.degrade.codecs.base import CodecSettings, VideoCodec, taken


def _vp9(settings: CodecSettings) -> dict[str, str]:
    crf, speed = taken(settings, "crf", None, 0, 63), taken(settings, "speed", 5, 0, 8)
    return {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": str(speed)}


def _svt_av1(settings: CodecSettings) -> dict[str, str]:
    os.environ.setdefault("SVT_LOG", "1")  # the only way to keep this encoder from writing a page to standard error
    crf, preset = taken(settings, "crf", None, 1, 63), taken(settings, "preset", 8, 0, 13)
    return {"crf": str(crf), "preset": str(preset), "svtav1-params": "lp=1"}


#: Name -> codec. vp9 takes `crf` (0 to 63) and `speed` (0 to 8); av1 takes `crf` (1 to 63) and `preset` (0 to 13).
CODECS = {
    "vp9": VideoCodec("libvpx-vp9", "vp9", _vp9),
    "av1": VideoCodec("libsvtav1", "libdav1d", _svt_av1, smallest_px=64, realtime=True),
}
