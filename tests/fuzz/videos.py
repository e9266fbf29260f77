"""Small valid videos of every container, and the run that damages them."""

from __future__ import annotations

import functools
import re
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from .child import Outcome
from .damage import Figures, fuzz_seeds

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from video_clips import make_clip

FRAMES = 12


def fuzz_videos(count: int, *, seed: int = 0, memory_mb: int = 2048, keep: Path | None = None) -> Figures:
    """Damage the seeds and read each result in a child with a memory limit.

    Args:
        count: how many files.
        seed: of all draws; the same seed gives the same files.
        memory_mb: limit of address space of the child.
        keep: a folder for the files that were neither read nor refused, and for those that lost frames in silence.

    Returns:
        The figures; a file that has fewer frames than its seed, and nothing that says so, counts as ``"silent loss"``.
    """
    return fuzz_seeds(valid_videos(), count, what="videos", seed=seed, memory_mb=memory_mb, keep=keep, kind_of=_kind_of)


def _kind_of(outcome: Outcome) -> str:
    frames = re.match(r"(\d+) frames.*problems: none", outcome.detail)
    lost = outcome.kind == "read" and frames is not None and int(frames.group(1)) < FRAMES
    return "silent loss" if lost else outcome.kind


@functools.cache
def valid_videos() -> dict[str, bytes]:
    """Return name -> content of small valid videos with :data:`FRAMES` frames, the same at every call."""
    plain: dict[str, Any] = {"frames": FRAMES, "options": {"g": "6", "threads": "1"}}
    clips: dict[str, dict[str, Any]] = {
        "mkv.mkv": {"audio": "libopus", "srt": True, "chapters": True, "cover": True, "font": b"\0\1\0\0" * 64},
        "mp4.mp4": {"audio": "aac", "chapters": True, "sar": Fraction(8, 9)},
        "webm.webm": {"codec": "libvpx-vp9", "audio": "libopus", "options": {"g": "6", "deadline": "realtime"}},
        "avi.avi": {"codec": "mpeg4", "audio": "libmp3lame", "options": {"g": "6", "qmin": "4", "qmax": "4"}},
        "ts.ts": {"codec": "mpeg2video", "audio": "mp2", "options": {"g": "6", "bf": "2"}},
        "ffv1.mkv": {"codec": "ffv1", "size": (48, 32), "options": {"level": "3", "slicecrc": "1", "g": "1"}},
        "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "options": {"profile": "proxy"}},
        "raw.h264": {"format": "h264"},
        "nut.nut": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}},
    }
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as folder:
        made = {name: make_clip(Path(folder) / name, **{**plain, **settings}) for name, settings in clips.items()}
        return {name: path.read_bytes() for name, path in made.items()}
