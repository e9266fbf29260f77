"""Many runs with the same options: what :func:`apisr.upscale` and :func:`apisr.plan` do, with the models kept.

>>> import apisr
>>> upscaler = apisr.Upscaler(apisr.UpscaleOptions(scale=2))
>>> upscaler.plan(["a.png", "ep.mkv"], "out", estimate=True).estimate.text    # doctest: +SKIP
'about 12 min, 310 MB'
>>> upscaler.model_for("ep.mkv")                                              # doctest: +SKIP
<apisr-x2-fast: x2 on openvino (cpu, bf16)>
>>> results = upscaler.run(["a.png", "ep.mkv"], "out")                        # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.core.errors import InputError
from apisr.core.media import media_kind
from apisr.core.progress import Cancel, ProgressFn, no_progress
from apisr.model import LoadedModel
from apisr.upscale.dry_run import DryRun
from apisr.upscale.existing import mark_of, model_of
from apisr.upscale.job import Job, JobContext, JobPlan
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.models import Networks
from apisr.upscale.options import PictureOptions, UpscaleOptions, VideoOptions
from apisr.upscale.provenance import carries_mark
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.sequence import is_sequence

if TYPE_CHECKING:
    from apisr.upscale.planned import UpscalePlan
    from apisr.upscale.results import JobResult

Inputs = str | Path | Sequence[str | Path]


class Upscaler:
    """Plans and upscales files with the same options; models and measurements are kept from call to call.

    Args:
        options: of all runs, or only those of pictures or of videos.
        model: from :func:`apisr.load`, a name, a file, or None for that of the options.
    """

    def __init__(
        self,
        options: UpscaleOptions | PictureOptions | VideoOptions | None = None,
        *,
        model: LoadedModel | str | Path | None = None,
    ) -> None:
        if isinstance(options, VideoOptions):
            options = UpscaleOptions(video=options)
        elif isinstance(options, PictureOptions):
            options = UpscaleOptions(picture=options)
        chosen = options or UpscaleOptions()
        opened = model.engine if isinstance(model, LoadedModel) else None
        if model is not None:
            chosen = replace(chosen, model=model.model if isinstance(model, LoadedModel) else model)
        self._options = chosen
        self._networks = Networks(chosen, None if opened is None else lambda _model: opened)
        self._dry_run = DryRun(chosen, self._networks, estimate=())
        self._trial = DryRun(chosen, self._networks, estimate=("picture", "video"))
        self._models: dict[tuple[Path, int], LoadedModel] = {}

    @property
    def options(self) -> UpscaleOptions:
        """Return the options of all runs, with the model."""
        return self._options

    def targets(self, inputs: Inputs, output: str | Path | None = None) -> dict[Path, Path]:
        """Return which file would become which, by their names alone; see :func:`apisr.upscale`.

        Raises:
            InputError: nothing to do, or the request makes no sense.
        """
        return {job.source: job.target for job in self._jobs(inputs, output).jobs}

    def plan(self, inputs: Inputs, output: str | Path | None = None, *, estimate: bool = False) -> UpscalePlan:
        """Return what a run would do; see :func:`apisr.plan`.

        Raises:
            InputError: nothing to do, an input cannot be read, or the request makes no sense.
        """
        return (self._trial if estimate else self._dry_run).describe_all(self._jobs(inputs, output))

    def model_for(self, source: str | Path) -> LoadedModel:
        """Load the model that a run takes for a file, chosen by its size and by how soft it is.

        Raises:
            InputError: the file cannot be read.
            ModelError: no model fits.
        """
        path = Path(source)
        key = (path, path.stat().st_mtime_ns if path.is_file() else 0)
        if key not in self._models:
            kind = "video" if is_sequence(path) else media_kind(path) or "picture"
            self._networks.expect(1)
            model = model_of(Job(path, path, kind), self._context())
            self._models[key] = LoadedModel(model, self._networks.engine(model))
        return self._models[key]

    def made_before(self, source: str | Path, outputs: Sequence[Path]) -> Path | None:
        """Return the first of some files that a run with these options would find made of a source, and skip.

        Args:
            source: a picture or video.
            outputs: files that are there.

        Raises:
            InputError: the source cannot be read.
            ModelError: no model fits.
            RunError: the source is no longer there.
        """
        if not outputs:
            return None
        path = Path(source)
        context = self._context()
        job = Job(path, outputs[0], media_kind(path) or "picture")
        mark = mark_of(job, context, model_of(job, context))
        return next((output for output in outputs if carries_mark(output, mark)), None)

    def run(
        self,
        inputs: Inputs,
        output: str | Path | None = None,
        *,
        progress: ProgressFn = no_progress,
        cancel: Cancel | None = None,
    ) -> list[JobResult]:
        """Upscale files; see :func:`apisr.upscale`.

        Raises:
            InputError: nothing to do, or the request makes no sense.
        """
        jobs = self._jobs(inputs, output).jobs
        return run_jobs(jobs, self._options, progress=progress, cancel=cancel, networks=self._networks)

    @staticmethod
    def discard(output: str | Path) -> None:
        """Remove the segments that an interrupted run keeps beside its output, if nobody will go on with them.

        Raises:
            InputError: a run goes on with them now.
        """
        folder = WorkFolder.beside(Path(output))
        if folder.path.is_dir():
            folder.open({}, [], restart=True)
            folder.remove()

    def _context(self) -> JobContext:
        return JobContext(self._options, self._networks, no_progress, Cancel())

    def _jobs(self, inputs: Inputs, output: str | Path | None) -> JobPlan:
        listed = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
        if "" in listed or output == "":
            raise InputError("a name is empty. Give '.' for the present folder.", code="empty-argument")
        target = None if output is None else Path(output)
        return plan_jobs([Path(item) for item in listed], target, self._options, networks=self._networks)
