"""Upscaling single pictures: gray, colour, alpha, 8 and 16 bit, any size, in bands so that memory stays bounded.

>>> import numpy as np
>>> from apisr.upscale.baselines import NearestEngine
>>> upscale_pixels(np.zeros((3, 5, 4), np.uint16), NearestEngine(4)).shape
(12, 20, 4)
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from apisr.core.files import check_target
from apisr.engines import Engine
from apisr.image import (
    Frame,
    ImageF32,
    ImageInt,
    PictureInfo,
    PictureSource,
    check_format,
    format_of,
    frames_kept,
    from_float,
    losses,
    open_picture,
    open_writer,
    resize,
    to_float,
)
from apisr.upscale.options import PictureOptions
from apisr.upscale.results import PictureResult
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.sizes import SizeRequest
from apisr.upscale.tiles import (
    Rectangle,
    Tile,
    bounds_of,
    plan_model_tiles,
    rim_of,
    rows_of,
    run_tile,
    window_of,
)

_BLEED_PX = 16
"""How far colour is carried into fully transparent pixels before the network sees them."""
_OPAQUE_ENOUGH = 0.5
"""Alpha from which a pixel's own colour counts in full: what is fainter was rounded or coded without being seen."""
_STEADY_PX = 2
"""How far the colours of visible pixels are carried into faint ones, a pixel at a time."""
_LANCZOS_LOBES = 3


def upscale_pixels(
    pixels: ImageInt, engine: Engine, *, tile_px: int | None = None, on_pixels: Callable[[int], None] | None = None
) -> ImageInt:
    """Upscale one array.

    Args:
        pixels: ``(H, W, C)`` uint8 or uint16; C is 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha (straight).
        engine: the network.
        tile_px: side of the pieces that go through the network at once; None: what the memory allows, 512 at most.
        on_pixels: called with the number of input pixels of each finished piece.

    Returns:
        ``(s*H, s*W, C)`` of the same dtype.
    """
    height, width, channels = pixels.shape
    scale = engine.traits.scale
    output = np.empty((scale * height, scale * width, channels), pixels.dtype)
    row = 0
    for band in upscale_bands(pixels, engine, tile_px=tile_px, on_pixels=on_pixels):
        output[row : row + band.shape[0]] = band
        row += band.shape[0]
    return output


def upscale_bands(
    pixels: ImageInt, engine: Engine, *, tile_px: int | None = None, on_pixels: Callable[[int], None] | None = None
) -> Iterator[ImageInt]:
    """Upscale one array and give the output in bands of full rows, top to bottom; see :func:`upscale_pixels`."""
    height, width, channels = pixels.shape
    scale = engine.traits.scale
    for row in rows_of(plan_model_tiles(height, width, engine.traits, tile_px)):
        core = row[0].core
        band = np.empty((scale * core.height, scale * width, channels), pixels.dtype)
        for tile in row:
            columns = slice(scale * tile.core.left, scale * tile.core.right)
            band[:, columns] = from_float(_upscaled_tile(pixels, engine, tile), pixels.dtype)
            if on_pixels:
                on_pixels(tile.core.area_px)
        yield band


def upscale_picture_file(
    source: Path,
    target: Path,
    engine: Engine,
    options: PictureOptions = PictureOptions(),
    *,
    size: SizeRequest = SizeRequest(),
    overwrite: bool = False,
    picture: PictureSource | None = None,
    on_pixels: Callable[[int, int], None] | None = None,
) -> PictureResult:
    """Upscale a picture or animation from file to file; profile, EXIF, alpha, depth, durations and loop count are kept.

    Args:
        source: picture to read.
        target: picture to write; the ending chooses the format.
        engine: the network.
        options: tiles, quality, the largest input, provenance.
        size: of the output (the network's output is resampled where it is another one).
        overwrite: replace an existing target.
        picture: the source, if it is open already.
        on_pixels: called with (input pixels done, input pixels in all).

    Raises:
        InputError: the source cannot be read or the target not written.
        RunError: the disk is full, or the source was changed or replaced.
    """
    check_target(target, overwrite=overwrite)
    format_of(target)
    with contextlib.ExitStack() as stack:
        picture = picture or stack.enter_context(open_picture(source, max_pixels=options.max_pixels))
        info, scale = picture.info, engine.traits.scale
        final = size.of_picture(info.height, info.width, scale=scale)
        check_format(target, *final)
        kept = frames_kept(info, target)
        notices = (*_notices(info, final, scale), *info.notices, *losses(info, target))
        count = _progress_of(info.height * info.width * kept, on_pixels)
        writer = stack.enter_context(
            open_writer(target, info, overwrite=overwrite, quality=options.quality, provenance=options.provenance)
        )
        frames = itertools.islice(picture.frames(), kept)
        for frame, bands in _upscaled_frames(frames, engine, options.tile_px, count, still=info.kind != "animation"):
            height, width, channels = frame.pixels.shape
            requested = size.of_picture(height, width, scale=scale)
            writer.start_frame(*requested, channels, frame.pixels.dtype, duration_ms=frame.duration_ms)
            for band in resize_bands(bands, height * scale, width * scale, *requested):
                writer.write(band)
        picture.check_unchanged()
    return PictureResult(
        source=source,
        target=target,
        size=(info.width, info.height),
        output_size=(final[1], final[0]),
        frames=kept,
        notices=notices,
    )


def _progress_of(total: int, on_pixels: Callable[[int, int], None] | None) -> Callable[[int], None]:
    done = 0

    def count(area_px: int) -> None:
        nonlocal done
        done += area_px
        if on_pixels:
            on_pixels(done, total)

    return count


def resize_bands(
    bands: Iterator[ImageInt], height: int, width: int, new_height: int, new_width: int
) -> Iterator[ImageInt]:
    """Resample (Lanczos) a picture that arrives in bands of rows; the result is that of resampling it whole."""
    if (height, width) == (new_height, new_width):
        yield from bands
        return
    ratio = height / new_height
    reach = int(np.ceil(_LANCZOS_LOBES * max(ratio, 1.0))) + 2
    held: ImageF32 | None = None
    first = received = made = 0
    for band in bands:
        values = resize(to_float(band), band.shape[0], new_width)
        held = values if held is None else np.concatenate([held, values])
        received += band.shape[0]
        last = new_height if received == height else int(np.floor((received - reach) / ratio))
        if last > made:
            yield from_float(_rows_resized(held, first, made, last, ratio, reach, height, new_width), band.dtype)
            made = last
            drop = max(0, int(np.floor(made * ratio)) - reach - first)
            held, first = held[drop:], first + drop


def _rows_resized(
    held: ImageF32, first: int, start: int, stop: int, ratio: float, reach: int, height: int, width: int
) -> ImageF32:
    """Resample rows [start, stop) of the output from held input rows that begin at `first`."""
    from PIL import Image

    low = max(first, int(np.floor(start * ratio)) - reach)
    high = min(height, int(np.ceil(stop * ratio)) + reach)
    part = held[low - first : high - first]
    box = (0.0, start * ratio - low, float(width), min(stop * ratio, float(height)) - low)
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(part[..., index])).resize(
                (width, stop - start), Image.Resampling.LANCZOS, box
            )
        )
        for index in range(part.shape[2])
    ]
    return np.stack(planes, axis=2)


def _upscaled_frames(
    frames: Iterable[Frame], engine: Engine, tile_px: int | None, count: Callable[[int], None], *, still: bool
) -> Iterator[tuple[Frame, Iterator[ImageInt]]]:
    """Yield each frame with its output in bands; what does not change in an animation is not computed again."""
    canvas: CanvasUpscaler | None = None
    before: Frame | None = None
    output: ImageInt | None = None
    for frame in frames:
        area_px = frame.pixels.shape[0] * frame.pixels.shape[1]
        if still:
            yield frame, upscale_bands(frame.pixels, engine, tile_px=tile_px, on_pixels=count)
            continue
        if frame.pixels.shape[2] == 3:
            canvas = canvas or CanvasUpscaler(engine)
            output = canvas.process(frame.pixels)
            count(area_px)
        elif output is not None and before is not None and np.array_equal(frame.pixels, before.pixels):
            count(area_px)
        else:
            output = upscale_pixels(frame.pixels, engine, tile_px=tile_px, on_pixels=count)
        before = frame
        yield frame, iter((output,))


def _notices(info: PictureInfo, final: tuple[int, int], scale: int) -> list[str]:
    if final == (info.height * scale, info.width * scale):
        return []
    return [f"x{scale} network, then to {final[0]} lines ({final[1]}x{final[0]}, Lanczos)."]


def _upscaled_tile(pixels: ImageInt, engine: Engine, tile: Tile) -> ImageF32:
    """Upscale one tile with whatever channels it has; float, not clipped."""
    channels = pixels.shape[2]
    colour_channels = channels - 1 if channels in (2, 4) else channels
    if colour_channels == channels:
        return _run_colour(engine, to_float(window_of(pixels, tile.window)), tile)
    bounds = bounds_of(pixels.shape[0], pixels.shape[1], _BLEED_PX + _STEADY_PX + rim_of(engine.traits))
    around = tile.window.grown(_BLEED_PX + _STEADY_PX, bounds)
    values = to_float(window_of(pixels, around))
    top, left = tile.window.top - around.top, tile.window.left - around.left
    inner = Rectangle(top, top + tile.window.height, left, left + tile.window.width)
    colour = _bleed(values[..., :-1], values[..., -1])[inner.slices]
    return np.concatenate(
        [_run_colour(engine, colour, tile), _run_alpha(engine, values[inner.slices][..., -1], tile)], axis=2
    )


def _run_colour(engine: Engine, window: ImageF32, tile: Tile) -> ImageF32:
    if window.shape[2] == 3:
        return run_tile(engine, window, tile)
    return run_tile(engine, np.repeat(window, 3, axis=2), tile).mean(axis=2, keepdims=True)


def _run_alpha(engine: Engine, alpha: ImageF32, tile: Tile) -> ImageF32:
    """Upscale alpha as a gray picture within the range of its neighbourhood: solid and clear stay what they are."""
    scale = engine.traits.scale
    around = np.ones((5, 5), np.uint8)
    low: ImageF32 = np.asarray(cv2.erode(alpha, around), np.float32)
    high: ImageF32 = np.asarray(cv2.dilate(alpha, around), np.float32)
    top, left = tile.core.top - tile.window.top, tile.core.left - tile.window.left
    core = (slice(top, top + tile.core.height), slice(left, left + tile.core.width))
    low, high = (bound[core].repeat(scale, axis=0).repeat(scale, axis=1) for bound in (low, high))
    if np.array_equal(low, high):
        return low[..., None]
    output = run_tile(engine, np.repeat(alpha[..., None], 3, axis=2), tile).mean(axis=2)
    return np.clip(output, low, high)[..., None]


def _bleed(colour: ImageF32, alpha: ImageF32) -> ImageF32:
    """Carry the colours of visible pixels into those nearby that are transparent or faint, so that no fringe arises."""
    known = (alpha > 0).astype(np.float32)
    if not known.any() or (alpha >= _OPAQUE_ENOUGH).all():
        return colour
    filled = _steadied(colour, alpha) * known[..., None]
    for _ in range(_BLEED_PX):
        weight = cv2.boxFilter(known, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        total = np.asarray(cv2.boxFilter(filled, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)).reshape(
            filled.shape
        )
        new = (known == 0) & (weight > 0.5)
        filled = np.where(new[..., None], total / np.maximum(weight, 1.0)[..., None], filled)
        known = np.where(new, np.float32(1), known)
    return np.where(known[..., None] > 0, filled, colour).astype(np.float32, copy=False)


def _steadied(colour: ImageF32, alpha: ImageF32) -> ImageF32:
    """Mix the colours of faint pixels with those of more visible ones beside them, the more the fainter they are."""
    weight = (alpha * alpha)[..., None]
    weights = np.asarray(cv2.boxFilter(weight, -1, (3, 3), normalize=False))[..., None]
    share = np.square(np.clip(alpha / _OPAQUE_ENOUGH, 0, 1))[..., None]
    for _ in range(_STEADY_PX):
        total = np.asarray(cv2.boxFilter(colour * weight, -1, (3, 3), normalize=False)).reshape(colour.shape)
        mixed = share * colour + (1 - share) * total / np.maximum(weights, 1e-6)
        colour = mixed.astype(np.float32, copy=False)
    return colour
