"""Crash-safe work on a video: the folder of segments, the record that describes them, and what may be continued.

Each segment is made in a file of its own, in a folder beside the output, under a partial name until it is complete. A
record holds everything that decides the result (source hash, settings, model), and the SHA-256 of every complete
segment. Starting the same command again after an interruption takes over the complete segments. If anything differs the
work is refused with the difference named, never mixed. A lock keeps two runs from working on one output at once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from apisr.core.errors import InputError, RunError
from apisr.core.files import name_with, sha256_file, write_atomic
from apisr.core.locks import HeldLock, take_lock
from apisr.upscale.video.cuts import Segment
from apisr.video.writer import EncodedSegment

RECORD_VERSION = 2
#: What a name of a work folder ends with; searches for media pass over such folders.
FOLDER_SUFFIX = ".partial.segments"
#: What may stand in a record: it survives JSON.
Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]

_RECORD, _LOCK = "record.json", "lock"


@dataclass
class WorkFolder:
    """The folder of segments beside an output.

    Attributes:
        path: the folder; it is named after the whole name of the output.
    """

    path: Path
    _lock: HeldLock | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def beside(cls, target: Path) -> WorkFolder:
        """Return the folder of an output (it need not exist)."""
        return cls(target.with_name(name_with(target.name, FOLDER_SUFFIX)))

    def open(
        self, settings: Mapping[str, Value], segments: Sequence[Segment], *, restart: bool = False
    ) -> dict[int, EncodedSegment]:
        """Make or take over the folder, and lock it until :meth:`close`.

        Args:
            settings: everything that decides the result.
            segments: the plan.
            restart: throw away what is there.

        Returns:
            The complete segments by number; those that were changed since they were made are not among them.

        Raises:
            InputError: another run works there, or what is there was made with other settings.
        """
        self._lock = take_lock(
            self.path / _LOCK,
            busy=f"another run is working on '{self.path.name.removesuffix(FOLDER_SUFFIX)}'. "
            "Wait for it or stop it first.",
            code="work-folder-busy",
        )
        try:
            if restart:
                self._empty()
            bounds = [[segment.start, segment.end, segment.frames] for segment in segments]
            record = json.loads(json.dumps({"version": RECORD_VERSION, **settings, "segments": bounds}))
            if (self.path / _RECORD).exists():
                self._check_same(record)
            else:
                self._empty()
                _write(self.path / _RECORD, record)
            complete = {segment.number: self._verified(segment.number) for segment in segments}
        except BaseException:
            self.close()
            raise
        return {number: found for number, found in complete.items() if found is not None}

    def settings(self) -> Mapping[str, Value]:
        """Return what decided the result of an interrupted run; nothing where there is none."""
        return _read(self.path / _RECORD)

    def video_path(self, number: int) -> Path:
        """Return where the video of a segment is."""
        return self.path / f"{number:05d}.segment"

    def partial_path(self, number: int) -> Path:
        """Return where a segment is written until it is complete."""
        return self.path / f"{number:05d}.partial"

    def commit(self, number: int, segment: EncodedSegment) -> None:
        """Make a written segment count: its record first to disk, then the rename."""
        described = json.loads(segment.to_json())
        described["sha256"] = sha256_file(self.partial_path(number))
        _write(self._record_path(number), described)
        self.partial_path(number).replace(self.video_path(number))

    def segment(self, number: int) -> EncodedSegment:
        """Return a complete segment.

        Raises:
            RunError: it is not there or damaged.
        """
        described = self._described(number)
        if described is None:
            raise RunError(
                f"segment {number} in '{self.path}' is missing or damaged. Run the command again.", code="segment-lost"
            )
        return described[0]

    def finished(self) -> list[int]:
        """Return the numbers of complete segments."""
        return sorted(int(path.stem) for path in self.path.glob("[0-9][0-9][0-9][0-9][0-9].segment"))

    def close(self) -> None:
        """Give up the lock; remove the folder if it holds no finished segment."""
        if self._lock is None:
            return
        if not self.finished():
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        self._lock = None

    def remove(self) -> None:
        """Remove the folder (after success) and give up the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            shutil.rmtree(self.path, ignore_errors=True)  # where a locked file cannot be removed

    def __reduce__(self) -> tuple[type[WorkFolder], tuple[Path]]:
        """Travel to another process without the lock."""
        return WorkFolder, (self.path,)

    def _empty(self) -> None:
        for path in self.path.iterdir():
            if path.name != _LOCK:
                path.unlink()

    def _check_same(self, record: Mapping[str, Value]) -> None:
        earlier = _read(self.path / _RECORD)
        difference = first_difference(earlier, record)
        if difference is not None:
            name, before, now = difference
            raise InputError(
                f"an interrupted run of this output has another {name} ({before}, now {now}). "
                "Use the same settings to continue it, or add --restart to throw it away.",
                code="other-settings",
            )

    def _record_path(self, number: int) -> Path:
        return self.path / f"{number:05d}.json"

    def _described(self, number: int) -> tuple[EncodedSegment, str] | None:
        """Return the record of a segment and its hash if the file is there in its full size."""
        video, record = self.video_path(number), self._record_path(number)
        if not video.exists() or not record.exists():
            return None
        try:
            text = record.read_text(encoding="utf-8")
            digest = str(json.loads(text)["sha256"])
            segment = EncodedSegment.from_json(text)
        except (ValueError, KeyError, TypeError, OSError):
            return None
        return (segment, digest) if video.stat().st_size == segment.size_bytes else None

    def _verified(self, number: int) -> EncodedSegment | None:
        """Return a complete segment whose content is what was written."""
        described = self._described(number)
        if described is None or sha256_file(self.video_path(number)) != described[1]:
            self.video_path(number).unlink(missing_ok=True)
            return None
        return described[0]


def first_difference(before: Value, now: Value, name: str = "") -> tuple[str, str, str] | None:
    """Return (name, earlier value, present value) of the first setting that differs, as deep as it can be named.

    >>> first_difference({"encoder": {"crf": 16}}, {"encoder": {"crf": 18}})
    ('crf', '16', '18')
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        earlier, present = cast("Mapping[str, Value]", before), cast("Mapping[str, Value]", now)
        keys = sorted({*earlier, *present}, key=lambda key: (key == "segments", key))
        for key in keys:
            found = first_difference(earlier.get(key), present.get(key), key)
            if found is not None:
                return found
        return None
    return None if before == now else (name, _shown(before), _shown(now))


def _read(path: Path) -> dict[str, Value]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError, TypeError):
        return {}


def _write(path: Path, content: Mapping[str, Value]) -> None:
    write_atomic(path, json.dumps(content, indent=1).encode(), overwrite=True)


def _shown(value: Value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
