"""Small valid videos of every container, and the run that damages them."""

from __future__ import annotations

import functools
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from .child import decode_in_children
from .mutate import mutate
from .pictures import Figures

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
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="fuzz-videos-") as folder:
        files = _files(count, seed, Path(folder))
        for outcome in decode_in_children(files, memory_mb=memory_mb, what="videos"):
            kind = outcome.kind
            frames = re.match(r"(\d+) frames.*problems: none", outcome.detail)
            if kind == "read" and frames is not None and int(frames.group(1)) < FRAMES:
                kind = "silent loss"
            figures.counts[outcome.path.name.split("-")[0], kind] += 1
            if kind not in ("read", "refused", "silent loss"):
                figures.bad.append(outcome)
            if keep is not None and kind not in ("read", "refused"):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / outcome.path.name).write_bytes(outcome.path.read_bytes())
            outcome.path.unlink()
    return figures


def _files(count: int, seed: int, folder: Path) -> Iterator[Path]:
    seeds = valid_videos()
    names = sorted(seeds)
    for number in range(count):
        name = names[number % len(names)]
        draw = random.Random(f"{seed} {number} {name}")
        kind, _, suffix = name.rpartition(".")
        path = folder / f"{kind}-{number}.{suffix}"
        path.write_bytes(mutate(seeds[name], draw))
        yield path


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
