"""Pictures as a video: numbered ones, and animations. They hold nothing but pictures."""

from __future__ import annotations

from apisr.video.containers.base import Container


def _pictures(muxer: str) -> Container:
    nothing: frozenset[str] = frozenset()
    return Container(muxer, frozenset({"ffv1"}), nothing, nothing, default_video="ffv1", pictures_only=True)


#: Numbered pictures (``frames/%05d.png``).
PICTURES = _pictures("image2")
ENTRIES = {".gif": _pictures("gif"), ".webp": _pictures("webp"), ".apng": _pictures("apng")}
