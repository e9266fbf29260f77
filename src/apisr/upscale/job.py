"""One file to upscale: the job, what it needs, and what is reported of it."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from apisr.core.errors import ApisrError, Cancelled, RunError
from apisr.core.files import write_error
from apisr.core.media import LeftOut
from apisr.core.memory import is_out_of_memory
from apisr.core.progress import Cancel, Progress, ProgressFn, ProgressKind
from apisr.core.text import printable
from apisr.upscale.models import Networks
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.results import JobResult, Kind, Status


@dataclass(frozen=True)
class Job:
    """One file to upscale.

    Attributes:
        source: the file, or a pattern for numbered pictures.
        target: the output.
        kind: what the source is.
        default_name: whether the name of the output was made here and not given.
    """

    source: Path
    target: Path
    kind: Kind
    default_name: bool = False


@dataclass(frozen=True)
class JobPlan:
    """What a run is to do.

    Attributes:
        jobs: one per file.
        left_out: files of searched folders that are not taken, and why.
    """

    jobs: tuple[Job, ...]
    left_out: dict[Path, LeftOut] = field(default_factory=dict["Path", "LeftOut"])


@dataclass(frozen=True)
class JobContext:
    """What a job needs besides its files.

    Attributes:
        options: of the run.
        networks: the models, loaded once.
        progress: takes events about the job.
        cancel: stops it.
    """

    options: UpscaleOptions
    networks: Networks
    progress: ProgressFn
    cancel: Cancel


class JobReport:
    """Turns what happens to one job into progress events; the first one is sent at once.

    Args:
        job: the job.
        index: its number, from 1.
        count: number of all jobs.
        progress: takes the events; their unit is ``pixels`` for pictures and ``frames`` for videos.
    """

    def __init__(self, job: Job, index: int, count: int, progress: ProgressFn) -> None:
        self._job = job
        self._index = index
        self._count = count
        self._progress = progress
        self._began = time.monotonic()
        self._said: set[str] = set()
        self._send("started")

    def advanced(self, done: float, total: float | None) -> None:
        """Report that so much of the job is done."""
        self._send("advanced", done=done, total=total)

    def forward(self, event: Progress) -> None:
        """Pass on an event of the work on this job."""
        known = {"item": str(self._job.source), "index": self._index, "count": self._count}
        self._progress(replace(event, **known))

    def notice(self, message: str) -> None:
        """Report a sentence that the user should know, once."""
        if message in self._said:
            return
        self._said.add(message)
        self._send("notice", message=message)

    def ended(self, result: JobResult) -> JobResult:
        """Report the end; return the result with the time that it took."""
        result = result.model_copy(update={"seconds": round(time.monotonic() - self._began, 3)})
        for notice in result.notices:
            self.notice(notice)
        self._send("ended", message=result.line())
        return result

    def _send(self, kind: ProgressKind, *, done: float = 0.0, total: float | None = None, message: str = "") -> None:
        unit = "pixels" if self._job.kind == "picture" else "frames"
        self._progress(
            Progress("upscale", kind, str(self._job.source), self._index, self._count, done, total, unit, message)
        )


def job_result(job: Job, status: Status, **details: object) -> JobResult:
    """Return a result of a job."""
    known = {"source": job.source, "target": job.target, "kind": job.kind, "status": status}
    return JobResult.model_validate({**known, **details})


def failed_result(job: Job, error: Exception) -> JobResult:
    """Return the result of a job that ended in an error."""
    if isinstance(error, Cancelled):
        result = job_result(job, "cancelled", message=str(error), code=error.code, exit_code=error.exit_code)
    elif isinstance(error, ApisrError):
        result = job_result(job, "failed", message=str(error), code=error.code, exit_code=error.exit_code)
    elif is_out_of_memory(error):
        name = printable(job.source)
        message = f"'{name}' needs more memory than there is. Take smaller pieces (--tile) or a smaller output."
        result = job_result(job, "failed", message=message, code="out-of-memory", exit_code=RunError.exit_code)
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        name = error.filename if isinstance(error.filename, (str, bytes)) else job.target
        known = write_error(error, Path(os.fsdecode(name)))
        result = job_result(job, "failed", message=str(known), code=known.code, exit_code=known.exit_code)
    elif isinstance(error, OSError) and type(error).__module__ == "builtins":  # libav's are none of the file system
        message = f"'{printable(job.source)}': cannot use {_file_of(error)}: {error.strerror or error}."
        result = job_result(job, "failed", message=message, code="system", exit_code=RunError.exit_code)
    else:
        message = f"'{printable(job.source)}': unexpected {type(error).__name__}: {error}".replace("\n", " ")
        result = job_result(job, "failed", message=message, code="unexpected", exit_code=RunError.exit_code)
    return result.with_error(error)


def _file_of(error: OSError) -> str:
    return f"'{printable(os.fsdecode(error.filename))}'" if isinstance(error.filename, (str, bytes)) else "a file"
