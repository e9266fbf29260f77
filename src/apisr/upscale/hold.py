"""Hold: give a drawing that a codec re-encodes in every frame the same pixels in every frame.

Exact reuse (:mod:`apisr.upscale.reuse`) saves work only where the input is bit-identical. A codec writes a held
drawing a little differently in every frame, so on compressed video little is identical. This filter runs before the
upscaler. Block by block it keeps a *canonical* input while the frame differs from it only by coding noise:

- The difference is always taken to the canonical block, never to the last frame: nothing drifts.
- It is judged after a 4x4 mean (a moved shape, a fade), by its largest value (a thin line, a dot) and by the mean of
  the block, in luma and in chroma. The limits widen with the codec's quantiser where it is known, else with the noise
  of the stream.
- Beside a block that surely changed the limits are tighter: no dots are left behind at the corners of blocks.
- Where much of the frame changes (fade, pan, flash) the limits are tighter everywhere; where nearly all of it changes
  the frame starts a new shot and is followed as it is.
- A new canonical block is the mean of what the next frames show of the same drawing (a bounded look-ahead).
- Earlier canonical blocks, and the last few shots, are kept: a drawing that returns gets the very bits that it had.

Measured, and what did not work: ``docs/hold.md``.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0)
    >>> drawing = np.full((32, 32, 3), 100, np.uint8)
    >>> frames = [drawing + noise.integers(0, 2, drawing.shape, np.uint8) for _ in range(5)]
    >>> held = list(HoldFilter().run(frames))
    >>> len(held), all(np.array_equal(held[0], frame) for frame in held)
    (5, True)
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image import ImageInt
from apisr.upscale.options import Hold
from apisr.upscale.results import HoldStats

Blocks = NDArray[np.intp]
"""Flat numbers of blocks, row by row."""

BLOCK_PX = 16
"""Side of the blocks that are held or follow."""
LOOKAHEAD_FRAMES = 24
"""Most frames that are read ahead (one second of film)."""
LOOKAHEAD_BYTES = 192 * 2**20
"""Most memory for frames that are read ahead; large frames get a shorter look-ahead."""
STORE_BLOCKS = 6
"""Earlier canonical blocks that are kept for each place."""
SHOTS = 3
"""Earlier shots that are kept."""

# Limits in 8-bit code values at quantiser 26 of H.264, luma; measured on held drawings, see docs/hold.md.
_LOW_LIMIT = 2.6
_MEAN_LIMIT = 0.9
_PEAK_FLAT = 6.0
_PEAK_PER_RANGE = 0.06
_CHROMA_LOW_LIMIT = 3.5
_CHROMA_PEAK_LIMIT = 10.0

_STRONG = 1.6
"""Factor of all limits in the mode `strong`."""
_SURE = 2.5
"""Times the limits from which a block surely shows another drawing."""
_BESIDE = 0.5
"""Share of the limits that is left beside sure changes."""
_BUSY_SHARE, _BUSY = 0.3, 0.4
"""From this share of changed blocks on, this share of the limits is left."""
_CALM_SHARE, _CALM = 0.002, 1.4
"""Up to this share of sure changes a frame shows the same drawing, and the limits are wider for a while."""
_LATE_FRAMES = 6
"""A block beyond the usual limits for so many frames shows a better coding of its drawing, and follows."""
_DRIFT, _DRIFT_LIMIT = 0.25, 0.3
"""Mean change of the blocks' luma, in one direction, that means a slow fade, and the share of the limits left then."""
_CUT_SHARE = 0.85
"""From this share of changed blocks on, a frame starts a new shot."""
_RETURN_SHARE = 0.5
"""A frame belongs to an earlier shot if at least this share of its blocks matches."""

_QUANTISER, _QUANTISER_STEP = 29.0, 11.0
"""Mean H.264 quantiser that the limits were measured at, and by how much more they double."""
_USUAL, _ENOUGH = 0.85, 500
"""The 95th percentile of the held differences there; blocks that must have been seen for an estimate."""
_SCALE_RANGE = (0.75, 2.0)

#: AVVideoEncParams of libavutil: number of blocks, their offset and size, kind of codec, quantiser of the frame.
#: A block is four integers of place and one that is added to the frame's quantiser.
_ENCODING_HEADER = struct.Struct("@I4xNNii")
_KIND_H264 = 1

_QUADS = (BLOCK_PX // 2) ** 2

#: BT.601 weights; the limits are coarser than any choice of weights.
_TO_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
_TO_CHROMA = np.array([[-0.299, -0.587, 0.886], [0.701, -0.587, -0.114]], np.float32)


class _Frame:
    """A frame that waits: its pixels, padded to whole blocks, and which blocks equal those of the frame before."""

    def __init__(self, pixels: ImageInt, before: _Frame | None) -> None:
        height, width = pixels.shape[:2]
        self.shape = pixels.shape
        self.dtype = pixels.dtype
        bottom, right = -height % BLOCK_PX, -width % BLOCK_PX
        padded = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else pixels
        self.padded: NDArray[Any] = np.ascontiguousarray(padded)
        self.blocks = _as_blocks(self.padded)
        self.rows, self.columns = self.blocks.shape[:2]
        self.scale = 1.0
        self.thumbs = _thumbs(self.padded)
        same_kind = before is not None and before.shape == pixels.shape and before.dtype == pixels.dtype
        self.fresh = not same_kind
        if before is None or not same_kind:
            self.changed = np.ones((self.rows, self.columns), bool)
        else:
            self.changed = _changed(before.padded, self.padded)

    def take(self, blocks: Blocks) -> ImageInt:
        """Return the pixels ``(n, 16, 16, 3)`` of some blocks."""
        return self.blocks[blocks // self.columns, blocks % self.columns]


class _Shot:
    """The canonical picture of a shot and earlier canonical blocks of each place."""

    def __init__(self, frame: _Frame) -> None:
        rows, columns = frame.rows, frame.columns
        self.picture = np.empty((rows * BLOCK_PX, columns * BLOCK_PX, 3), frame.dtype)
        self.blocks = _as_blocks(self.picture)
        self.columns = columns
        self.thumbs = frame.thumbs.copy()
        self.score = np.zeros(rows * columns, np.float32)
        self.late = np.zeros(rows * columns, np.int64)
        self.frames = 0
        self.store: list[_Store] = []
        self.used = np.full((STORE_BLOCKS, rows * columns), -1, np.int64)

    def take(self, blocks: Blocks) -> ImageInt:
        return self.blocks[blocks // self.columns, blocks % self.columns]

    def put(self, blocks: Blocks, content: ImageInt, thumbs: NDArray[np.float32]) -> None:
        self.blocks[blocks // self.columns, blocks % self.columns] = content
        self.score[blocks] = 0
        self.thumbs[blocks] = thumbs

    def remember(self, blocks: Blocks, content: ImageInt, now: int) -> None:
        """Keep contents for when they return; the least recently used of a place goes first."""
        slots = self.used[:, blocks].argmin(axis=0)
        while len(self.store) <= slots.max(initial=-1):
            self.store.append(_Store(self.used.shape[1], content.dtype))
        for slot in np.unique(slots).tolist():
            chosen = slots == slot
            self.store[slot].content[blocks[chosen]] = content[chosen]
            self.store[slot].thumbs[blocks[chosen]] = self.thumbs[blocks[chosen]]
        self.used[slots, blocks] = now


class _Store:
    """One earlier content of each place of a shot."""

    def __init__(self, blocks: int, dtype: np.dtype[Any]) -> None:
        self.content: ImageInt = np.zeros((blocks, BLOCK_PX, BLOCK_PX, 3), dtype)
        self.thumbs = np.zeros((blocks, 16), np.float32)

    def take(self, blocks: Blocks) -> ImageInt:
        return self.content[blocks]


class HoldFilter:
    """Holds the drawings of one video; frames go in and come out in the same order and number.

    Frames come out late, by up to :data:`LOOKAHEAD_FRAMES` (fewer where :data:`LOOKAHEAD_BYTES` binds).

    Args:
        mode: ``auto``; ``strong`` with limits 1.6 times as wide, for bad sources; ``off`` hands frames through.
        lookahead_frames: most frames to read ahead; 0 decides on each frame alone.

    Attributes:
        stats: what was done so far.
    """

    def __init__(self, mode: Hold = "auto", *, lookahead_frames: int = LOOKAHEAD_FRAMES) -> None:
        self.mode: Hold = mode
        self.stats = HoldStats()
        self._lookahead = lookahead_frames
        self._queue: deque[_Frame] = deque()
        self._last: _Frame | None = None
        self._shot: _Shot | None = None
        self._earlier: list[_Shot] = []
        self._output: ImageInt | None = None
        self._noise = _NoiseEstimate()

    def run(self, frames: Iterable[ImageInt]) -> Iterator[ImageInt]:
        """Filter a whole video: one frame out for each frame in, in order."""
        for frame in frames:
            yield from self.push(frame)
        yield from self.finish()

    def push(self, frame: ImageInt, *, quantiser: float | NDArray[Any] | None = None) -> list[ImageInt]:
        """Give the next frame.

        Args:
            frame: ``(H, W, 3)`` uint8 or uint16 RGB; it is kept, so it must not be changed afterwards.
            quantiser: H.264 scale (0 to 51): of the frame, or of each of its macroblocks (:func:`quantisers_of`); None
                estimates the noise from the stream.

        Returns:
            Frames that are ready, oldest first; treat them as read-only. A frame without any change is the same
            object as the frame before it.
        """
        if self.mode == "off":
            self.stats.frames += 1
            return [frame]
        if quantiser is not None:
            self._noise.heard(quantiser)
        waiting = _Frame(frame, self._last)
        self._last = waiting
        self._queue.append(waiting)
        depth = min(self._lookahead, LOOKAHEAD_BYTES // max(1, frame.nbytes))
        ready: list[ImageInt] = []
        while len(self._queue) > depth:
            ready.append(self._next())
        return ready

    def finish(self) -> list[ImageInt]:
        """Return the frames that are still inside, after the last one was given."""
        ready: list[ImageInt] = []
        while self._queue:
            ready.append(self._next())
        return ready

    def _next(self) -> ImageInt:
        frame = self._queue.popleft()
        frame.scale = self._noise.scale() * (_STRONG if self.mode == "strong" else 1.0)
        if frame.fresh:
            self._shot, self._earlier, self._output = None, [], None
        self.stats.frames += 1
        self.stats.blocks += frame.changed.size
        if self._shot is None:
            self._shot = self._begin(frame)
            self._fill(frame, np.arange(frame.changed.size))
            return self._deliver(frame)
        follow = self._judge(frame)
        if float((self._shot.score > 1).mean()) > _CUT_SHARE:
            follow = self._change_shot(frame)
        self._shot.frames += 1
        self.stats.held_blocks += int(np.count_nonzero(frame.changed.ravel() & ~follow))
        if not follow.any() and self._output is not None:
            self.stats.whole_frames += 1
            return self._output
        self._fill(frame, self._return_earlier(frame, np.flatnonzero(follow)))
        return self._deliver(frame)

    def _judge(self, frame: _Frame) -> NDArray[np.bool_]:
        """Tell which blocks cannot be held."""
        assert self._shot is not None
        score = self._shot.score
        changed = np.flatnonzero(frame.changed)
        score[changed] = _scores(self._shot, frame, changed, _SURE)
        grid = score.reshape(frame.changed.shape)
        beside = cv2.dilate((grid > _SURE).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool).ravel()
        limit = np.where(beside, np.float32(_BESIDE), np.float32(1))
        drift = np.where(score > _SURE, 0, (frame.thumbs - self._shot.thumbs).mean(axis=1)) / frame.scale
        if abs(float(drift.mean())) > _DRIFT or float((np.abs(drift) > 2 * _DRIFT).mean()) > _BUSY_SHARE:
            limit = np.minimum(limit, np.float32(_DRIFT_LIMIT))
        elif float((score > 1).mean()) > _BUSY_SHARE:
            limit = np.minimum(limit, np.float32(_BUSY))
        else:
            self._noise.seen(score[changed] * frame.scale)
            if float((score > _SURE).mean()) < _CALM_SHARE:
                limit = np.where(self._shot.late < _LATE_FRAMES, np.float32(_CALM), np.float32(1))
        self._shot.late = np.where(score > 1, self._shot.late + 1, 0)
        self._limit = limit
        return score > limit

    def _change_shot(self, frame: _Frame) -> NDArray[np.bool_]:
        """Go back to an earlier shot that shows this frame, or begin a new one; return what has to follow."""
        assert self._shot is not None
        everything = np.arange(frame.changed.size)
        for shot in self._earlier:
            if (_scores(shot, frame, everything, 1) <= 1).mean() >= _RETURN_SHARE:
                self._earlier.remove(shot)
                self._keep(self._shot)
                self._shot = shot
                self.stats.returned_shots += 1
                changed, frame.changed = frame.changed, np.ones_like(frame.changed)
                follow = self._judge(frame)
                frame.changed = changed
                self._output = None
                return follow
        self._keep(self._shot)
        self._shot = self._begin(frame)
        self._limit = np.zeros(frame.changed.size, np.float32)
        return np.ones(frame.changed.size, bool)

    def _keep(self, shot: _Shot) -> None:
        if shot.frames >= 2:
            self._earlier.insert(0, shot)
            del self._earlier[SHOTS:]

    def _begin(self, frame: _Frame) -> _Shot:
        self.stats.shots += 1
        return _Shot(frame)

    def _return_earlier(self, frame: _Frame, blocks: Blocks) -> Blocks:
        """Give blocks that show an earlier drawing its canonical content; return the others."""
        assert self._shot is not None
        shot = self._shot
        best = np.full(len(blocks), np.inf, np.float32)
        most = float(self._limit[blocks].max(initial=0))
        slot_of = np.full(len(blocks), -1)
        for slot, store in enumerate(shot.store):
            asked = np.flatnonzero(shot.used[slot, blocks] >= 0)
            if not len(asked):
                continue
            score = _scores(store, frame, blocks[asked], most)
            better = (score <= self._limit[blocks[asked]]) & (score < best[asked])
            best[asked[better]] = score[better]
            slot_of[asked[better]] = slot
        for slot, store in enumerate(shot.store):
            found = blocks[slot_of == slot]
            if len(found):
                shot.put(found, store.content[found], store.thumbs[found])
                shot.used[slot, found] = self.stats.frames
        self.stats.returned_blocks += int(np.count_nonzero(slot_of >= 0))
        return blocks[slot_of < 0]

    def _fill(self, frame: _Frame, blocks: Blocks) -> None:
        """Give blocks a new canonical content: the mean of what the coming frames show of it."""
        assert self._shot is not None
        if not len(blocks):
            return
        self.stats.new_blocks += len(blocks)
        first = frame.take(blocks)
        content, count = self._mean_of_hold(frame, blocks, first)
        kept = count > 1
        thumbs = frame.thumbs[blocks]
        if kept.any():
            thumbs[kept] = _thumbs(content[kept].reshape(-1, BLOCK_PX, 3))
        self._shot.put(blocks, content, thumbs)
        if kept.any():
            self._shot.remember(blocks[kept], content[kept], self.stats.frames)

    def _mean_of_hold(self, frame: _Frame, blocks: Blocks, first: ImageInt) -> tuple[ImageInt, NDArray[np.int64]]:
        """Return the content of blocks (`first` is used up) and how many frames of the same drawing it stands for."""
        assert self._shot is not None
        limit, few = _CALM, _BUSY_SHARE**2 * frame.changed.size
        count = np.ones(len(blocks), np.int64)
        alive = np.arange(len(blocks))
        wide = np.uint16 if first.dtype == np.uint8 and self._lookahead < 256 else np.uint32  # holds the sum of a hold
        total: NDArray[Any] | None = None
        last = first
        run = np.ones(len(blocks), np.int64)
        for later in self._queue:
            if later.fresh:
                break
            moved = later.changed.ravel()[blocks[alive]]
            if len(alive) > few and moved.any():
                drift = (later.thumbs[blocks[alive]] - frame.thumbs[blocks[alive]]).mean(axis=1) / frame.scale
                if abs(float(np.where(np.abs(drift) > _SURE, 0, drift).mean())) > _DRIFT:
                    break
            index = alive[moved]
            if len(index):
                score = _scores(frame, later, blocks[index], _CALM, frame.scale)
                if later is self._queue[0] and np.count_nonzero(score > 1) > _BUSY_SHARE * len(blocks) > few:
                    limit = _BUSY
                fits = score <= limit
                fitting = index[fits]
                if len(fitting):
                    if total is None:
                        total = np.zeros(first.shape, wide)
                        last = first.copy()
                    total[fitting] += last[fitting] * run[fitting, None, None, None].astype(wide)
                    last[fitting] = later.take(blocks[fitting])
                    run[fitting] = 0
                ended = np.zeros(len(blocks), bool)
                ended[index[~fits]] = True
                alive = alive[~ended[alive]]
            run[alive] += 1
            count[alive] += 1
            if not len(alive):
                break
        if total is None:
            return first, count
        several = np.flatnonzero(count > run)
        sums = total[several] + last[several] * run[several, None, None, None].astype(wide)
        first[several] = np.rint(sums.astype(np.float32) / count[several, None, None, None].astype(np.float32))
        return first, count

    def _deliver(self, frame: _Frame) -> ImageInt:
        assert self._shot is not None
        height, width = frame.shape[:2]
        self._output = self._shot.picture[:height, :width].copy()
        return self._output


def quantisers_of(frame: Any) -> NDArray[np.int32] | None:
    """Read the quantiser of each block that libav's H.264 decoder exports.

    Args:
        frame: an ``av.VideoFrame`` of a stream whose ``codec_context.options`` had ``export_side_data=venc_params``
            before the first packet was decoded.

    Returns:
        ``(n,)`` on the scale of H.264 (0 to 51, 8 bit), in the order of the macroblocks; None where the decoder does
        not export it. (VP9 and MPEG-2 decoders export other scales, HEVC and AV1 none: those streams are estimated.)
    """
    for data in frame.side_data:
        if data.type.name != "VIDEO_ENC_PARAMS":
            continue
        raw = bytes(data)
        count, offset, size, kind, base = _ENCODING_HEADER.unpack_from(raw)
        if kind != _KIND_H264 or count == 0:
            return None
        deltas = np.ndarray((count,), np.int32, raw, offset + 16, (size,))
        return (base + deltas).astype(np.int32)
    return None


def differences(canonical: ImageInt, now: ImageInt, *, most: float = np.inf) -> NDArray[np.float32]:
    """Measure how far blocks are apart, in units of what coding noise may do.

    Args:
        canonical: ``(n, 16, 16, 3)`` uint8 or uint16 RGB.
        now: the same shape and dtype.
        most: beyond this the chroma is not looked at.

    Returns:
        ``(n,)``: the largest of five ratios to their limits: 4x4 means, peak and block mean of the luma difference, 4x4
        means and peak of the chroma difference. At most 1 is coding noise.
    """
    if not len(now):
        return np.zeros(0, np.float32)
    unit = np.float32(1.0 if now.dtype == np.uint8 else 1 / 257)
    luma = _differs_by(canonical, now, _TO_LUMA * unit)
    quads = _quads(luma)
    mean = np.abs(quads.sum(axis=1)) / _QUADS
    green = np.ascontiguousarray(canonical[..., 1]).reshape(len(now), -1)
    spread = (green.max(axis=1).astype(np.float32) - green.min(axis=1)) * unit
    limit = _PEAK_FLAT + _PEAK_PER_RANGE * spread
    ratio: NDArray[np.float32] = np.maximum(_low(quads) / np.float32(_LOW_LIMIT), _peak(luma) / limit)
    ratio = np.maximum(ratio, mean / np.float32(_MEAN_LIMIT))
    close = np.flatnonzero(ratio <= most)
    if len(close):
        every = len(close) == len(now)
        chroma = _differs_by(canonical if every else canonical[close], now if every else now[close], _TO_CHROMA * unit)
        found = np.maximum(
            _low(_quads(chroma), 2) / np.float32(_CHROMA_LOW_LIMIT), _peak(chroma) / np.float32(_CHROMA_PEAK_LIMIT)
        )
        ratio[close] = np.maximum(ratio[close], found)
    return ratio


def _differs_by(canonical: ImageInt, now: ImageInt, weights: NDArray[np.float32]) -> NDArray[Any]:
    """Return weighted sums of the difference's channels, ``(n, 16, 16, sums)``, the sums interleaved."""
    shape = (len(now) * BLOCK_PX, BLOCK_PX, 3)
    apart = cv2.subtract(now.reshape(shape), canonical.reshape(shape), dtype=cv2.CV_32F)
    return cv2.transform(apart, weights).reshape(len(now), BLOCK_PX, BLOCK_PX, len(weights))


def _peak(values: NDArray[Any]) -> NDArray[Any]:
    rows = values.reshape(len(values), -1)
    return np.maximum(rows.max(axis=1), -rows.min(axis=1))


def _quads(planes: NDArray[Any]) -> NDArray[Any]:
    """Average 2x2 pixels of blocks (no two blocks share one); returns ``(n, 64 * sums)``, row by row."""
    count, _, _, sums = planes.shape
    half = BLOCK_PX // 2
    tall = planes.reshape(count * BLOCK_PX, BLOCK_PX, sums)
    return cv2.resize(tall, (half, count * half), interpolation=cv2.INTER_AREA).reshape(count, -1)


def _low(quads: NDArray[Any], sums: int = 1) -> NDArray[Any]:
    """Return the largest 4x4 mean, at every second pixel.

    Neighbours are added along whole blocks, which is fast; sums that run from one row into the next are struck out.
    """
    row = BLOCK_PX // 2 * sums
    pairs = quads[:, sums:] + quads[:, :-sums]
    means = pairs[:, row:] + pairs[:, :-row]
    for plane in range(1, sums + 1):
        means[:, row - plane :: row] = 0
    return _peak(means) / np.float32(4)


def _scores(
    canonical: _Frame | _Shot | _Store, frame: _Frame, blocks: Blocks, most: float, scale: float | None = None
) -> NDArray[np.float32]:
    """Give the differences of blocks in units of the limits; beyond `most` only roughly, from small copies."""
    scale = frame.scale if scale is None else scale
    score = np.abs(frame.thumbs[blocks] - canonical.thumbs[blocks]).max(axis=1, initial=0) / (_LOW_LIMIT * scale)
    close = np.flatnonzero(score <= most)
    score[close] = differences(canonical.take(blocks[close]), frame.take(blocks[close]), most=most * scale) / scale
    return score


class _NoiseEstimate:
    """How far limits must be stretched: from the quantiser where known, else from the differences that were held."""

    def __init__(self) -> None:
        self._quantiser: float | None = None
        self._counts = np.zeros(50)

    def heard(self, quantiser: float | NDArray[Any]) -> None:
        """Count the quantisers of one more frame."""
        mean = float(np.mean(quantiser))
        self._quantiser = mean if self._quantiser is None else 0.9 * self._quantiser + 0.1 * mean

    def seen(self, scores: NDArray[np.float32]) -> None:
        """Count differences to canonical blocks that are no sure changes."""
        self._counts *= 0.98
        self._counts += np.histogram(scores, bins=len(self._counts), range=(0, _SURE))[0]

    def scale(self) -> float:
        """Return the factor of all limits."""
        if self._quantiser is not None:
            factor = 2 ** ((self._quantiser - _QUANTISER) / _QUANTISER_STEP)
        elif self._counts.sum() < _ENOUGH:
            return 1.0
        else:
            below = np.cumsum(self._counts) / self._counts.sum()
            factor = max(1.0, float(np.searchsorted(below, 0.95) + 1) / len(self._counts) * _SURE / _USUAL)
        return min(max(factor, _SCALE_RANGE[0]), _SCALE_RANGE[1])


def _thumbs(padded: ImageInt) -> NDArray[np.float32]:
    """Average the luma of 4x4 pixels; returns ``(blocks, 16)`` in 8-bit code values."""
    gray = cv2.cvtColor(padded, cv2.COLOR_RGB2GRAY)
    rows, columns = gray.shape[0] // BLOCK_PX, gray.shape[1] // BLOCK_PX
    small = cv2.resize(gray.astype(np.float32), (columns * 4, rows * 4), interpolation=cv2.INTER_AREA)
    small = small.reshape(rows, 4, columns, 4).transpose(0, 2, 1, 3).reshape(-1, 16)
    return np.ascontiguousarray(small * np.float32(1 if gray.dtype == np.uint8 else 1 / 257))


def _as_blocks(padded: ImageInt) -> ImageInt:
    """View a picture of whole blocks as ``(rows, columns, 16, 16, 3)``."""
    rows, columns = padded.shape[0] // BLOCK_PX, padded.shape[1] // BLOCK_PX
    return padded.reshape(rows, BLOCK_PX, columns, BLOCK_PX, 3).transpose(0, 2, 1, 3, 4)


def _changed(before: ImageInt, now: ImageInt) -> NDArray[np.bool_]:
    """Tell which blocks of two pictures of whole blocks differ in any bit."""
    rows = now.shape[0] // BLOCK_PX
    words = BLOCK_PX * 3 * now.dtype.itemsize // 8
    flips = np.bitwise_xor(
        before.reshape(now.shape[0], -1).view(np.uint64), now.reshape(now.shape[0], -1).view(np.uint64)
    )
    merged = np.bitwise_or.reduce(flips.reshape(rows, BLOCK_PX, -1), axis=1)
    return (merged.reshape(rows, -1, words) != 0).any(axis=2)
