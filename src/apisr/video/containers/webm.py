"""WebM: the part of Matroska that browsers play."""

from __future__ import annotations

from apisr.video.containers.base import Container

ENTRIES = {
    ".webm": Container(
        "webm",
        video=frozenset({"vp8", "vp9", "av1"}),
        audio=frozenset({"vorbis", "opus"}),
        subtitle=frozenset({"webvtt"}),
        chapters=True,
        default_video="libvpx-vp9",
    )
}
