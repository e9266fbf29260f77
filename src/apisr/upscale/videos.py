"""Upscaling a video: reader -> (filter) -> upscaler -> writer, each in its own thread, segment by segment.

    reader thread     decode, deinterlace, to RGB          bounded queue
    calling thread    filter, network, final size          bounded queue
    encoder thread    to YUV, encode, one file a segment
    at the end        join the segments, copy all other streams, check frames and times, rename

Memory does not depend on the length of the video. The functions know nothing of the command line, of engines or of
networks: they are given a function that makes an upscaler, which maps one RGB frame to a larger one.

    >>> plan = plan_video(source, target, VideoOptions(), scale=2)  # doctest: +SKIP
    >>> outcome = upscale_video(source, target, make_upscaler, VideoOptions())  # doctest: +SKIP
    >>> outcome.frames_in == outcome.frames_out  # doctest: +SKIP
    True
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from apisr import __version__
from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.files import atomic_path, check_target
from apisr.core.pipeline import prefetch
from apisr.image import Pixels, Resampling, check_format, from_float, resize, to_float, write_picture
from apisr.upscale.options import VideoOptions
from apisr.upscale.prepare import Preparation
from apisr.upscale.results import HoldStats, ReuseStats, StageSeconds, VideoResult
from apisr.upscale.segments import Span, WorkFolder, plan_spans
from apisr.upscale.sizes import SizeRequest
from apisr.video.colour import Colour, aspect_after, bit_depth, has_alpha
from apisr.video.containers.registry import container_of
from apisr.video.encoders import PURPOSES, EncoderChoice, choose, coded_size, encoder_named, keeps_hdr_metadata
from apisr.video.fields import FieldFilter
from apisr.video.index import PacketIndex, grid_rate
from apisr.video.info import SourceInfo
from apisr.video.join import JoinSettings, join
from apisr.video.reader import Frame, ReadReport, working_dtype
from apisr.video.sequence import is_sequence, numbers_of, picture_at
from apisr.video.source import VideoSource
from apisr.video.streams import StreamPlan, check_video_codec, plan_streams
from apisr.video.verify import check_output, source_problems
from apisr.video.writer import EncodedSegment, SegmentWriter

_QUEUE_FRAMES = 4
_COMBED_ENOUGH = 0.3
_PROGRESSIVE_CODECS = {"vp8", "vp9", "av1", "gif", "png", "webp", "mjpeg"}
_INTERLACED_LINES_AT_MOST = 1088


class FrameUpscaler(Protocol):
    """Enlarges frames; may keep state between them (reuse)."""

    @property
    def stats(self) -> ReuseStats:
        """How much was computed so far."""
        ...

    def process(self, rgb: Pixels) -> Pixels:
        """Map ``(H, W, 3)`` uint8 or uint16 to ``(s*H, s*W, 3)`` of the same dtype; the result is not changed later."""
        ...


Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class VideoPlan:
    """What will be done, decided before any work.

    Attributes:
        source: the file.
        target: the output.
        streams: what becomes of each stream.
        index: the packets of the video.
        spans: the segments.
        frames: how many frames go in (packets counted; a few may turn out undecodable).
        network_size: (width, height) that the network gives.
        size: (width, height) of the output as shown.
        sar: pixel aspect ratio of the output.
        rate: nominal frames per second.
        colour: colour of the output.
        encoder: checked encoder.
        dtype: what frames are processed in, ``"uint8"`` or ``"uint16"``.
        fields: how interlacing is treated.
        notices: everything worth saying, one sentence each.
    """

    source: VideoSource
    target: Path
    streams: tuple[StreamPlan, ...]
    index: PacketIndex
    spans: tuple[Span, ...]
    frames: int
    network_size: tuple[int, int]
    size: tuple[int, int]
    sar: Fraction | None
    rate: Fraction
    colour: Colour
    encoder: EncoderChoice
    dtype: str
    fields: FieldFilter
    notices: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Length of the video in seconds."""
        pts = self.index.pts
        return float((pts[-1] - pts[0]) * self.source.info.video.time_base + 1 / self.rate) if pts.size else 0.0


@dataclass
class RunStatistics:
    """What the workers of a run counted.

    Attributes:
        seconds: busy time of the stages.
        reuse: of each worker, by its name.
        hold: of all segments.
    """

    seconds: StageSeconds = field(default_factory=StageSeconds)
    reuse: dict[str, ReuseStats] = field(default_factory=dict[str, ReuseStats])
    hold: HoldStats = field(default_factory=HoldStats)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: StageSeconds, hold: HoldStats | None = None) -> None:
        """Add what was counted over a part."""
        with self.lock:
            self.seconds.add(seconds)
            if hold is not None:
                self.hold.add(hold)

    def reuse_total(self) -> ReuseStats:
        """Return the sum over all workers."""
        total = ReuseStats()
        for part in self.reuse.values():
            total.add(part)
        return total


def plan_video(
    source: Path,
    target: Path,
    options: VideoOptions,
    scale: int,
    size: SizeRequest = SizeRequest(),
) -> VideoPlan:
    """Decide everything about a video before any work.

    Args:
        source: a video file.
        target: the output file.
        options: wishes.
        scale: the network's scale.
        size: what size is asked for.

    Raises:
        InputError: unreadable source, streams that the output cannot carry, unknown or impossible settings.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"'{target}' is the source itself. Give another name with -o.")
    opened = VideoSource.open(source, rate=options.rate)
    info, video = opened.info, opened.info.video
    wishes = _with_purpose(options)
    container = container_of(target)
    streams = plan_streams(info, target, options.drop_streams)
    if is_sequence(target):
        wishes = _for_pictures(wishes, target, bit_depth(video.pixel_format))
    encoder = encoder_named(wishes.codec or container.default_video)
    check_video_codec(target, encoder.codec, encoder.name)
    notices: list[str] = [*info.notices]
    index = opened.index
    fields = _fields(opened, options, notices)
    network = (video.width * scale, video.height * scale)
    output = size.of_video((video.width, video.height), network)
    if options.compare == "side":
        output = (output[0] * 2, output[1])
    sar = aspect_after(video.sar, (video.width, video.height), _single(output, options))
    rate = index.rate * Fraction(4, 5) if fields == "detelecine" else index.rate
    if wishes.pix_fmt is None and not encoder.lossless and has_alpha(video.pixel_format):
        notices.append("the transparency of the video is not kept.")
    colour = video.colour
    extra = dict(options.encoder_options)
    if container.muxer == "avi":
        extra.setdefault("bf", "0")  # its frames carry no presentation times
    choice = choose(
        encoder.name,
        source_format=video.pixel_format,
        size=output,
        rate=rate,
        crf=wishes.crf,
        preset=wishes.preset,
        pixel_format=wishes.pix_fmt,
        extra=extra,
        colour=colour,
        mastering=video.mastering,
        light_level=video.light_level,
        threads=min(16, os.cpu_count() or 1),  # said, because results of some encoders depend on it
    )
    colour = _output_colour(colour, choice.pixel_format)
    deep = max(bit_depth(choice.pixel_format), bit_depth(video.pixel_format)) > 8
    start = None if options.start is None else round((options.start + _origin(index, info)) / video.time_base)
    end = None if options.end is None else round((options.end + _origin(index, info)) / video.time_base)
    spans = plan_spans(index, start=start, end=end, frames=options.segment_frames)
    frames = sum(span.frames for span in spans)
    if frames == 0:
        raise InputError(f"--start and --end leave no frame of '{source}' (it lasts {_clock(index, info)}).")
    notices += _notices(info, index, container.variable_rate, streams, choice, output, encoder.name, target)
    return VideoPlan(
        source=opened,
        target=target,
        streams=streams,
        index=index,
        spans=spans,
        frames=frames,
        network_size=network,
        size=output,
        sar=sar,
        rate=rate,
        colour=colour,
        encoder=choice,
        dtype=np.dtype(working_dtype(video.pixel_format, high_bit_depth=deep)).name,
        fields=fields,
        notices=tuple(notices),
    )


def upscale_video(
    source: Path,
    target: Path,
    make_upscaler: Callable[[], FrameUpscaler],
    options: VideoOptions,
    on_progress: Progress | None = None,
    *,
    scale: int,
    identity: str = "",
    prepare: Preparation | None = None,
    run_spans: Callable[..., None] | None = None,
    size: SizeRequest = SizeRequest(),
    workers: int = 1,
    overwrite: bool = False,
) -> VideoResult:
    """Upscale a video; the output appears under its name only when it is complete and checked.

    Args:
        source: a video file.
        target: the output file.
        make_upscaler: called once per worker.
        options: wishes.
        on_progress: called with (frames done, frames in all).
        scale: the network's scale.
        identity: names everything about the upscaler that decides its results (hash of the model, its options).
        prepare: filter between reader and upscaler, called once for every segment.
        run_spans: how the missing segments are made; None for threads of this process.
        size: what size is asked for.
        workers: segments upscaled at the same time.
        overwrite: replace an existing output.

    Raises:
        InputError: see :func:`plan_video`; or an interrupted run with other settings is in the way.
        RunError: the source is damaged (what could be made is kept under the partial name), the disk is full, a check
            at the end failed.
    """
    check_target(target, overwrite=overwrite)
    plan = plan_video(source, target, options, scale, size)
    if is_sequence(target) and numbers_of(target) and not overwrite:
        raise InputError(
            f"'{picture_at(target, numbers_of(target)[0])}' exists. Give another name or add --overwrite.",
            code="output-exists",
        )
    began = time.perf_counter()
    folder = WorkFolder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    done = folder.open(_settings(plan, options, scale, identity), plan.spans, restart=options.restart)
    resumed = sum(len(segment.pts) for segment in done.values())
    tracker = _Tracker(on_progress, plan.frames, resumed)
    statistics = RunStatistics()
    try:
        missing = [span for span in plan.spans if span.number not in done]
        if missing:
            run = run_spans or run_in_threads
            run(plan, folder, missing, make_upscaler, options, tracker, statistics, prepare, workers)
        segments = [folder.segment(span.number) for span in plan.spans]
        joined = time.perf_counter()
        outcome = _finish(plan, options, folder, segments, overwrite=overwrite)
        statistics.seconds.add(StageSeconds(join=time.perf_counter() - joined, total=time.perf_counter() - began))
    except OSError as error:
        if isinstance(error, (ApisrError, KeyboardInterrupt)):
            raise
        raise _disk_error(error, target) from error
    finally:
        folder.release()
    folder.remove()
    known = {
        "seconds": statistics.seconds,
        "resumed_frames": resumed,
        "reuse": statistics.reuse_total(),
        "hold": statistics.hold if prepare is not None and prepare.hold != "off" else None,
    }
    return outcome.model_copy(update=known)


def run_in_threads(
    plan: VideoPlan,
    folder: WorkFolder,
    missing: Sequence[Span],
    make_upscaler: Callable[[], FrameUpscaler],
    options: VideoOptions,
    tracker: _Tracker,
    statistics: RunStatistics,
    prepare: Preparation | None,
    wanted: int,
) -> None:
    """Make the missing segments in this process, several at a time."""
    runs = _runs(missing, wanted)
    workers = min(wanted, len(runs))
    if workers <= 1:
        upscaler = make_upscaler()
        for run in runs:
            make_segments(plan, folder, run, upscaler, options, tracker.add, statistics, prepare=prepare)
        statistics.reuse["0"] = upscaler.stats
        return
    waiting: queue.SimpleQueue[Sequence[Span]] = queue.SimpleQueue()
    for run in runs:
        waiting.put(run)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            upscaler = make_upscaler()
            while not stop.is_set():
                try:
                    run = waiting.get_nowait()
                except queue.Empty:
                    break
                make_segments(plan, folder, run, upscaler, options, tracker.add, statistics, prepare=prepare, stop=stop)
            statistics.reuse[str(number)] = upscaler.stats
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join()
        raise
    if failures:
        raise failures[0]


def make_segments(
    plan: VideoPlan,
    folder: WorkFolder,
    spans: Sequence[Span],
    upscaler: FrameUpscaler,
    options: VideoOptions,
    on_frames: Callable[[int], None],
    statistics: RunStatistics,
    *,
    prepare: Preparation | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Upscale consecutive spans in one pass over the source, each into its own file.

    Args:
        plan: what to do.
        folder: where the segments go.
        spans: consecutive spans.
        upscaler: the network.
        options: wishes.
        on_frames: told how many frames were finished since the last call.
        statistics: busy times are added here.
        prepare: see :func:`upscale_video`.
        stop: ends the work early (segments that are not complete are thrown away).

    Raises:
        RunError: decoding, upscaling or encoding failed.
    """
    report = ReadReport()
    part = StageSeconds()
    hold = HoldStats()
    reader = prefetch(
        plan.source.frames(
            start=spans[0].start,
            end=spans[-1].end,
            dtype=np.dtype(plan.dtype),
            fields=plan.fields,
            report=report,
        ),
        ahead=_QUEUE_FRAMES,
    )
    encoder = _EncoderThread(plan, folder, on_frames, report)
    try:
        frames = _Peekable(reader)
        for span in spans:
            encoder.begin(span.number)
            inside = _while_before(frames, span.end)
            for frame in prepare(inside, hold) if prepare is not None else inside:
                clock = time.perf_counter()
                large = upscaler.process(frame.rgb)
                shown = _final_picture(large, frame.rgb, plan, options)
                part.upscale += time.perf_counter() - clock
                encoder.put(shown, frame)
                if stop is not None and stop.is_set():
                    raise RunError("stopped")
            encoder.end()
        encoder.finish()
    except BaseException:
        encoder.abandon()
        raise
    finally:
        reader.close()
        part.decode = report.decode_s
        part.encode = encoder.busy_s
        statistics.add(part, hold)


class _Tracker:
    """Counts finished frames from any thread and passes them on."""

    def __init__(self, on_progress: Progress | None, total: int, done: int) -> None:
        self._tell = on_progress
        self._total = total
        self._done = done
        self._lock = threading.Lock()
        if on_progress is not None:
            on_progress(done, total)

    def add(self, frames: int) -> None:
        with self._lock:
            self._done += frames
            if self._tell is not None:
                self._tell(self._done, max(self._total, self._done))


class _EncoderThread:
    """Colour conversion and encoding in a thread of its own; errors arrive at the next call."""

    def __init__(
        self, plan: VideoPlan, folder: WorkFolder, on_frames: Callable[[int], None], report: ReadReport
    ) -> None:
        self.busy_s = 0.0
        self._plan = plan
        self._folder = folder
        self._on_frames = on_frames
        self._report = report
        self._failures_told = 0
        self._work: queue.Queue[tuple[str, Any]] = queue.Queue(_QUEUE_FRAMES)
        self._error: BaseException | None = None
        self._quit = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, number: int) -> None:
        self._give(("begin", number))

    def put(self, rgb: Pixels, frame: Frame) -> None:
        self._give(("frame", (rgb, frame)))

    def end(self) -> None:
        self._give(("end", None))

    def finish(self) -> None:
        self._give(("quit", None))
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        self._quit.set()
        self._thread.join()

    def _give(self, item: tuple[str, Any]) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._work.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        writer: SegmentWriter | None = None
        number = 0
        try:
            while not self._quit.is_set():
                try:
                    kind, value = self._work.get(timeout=0.2)
                except queue.Empty:
                    continue
                clock = time.perf_counter()
                if kind == "begin":
                    number = value
                    plan = self._plan
                    writer = SegmentWriter(
                        self._folder.partial_path(number), plan.encoder, plan.size, plan.rate, plan.colour, plan.sar
                    )
                elif kind == "frame" and writer is not None:
                    rgb, frame = value
                    writer.write(rgb, frame.pts, frame.duration, damaged=frame.damaged)
                    self._on_frames(1)
                elif kind == "end" and writer is not None:
                    segment, writer = writer.close(), None
                    lost = self._report.damaged - self._failures_told
                    self._failures_told = self._report.damaged
                    self._folder.commit(number, replace(segment, damaged=max(segment.damaged, lost)))
                elif kind == "quit":
                    return
                self.busy_s += time.perf_counter() - clock
        except BaseException as error:  # noqa: BLE001 - raised again by the next call
            self._error = error
        finally:
            if writer is not None:
                writer.abandon()
                self._folder.partial_path(number).unlink(missing_ok=True)


class _Peekable:
    def __init__(self, items: Iterable[Frame]) -> None:
        self._items = iter(items)
        self._held: Frame | None = None

    def take_before(self, end: int | None) -> Frame | None:
        frame = self._held if self._held is not None else next(self._items, None)
        self._held = None
        if frame is not None and end is not None and frame.pts >= end:
            self._held = frame
            return None
        return frame


def _while_before(frames: _Peekable, end: int | None) -> Iterator[Frame]:
    while (frame := frames.take_before(end)) is not None:
        yield frame


def _runs(missing: Sequence[Span], workers: int) -> list[list[Span]]:
    """Group consecutive spans into runs that are decoded in one pass; single spans where several workers share."""
    if workers > 1:
        return [[span] for span in missing]
    runs: list[list[Span]] = []
    for span in missing:
        if runs and runs[-1][-1].number + 1 == span.number:
            runs[-1].append(span)
        else:
            runs.append([span])
    return runs


def _finish(
    plan: VideoPlan, options: VideoOptions, folder: WorkFolder, segments: Sequence[EncodedSegment], *, overwrite: bool
) -> VideoResult:
    """Join, check, rename; keep the partial output of a damaged source and say so."""
    notices = list(plan.notices)
    frames_in = sum(len(segment.pts) for segment in segments)
    damaged = sum(segment.damaged for segment in segments)
    if frames_in == 0:
        raise RunError(f"no frame of '{plan.source.path}' could be decoded. The file is damaged.")
    times = [pts for segment in segments for pts in segment.pts]
    bounds = (plan.spans[0].start, plan.spans[-1].end)
    problems = source_problems(
        plan.source, times, damaged=damaged, fields_merged=plan.fields == "detelecine", span=bounds
    )
    keep = bool(problems) and not options.accept_damage
    pieces = [(folder.video_path(span.number), segment) for span, segment in zip(plan.spans, segments, strict=True)]
    pieces = [(path, segment) for path, segment in pieces if segment.pts]
    span = None
    if options.start is not None or options.end is not None:
        first = pieces[0][1].pts[0] * plan.source.info.video.time_base
        origin = _origin(plan.index, plan.source.info)
        span = (first, None if options.end is None else options.end + origin)
    if is_sequence(plan.target):
        size = _write_pictures(plan, pieces, overwrite=overwrite)
        last = pieces[-1][1].pts[-1] - pieces[0][1].pts[0]
        length = float(last * plan.source.info.video.time_base + 1 / plan.rate)
        if keep:
            raise RunError(
                f"'{plan.source.path}' is damaged ({'; '.join(problems)}). {frames_in} pictures were written."
            )
        return _result(plan, frames_in, frames_in, length, size, notices)
    with atomic_path(plan.target, overwrite=overwrite, keep_partial=keep) as partial:
        try:
            join(
                partial,
                plan.target,
                plan.source,
                plan.streams,
                pieces,
                JoinSettings(rate=plan.rate, colour=plan.colour, sar=plan.sar, span=span),
            )
            check = check_output(
                partial,
                times,
                plan.source.info.video.time_base,
                rate=plan.rate,
                variable_rate=container_of(plan.target).variable_rate,
            )
            frames_out, duration, size = check.frames, check.duration_s, check.size_bytes
        except BaseException:
            if keep and partial.exists():
                partial.unlink(missing_ok=True)
            raise
        if keep:
            raise RunError(
                f"'{plan.source.path}' is damaged ({'; '.join(problems)}). What could be decoded, {frames_out} frames, "
                f"is in '{partial}'. Repair the source, or add --accept-damage to keep the result as it is."
            )
    if problems:
        notices.append(f"the source is damaged: {'; '.join(problems)}.")
    return _result(plan, frames_in, frames_out, duration, size, notices)


def _result(
    plan: VideoPlan, frames_in: int, frames_out: int, duration_s: float, size_bytes: int, notices: list[str]
) -> VideoResult:
    return VideoResult(
        source=plan.source.path,
        target=plan.target,
        size=(plan.source.info.video.width, plan.source.info.video.height),
        output_size=plan.size,
        frames_in=frames_in,
        frames_out=frames_out,
        duration_s=duration_s,
        size_bytes=size_bytes,
        notices=tuple(notices),
    )


def _write_pictures(plan: VideoPlan, pieces: Sequence[tuple[Path, EncodedSegment]], *, overwrite: bool) -> int:
    """Turn lossless segments into numbered pictures, from 1; return how many bytes were written."""
    number = size = 0
    for path, segment in pieces:
        part = VideoSource.open(path)
        dtype = np.dtype(plan.dtype).type
        count = 0
        for frame in part.frames(dtype=dtype):
            number += 1
            count += 1
            name = picture_at(plan.target, number)
            write_picture(name, frame.rgb, overwrite=overwrite)
            size += name.stat().st_size
        if count != len(segment.pts):
            raise RunError(f"'{path.name}' holds {count} frames instead of {len(segment.pts)}. Start again.")
    return size


def _for_pictures(options: VideoOptions, target: Path, depth: int) -> VideoOptions:
    """Segments of a sequence of pictures are lossless RGB.

    Raises:
        InputError: an encoder was named.
    """
    if options.codec not in (None, "ffv1") or options.pix_fmt or options.crf is not None or options.preset:
        raise InputError(f"'{target.name}' are pictures: leave --codec, --crf, --preset and --pix-fmt out.")
    check_format(target, 1, 1)
    return replace(options, codec="ffv1", pix_fmt="bgr0" if depth <= 8 else "gbrp16le")


def _final_picture(large: Pixels, low: Pixels, plan: VideoPlan, options: VideoOptions) -> Pixels:
    width, height = _single(plan.size, options)
    picture = _resized(large, width, height, options.resampling)
    if options.compare is None:
        return picture
    before = _resized(low, width, height, "bicubic")
    if options.compare == "side":
        return np.concatenate([before, picture], axis=1)
    wiped = picture.copy()
    wiped[:, : width // 2] = before[:, : width // 2]
    wiped[:, width // 2 - 1 : width // 2 + 1] = np.iinfo(wiped.dtype).max
    return wiped


def _resized(picture: Pixels, width: int, height: int, method: Resampling) -> Pixels:
    if picture.shape[:2] == (height, width):
        return picture
    return cast(
        Pixels, from_float(np.clip(resize(to_float(picture), height, width, method=method), 0, 1), picture.dtype)
    )


def _single(size: tuple[int, int], options: VideoOptions) -> tuple[int, int]:
    return (size[0] // 2, size[1]) if options.compare == "side" else size


def _with_purpose(options: VideoOptions) -> VideoOptions:
    if options.purpose is None:
        return options
    preset = PURPOSES[options.purpose]
    same = options.codec is None or encoder_named(options.codec).name == preset["codec"]
    return replace(
        options,
        codec=options.codec or preset["codec"],
        crf=options.crf if options.crf is not None or not same else preset.get("crf"),
        preset=options.preset or (preset.get("preset") if same else None),
        pix_fmt=options.pix_fmt or preset.get("pix_fmt"),
    )


def _fields(source: VideoSource, options: VideoOptions, notices: list[str]) -> FieldFilter:
    if options.detelecine:
        notices.append("3:2 pulldown is undone: four frames are kept of five.")
        return "detelecine"
    info = source.info
    if options.deinterlace == "off":
        return "none"
    if options.deinterlace == "on":
        notices.append("the video is deinterlaced (bwdif).")
        return "bwdif"
    if info.video.codec in _PROGRESSIVE_CODECS or info.video.height > _INTERLACED_LINES_AT_MOST:
        return "none"
    share = source.combed_share()
    flagged = info.video.interlaced
    if share >= _COMBED_ENOUGH or (flagged and share > 0.05):
        said = "flagged as interlaced" if flagged else "not flagged as interlaced"
        notices.append(
            f"the video is deinterlaced (bwdif): it is {said} and {share:.0%} of its moving frames show combs. "
            "--deinterlace off keeps it, --detelecine restores film."
        )
        return "bwdif"
    if flagged:
        notices.append("the video is flagged as interlaced but shows no combs; it is treated as progressive.")
    return "none"


def _output_colour(colour: Colour, pixel_format: str) -> Colour:
    from av.video.format import VideoFormat

    if VideoFormat(pixel_format).is_rgb:
        return replace(colour, matrix=0, full_range=True)
    if colour.matrix == 0:
        return replace(colour, matrix=1, full_range=False, chroma="left")
    return colour


def _notices(
    info: SourceInfo,
    index: PacketIndex,
    variable_allowed: bool,
    streams: Sequence[StreamPlan],
    choice: EncoderChoice,
    size: tuple[int, int],
    encoder: str,
    target: Path,
) -> list[str]:
    video = info.video
    notices: list[str] = []
    if not variable_allowed and grid_rate(index, video) is None:
        raise InputError(
            f"'{target.suffix}' cannot carry a variable frame rate, which '{info.path.name}' has. Write to .mkv."
        )
    if any(video.crop):
        top, bottom, left, right = video.crop
        notices.append(
            f"the file says that {top}, {bottom}, {left}, {right} pixels at the top, bottom, left and right are not "
            "shown; they are cut off."
        )
    if video.colour.guessed:
        notices.append(
            f"colour: the source does not say its {', '.join(video.colour.guessed)}; taken as {video.colour}."
        )
    if bit_depth(choice.pixel_format) < bit_depth(video.pixel_format):
        notices.append(
            f"{encoder} writes {bit_depth(choice.pixel_format)} bits; the source has {bit_depth(video.pixel_format)}."
        )
    padded = coded_size(size, choice.pixel_format)
    if padded != size:
        notices.append(
            f"{choice.pixel_format} needs even sizes: {size[0]}x{size[1]} is padded to {padded[0]}x{padded[1]}."
        )
    if (video.mastering or video.light_level) and not keeps_hdr_metadata(encoder):
        notices.append(f"{encoder} cannot write the HDR metadata (mastering display, light level); libx265 can.")
    notices += [
        f"{name} metadata describes the small picture frame by frame and is not kept."
        for name in video.dynamic_metadata
    ]
    for plan in streams:
        if plan.reason and plan.action != "upscale":
            verb = {"copy": "kept", "convert": "converted", "attach": "kept", "drop": "left out"}[plan.action]
            notices.append(f"stream {plan.stream.label} is {verb}: {plan.reason}.")
    return notices


def _settings(plan: VideoPlan, options: VideoOptions, scale: int, identity: str) -> dict[str, Any]:
    video = plan.source.info.video
    return {
        "apisr": __version__,
        "source": plan.source.sha256(),
        "model": identity,
        "scale": scale,
        "size": list(plan.size),
        "encoder": str(plan.encoder),
        "colour": [plan.colour.matrix, plan.colour.primaries, plan.colour.transfer, plan.colour.full_range],
        "fields": plan.fields,
        "resampling": options.resampling,
        "compare": options.compare,
        "stream": video.index,
        "rate": str(plan.rate),
        "dtype": plan.dtype,
    }


def _origin(index: PacketIndex, info: SourceInfo) -> Fraction:
    """Return the time of the first frame: ``--start 0`` is the beginning of the video, whatever its offset."""
    return int(index.pts[0]) * info.video.time_base


def _clock(index: PacketIndex, info: SourceInfo) -> str:
    seconds = float((int(index.pts[-1]) - int(index.pts[0])) * info.video.time_base)
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{seconds % 60:05.2f}"


def _disk_error(error: OSError, target: Path) -> RunError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RunError(
            f"cannot write '{target}': the disk is full. Free some space and run the command again; "
            "finished segments are kept and continued."
        )
    return RunError(f"cannot write '{target}': {error.strerror or error}.")
