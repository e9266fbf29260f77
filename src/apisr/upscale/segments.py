"""Crash-safe work on a video: segments, the manifest that describes them, and what may be continued.

A video is planned as segments that begin at keyframes of the source. Each is upscaled into a file of its own, in a
folder beside the output, under a partial name until it is complete. The folder holds a manifest of everything that
decides the result (source hash, settings, model). Starting the same command again after an interruption takes over the
complete segments. If anything differs the work is refused with the difference named, never mixed.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apisr.core.errors import InputError, RunError
from apisr.upscale.options import SEGMENT_FRAMES
from apisr.video.index import PacketIndex
from apisr.video.writer import EncodedSegment

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Span:
    """A part of a video: frames with ``start <= pts < end`` (None: no bound).

    Attributes:
        number: position among the spans.
        start: first time stamp.
        end: time stamp to stop before.
        frames: how many packets fall into it.
    """

    number: int
    start: int | None
    end: int | None
    frames: int


def plan_spans(
    index: PacketIndex, *, start: int | None = None, end: int | None = None, frames: int = SEGMENT_FRAMES
) -> tuple[Span, ...]:
    """Cut a video into spans of at least `frames` frames that begin at keyframes.

    The spans cover ``[start, end)`` without gap or overlap; leading pictures of an open group, which are stored after
    their keyframe and shown before it, fall to the span before it.

    >>> from fractions import Fraction
    >>> index = PacketIndex(np.arange(10), np.ones(10, int), np.array([0, 4, 8]), Fraction(24), False, True)
    >>> [(span.start, span.end, span.frames) for span in plan_spans(index, frames=4)]
    [(None, 4, 4), (4, None, 6)]
    """
    times = index.pts
    low = 0 if start is None else int(np.searchsorted(times, start))
    high = times.size if end is None else int(np.searchsorted(times, end))
    cuts: list[int] = []
    if index.has_timestamps:
        last = low
        for key in index.keyframes:
            position = int(np.searchsorted(times, key))
            if position - last >= frames and high - position >= frames:
                cuts.append(int(key))
                last = position
    bounds: list[int | None] = [start, *cuts, end]
    positions = [low, *(int(np.searchsorted(times, cut)) for cut in cuts), high]
    return tuple(
        Span(number, bounds[number], bounds[number + 1], positions[number + 1] - positions[number])
        for number in range(len(bounds) - 1)
    )


class WorkFolder:
    """The folder of segments beside an output.

    Args:
        target: the output; the folder is named after it.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.stem}.partial.segments")
        self._manifest = self.path / "manifest.json"
        self._lock = self.path / "lock"
        self._locked = False

    def open(
        self, settings: dict[str, Any], spans: Sequence[Span], *, restart: bool = False
    ) -> dict[int, EncodedSegment]:
        """Make or take over the folder.

        Args:
            settings: everything that decides the result; must survive JSON.
            spans: the plan.
            restart: throw away what is there.

        Returns:
            The complete segments by number.

        Raises:
            InputError: another process works there, or what is there was made with other settings.
        """
        if restart and self.path.exists():
            self._refuse_if_locked()
            shutil.rmtree(self.path)
        wanted = {
            "version": MANIFEST_VERSION,
            **settings,
            "spans": [[span.start, span.end, span.frames] for span in spans],
        }
        wanted = json.loads(json.dumps(wanted))
        if self._manifest.exists():
            self._refuse_if_locked()
            found = _read_json(self._manifest)
            differences = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
            if differences:
                key = next((name for name in differences if name != "spans"), differences[0])
                raise InputError(
                    f"'{self.path.name}' holds an interrupted run with another {key} "
                    f"({_shown(found.get(key))}, now {_shown(wanted.get(key))}). "
                    "Use the same settings to continue it, or add --restart to throw it away."
                )
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            _write_text(self._manifest, json.dumps(wanted, indent=1))
        self._take_lock()
        return {span.number: segment for span in spans if (segment := self._complete(span.number)) is not None}

    def video_path(self, number: int) -> Path:
        """Return where the video of a segment is."""
        return self.path / f"{number:05d}.segment"

    def partial_path(self, number: int) -> Path:
        """Return where a segment is written until it is complete."""
        return self.path / f"{number:05d}.partial"

    def commit(self, number: int, segment: EncodedSegment) -> None:
        """Make a written segment count: its description first to disk, then the rename."""
        _write_text(self.path / f"{number:05d}.json", segment.to_json())
        self.partial_path(number).replace(self.video_path(number))

    def segment(self, number: int) -> EncodedSegment:
        """Return a complete segment.

        Raises:
            RunError: it is not there or damaged.
        """
        found = self._complete(number)
        if found is None:
            raise RunError(f"segment {number} in '{self.path}' is missing or damaged. Run the command again.")
        return found

    def finished(self) -> list[int]:
        """Return the numbers of complete segments."""
        return sorted(int(path.stem) for path in self.path.glob("[0-9][0-9][0-9][0-9][0-9].segment"))

    def release(self) -> None:
        """Give up the lock; remove the folder if it holds no finished segment."""
        if self._locked:
            self._lock.unlink(missing_ok=True)
            self._locked = False
        if self.path.is_dir() and not self.finished():
            shutil.rmtree(self.path)

    def remove(self) -> None:
        """Remove the folder (after success)."""
        self._locked = False
        shutil.rmtree(self.path, ignore_errors=True)

    def _complete(self, number: int) -> EncodedSegment | None:
        video, described = self.video_path(number), self.path / f"{number:05d}.json"
        if not video.exists() or not described.exists():
            return None
        try:
            segment = EncodedSegment.from_json(described.read_text())
        except (ValueError, KeyError, TypeError):
            return None
        return segment if video.stat().st_size == segment.size_bytes else None

    def _refuse_if_locked(self) -> None:
        if not self._lock.exists():
            return
        try:
            host, pid = self._lock.read_text().split()
        except (OSError, ValueError):
            return
        if host == platform.node() and int(pid) != os.getpid() and _alive(int(pid)):
            raise InputError(
                f"another run (process {pid}) is working on '{self.path.name}'. Wait for it or stop it first."
            )

    def _take_lock(self) -> None:
        self._lock.write_text(f"{platform.node()} {os.getpid()}")
        self._locked = True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OSError):
        return True
    return True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, OSError, TypeError):
        return {}


def _write_text(path: Path, text: str) -> None:
    partial = path.with_suffix(".writing")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= 60 else f"{text[:57]}..."
