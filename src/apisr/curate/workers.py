"""Work on many videos: here, in processes of their own, or on a cluster.

A video is worked on in a folder of its own under ``.work`` and moved into place when it is finished, its record last: a
kill at any moment loses the videos in work and nothing else. Workers end with the process that started them.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from apisr.core.errors import ApisrError, InputError
from apisr.core.files import sha256_file
from apisr.core.memory import available_memory
from apisr.core.processes import end_with_parent, usable_cores
from apisr.core.text import printable
from apisr.curate.dataset import VIDEO_FOLDERS, remove_leftovers, remove_tree, work_folder
from apisr.curate.records import VideoRecord, read_record, record_path, write_record
from apisr.curate.settings import CurateSettings
from apisr.curate.video import CuratedVideo, Tools, Video, curate_video
from apisr.image.types import ImageU8

#: Decoders that a single worker runs side by side, at most.
MAX_THREADS = 4
#: With less memory than this left, a decoder that fails is taken to have failed for that.
DECODER_BYTES = 256 << 20


@dataclass(frozen=True)
class WorkResult:
    """What became of one video: how many pictures it gave, what they lost, or why none, or whose content it repeats."""

    pictures: int = 0
    notices: tuple[str, ...] = ()
    error: str = ""
    repeats: str = ""


@dataclass(frozen=True)
class VideoTask:
    """The work on one video, as it travels to a worker.

    Attributes:
        path: the video.
        dataset: the dataset's folder.
        settings_json: what to do (:class:`~apisr.curate.settings.CurateSettings`).
        threads: decoders side by side.
        source: the video's path for the manifest.
    """

    path: Path
    dataset: Path
    settings_json: str
    threads: int
    source: str


def here(videos: Sequence[Path], dataset: Path, settings: CurateSettings) -> Iterator[tuple[Path, WorkResult]]:
    """Work in this process, one video after the other."""
    for path in videos:
        yield path, work(VideoTask(path, dataset, settings.model_dump_json(), _threads(1), printable(path)))


def in_processes(
    videos: Sequence[Path], dataset: Path, settings: CurateSettings, workers: int
) -> Iterator[tuple[Path, WorkResult]]:
    """Give videos to processes.

    When a process dies, its pool is lost with all that it was working on: which video did it is known only if it was
    the only one. Those videos are done again, one at a time; one that takes its process down then is given up.
    """
    waiting = list(reversed(videos))
    suspects: list[Path] = []
    while waiting or suspects:
        queue, number = (waiting, workers) if waiting else (suspects, 1)
        remove_leftovers(dataset)  # of processes that died: no other is at work now
        pool = ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
        running: dict[Future[WorkResult], Path] = {}
        broken = False
        try:
            while not broken and (running or queue):
                while queue and len(running) < number and not broken:
                    path = queue.pop()
                    job = VideoTask(path, dataset, settings.model_dump_json(), _threads(workers), printable(path))
                    try:
                        running[pool.submit(work, job)] = path
                    except BrokenProcessPool:  # a process died since the last result
                        queue.append(path)
                        broken = True
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    path = running.pop(future)
                    try:
                        yield path, future.result()
                    except BrokenProcessPool:
                        broken = True
                        if number == 1:
                            yield path, WorkResult(error="the decoder crashed on this file")
                        else:
                            suspects.append(path)
            suspects += running.values()
        finally:
            pool.shutdown(cancel_futures=True)


def on_cluster(
    videos: Sequence[Path], dataset: Path, settings: CurateSettings, address: str
) -> Iterator[tuple[Path, WorkResult]]:
    """Give videos to a Ray cluster, one to each of its processor cores; a lost machine's videos are done again."""
    from apisr.core.cluster import ActorPool, Lost, connect

    cores = int(connect(address).cluster_resources().get("CPU", 1))
    pool: ActorPool[VideoTask, WorkResult] = ActorPool(
        ClusterWorker, address=address, workers=max(1, min(cores, len(videos))), label=lambda job: f"'{job.source}'"
    )
    folder = dataset.resolve()
    jobs = {VideoTask(path.resolve(), folder, settings.model_dump_json(), 1, printable(path)): path for path in videos}
    for job, answer in pool.map_unordered(jobs):
        yield jobs[job], WorkResult(error=str(answer.error)) if isinstance(answer, Lost) else answer


class ClusterWorker:
    """Works on videos in a process on a machine of a cluster."""

    def work(self, job: VideoTask) -> WorkResult:
        """Do one video."""
        return work(job)

    def close(self) -> None:
        """Do nothing: a video's folder is removed when the video is done."""


def work(job: VideoTask) -> WorkResult:
    """Do one video, in whichever process; never raises for what is wrong with the video."""
    try:
        size, modified = identity(job.path)
        video = Video(job.path, sha256_file(job.path), job.source)
        known = record_path(job.dataset, video.name)
        if known.is_file():
            return WorkResult(repeats=read_record(known).source)
        folder = work_folder(job.dataset) / f"{video.name}-{os.getpid()}"
        try:
            remove_tree(folder)
            folder.mkdir(parents=True)
            tools = _tools(job.settings_json, job.threads)
            _limit_threads(job.threads)
            settings = CurateSettings.model_validate_json(job.settings_json)
            result = curate_video(video, folder, settings=settings, tools=tools)
            if not _move_into_place(folder, job.dataset, video.name):
                return WorkResult(repeats=f"another file with SHA-256 {video.name}")
        finally:
            remove_tree(folder)
        write_record(job.dataset, video.name, _record(video, result, size, modified))
        return WorkResult(len(result.rows), result.notices)
    except ApisrError as error:
        return WorkResult(error=_explained(printable(str(error))))
    except Exception as error:  # noqa: BLE001 - whatever a broken file does to a decoder must not stop the others
        return WorkResult(error=_explained(printable(f"{type(error).__name__}: {error}")))


def _explained(reason: str) -> str:
    """Return why a video failed. Decoders without memory report many things, such as that a file is not there."""
    left = available_memory()
    if left >= DECODER_BYTES:
        return reason
    return f"there is not enough memory for it: {left >> 20} MB are left. Use fewer workers. ({reason})"


def identity(path: Path) -> tuple[int, int]:
    """Return by what a finished video is known again, besides its path: size in bytes and time of change.

    Raises:
        InputError: it cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"cannot read '{printable(path)}': {error.strerror or error}.", code="cannot-read") from error
    return status.st_size, status.st_mtime_ns


def _move_into_place(folder: Path, dataset: Path, name: str) -> bool:
    """Return whether that was possible: not where another worker has just done a file with the same content."""
    for kind in VIDEO_FOLDERS:
        if (folder / kind).is_dir():
            target = dataset / kind / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                (folder / kind).rename(target)
            except OSError:
                if target.is_dir():
                    return False
                raise
    return True


def _record(video: Video, result: CuratedVideo, size: int, modified: int) -> VideoRecord:
    statistics, native_height = result.statistics, result.native_height
    return VideoRecord(
        source=video.source,
        source_sha256=video.sha256,
        size_bytes=size,
        modified_ns=modified,
        codec=result.codec,
        width=result.width,
        height=result.height,
        duration_s=result.duration_s,
        packets={str(kind): number for kind, number in statistics.counts.items()},
        packet_total_bytes={str(kind): total for kind, total in statistics.total_bytes.items()},
        packet_histogram={str(kind): dict(bins) for kind, bins in statistics.histogram.items()},
        undecodable=statistics.undecodable,
        left_out=result.left_out,
        scores=tuple(round(score, 5) for score in result.scores),
        native_height=native_height.height if native_height else result.height,
        native_kernel=native_height.kernel if native_height else None,
        native_confidence=native_height.confidence if native_height else 0.0,
        rows=result.rows,
        fingerprints=result.fingerprints,
    )


@functools.lru_cache(maxsize=1)
def _tools(settings_json: str, threads: int) -> Tools:
    from apisr.curate.complexity import open_scorer
    from apisr.curate.screen import open_screen

    settings = CurateSettings.model_validate_json(settings_json)
    screens = {name: open_screen(name) for name in settings.screen}
    return Tools(open_scorer(settings.score), screens, _enhanced if settings.enhance else None, threads)


def _enhanced(picture: ImageU8) -> ImageU8:
    from apisr.enhance import enhance

    return enhance(picture)


def _threads(workers: int) -> int:
    """Decoders of each worker: a single one has the machine for itself."""
    return min(usable_cores(), MAX_THREADS) if workers == 1 else 1


def _limit_threads(threads: int) -> None:
    import cv2

    if threads == 1:
        cv2.setNumThreads(1)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
