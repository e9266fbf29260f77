"""What became of a run: the models that the functions return and that ``--json`` prints.

>>> result = PictureResult(
...     source="a.png", target="a_x2.png", size=(4, 3), output_size=(8, 6), frames=1, model="apisr-x2"
... )
>>> result.model_dump(mode="json")["output_size"]
[8, 6]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from apisr.core.media import LeftOut

if TYPE_CHECKING:
    from apisr.weights import Model

Kind = Literal["picture", "video"]
Status = Literal["done", "skipped", "failed", "cancelled"]


class _Counters:
    """Numbers that several workers count and that are added up."""

    def add(self, other: Self) -> None:
        """Count another part of the work too."""
        for counter in fields(self):  # type: ignore[arg-type]
            setattr(self, counter.name, getattr(self, counter.name) + getattr(other, counter.name))


@dataclass
class ReuseStats(_Counters):
    """How much work exact reuse saved.

    Attributes:
        frames: frames delivered.
        total_px: input pixels of all frames.
        computed_px: input pixels that went through the network, halos included.
        changed_px: input pixels whose output could differ from the canvas (before the store was asked).
        whole_frames: frames that were delivered without any work.
    """

    frames: int = 0
    total_px: int = 0
    computed_px: int = 0
    changed_px: int = 0
    whole_frames: int = 0

    @property
    def computed_share(self) -> float:
        """Pixels put through the network over pixels of all frames; above 1 where halos cost more than was saved."""
        return self.computed_px / self.total_px if self.total_px else 0.0


@dataclass
class HoldStats(_Counters):
    """What the hold filter did.

    Attributes:
        frames: frames delivered.
        blocks: blocks of all frames.
        held_blocks: blocks whose input differed from the frame before, or from the canonical block, and was held.
        new_blocks: blocks that got a new canonical content.
        returned_blocks: blocks that got an earlier canonical content back.
        whole_frames: frames delivered with exactly the pixels of the frame before.
        shots: new shots begun.
        returned_shots: times an earlier shot came back.
    """

    frames: int = 0
    blocks: int = 0
    held_blocks: int = 0
    new_blocks: int = 0
    returned_blocks: int = 0
    whole_frames: int = 0
    shots: int = 0
    returned_shots: int = 0


@dataclass
class StageSeconds(_Counters):
    """Busy seconds of each stage of a video; `total` is the time by the clock of the whole."""

    decode: float = 0.0
    upscale: float = 0.0
    encode: float = 0.0
    join: float = 0.0
    total: float = 0.0


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PictureResult(_Result):
    """What became of one picture.

    Attributes:
        source: the file read.
        target: the file written.
        model: name of the network.
        size: width and height of the input.
        output_size: width and height of the output.
        frames: 1, or the number of frames of an animation.
        notices: what the user should know.
    """

    kind: Literal["picture"] = "picture"
    source: Path
    target: Path
    model: str = ""
    size: tuple[int, int]
    output_size: tuple[int, int]
    frames: int
    notices: tuple[str, ...] = ()


class VideoResult(_Result):
    """What became of one video.

    Attributes:
        source: the file read.
        target: the file written.
        model: name of the network.
        size: width and height of the source.
        output_size: width and height of the output.
        frames_in: frames decoded.
        frames_out: frames in the output, counted there.
        duration_s: from the first frame to the end of the last, in the output.
        size_bytes: of the output.
        seconds: where the time went.
        resumed_frames: how many frames an earlier, interrupted run had done.
        reuse: what exact reuse saved, over all workers.
        hold: what the hold filter did, over all segments made now; None where it was off.
        notices: what the user should know.
    """

    kind: Literal["video"] = "video"
    source: Path
    target: Path
    model: str = ""
    size: tuple[int, int]
    output_size: tuple[int, int]
    frames_in: int
    frames_out: int
    duration_s: float
    size_bytes: int
    seconds: StageSeconds = Field(default_factory=StageSeconds)
    resumed_frames: int = 0
    reuse: ReuseStats = Field(default_factory=ReuseStats)
    hold: HoldStats | None = None
    notices: tuple[str, ...] = ()


class JobResult(_Result):
    """What became of one job.

    Attributes:
        source: the file to read.
        target: the file to write.
        kind: what the source is.
        status: done, skipped (the output exists), failed, or cancelled.
        seconds: time by the clock.
        message: why it failed or was skipped.
        code: stable name of the error, empty if there was none.
        exit_code: 0, or that of the error.
        result: details of a finished picture or video.
    """

    source: Path
    target: Path
    kind: Kind
    status: Status
    seconds: float = 0.0
    message: str = ""
    code: str = ""
    exit_code: int = 0
    result: Annotated[PictureResult | VideoResult, Field(discriminator="kind")] | None = None
    _error: Exception | None = PrivateAttr(default=None)

    @property
    def error(self) -> Exception | None:
        """The error of a failed job, for its traceback; it is not printed with the result."""
        return self._error

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know of a finished job."""
        return self.result.notices if self.result is not None else ()

    def with_error(self, error: Exception) -> JobResult:
        """Return the result with the error that it comes from."""
        copy = self.model_copy()
        copy._error = error
        return copy

    def line(self) -> str:
        """Say in one line what became of the job."""
        if self.status == "done":
            return f"done    {self.source} -> {self.target} ({self.seconds:.1f} s)"
        if self.status == "skipped":
            return f"skipped {self.source}: {self.message} ({self.target})"
        return f"{self.status:7} {self.source}"


class ModelSummary(_Result):
    """Which network was used."""

    name: str
    scale: int
    sha256: str

    @classmethod
    def of(cls, model: Model) -> ModelSummary:
        """Return the summary of a model."""
        return cls(name=model.name, scale=model.scale, sha256=model.sha256)


class RunReport(_Result):
    """What became of all files of a run.

    Attributes:
        models: the networks that were used.
        seconds: time by the clock.
        files: one result per file.
        left_out: files of searched folders that were not taken, and why.
    """

    models: tuple[ModelSummary, ...] = ()
    seconds: float = 0.0
    files: tuple[JobResult, ...] = ()
    left_out: dict[Path, LeftOut] = {}

    @property
    def exit_code(self) -> int:
        """0 if nothing failed; the error's own code for a single file; 1 for a batch with failures."""
        return exit_code_of(self.files)


def exit_code_of(results: Iterable[JobResult]) -> int:
    """Return 0 if nothing failed, the error's own code for a single file, 130 after a stop, 1 for a batch."""
    listed: Sequence[JobResult] = list(results)
    if any(result.status == "cancelled" for result in listed):
        return 130
    failed = [result for result in listed if result.status == "failed"]
    if not failed:
        return 0
    return failed[0].exit_code if len(listed) == 1 else 1
