"""A whole curation: many videos, several workers, a dataset folder that survives being killed.

>>> curate([Path("shelf")], Path("dataset"), settings=load_settings())  # doctest: +SKIP
CurateResult(dataset=..., videos=12, pictures=118, ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from apisr.core.errors import InputError
from apisr.core.media import LeftOut, find_media, is_dataset, left_out_lines, not_taken
from apisr.core.processes import usable_cores
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.core.text import printable
from apisr.curate.dataset import (
    hold_dataset,
    keep_settings,
    read_settings,
    remove_leftovers,
    remove_tree,
    work_folder,
)
from apisr.curate.decide import decide_by_machine, keep_persons_decisions
from apisr.curate.manifest import Row, read_manifest, write_manifest
from apisr.curate.records import read_records
from apisr.curate.report import count_of, folder_scores, write_card, write_report
from apisr.curate.settings import CurateSettings
from apisr.curate.workers import WorkResult, here, identity, in_processes, on_cluster


class FailedVideo(BaseModel):
    """A video that gave nothing, and why."""

    source: str
    reason: str


class RepeatedVideo(BaseModel):
    """A video that was passed over because it has the content of another."""

    source: str
    repeats: str


class CurateResult(BaseModel):
    """How a curation ended; ``apisr curate --json`` prints it.

    Attributes:
        dataset: its folder.
        videos: videos in the dataset.
        done_now: videos that this run worked on.
        pictures: rows of the manifest.
        decisions: number of pictures by decision.
        flags: number of pictures by flag.
        failed: the videos that gave nothing, by path.
        repeated: the videos that were passed over, by path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    videos: int
    done_now: int
    pictures: int
    decisions: dict[str, int]
    flags: dict[str, int]
    failed: tuple[FailedVideo, ...]
    repeated: tuple[RepeatedVideo, ...]


def curate(
    inputs: Sequence[Path],
    dataset: Path,
    *,
    settings: CurateSettings,
    workers: int | None = 0,
    cluster: str | None = None,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> CurateResult:
    """Make or continue a dataset.

    Args:
        inputs: videos and folders of videos (searched recursively).
        dataset: the folder to make or to continue.
        settings: what to do.
        workers: processes that work on videos side by side; None takes one for each processor core. In a process of its
            own, a decoder that crashes costs its video and not the run; a script must then guard its start with
            ``if __name__ == "__main__":``. 0 works in this process.
        cluster: address of a Ray cluster (``auto``, ``ray://HOST:PORT``) that works instead; all its machines must see
            the videos and the dataset under the same paths.
        progress: called after every video.
        cancel: checked before every video.

    Raises:
        InputError: a missing input, a folder that is not a dataset, other settings than the dataset's, a dataset in
            use.
        RunError: the manifest cannot be written.
        Cancelled: a stop was asked for; finished videos are kept.
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers must be 0 or more, got {workers}.", code="bad-workers")
    videos, left_out = find_videos(inputs)
    for line in left_out_lines(left_out, ("video",)):
        progress(Progress("curate", "notice", message=line))
    settings = resolved(settings)
    with hold_dataset(dataset, create=True):
        keep_settings(dataset, settings)
        remove_leftovers(dataset)
        known = {(record.source, record.size_bytes, record.modified_ns) for record in read_records(dataset).values()}
        waiting = [path for path in videos if (printable(path), *identity(path)) not in known]
        cancel = cancel or Cancel()
        cancel.check()
        results = _results(waiting, dataset, settings, workers, cluster)
        tally = _Tally(len(videos), len(videos) - len(waiting), progress)
        for path, result in results:
            tally.add(printable(path), result)
            cancel.check()
        rows = finish(dataset, settings)
        remove_tree(work_folder(dataset))
    return tally.result(dataset, rows, videos=len(read_records(dataset)))


def find_videos(inputs: Sequence[Path]) -> tuple[list[Path], dict[Path, LeftOut]]:
    """Find the videos among files and folders.

    Returns:
        The videos, sorted, each once, and what else of the folders is not taken (other than pictures), and why.

    Raises:
        InputError: a path that does not exist, or no video at all.
    """
    found: dict[Path, None] = {}
    left_out: dict[Path, LeftOut] = {}
    for path in inputs:
        if path.is_dir():
            listing = find_media(path, kinds=("video",))
            found |= dict.fromkeys(listing.found)
            left_out |= listing.left_out
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"cannot read '{printable(path)}': no such file or folder.", code="cannot-read")
    if not found:
        listed = ", ".join(f"'{printable(path)}'" for path in inputs) or "nothing"
        raise InputError(f"no videos in {listed}. Give videos, or folders of them.", code="no-videos")
    return list(found), not_taken(left_out, found)


def resolved(settings: CurateSettings) -> CurateSettings:
    """Return settings in which the score ``auto`` is replaced by the one that is available.

    Raises:
        InputError: a score, screening model or file format that is not installed.
    """
    from apisr.curate.complexity import open_scorer
    from apisr.curate.screen import open_screen
    from apisr.image import check_lossless

    check_lossless(Path(f"picture.{settings.format}"))
    scorer = open_scorer(settings.score)
    for name in settings.screen:
        open_screen(name)
    return settings.model_copy(update={"score": scorer.name})


def finish(dataset: Path, settings: CurateSettings) -> list[Row]:
    """Decide over all videos, and write the manifest, the card and the report; what a person has decided stays."""
    records = list(read_records(dataset).values())
    rows = decide_by_machine(records, settings)
    if is_dataset(dataset):
        rows = keep_persons_decisions(rows, read_manifest(dataset)[0])
    write_manifest(dataset, rows, settings_json=settings.model_dump_json())
    write_report(dataset, rows, records, settings)
    write_card(dataset, rows, records, settings)
    return rows


def write_report_again(
    dataset: Path,
    *,
    compare: Path | None = None,
    licence: str | None = None,
    progress: ProgressFn = no_progress,
) -> None:
    """Write the report and the card of a dataset that exists.

    Args:
        dataset: its folder.
        compare: a folder of pictures whose scores are shown beside those of the dataset.
        licence: named in the card.
        progress: told what of the compared pictures is not read.

    Raises:
        InputError: no dataset, or no pictures to compare with.
    """
    rows, _ = read_manifest(dataset)
    settings = read_settings(dataset)
    if settings is None:
        raise InputError(f"no dataset in '{printable(dataset)}': settings.json is missing.", code="no-dataset")
    records = list(read_records(dataset).values())
    compared = (compare.name, folder_scores(compare, settings.score, progress=progress)) if compare else None
    write_report(dataset, rows, records, settings, compared=compared)
    write_card(dataset, rows, records, settings, licence=licence or "unknown", compared=compared)


def _results(
    videos: Sequence[Path], dataset: Path, settings: CurateSettings, workers: int | None, cluster: str | None
) -> Iterator[tuple[Path, WorkResult]]:
    if not videos:
        return iter(())
    if cluster:
        return on_cluster(videos, dataset, settings, cluster)
    if workers == 0:
        return here(videos, dataset, settings)
    return in_processes(videos, dataset, settings, min(workers or usable_cores(), len(videos)))


class _Tally:
    """Counts what became of the videos, and tells the listener."""

    def __init__(self, count: int, finished: int, progress: ProgressFn) -> None:
        self.done_now = 0
        self.failed: list[FailedVideo] = []
        self.repeated: list[RepeatedVideo] = []
        self._count, self._finished, self._progress = count, finished, progress

    def result(self, dataset: Path, rows: Sequence[Row], *, videos: int) -> CurateResult:
        """Return how the curation ended."""
        return CurateResult(
            dataset=printable(dataset),
            videos=videos,
            done_now=self.done_now,
            pictures=len(rows),
            decisions=count_of(row.decision for row in rows),
            flags=count_of(flag for row in rows for flag in row.flags),
            failed=tuple(sorted(self.failed, key=lambda video: video.source)),
            repeated=tuple(sorted(self.repeated, key=lambda video: video.source)),
        )

    def add(self, source: str, result: WorkResult) -> None:
        """Count one video."""
        self._finished += 1
        if result.error:
            self.failed.append(FailedVideo(source=source, reason=result.error))
            line = f"{source}: {result.error}"
        elif result.repeats:
            self.repeated.append(RepeatedVideo(source=source, repeats=result.repeats))
            line = f"{source}: same content as '{result.repeats}', passed over"
        else:
            self.done_now += 1
            count = "1 picture" if result.pictures == 1 else f"{result.pictures} pictures"
            line = "; ".join([f"{source}: {count}", *result.notices])
        self._progress(
            Progress(
                "curate",
                "ended",
                item=source,
                index=self._finished,
                count=self._count,
                done=self._finished,
                total=self._count,
                unit="videos",
                message=line,
            )
        )
