"""Hold: give a drawing that a codec re-encodes in every frame the same pixels in every frame.

Exact reuse (:mod:`apisr.upscale.reuse`) saves work only where the input is bit-identical. A codec writes a held
drawing a little differently in every frame, so on compressed video little is identical. This filter runs before the
upscaler. Block by block it keeps a *canonical* input while the frame differs from it only by coding noise:

- The difference is always taken to the canonical block, never to the last frame: nothing drifts.
- It is judged after a 4x4 mean (a moved shape, a fade), by its largest value (a thin line, a dot) and by the mean of
  the block, in luma and in chroma. The limits widen with the noise of the
  stream.
- Beside a block that surely changed the limits are tighter: no dots are left behind at the corners of blocks.
- Where much of the frame changes (fade, pan, flash) the limits are tighter everywhere; where nearly all of it changes
  the frame starts a new shot and is followed as it is.
- A new canonical block is the mean of what the next frames show of the same drawing (a bounded look-ahead).
- Earlier canonical blocks, and the last few shots, are kept: a drawing that returns gets the very bits that it had.

Measurements, and what did not work: ``docs/hold-measured.md``.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0)
    >>> drawing = np.full((32, 32, 3), 100, np.uint8)
    >>> frames = [drawing + noise.integers(0, 2, drawing.shape, np.uint8) for _ in range(5)]
    >>> held = list(HoldFilter().run(frames))
    >>> len(held), all(np.array_equal(held[0], frame) for frame in held)
    (5, True)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image import ImageInt
from apisr.upscale.hold_difference import BLOCK_PX, LOW_LIMIT, as_blocks, blocks_that_differ, differences, luma_thumbs
from apisr.upscale.options import Hold
from apisr.upscale.results import HoldStats

Blocks = NDArray[np.intp]
"""Flat numbers of blocks, row by row."""

LOOKAHEAD_FRAMES = 24
"""Most frames that are read ahead (one second of film)."""
LOOKAHEAD_BYTES = 192 * 2**20
"""Most memory for frames that are read ahead; large frames get a shorter look-ahead."""
STORE_BLOCKS = 6
"""Earlier canonical blocks that are kept for each place."""
SHOTS = 3
"""Earlier shots that are kept."""

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

_USUAL, _ENOUGH = 0.85, 500
"""The 95th percentile of the held differences where the limits were measured; blocks that an estimate needs."""
_MOST_SCALE = 2.0
"""How far the limits are stretched at most."""


class _Frame:
    """A frame that waits: its pixels, padded to whole blocks, and which blocks equal those of the frame before."""

    def __init__(self, pixels: ImageInt, before: _Frame | None) -> None:
        height, width = pixels.shape[:2]
        self.shape = pixels.shape
        self.dtype = pixels.dtype
        bottom, right = -height % BLOCK_PX, -width % BLOCK_PX
        padded = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else pixels
        self.padded = cast("ImageInt", np.ascontiguousarray(padded))
        self.blocks = as_blocks(self.padded)
        self.rows, self.columns = self.blocks.shape[:2]
        self.scale = 1.0
        self.thumbs = luma_thumbs(self.padded)
        same_kind = before is not None and before.shape == pixels.shape and before.dtype == pixels.dtype
        self.fresh = not same_kind
        if before is None or not same_kind:
            self.changed = np.ones((self.rows, self.columns), bool)
        else:
            self.changed = blocks_that_differ(before.padded, self.padded)

    def take(self, blocks: Blocks) -> ImageInt:
        """Return the pixels ``(n, 16, 16, 3)`` of some blocks."""
        return self.blocks[blocks // self.columns, blocks % self.columns]


class _Shot:
    """The canonical picture of a shot and earlier canonical blocks of each place."""

    def __init__(self, frame: _Frame) -> None:
        rows, columns = frame.rows, frame.columns
        self.picture = np.empty((rows * BLOCK_PX, columns * BLOCK_PX, 3), frame.dtype)
        self.blocks = as_blocks(self.picture)
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

    def __init__(self, blocks: int, dtype: np.dtype[np.uint8 | np.uint16]) -> None:
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

    def push(self, frame: ImageInt) -> list[ImageInt]:
        """Give the next frame.

        Args:
            frame: ``(H, W, 3)`` uint8 or uint16 RGB; it is kept, so it must not be changed afterwards.

        Returns:
            Frames that are ready, oldest first; treat them as read-only. A frame without any change is the same
            object as the frame before it.
        """
        if self.mode == "off":
            self.stats.frames += 1
            return [frame]
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
            self._noise.observe(score[changed] * frame.scale)
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
            thumbs[kept] = luma_thumbs(content[kept].reshape(-1, BLOCK_PX, 3))
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
        total: NDArray[np.uint32] | None = None
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
                        total = cast("NDArray[np.uint32]", np.zeros(first.shape, wide))
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


def _scores(
    canonical: _Frame | _Shot | _Store, frame: _Frame, blocks: Blocks, most: float, scale: float | None = None
) -> NDArray[np.float32]:
    """Give the differences of blocks in units of the limits; beyond `most` only roughly, from small copies."""
    scale = frame.scale if scale is None else scale
    score = np.abs(frame.thumbs[blocks] - canonical.thumbs[blocks]).max(axis=1, initial=0) / (LOW_LIMIT * scale)
    close = np.flatnonzero(score <= most)
    score[close] = differences(canonical.take(blocks[close]), frame.take(blocks[close]), most=most * scale) / scale
    return score


class _NoiseEstimate:
    """How far limits must be stretched, from the differences that were held."""

    def __init__(self) -> None:
        self._counts = np.zeros(50)

    def observe(self, scores: NDArray[np.float32]) -> None:
        """Count differences to canonical blocks that are not sure changes."""
        self._counts *= 0.98
        self._counts += np.histogram(scores, bins=len(self._counts), range=(0, _SURE))[0]

    def scale(self) -> float:
        """Return the factor of all limits."""
        if self._counts.sum() < _ENOUGH:
            return 1.0
        below = np.cumsum(self._counts) / self._counts.sum()
        factor = float(np.searchsorted(below, 0.95) + 1) / len(self._counts) * _SURE / _USUAL
        return min(max(factor, 1.0), _MOST_SCALE)
