"""Interlacing: measuring it, and the filters that undo it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, NamedTuple, cast

import av
import cv2
import numpy as np
from av.error import BlockingIOError as AvBlockingIOError
from av.error import EOFError as AvEOFError
from av.filter import Graph
from numpy.typing import NDArray

from apisr.video.colour import bit_depth
from apisr.video.info import SourceInfo
from apisr.video.libav import exact
from apisr.video.rgb import plane_arrays

FieldFilter = Literal["none", "bwdif", "detelecine"]

_COMB_STEP = 12
_LEAST_MOTION = 0.002
#: A frame tells the order of its fields if one order makes so much fewer combs; so many frames must, and agree.
_CLEAR_ORDER, _LEAST_CLEAR, _AGREEING = 0.08, 0.2, 0.8


class TimedFrame(NamedTuple):
    """A decoded frame with its time in units of the source."""

    pts: int
    duration: int
    picture: av.VideoFrame


def combed_share(frames: Iterator[TimedFrame], *, most: int = 120) -> float:
    """Measure the share of moving frames that show interlacing combs.

    A place is combed when five lines on top of each other alternate between lighter and darker. Fine drawings, dither
    and scan lines do that, too, so two more things are asked. First, the combs of a frame are compared with those of a
    frame that is given every second line of the frame before it: of a progressive picture that makes many, of an
    interlaced one hardly more than it had. Second, the fields of interlaced video follow each other: woven with the
    field before it, a field shows fewer combs than with the field after the next. Progressive pictures, whatever their
    texture, show as many either way.

    Args:
        frames: decoded frames from the beginning.
        most: how many frames to look at.

    Returns:
        0 (progressive) to 1 (every moving frame is combed).
    """
    combed = moving = 0
    orders: list[float] = []
    window: list[NDArray[np.int16]] = []
    for number, (_, _, frame) in enumerate(frames):
        if number >= most:
            break
        if frame.format.is_rgb or frame.format.has_palette or not frame.format.is_planar:
            return 0.0
        scale = max(0, bit_depth(frame.format.name) - 8)
        luma = (plane_arrays(frame)[0] >> scale).astype(np.int16)
        if window and window[-1].shape != luma.shape:
            window.clear()
        window = [*window[-2:], luma]
        if len(window) < 2:
            continue
        own, foreign, motion = _comb_counts(window[-2], luma)
        if max(own, foreign) > 0.05 * motion:
            moving += 1
            combed += own > 0.6 * foreign
        if len(window) == 3 and motion:
            orders.append(_field_order(*window))
    if not moving or not _one_order(orders):
        return 0.0
    return combed / moving


def _comb_counts(before: NDArray[np.int16], luma: NDArray[np.int16]) -> tuple[int, int, int]:
    """Return the combed places of a frame, those of a mixture with the frame before, and the moving places."""
    motion = _motion(before, luma)
    if not motion.size or motion.mean() <= _LEAST_MOTION:  # none where there are less than five lines
        return 0, 0, 0
    own = int((_combs(luma) & motion).sum())
    foreign = min(int((_combs(_woven(*pair)) & motion).sum()) for pair in ((luma, before), (before, luma)))
    return own, foreign, int(motion.sum())


def _field_order(before: NDArray[np.int16], luma: NDArray[np.int16], after: NDArray[np.int16]) -> float:
    """Return how much fewer combs one order of fields makes than the other: -1 to 1, about 0 if progressive."""
    motion = _motion(before, luma) | _motion(luma, after)
    top_first = (_combs(_woven(luma, before)) & motion).sum() + (_combs(_woven(after, luma)) & motion).sum()
    bottom_first = (_combs(_woven(before, luma)) & motion).sum() + (_combs(_woven(luma, after)) & motion).sum()
    total = int(top_first) + int(bottom_first)
    return 0.0 if not total else (int(bottom_first) - int(top_first)) / total


def _one_order(orders: list[float]) -> bool:
    """Whether the frames agree on an order of fields."""
    clear = [order for order in orders if abs(order) > _CLEAR_ORDER]
    if len(clear) < max(1, _LEAST_CLEAR * len(orders)):
        return False
    first = sum(order > 0 for order in clear) / len(clear)
    return max(first, 1 - first) >= _AGREEING


def _woven(even: NDArray[np.int16], odd: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return a frame with the even lines of one frame and the odd lines of another."""
    mixed = even.copy()
    mixed[1::2] = odd[1::2]
    return mixed


def _motion(before: NDArray[np.int16], luma: NDArray[np.int16]) -> NDArray[np.bool_]:
    changed = (np.abs(luma - before) > _COMB_STEP).astype(np.uint8)
    return cv2.dilate(changed, np.ones((5, 1), np.uint8))[2:-2] > 0


def _combs(luma: NDArray[np.int16]) -> NDArray[np.bool_]:
    steps = np.diff(luma, axis=0)
    large = np.abs(steps) > _COMB_STEP
    turns = (steps[:-1] * steps[1:] < 0) & large[:-1] & large[1:]
    return turns[:-2] & turns[1:-1] & turns[2:]


def filtered_fields(frames: Iterator[TimedFrame], source: SourceInfo, fields: FieldFilter) -> Iterator[TimedFrame]:
    """Run frames through a deinterlacer; times stay in units of the source."""
    unit = source.video.time_base
    graph: Graph | None = None
    shape: tuple[str, int, int] | None = None
    for timed in frames:
        frame = timed.picture
        key = (frame.format.name, frame.width, frame.height)
        if graph is None or shape != key:
            if graph is not None:
                graph.push(None)
                yield from _drained(graph, unit)
            graph, shape = _field_graph(frame, source, fields), key
        frame.pts = timed.pts
        frame.time_base = unit
        if fields == "bwdif" and timed.duration:
            frame.duration = timed.duration
        graph.push(frame)
        yield from _drained(graph, unit)
    if graph is not None:
        graph.push(None)
        yield from _drained(graph, unit)


def _drained(graph: Graph, unit: Fraction) -> Iterator[TimedFrame]:
    while True:
        try:
            out = cast(av.VideoFrame, graph.pull())
        except (AvBlockingIOError, AvEOFError):
            return
        factor = exact(out.time_base) / unit
        yield TimedFrame(round(cast(int, out.pts) * factor), round((out.duration or 0) * factor), out)


def _field_graph(frame: av.VideoFrame, info: SourceInfo, fields: FieldFilter) -> Graph:
    graph = Graph()
    unit, rate = info.video.time_base, info.video.declared_rate or Fraction(30000, 1001)
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        f":time_base={unit.numerator}/{unit.denominator}:frame_rate={rate.numerator}/{rate.denominator}",
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
