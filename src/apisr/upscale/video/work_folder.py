"""Crash-safe work on a video: the folder of segments, the record that describes them, and what may be continued.

Each segment is made in a file of its own, in a folder beside the output, under a partial name until it is complete. A
record holds everything that decides the result (source hash, settings, model), and the SHA-256 of every complete
segment. Starting the same command again after an interruption takes over the complete segments. If anything differs the
work is refused with the difference named, never mixed. A lock keeps two runs from working on one output at once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from apisr.core.errors import InputError, RunError
from apisr.core.files import name_with, sha256_file, write_atomic
from apisr.core.locks import HeldLock, take_lock
from apisr.core.text import parse_json
from apisr.upscale.video.cuts import Segment
from apisr.video.writer import EncodedSegment

RECORD_VERSION = 2
#: What a name of a work folder ends with; searches for media pass over such folders.
FOLDER_SUFFIX = ".partial.segments"
#: What may stand in a record: it survives JSON.
Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]

_RECORD, _LOCK = "record.json", "lock"
#: Names that a run gives to files in its folder.
_OWN = re.compile(
    r"(\d{5,}|record)(\.partial)?\.(segment|partial|json)|\d{5,}\.partial|\d{8,}\.picture(\.partial)?\.\w+"
)


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
            InputError: another run works there, what is there is not of a run with these settings.
        """
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise InputError(
                f"'{self.path}' is no folder of an interrupted run. Remove it, or give another name.",
                code="work-folder-foreign",
            )
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
            if _read(self.path / _RECORD):
                self._check_same(record)
            else:  # none, or a damaged one, of which nobody knows what it described
                self._empty()
                _write(self.path / _RECORD, record)
            complete = {segment.number: self._verified(segment) for segment in segments}
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

    def picture_path(self, number: int, suffix: str) -> Path:
        """Return where a numbered picture is until all of them are complete."""
        return self.path / f"{number:08d}.picture{suffix}"

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
        if self.finished():
            self._lock.release()
            self._lock = None
        else:
            self.remove()

    def remove(self) -> None:
        """Remove what a run puts there (after success), the folder if nothing else is in it, and give up the lock.

        The record goes first: what a kill leaves of a folder without one is of no use to any run.
        """
        with contextlib.suppress(OSError):
            (self.path / _RECORD).unlink(missing_ok=True)
            self._empty()
        for released in (False, True):  # a locked file cannot be removed everywhere
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink()
                self.path.rmdir()
            if not released and self._lock is not None:
                self._lock.release()
                self._lock = None

    def remove_useless(self) -> None:
        """Remove what a run left that was killed while it removed the folder; a folder with a record stays."""
        record = self.path / _RECORD
        with contextlib.suppress(OSError, InputError):
            if self.path.is_symlink() or not self.path.is_dir() or record.exists():
                return
            self._lock = take_lock(self.path / _LOCK, busy="another run works there.")
            if record.exists():
                self._lock.release()
            else:
                self.remove()

    def __reduce__(self) -> tuple[type[WorkFolder], tuple[Path]]:
        """Travel to another process without the lock."""
        return WorkFolder, (self.path,)

    def _empty(self) -> None:
        """Remove what a run puts there, and nothing else."""
        for path in self.path.iterdir():
            if _OWN.fullmatch(path.name):
                if path.is_dir() and not path.is_symlink():
                    raise InputError(
                        f"'{path}' is a folder, which no run makes. Remove it, or give another name.",
                        code="work-folder-foreign",
                    )
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
            digest = str(parse_json(text)["sha256"])
            segment = EncodedSegment.from_json(text)
        except (ValueError, KeyError, TypeError, OSError):
            return None
        if not video.is_file() or video.is_symlink():
            return None
        return (segment, digest) if video.stat().st_size == segment.size_bytes else None

    def _verified(self, segment: Segment) -> EncodedSegment | None:
        """Return a complete segment whose content is what was written, and is of this part of the video."""
        video = self.video_path(segment.number)
        described = self._described(segment.number)
        if described is None or not _fits(described[0], segment) or sha256_file(video) != described[1]:
            if video.is_dir() and not video.is_symlink():
                raise InputError(f"'{video}' is a folder, which no run makes. Remove it.", code="work-folder-foreign")
            video.unlink(missing_ok=True)
            return None
        return described[0]


def _fits(made: EncodedSegment, segment: Segment) -> bool:
    """Return whether the times of a segment are those of this part: increasing, and within its bounds."""
    times = made.pts
    ordered = all(before < after for before, after in itertools.pairwise(times))
    early = segment.start is not None and bool(times) and times[0] < segment.start
    late = segment.end is not None and bool(times) and times[-1] >= segment.end
    return ordered and not early and not late and len(made.durations) == len(times)


def first_difference(before: Value, now: Value, name: str = "") -> tuple[str, str, str] | None:
    """Return (name, earlier value, present value) of the first setting that differs, as deep as it can be named.

    >>> first_difference({"encoder": {"crf": 16}}, {"encoder": {"crf": 18}})
    ('crf', '16', '18')
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        earlier, present = cast("Mapping[str, Value]", before), cast("Mapping[str, Value]", now)
        keys = sorted({*earlier, *present}, key=lambda key: (key == "segments", key != "source", key))
        for key in keys:
            found = first_difference(earlier.get(key), present.get(key), key)
            if found is not None:
                return found
        return None
    return None if before == now else (name, *_shown(before, now))


def _read(path: Path) -> dict[str, Value]:
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (ValueError, OSError, TypeError):
        return {}


def _write(path: Path, content: Mapping[str, Value]) -> None:
    write_atomic(path, json.dumps(content, indent=1).encode(), overwrite=True)


def _shown(before: Value, now: Value) -> tuple[str, str]:
    """Return two values as texts of at most 60 letters in which their difference can be seen.

    >>> _shown("a" * 99 + "b", "a" * 99 + "c")
    ('...aaab', '...aaac')
    """
    first, second = (value if isinstance(value, str) else json.dumps(value) for value in (before, now))
    if max(len(first), len(second)) <= 60:
        return first, second
    pairs = enumerate(zip(first, second, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))
    return _cut(first, same), _cut(second, same)


def _cut(text: str, same: int) -> str:
    shown = f"...{text[same - 3 :]}" if same > 3 else text
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
