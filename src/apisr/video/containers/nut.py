"""NUT: libav's own format, which carries everything that libav knows."""

from __future__ import annotations

from apisr.video.containers.base import Container

ENTRIES = {".nut": Container("nut", video=None, audio=None, subtitle=frozenset(), chapters=True)}
