"""AVI: what it carries, and the size that its header declares."""

from __future__ import annotations

from pathlib import Path

from apisr.video.containers.base import Container

ENTRIES = {
    ".avi": Container(
        "avi",
        video=frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "ffv1", "huffyuv", "ffvhuff"}),
        audio=frozenset(
            {
                *("mp3", "mp2", "ac3", "dts", "aac", "wmav1", "wmav2", "wmapro", "adpcm_ms", "adpcm_ima_wav"),
                *("gsm_ms", "flac", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_u8", "pcm_f32le", "pcm_alaw"),
                "pcm_mulaw",
            }
        ),
        subtitle=frozenset(),
        variable_rate=False,
    )
}


def declared_end(path: Path) -> int | None:
    """Return the offset at which the first RIFF chunk says that it ends, None if it does not say."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:8], "little")
    return size + 8 if size else None
