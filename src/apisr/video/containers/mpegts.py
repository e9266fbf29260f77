"""Transport streams: of broadcasts (.ts) and of Blu-ray discs (.m2ts)."""

from __future__ import annotations

from apisr.video.containers.base import Container

# What Blu-ray numbers its streams by; anything else would be written as private data that no one can read back.
_BLU_RAY = Container(
    "mpegts",
    video=frozenset({"h264", "hevc", "mpeg2video"}),
    audio=frozenset({"pcm_bluray", "ac3", "eac3", "dts", "truehd"}),
    subtitle=frozenset({"hdmv_pgs_subtitle"}),
    options=(("mpegts_copyts", "1"), ("mpegts_m2ts_mode", "1")),
)
ENTRIES = {
    ".ts": Container(
        "mpegts",
        video=frozenset({"h264", "hevc", "mpeg2video", "mpeg1video", "mpeg4", "vvc"}),
        audio=frozenset({"aac", "aac_latm", "mp2", "mp3", "mp1", "ac3", "eac3", "dts", "truehd", "opus", "s302m"}),
        subtitle=frozenset({"dvb_subtitle"}),
        data=frozenset({"timed_id3", "klv", "scte_35"}),
        options=(("mpegts_copyts", "1"),),
    ),
    ".m2ts": _BLU_RAY,
    ".mts": _BLU_RAY,
}
