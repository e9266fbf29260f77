"""The older video codecs of FFmpeg itself: MPEG-2, MPEG-4 part 2 and Motion JPEG, with one fixed quantizer."""

from __future__ import annotations

from apisr.degrade.codecs.base import CodecSettings, VideoCodec, taken


def _fixed_quantizer(settings: CodecSettings) -> dict[str, str]:
    # Both ends of the range at one value, and no other factor for I-frames: the same as `-q:v` of the ffmpeg program.
    quantizer = str(int(taken(settings, "quantizer", None, 1, 31)))
    return {"qmin": quantizer, "qmax": quantizer, "i_qfactor": "1"}


#: Name -> codec; each takes `quantizer` (1 to 31).
CODECS = {
    "mpeg2": VideoCodec("mpeg2video", "mpeg2video", _fixed_quantizer),
    "mpeg4": VideoCodec("mpeg4", "mpeg4", _fixed_quantizer),
    "mjpeg": VideoCodec("mjpeg", "mjpeg", _fixed_quantizer, pixel_format="yuvj420p"),
}
