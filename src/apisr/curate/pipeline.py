"""A whole curation: many videos, several workers, a dataset folder that survives being killed.

Layout of a dataset::

    manifest.parquet      one row a picture (apisr.curate.manifest)
    settings.json         the options it was made with; it is continued with the same ones or not at all
    README.md             the dataset card
    report.html           histograms and tables
    images/VIDEO/ID.png   the pictures; VIDEO is the start of the video's SHA-256
    enhanced/VIDEO/ID.png pictures with enhanced lines, where asked
    thumbs/VIDEO/ID.jpg   small pictures for the review page
    videos/VIDEO.json     what is known of each finished video

A video is worked on in a folder of its own under ``.work`` and moved into place when it is finished, its record last: a
kill at any moment loses the videos in work and nothing else. Decisions over all videos (duplicates, reserves) are made
at the end from the records alone, in an order that does not depend on which worker was faster.

    >>> curate([Path("shelf")], Path("dataset"), settings=load_settings())  # doctest: +SKIP
    Outcome(videos=12, pictures=118, ...)
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import importlib.util
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apisr import __version__
from apisr.core.errors import ApisrError, InputError, MissingExtra
from apisr.core.files import atomic_path, sha256_file
from apisr.curate.duplicates import Fingerprint, first_of_each
from apisr.curate.manifest import FILE_NAME, Row, read_manifest, write_manifest
from apisr.curate.settings import Settings, load_settings

#: File endings of videos that are looked for in folders.
VIDEO_SUFFIXES = frozenset(
    [
        ".mkv",
        ".mp4",
        ".m4v",
        ".mov",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".mts",
        ".vob",
        ".wmv",
        ".asf",
        ".flv",
        ".ogv",
        ".ogm",
        ".3gp",
        ".mxf",
    ]
)
#: Flags with which a picture waits for a person instead of being accepted.
DOUBTFUL = frozenset({"nudity", "live_action", "credits", "subtitle", "combed", "bars"})

#: Tells how a curation comes along: videos done, videos in all, one line about the video that was just finished.
ProgressCall = Callable[[int, int, str], None]


#: A function from an RGB picture to one with enhanced lines (paper 3.3).
Enhance = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Outcome:
    """How a curation ended.

    Attributes:
        dataset: its folder.
        videos: videos in the dataset.
        done_now: videos that this run worked on.
        pictures: rows of the manifest.
        decisions: number of pictures by decision.
        flags: number of pictures by flag.
        failed: (path, reason) of the videos that gave nothing.
        repeated: (path, path) of videos with the content of another.
    """

    dataset: Path
    videos: int
    done_now: int
    pictures: int
    decisions: dict[str, int]
    flags: dict[str, int]
    failed: tuple[tuple[str, str], ...]
    repeated: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class VideoRecord:
    """The record of a finished video (``videos/VIDEO.json``)."""

    source: str
    source_sha256: str
    size_bytes: int
    modified_ns: int
    codec: str
    width: int
    height: int
    duration_s: float
    packets: dict[str, int]
    packet_total_bytes: dict[str, int]
    packet_histogram: dict[str, dict[str, int]]
    undecodable: int
    left_out: dict[str, int]
    scores: tuple[float, ...]
    native_height: int
    native_kernel: str | None
    native_confidence: float
    rows: tuple[Row, ...]
    prints: tuple[bytes, ...]


def curate(
    inputs: Sequence[Path],
    dataset: Path,
    *,
    settings: Settings,
    workers: int = 1,
    isolate: bool = False,
    cluster: str | None = None,
    enhance: Enhance | None = None,
    progress: ProgressCall | None = None,
) -> Outcome:
    """Make or continue a dataset.

    Args:
        inputs: videos and folders of videos (searched recursively).
        dataset: the folder to make or to continue.
        settings: what to do.
        workers: processes that work on videos side by side.
        isolate: work in another process even where one is enough, so that a decoder that crashes costs its video and
            not the run. With it, or with several workers, a script must guard its start with
            ``if __name__ == "__main__":``.
        cluster: address of a Ray cluster (``auto``, ``ray://HOST:PORT``) that works instead; all its machines must see
            the videos and the dataset under the same paths.
        enhance: an importable function that enhances the lines of a picture, for ``settings.enhance``.
        progress: called after every video.

    Raises:
        InputError: a missing input, a folder that is no dataset, other settings than the dataset's, a dataset in use.
        RunError: the manifest cannot be written.
    """
    if settings.enhance and enhance is None:
        raise InputError("settings.enhance needs the function that enhances, for example apisr.enhance.enhance.")
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}.")
    videos = find_videos(inputs)
    settings = resolved(settings)
    with dataset_lock(dataset, create=True):
        _check_settings(dataset, settings)
        remove_leftovers(dataset)
        known = read_records(dataset)
        unchanged = {(record.source, record.size_bytes, record.modified_ns) for record in known.values()}
        waiting = [path for path in videos if _identity(path) not in unchanged]
        failed: list[tuple[str, str]] = []
        repeated: list[tuple[str, str]] = []
        finished = len(videos) - len(waiting)
        done_now = 0
        settings_json = settings.model_dump_json()
        if cluster:
            results = _on_cluster(waiting, dataset, settings_json, enhance, cluster)
        elif workers > 1 or isolate:
            results = _in_processes(waiting, dataset, settings_json, enhance, workers)
        else:
            results = _here(waiting, dataset, settings_json, enhance)
        for path, result in results:
            finished += 1
            name = _printable(path)
            if result.error:
                failed.append((name, result.error))
                line = f"{name}: {result.error}"
            elif result.repeats:
                repeated.append((name, result.repeats))
                line = f"{name}: same content as '{result.repeats}', passed over"
            else:
                done_now += 1
                line = f"{name}: {result.pictures} pictures"
            if progress:
                progress(finished, len(videos), line)
        rows = finish(dataset, settings)
        shutil.rmtree(dataset / ".work", ignore_errors=True)
    return Outcome(
        dataset=dataset,
        videos=len(read_records(dataset)),
        done_now=done_now,
        pictures=len(rows),
        decisions=_counted(row.decision for row in rows),
        flags=_counted(flag for row in rows for flag in row.flags),
        failed=tuple(sorted(failed)),
        repeated=tuple(sorted(repeated)),
    )


def find_videos(inputs: Sequence[Path]) -> list[Path]:
    """Return the videos among files and folders, sorted, each once.

    Raises:
        InputError: a path that does not exist, or no video at all.
    """
    found: dict[Path, None] = {}
    for path in inputs:
        if path.is_dir():
            inside = (child for child in path.rglob("*") if child.suffix.lower() in VIDEO_SUFFIXES and child.is_file())
            found |= dict.fromkeys(sorted(inside))
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"cannot read '{path}': no such file or folder.")
    if not found:
        given = ", ".join(f"'{path}'" for path in inputs) or "nothing"
        raise InputError(f"no videos in {given}. Give videos ({', '.join(sorted(VIDEO_SUFFIXES))}) or folders of them.")
    return list(found)


def resolved(settings: Settings) -> Settings:
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


def dataset_settings(dataset: Path) -> Settings | None:
    """Return the settings a dataset was made with, None where there is no dataset.

    Raises:
        InputError: the folder holds other things, or the settings are damaged.
    """
    path = dataset / "settings.json"
    if not path.is_file():
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read '{path}': {error}. Choose another folder.") from error
    return load_settings(overrides=values)


@contextlib.contextmanager
def dataset_lock(dataset: Path, *, create: bool = False) -> Generator[None, None, None]:
    """Hold a dataset for this process alone; the lock goes with the process, however it ends.

    Raises:
        InputError: another process holds it, or the folder cannot be made or is no dataset.
    """
    if dataset.exists() and not dataset.is_dir():
        raise InputError(f"'{dataset}' is a file. Give a folder for the dataset.")
    if create:
        if dataset.is_dir() and not (dataset / "settings.json").exists():
            strange = [child.name for child in dataset.iterdir() if child.name != ".lock"]
            if strange:
                raise InputError(f"'{dataset}' is no dataset and not empty ('{min(strange)}'). Choose another folder.")
        try:
            dataset.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make '{dataset}': {error.strerror}.") from error
    elif not dataset.is_dir():
        raise InputError(f"no dataset in '{dataset}': no such folder.")
    with (dataset / ".lock").open("a+b") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            raise InputError(f"the dataset '{dataset}' is in use by another apisr. Wait or stop that one.") from error
        yield


def remove_leftovers(dataset: Path) -> None:
    """Remove what a killed run left: folders in work, and pictures of videos without a record."""
    shutil.rmtree(dataset / ".work", ignore_errors=True)
    for kind in ("images", "enhanced", "thumbs"):
        for folder in (dataset / kind).glob("*"):
            if folder.is_dir() and not (dataset / "videos" / f"{folder.name}.json").is_file():
                shutil.rmtree(folder)


def read_records(dataset: Path) -> dict[str, VideoRecord]:
    """Return the records of all finished videos by name, sorted by name.

    Raises:
        InputError: a damaged record.
    """
    records: dict[str, VideoRecord] = {}
    for path in sorted((dataset / "videos").glob("*.json")):
        if path.name.endswith(".partial.json"):
            continue
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(_row(row) for row in values.pop("rows"))
            prints = tuple(base64.b64decode(text) for text in values.pop("prints"))
            scores = tuple(values.pop("scores"))
            records[path.stem] = VideoRecord(**values, scores=scores, rows=rows, prints=prints)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"'{path}' is damaged ({error}). Remove it to have that video done again.") from error
    return records


def _row(values: dict[str, Any]) -> Row:
    values["flags"] = tuple(values["flags"])
    return Row(**values)


def finish(dataset: Path, settings: Settings) -> list[Row]:
    """Decide over all videos, and write the manifest, the card and the report.

    Duplicates across the whole set keep the largest picture (then the best ranked of its video, then the one with the
    largest packet). Of every video, the best pictures that are no duplicates are taken up to the number asked for, the
    others are reserve. What a person has decided stays.
    """
    from apisr.curate.report import write_card, write_report

    records = read_records(dataset)
    rows = decided(list(records.values()), settings)
    if (dataset / FILE_NAME).is_file():
        before = {row.id: row for row in read_manifest(dataset)[0] if row.decided_by == "person"}
        rows = [
            dataclasses.replace(row, decision=before[row.id].decision, decided_by="person") if row.id in before else row
            for row in rows
        ]
    write_manifest(dataset, rows, settings_json=settings.model_dump_json())
    write_report(dataset, rows, list(records.values()), settings)
    write_card(dataset, rows, list(records.values()), settings)
    return rows


def decided(records: Sequence[VideoRecord], settings: Settings) -> list[Row]:
    """Return the rows of all videos with the machine's decisions, ordered by source and time."""
    pairs = [(row, small) for record in records for row, small in zip(record.rows, record.prints, strict=True)]
    pairs.sort(key=lambda pair: _preference(pair[0]))
    twins = first_of_each([Fingerprint(int(row.hash, 16), small) for row, small in pairs])
    wanted = {record.source_sha256: settings.frames_for(record.duration_s) for record in records}
    taken: dict[str, int] = {}
    rows: list[Row] = []
    for (row, _), twin in zip(pairs, twins, strict=True):
        video = row.source_sha256
        if twin is not None:
            flags = tuple(sorted({*row.flags, "duplicate"}))
            rows.append(dataclasses.replace(row, flags=flags, duplicate_of=pairs[twin][0].id, decision="reject"))
        elif taken.get(video, 0) >= wanted[video]:
            rows.append(dataclasses.replace(row, decision="reserve"))
        else:
            taken[video] = taken.get(video, 0) + 1
            decision = "review" if DOUBTFUL & set(row.flags) else "accept"
            rows.append(dataclasses.replace(row, decision=decision))
    return sorted(rows, key=lambda row: (row.source, row.time_s, row.id))


def _preference(row: Row) -> tuple[int, int, int, str, float]:
    return -row.width * row.height, row.rank, -row.packet_bytes, row.source, row.time_s


@dataclass(frozen=True)
class _Result:
    pictures: int = 0
    error: str = ""
    repeats: str = ""


def _work(
    path: Path, dataset: Path, settings_json: str, enhance: Enhance | None, threads: int, source: str | None = None
) -> _Result:
    """Do one video, in whichever process; never raises for what is wrong with the video."""
    import cv2

    from apisr.curate.video import curate_video, remove_tree

    if threads == 1:
        cv2.setNumThreads(1)
    settings = Settings.model_validate_json(settings_json)
    work: Path | None = None
    try:
        given, size, modified = _identity(path)
        source = source or given
        sha256 = sha256_file(path)
        name = sha256[:16]
        record_path = dataset / "videos" / f"{name}.json"
        if record_path.is_file():
            known = json.loads(record_path.read_text(encoding="utf-8"))
            return _Result(repeats=str(known["source"]))
        work = dataset / ".work" / f"{name}-{os.getpid()}"
        remove_tree(work)
        work.mkdir(parents=True)
        tools = _tools(settings_json, enhance, threads)
        if threads == 1 and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        result = curate_video(path, sha256, work, source=source, name=name, settings=settings, tools=tools)
        for kind in ("images", "enhanced", "thumbs"):
            if (work / kind).is_dir():
                target = dataset / kind / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    (work / kind).rename(target)
                except OSError:
                    if target.is_dir():  # another worker has just done a file with the same content
                        return _Result(repeats=f"another file with SHA-256 {sha256[:16]}")
                    raise
        statistics, native = result.statistics, result.native
        record = VideoRecord(
            source=source,
            source_sha256=sha256,
            size_bytes=size,
            modified_ns=modified,
            codec=result.codec,
            width=result.width,
            height=result.height,
            duration_s=result.duration_s,
            packets={str(kind): number for kind, number in statistics.counts.items()},
            packet_total_bytes={str(kind): size for kind, size in statistics.total_bytes.items()},
            packet_histogram={
                kind: {str(position): number for position, number in bins.items()}
                for kind, bins in statistics.histogram.items()
            },
            undecodable=statistics.undecodable,
            left_out=result.left_out,
            scores=tuple(round(score, 5) for score in result.scores),
            native_height=native.height if native else result.height,
            native_kernel=native.kernel if native else None,
            native_confidence=native.confidence if native else 0.0,
            rows=result.rows,
            prints=result.prints,
        )
        values = dataclasses.asdict(record)
        values["prints"] = [base64.b64encode(small).decode("ascii") for small in result.prints]
        with atomic_path(record_path, overwrite=True) as partial:
            partial.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        return _Result(pictures=len(result.rows))
    except ApisrError as error:
        return _Result(error=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a broken file does to a decoder must not stop the others
        return _Result(error=f"{type(error).__name__}: {error}".replace("\n", " "))
    finally:
        if work is not None:
            with contextlib.suppress(OSError):
                remove_tree(work)


@functools.lru_cache(maxsize=1)
def _tools(settings_json: str, enhance: Enhance | None, threads: int) -> Any:
    from apisr.curate.complexity import open_scorer
    from apisr.curate.screen import open_screen
    from apisr.curate.video import Tools

    settings = Settings.model_validate_json(settings_json)
    screens = {name: open_screen(name) for name in settings.screen}
    return Tools(open_scorer(settings.score), screens, enhance if settings.enhance else None, threads)


def _here(
    videos: Sequence[Path], dataset: Path, settings_json: str, enhance: Enhance | None
) -> Iterator[tuple[Path, _Result]]:
    for path in videos:
        yield path, _work(path, dataset, settings_json, enhance, _threads(1))


def _threads(workers: int) -> int:
    """Threads of each worker: a single one has the machine for itself."""
    return min(os.cpu_count() or 1, 4) if workers == 1 else 1


def _in_processes(
    videos: Sequence[Path], dataset: Path, settings_json: str, enhance: Enhance | None, workers: int
) -> Iterator[tuple[Path, _Result]]:
    """Give videos to processes.

    When a process dies, its pool is lost with all that it was working on: which video did it is known only if it was
    the only one. Those videos are done again, one at a time; one that takes its process down then is given up.
    """
    waiting = list(reversed(videos))
    suspects: list[Path] = []
    while waiting or suspects:
        queue, number = (waiting, workers) if waiting else (suspects, 1)
        remove_leftovers(dataset)  # of processes that died: no other is at work now
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(number, mp_context=context) as pool:
            running: dict[Future[_Result], Path] = {}
            broken = False
            while not broken and (running or queue):
                while queue and len(running) < number:
                    path = queue.pop()
                    try:
                        future = pool.submit(_work, path, dataset, settings_json, enhance, _threads(workers))
                    except BrokenProcessPool:  # a process died since the last result
                        queue.append(path)
                        broken = True
                        break
                    running[future] = path
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    path = running.pop(future)
                    try:
                        yield path, future.result()
                    except BrokenProcessPool:
                        broken = True
                        if number == 1:
                            yield path, _Result(error="the decoder crashed on this file")
                        else:
                            suspects.append(path)
            suspects += running.values()


def _on_cluster(
    videos: Sequence[Path], dataset: Path, settings_json: str, enhance: Enhance | None, address: str
) -> Iterator[tuple[Path, _Result]]:
    """Give videos to a Ray cluster; Ray does the videos of a lost machine again elsewhere."""
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("cluster", "to curate on a cluster")
    import ray  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    remote: Any = ray.remote(num_cpus=1, max_retries=2)(_work)
    folder = dataset.resolve()
    running = {
        remote.remote(path.resolve(), folder, settings_json, enhance, 1, _printable(path)): path for path in videos
    }
    while running:
        done, _ = ray.wait(list(running), num_returns=1)
        path = running.pop(done[0])
        try:
            yield path, ray.get(done[0])
        except RayError as error:
            yield path, _Result(error=f"lost on the cluster: {str(error).splitlines()[0]}")


def _check_settings(dataset: Path, settings: Settings) -> None:
    before = dataset_settings(dataset)
    if before is None:
        values = {"apisr": __version__, "settings": json.loads(settings.model_dump_json())}
        with atomic_path(dataset / "settings.json") as partial:
            partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        return
    for name in Settings.model_fields:
        old, new = getattr(before, name), getattr(settings, name)
        if old != new:
            raise InputError(
                f"the dataset '{dataset}' was made with {name} = {old!r}, now it is {new!r}. "
                "Continue it with the same options, or choose another folder with -o."
            )


def _identity(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return _printable(path), status.st_size, status.st_mtime_ns


def _printable(path: Path) -> str:
    """Return a path as text that any file can hold; bytes that are no text become escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
