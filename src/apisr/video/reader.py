"""Reading the frames of a video with their exact times, from anywhere in the file.

Frames come out in presentation order as RGB arrays, each with the time stamp that the file gives it, in the units of
the file. Reading may start at any time: decoding then begins one keyframe earlier than needed, so that pictures which
refer across a keyframe (open groups, recovery points) are complete, and the frames are bit for bit those of reading
from the start. Where a container cannot be sought reliably the file is decoded from its start and the beginning thrown
away.

    >>> from apisr.video.probe import probe, scan
    >>> source = probe(path)  # doctest: +SKIP
    >>> for frame in read_frames(source, scan(path, source.video)):  # doctest: +SKIP
    ...     print(frame.pts * source.video.time_base, frame.rgb.shape)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import cv2
import numpy as np
from av.error import BlockingIOError as AvBlockingIOError
from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.filter import Graph
from av.sidedata.encparams import VideoEncParams
from av.video.stream import VideoStream
from numpy.typing import NDArray

from apisr.core.errors import RunError
from apisr.image import Pixels
from apisr.video.colour import ToRgb, bit_depth, plane_arrays
from apisr.video.libav import exact, side_data
from apisr.video.probe import PacketIndex, SourceInfo, open_input, packets_of

FieldFilter = Literal["none", "bwdif", "detelecine"]

_SAFE_DISTANCE_KEYFRAMES = 1
_COMB_STEP = 12


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        pts: presentation time in units of the video's time base.
        duration: how long it is shown in the same units, 0 if unsaid.
        rgb: ``(height, width, 3)`` uint8 or uint16.
        damaged: whether the decoder had to conceal errors in it.
        quantiser: of each block of 16x16 pixels, on the codec's own scale (H.264: 0 to 51, MPEG-2: 1 to 112), if it was
            asked for and the decoder tells (H.264 and MPEG-2); else None.
    """

    pts: int
    duration: int
    rgb: Pixels
    damaged: bool = False
    quantiser: NDArray[np.int32] | None = None


@dataclass
class ReadReport:
    """What happened while reading (filled in as frames come out).

    Attributes:
        frames: frames given out.
        damaged: frames with concealed errors.
        failures: what the decoder or the demuxer said, first ones only.
        retimed: frames whose time was missing or not increasing and was set.
        decode_s: seconds spent in decoding, filters and colour.
        quantisers: whether the decoder is asked for them.
    """

    frames: int = 0
    damaged: int = 0
    failures: list[str] = field(default_factory=list[str])
    retimed: int = 0
    decode_s: float = 0.0
    quantisers: bool = False


def working_dtype(pixel_format: str, *, deep: bool = False) -> Any:
    """Return the dtype that frames of a pixel format are processed in: uint16 above 8 bits or if `deep`."""
    return np.uint16 if deep or bit_depth(pixel_format) > 8 else np.uint8


def read_frames(
    source: SourceInfo,
    index: PacketIndex,
    *,
    start: int | None = None,
    end: int | None = None,
    dtype: Any = np.uint8,
    fields: FieldFilter = "none",
    threads: int = 0,
    quantisers: bool = False,
    report: ReadReport | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Frame]:
    """Read frames with ``start <= pts < end`` in presentation order.

    Args:
        source: the file, see :func:`apisr.video.probe.probe`.
        index: its packets, see :func:`apisr.video.probe.scan`.
        start: first time stamp, None for the beginning.
        end: time stamp to stop before, None for the end of the file.
        dtype: of the RGB arrays.
        fields: ``bwdif`` deinterlaces (one frame out for one in), ``detelecine`` restores film from 3:2 material.
        threads: of the decoder, 0 for automatic.
        quantisers: also tell how coarsely each block was coded.
        report: filled in while reading.
        stop: ends the iteration when set.

    Yields:
        Frames with strictly increasing times.

    Raises:
        RunError: reading fails in a way that leaves no frames.
    """
    told = report if report is not None else ReadReport()
    convert = ToRgb(source.video.colour, dtype)
    told.quantisers = quantisers
    decoded = _decoded(source, index, start if fields != "detelecine" else None, threads, told, stop)
    stage = decoded if fields == "none" else _fields(decoded, source, fields)
    top, bottom, left, right = source.video.crop
    last: int | None = None
    clock = time.perf_counter()
    for pts, duration, frame in stage:
        if last is not None and pts <= last:
            told.retimed += 1
            pts = last + 1  # two frames cannot share a time
        last = pts
        if start is not None and pts < start:
            continue
        if end is not None and pts >= end:
            break
        damaged = bool(frame.is_corrupt)
        told.damaged += damaged
        told.frames += 1
        rgb = convert(frame)
        if any(source.video.crop):
            rgb = np.ascontiguousarray(rgb[top : rgb.shape[0] - bottom, left : rgb.shape[1] - right])
        told.decode_s += time.perf_counter() - clock
        yield Frame(pts, duration, rgb, damaged, _quantiser(frame) if quantisers else None)
        clock = time.perf_counter()
        if stop is not None and stop.is_set():
            return
    told.decode_s += time.perf_counter() - clock


def field_times(video_fields: FieldFilter, index: PacketIndex) -> bool:
    """Return whether frames keep their own number and times under a field filter."""
    return video_fields != "detelecine"


def combed_share(path: Path, source: SourceInfo, *, frames: int = 120) -> float:
    """Measure the share of moving frames that show interlacing combs (reads the first seconds).

    A place is combed when five lines on top of each other alternate between lighter and darker. Fine drawings do that
    too, so the combs of a frame are compared with those of a frame that is given every second line of the frame before
    it: of a progressive picture that makes many, of an interlaced one hardly more than it had.

    Args:
        path: the video.
        source: its description.
        frames: how many frames to look at.

    Returns:
        0 (progressive) to 1 (every moving frame is combed).
    """
    combed = moving = 0
    before: np.ndarray[Any, np.dtype[np.int16]] | None = None
    report = ReadReport()
    for number, (_, _, frame) in enumerate(_decoded(source, None, None, 0, report, None)):
        if number >= frames:
            break
        if frame.format.is_rgb or frame.format.has_palette or not frame.format.is_planar:
            return 0.0
        scale = max(0, bit_depth(frame.format.name) - 8)
        luma = (plane_arrays(frame)[0] >> scale).astype(np.int16)
        if before is not None and before.shape == luma.shape:
            changed = (np.abs(luma - before) > _COMB_STEP).astype(np.uint8)
            motion = cv2.dilate(changed, np.ones((5, 1), np.uint8))[2:-2] > 0
            if motion.mean() > 0.002:
                mixed = luma.copy()
                mixed[1::2] = before[1::2]
                own, foreign = int((_combs(luma) & motion).sum()), int((_combs(mixed) & motion).sum())
                if max(own, foreign) > 0.05 * motion.sum():
                    moving += 1
                    combed += own > 0.6 * foreign
        before = luma
    return combed / moving if moving else 0.0


def _combs(luma: np.ndarray[Any, np.dtype[np.int16]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    steps = np.diff(luma, axis=0)
    large = np.abs(steps) > _COMB_STEP
    turns = (steps[:-1] * steps[1:] < 0) & large[:-1] & large[1:]
    return turns[:-2] & turns[1:-1] & turns[2:]


def _decoded(
    source: SourceInfo,
    index: PacketIndex | None,
    start: int | None,
    threads: int,
    report: ReadReport,
    stop: threading.Event | None,
) -> Iterator[tuple[int, int, av.VideoFrame]]:
    """Yield (pts, duration, frame) in presentation order from a safe place before `start`."""
    origin, limit = _entry_point(source, index, start)
    if origin is not None and limit is not None:
        sought = _decode_pass(source, report, threads, stop, origin=origin, limit=limit)
        first = next(sought, None)
        if first is not None:
            yield first
            yield from sought
            return
    yield from _decode_pass(source, report, threads, stop)


def _entry_point(source: SourceInfo, index: PacketIndex | None, start: int | None) -> tuple[int | None, int | None]:
    """Return (where to seek, the latest keyframe that may come first), None to read from the beginning."""
    if index is None or start is None or not index.dated or source.video.counted:
        return None, None
    needed = int(np.searchsorted(index.keyframes, start, side="right")) - 1
    if needed - _SAFE_DISTANCE_KEYFRAMES <= 0:
        return None, None
    return int(index.keyframes[needed - _SAFE_DISTANCE_KEYFRAMES]), int(index.keyframes[needed])


def _decode_pass(
    source: SourceInfo,
    report: ReadReport,
    threads: int,
    stop: threading.Event | None,
    *,
    origin: int | None = None,
    limit: int | None = None,
) -> Iterator[tuple[int, int, av.VideoFrame]]:
    """Decode from the beginning or from `origin`; nothing is yielded if seeking lands after the keyframe `limit`."""
    video = source.video
    step = max(1, round((1 / (video.declared_rate or Fraction(24))) / video.time_base))
    last: int | None = None
    with open_input(source.path) as container:
        stream = cast(VideoStream, container.streams[video.index])
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO"
        if report.quantisers:
            stream.codec_context.options = {"export_side_data": "venc_params"}
        waiting = origin is not None
        if origin is not None:
            try:
                container.seek(origin, stream=stream, backward=True)
            except FFmpegError:
                return
        packets = packets_of(container, video.index)
        finished = False
        while not finished:
            if stop is not None and stop.is_set():
                return
            frames: list[av.VideoFrame] = []
            try:
                packet = next(packets, None)
                if packet is None:
                    finished = True
                    frames = stream.decode(None)
                else:
                    if waiting:
                        if not packet.is_keyframe:
                            continue
                        if limit is None or packet.pts is None or packet.pts > limit:
                            return
                        waiting = False
                    if packet.is_corrupt:
                        _note(report, "a damaged packet")
                    frames = packet.decode()
            except (AvEOFError, StopIteration):
                finished = True
            except FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise RunError(f"out of memory while decoding '{source.path}'. Close other programs.") from error
                _note(report, str(error.strerror or error))
                if not isinstance(error, ValueError):  # reading failed; invalid data only skips a packet
                    finished = True
            for frame in frames:
                pts = _time_of(frame, last, step, counted=video.counted)
                if frame.pts is None and not video.counted:
                    report.retimed += 1
                last = pts
                yield pts, int(frame.duration or 0), frame


def _time_of(frame: av.VideoFrame, last: int | None, step: int, *, counted: bool) -> int:
    if counted:
        return 0 if last is None else last + 1
    if frame.pts is not None:
        return frame.pts
    if last is not None:
        return last + step
    return frame.dts or 0


def _quantiser(frame: av.VideoFrame) -> NDArray[np.int32] | None:
    for _, entry in side_data(frame):
        if isinstance(entry, VideoEncParams) and entry.nb_blocks:
            try:
                return entry.qp_map()
            except (RuntimeError, ValueError):  # other blocks than 16x16
                return None
    return None


def _note(report: ReadReport, words: str) -> None:
    if len(report.failures) < 5:
        report.failures.append(words.replace("\n", " ").strip())
    report.damaged += 1


def _fields(
    frames: Iterator[tuple[int, int, av.VideoFrame]], source: SourceInfo, fields: FieldFilter
) -> Iterator[tuple[int, int, av.VideoFrame]]:
    """Run frames through a deinterlacer; times stay in units of the source."""
    unit = source.video.time_base
    graph: Graph | None = None
    shape: tuple[str, int, int] | None = None

    def drained(one: Graph) -> Iterator[tuple[int, int, av.VideoFrame]]:
        while True:
            try:
                out = cast(av.VideoFrame, one.pull())
            except (AvBlockingIOError, AvEOFError):
                return
            factor = exact(out.time_base) / unit
            yield round(cast(int, out.pts) * factor), round((out.duration or 0) * factor), out

    for pts, duration, frame in frames:
        key = (frame.format.name, frame.width, frame.height)
        if graph is None or shape != key:
            if graph is not None:
                graph.push(None)
                yield from drained(graph)
            graph, shape = _field_graph(frame, source, fields), key
        frame.pts = pts
        frame.time_base = unit
        if fields == "bwdif" and duration:
            frame.duration = duration
        graph.push(frame)
        yield from drained(graph)
    if graph is not None:
        graph.push(None)
        yield from drained(graph)


def _field_graph(frame: av.VideoFrame, info: SourceInfo, fields: FieldFilter) -> Graph:
    graph = Graph()
    unit, rate = info.video.time_base, info.video.declared_rate or Fraction(30000, 1001)
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={unit.numerator}/{unit.denominator}"
        f":frame_rate={rate.numerator}/{rate.denominator}",
    )
    if fields == "bwdif":
        nodes = [graph.add("bwdif", "mode=send_frame:parity=auto:deint=all")]
    else:
        nodes = [
            graph.add("fieldmatch", "order=auto:combmatch=full"),
            graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
            graph.add("decimate", "cycle=5"),
        ]
    graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
    return graph


def in_thread(items: Iterator[Any], depth: int, stop: threading.Event) -> Iterator[Any]:
    """Run an iterator in a thread of its own, at most `depth` items ahead; its exceptions arrive here.

    Args:
        items: what to run.
        depth: bound of the queue (memory).
        stop: set to end the thread early.
    """
    return _Ahead(items, depth, stop)


class _Ahead:
    def __init__(self, items: Iterator[Any], depth: int, stop: threading.Event) -> None:
        self._ready: list[Any] = []
        self._depth = depth
        self._stop = stop
        self._condition = threading.Condition()
        self._error: BaseException | None = None
        self._done = False
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> _Ahead:
        return self

    def __next__(self) -> Any:
        with self._condition:
            while not self._ready and not self._done:
                self._condition.wait(0.5)
            if self._ready:
                item = self._ready.pop(0)
                self._condition.notify_all()
                return item
        self._thread.join()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        with self._condition:
            self._ready.clear()
            self._condition.notify_all()
        self._thread.join()

    def _run(self, items: Iterator[Any]) -> None:
        try:
            for item in items:
                with self._condition:
                    while len(self._ready) >= self._depth and not self._stop.is_set():
                        self._condition.wait(0.5)
                    if self._stop.is_set():
                        break
                    self._ready.append(item)
                    self._condition.notify_all()
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            self._error = error
        finally:
            close: Callable[[], None] | None = getattr(items, "close", None)
            if close is not None:
                close()
            with self._condition:
                self._done = True
                self._condition.notify_all()
