"""What a run would do: the models that :func:`apisr.plan` returns and that ``apisr upscale --dry-run --json`` prints.

>>> JobEstimate(seconds=12_000, size_bytes=2_100_000_000).text
'about 3 h 20 min, 2.1 GB'
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from apisr.core.media import LeftOut
from apisr.upscale.results import JobResult, Kind


@dataclass(frozen=True)
class JobEstimate:
    """What a job is expected to take.

    Attributes:
        seconds: time by the clock.
        size_bytes: size of the output; of a video, that of its video stream.
    """

    seconds: float
    size_bytes: int

    @property
    def text(self) -> str:
        """For people: ``about 3 h 20 min, 2.1 GB``."""
        return f"about {_duration(self.seconds)}, {_size(self.size_bytes)}"

    def __add__(self, other: JobEstimate) -> JobEstimate:
        """Return the estimate of both."""
        return JobEstimate(self.seconds + other.seconds, self.size_bytes + other.size_bytes)


class PlannedFile(BaseModel):
    """What would become of one file.

    Attributes:
        source: the file to read.
        target: the file to write.
        kind: what the source is.
        existing: why nothing would be done where the output exists, else empty.
        model: name of the network.
        size: width and height of the source.
        output_size: width and height of the output.
        frames: 1, or the number of frames of a video or an animation.
        duration_s: from the first frame of a video to the end of the last.
        channels: of a picture.
        bits: of each channel of a picture.
        encoder: of a video.
        segments: parts in which a video is made.
        streams: what becomes of every other stream of a video.
        notices: what the user should know.
        memory_bytes: about how much memory is needed.
        estimate: time and size, where a part was tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    source: Path
    target: Path
    kind: Kind
    existing: str = ""
    model: str
    size: tuple[int, int]
    output_size: tuple[int, int]
    frames: int = 1
    duration_s: float | None = None
    channels: int | None = None
    bits: int | None = None
    encoder: str = ""
    segments: int | None = None
    streams: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    memory_bytes: int
    estimate: JobEstimate | None = None

    def lines(self) -> list[str]:
        """Say it for people: a line for the names, and an indented one for every detail."""
        size, output_size = (f"{width}x{height}" for width, height in (self.size, self.output_size))
        details = {
            "kind": self.kind,
            "existing": self.existing,
            "model": self.model,
            "size": f"{size} -> {output_size}",
            "channels": self.channels and f"{self.channels} of {self.bits} bit",
            "frames": self.frames if self.kind == "video" or self.frames > 1 else None,
            "duration": None if self.duration_s is None else f"{self.duration_s:.3f} s",
            "encoder": self.encoder,
            "segments": self.segments,
        }
        rows = [(name, value) for name, value in details.items() if value not in (None, "")]
        rows += [("streams", line) for line in self.streams] + [("notices", line) for line in self.notices]
        rows.append(("memory", f"about {self.memory_bytes / 2**20:.0f} MiB"))
        if self.estimate is not None:
            rows.append(("estimate", self.estimate.text))
        return [f"{self.source} -> {self.target}", *(f"    {name}: {value}" for name, value in rows)]


class UpscalePlan(BaseModel):
    """What a run would do.

    Attributes:
        files: one per file that can be upscaled, in order.
        failed: files of several that cannot be, with what the run would say of each.
        left_out: files of searched folders that are not taken, and why.
        estimate: time and size of all files that were tried, together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[PlannedFile, ...]
    failed: tuple[JobResult, ...] = ()
    left_out: dict[Path, LeftOut] = {}
    estimate: JobEstimate | None = None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 100 * size else f"{count / size:.0f} {unit}"
    return f"{count} bytes"
