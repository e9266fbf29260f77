"""Pictures on a Ray cluster: they travel as their files, there and back, and are written here.

apisr upscale season/ -o large/ --cluster first:6379
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.core.cluster import ActorPool, Lost
from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.files import FileIdentity, open_regular, write_atomic
from apisr.core.text import printable
from apisr.core.worker_folder import WorkerFolder
from apisr.image import open_picture
from apisr.upscale.existing import mark_of, model_of, resolve_existing
from apisr.upscale.job import Job, JobContext, JobReport, failed_result, job_result
from apisr.upscale.models import Networks, needed_factor
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.picture import upscale_picture_file
from apisr.upscale.provenance import provenance_tags
from apisr.upscale.recipe import NetworkRecipe
from apisr.upscale.results import JobResult, PictureResult

if TYPE_CHECKING:
    from apisr.engines import Engine


@dataclass(frozen=True)
class PictureFile:
    """A picture on its way to a worker.

    Attributes:
        number: tells it from others.
        source: where it was read; only its name counts there.
        target: where the result will go; likewise.
        content: the bytes of the source.
        tags: what is written into the result about its making.
    """

    number: int
    source: Path
    target: Path
    content: bytes
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass
class PictureWorker:
    """Upscales pictures on a machine of the cluster: bytes of a file in, bytes of a file out.

    Attributes:
        recipes: the networks by ascending scale; each is loaded at its first picture.
        options: of the run.
    """

    recipes: Sequence[NetworkRecipe]
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    _here: WorkerFolder = field(default_factory=lambda: WorkerFolder("apisr-pictures-"), init=False, repr=False)
    _engines: dict[str, Engine] = field(default_factory=dict[str, "Engine"], init=False, repr=False)

    def work(self, picture: PictureFile) -> tuple[bytes, PictureResult] | Exception:
        """Return the file of the result and what became of it, or what is wrong with this picture."""
        with tempfile.TemporaryDirectory(dir=self._here.path) as folder:
            source = Path(folder) / "in" / picture.source.name
            target = Path(folder) / "out" / picture.target.name
            source.parent.mkdir()
            source.write_bytes(picture.content)
            try:
                with open_picture(source, max_pixels=self.options.picture.max_pixels, header_only=True) as opened:
                    lines = opened.info.height
            except ApisrError as error:
                return _renamed(error, {source: picture.source, target: picture.target})
            recipe = self._recipe_for(lines)
            engine = self._engine(recipe)  # a network that cannot be loaded here ends the run
            options = self.options
            try:
                result = upscale_picture_file(
                    source, target, engine, replace(options.picture, provenance=picture.tags), size=options.size
                )
                content = target.read_bytes()
            except ApisrError as error:
                return _renamed(error, {source: picture.source, target: picture.target})
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one picture, the others are done
                message = f"'{printable(picture.source)}': unexpected {type(error).__name__}: {error}".replace(
                    "\n", " "
                )
                return RunError(message, code="unexpected")
        known = {"source": picture.source, "target": picture.target, "model": recipe.model.name}
        return content, result.model_copy(update=known)

    def _recipe_for(self, lines: int) -> NetworkRecipe:
        factor = needed_factor(self.options, lines) or 0.0
        return next((recipe for recipe in self.recipes if recipe.model.scale >= factor), self.recipes[-1])

    def _engine(self, recipe: NetworkRecipe) -> Engine:
        if recipe.model.sha256 not in self._engines:
            self._engines[recipe.model.sha256] = recipe.load()
        return self._engines[recipe.model.sha256]

    def close(self) -> None:
        """Remove what is on this machine's disk."""
        self._here.remove()


def pictures_on_cluster(jobs: Sequence[Job], context: JobContext) -> dict[int, JobResult]:
    """Upscale all pictures of a run on a cluster; files are read and written here.

    Returns:
        The results by number of the job, from 1.

    Raises:
        ApisrError: the network cannot be loaded there, or no worker can be started.
    """
    options = context.options
    results: dict[int, JobResult] = {}
    reports: dict[int, JobReport] = {}
    named: dict[int, Job] = {}

    def finish(number: int, result: JobResult) -> None:
        results[number] = reports[number].ended(result)

    def files() -> Iterator[PictureFile]:
        for number, job in enumerate(jobs, start=1):
            if job.kind != "picture":
                continue
            context.cancel.check()
            job, refused = resolve_existing(job, context)
            named[number] = job
            reports[number] = JobReport(job, number, len(jobs), context.progress)
            if refused is None:
                try:
                    with open_regular(job.source) as file:
                        identity = FileIdentity(job.source, file)
                        content = file.read()
                    model = model_of(job, context)
                    tags = provenance_tags(mark_of(job, context, model), model, options, "picture")
                    identity.check_unchanged()
                except OSError as error:
                    message = f"cannot read '{job.source}': {error.strerror or error}."
                    refused = failed_result(job, InputError(message, code="cannot-read"))
                except ApisrError as error:
                    refused = failed_result(job, error)
                else:
                    yield PictureFile(number, job.source, job.target, content, tags)
                    continue
            finish(number, refused)

    pool: ActorPool[PictureFile, tuple[bytes, PictureResult] | Exception] = ActorPool(
        PictureWorker,
        (recipes_for(context.networks, options), options.portable),
        address=options.cluster or "auto",
        workers=options.workers,
        label=lambda picture: f"'{picture.source}'",
        cancel=context.cancel,
    )
    with contextlib.closing(pool.map_unordered(files())) as answers:
        for picture, answer in answers:
            finish(picture.number, _written(named[picture.number], answer, overwrite=options.overwrite))
    return results


def _renamed(error: ApisrError, names: dict[Path, Path]) -> ApisrError:
    """Return an error of a worker with the names that the user knows."""
    message = str(error)
    for here, known in names.items():
        message = message.replace(str(here), str(known))
    return (InputError if isinstance(error, InputError) else RunError)(message, code=error.code)


def recipes_for(networks: Networks, options: UpscaleOptions) -> list[NetworkRecipe]:
    """Return the networks that pictures of any size may need, by ascending scale."""
    lines = [None] if options.height is None else [options.height, max(1, options.height // 4)]
    models = {model.sha256: model for model in (networks.model_for(count) for count in lines)}
    return [NetworkRecipe.of(model, options) for model in sorted(models.values(), key=lambda model: model.scale)]


def _written(job: Job, answer: tuple[bytes, PictureResult] | Exception | Lost, *, overwrite: bool) -> JobResult:
    """Write the file that came back and return what became of the job."""
    if isinstance(answer, Lost):
        return failed_result(job, answer.error)
    if isinstance(answer, Exception):
        return failed_result(job, answer)
    content, result = answer
    try:
        write_atomic(job.target, content, overwrite=overwrite)
    except ApisrError as error:
        return failed_result(job, error)
    return job_result(job, "done", result=result)
