"""Upscaling single pictures: gray, colour, alpha, 8 and 16 bit, any size, in bands so that memory stays bounded.

>>> import numpy as np
>>> from apisr.upscale.baselines import NearestEngine
>>> upscale_pixels(np.zeros((3, 5, 4), np.uint16), NearestEngine(4)).shape
(12, 20, 4)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from apisr.core.files import atomic_path, check_target
from apisr.engines import Engine
from apisr.image import (
    Floats,
    Picture,
    Pixels,
    check_format,
    format_of,
    from_float,
    read_picture,
    resize,
    to_float,
    write_picture,
)
from apisr.image_stream import BandWriter, PngWriter, TiffWriter
from apisr.upscale.options import PictureOptions
from apisr.upscale.results import PictureResult
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.sizes import SizeRequest
from apisr.upscale.tiles import (
    Rectangle,
    Tile,
    bounds_of,
    default_tile_px,
    plan_tiles,
    rim_of,
    rows_of,
    run_tile,
    window_of,
)

_BLEED_PX = 16
"""How far colour is carried into fully transparent pixels before the network sees them."""
_LANCZOS_LOBES = 3


def upscale_pixels(
    pixels: Pixels, engine: Engine, *, tile_px: int | None = None, on_pixels: Callable[[int], None] | None = None
) -> Pixels:
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
    pixels: Pixels, engine: Engine, *, tile_px: int | None = None, on_pixels: Callable[[int], None] | None = None
) -> Iterator[Pixels]:
    """Upscale one array and give the output in bands of full rows, top to bottom; see :func:`upscale_pixels`."""
    height, width, channels = pixels.shape
    scale = engine.traits.scale
    traits = engine.traits
    core_px = traits.core_px(tile_px or default_tile_px(traits))
    tiles = plan_tiles(
        height, width, tile_px=core_px, halo_px=traits.halo_px, multiple_px=traits.multiple_px, rim_px=rim_of(traits)
    )
    for row in rows_of(tiles):
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
    picture: Picture | None = None,
    on_pixels: Callable[[int, int], None] | None = None,
) -> PictureResult:
    """Upscale a picture or animation from file to file; profile, EXIF, alpha, depth, durations and loop count are kept.

    Args:
        source: picture to read.
        target: picture to write; the ending chooses the format.
        engine: the network.
        options: tiles and quality.
        size: of the output (the network's output is resampled where it is another one).
        overwrite: replace an existing target.
        picture: content of the source, if it was read already.
        on_pixels: called with (input pixels done, input pixels in all).

    Raises:
        InputError: the source cannot be read or the target not written.
        RunError: the disk is full.
    """
    check_target(target, overwrite=overwrite)
    format_name = format_of(target)
    picture = picture or read_picture(source)
    height, width = picture.pixels.shape[:2]
    final = size.of_picture(height, width, scale=engine.traits.scale)
    check_format(target, *final)
    count = _counted(height * width * len(picture.frames), on_pixels)
    if not picture.animated and format_name in ("PNG", "TIFF"):
        _write_bands(picture, target, engine, final, tile_px=options.tile_px, overwrite=overwrite, count=count)
    else:
        frames = _upscaled_frames(picture, engine, options.tile_px, count)
        if frames[0].shape[:2] != final:
            frames = [_resized(frame, *final) for frame in frames]
        write_picture(target, replace(picture, frames=tuple(frames)), overwrite=overwrite, quality=options.quality)
    return PictureResult(
        source=source,
        target=target,
        size=(width, height),
        output_size=(final[1], final[0]),
        frames=len(picture.frames),
        notices=tuple(_notices(picture, format_name, final, engine.traits.scale)),
    )


def _counted(total: int, on_pixels: Callable[[int, int], None] | None) -> Callable[[int], None]:
    done = 0

    def count(area_px: int) -> None:
        nonlocal done
        done += area_px
        if on_pixels:
            on_pixels(done, total)

    return count


def _write_bands(
    picture: Picture,
    target: Path,
    engine: Engine,
    final: tuple[int, int],
    *,
    tile_px: int | None,
    overwrite: bool,
    count: Callable[[int], None],
) -> None:
    """Upscale and write a picture band by band, so that the output is never held as a whole."""
    height, width, channels = picture.pixels.shape
    scale = engine.traits.scale
    writer_of = PngWriter if format_of(target) == "PNG" else TiffWriter
    with atomic_path(target, overwrite=overwrite) as partial:
        opened: AbstractContextManager[BandWriter] = writer_of(
            partial, (*final, channels), picture.pixels.dtype, picture.metadata
        )
        with opened as writer:
            bands = upscale_bands(picture.pixels, engine, tile_px=tile_px, on_pixels=count)
            for band in resize_bands(bands, height * scale, width * scale, *final):
                writer.write(band)


def resize_bands(bands: Iterator[Pixels], height: int, width: int, new_height: int, new_width: int) -> Iterator[Pixels]:
    """Resample (Lanczos) a picture that arrives in bands of rows; the result is that of resampling it whole."""
    if (height, width) == (new_height, new_width):
        yield from bands
        return
    ratio = height / new_height
    reach = int(np.ceil(_LANCZOS_LOBES * max(ratio, 1.0))) + 2
    held: Floats | None = None
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
    held: Floats, first: int, start: int, stop: int, ratio: float, reach: int, height: int, width: int
) -> Floats:
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


def _resized(frame: Pixels, height: int, width: int) -> Pixels:
    return from_float(resize(to_float(frame), height, width), frame.dtype)


def _upscaled_frames(
    picture: Picture, engine: Engine, tile_px: int | None, count: Callable[[int], None]
) -> list[Pixels]:
    frames: list[Pixels] = []
    canvas = CanvasUpscaler(engine) if picture.animated and picture.pixels.shape[2] == 3 else None
    for frame in picture.frames:
        if canvas is not None:
            frames.append(canvas.process(frame))
            count(frame.shape[0] * frame.shape[1])
        elif frames and np.array_equal(frame, picture.frames[len(frames) - 1]):
            frames.append(frames[-1])
            count(frame.shape[0] * frame.shape[1])
        else:
            frames.append(upscale_pixels(frame, engine, tile_px=tile_px, on_pixels=count))
    return frames


def _notices(picture: Picture, format_name: str, final: tuple[int, int], scale: int) -> list[str]:
    height, width = picture.pixels.shape[:2]
    notices: list[str] = []
    if final != (height * scale, width * scale):
        notices.append(f"x{scale} network, then to {final[0]} lines ({final[1]}x{final[0]}, Lanczos).")
    if picture.pixels.dtype == np.uint16 and format_name not in ("PNG", "TIFF"):
        notices.append(f"16 bit was reduced to 8: {format_name} holds no more here (choose .png or .tif)")
    if picture.pixels.shape[2] in (2, 4) and format_name in ("JPEG", "BMP"):
        notices.append(f"transparency was laid over white: {format_name} has none (choose .png, .webp or .avif)")
    return notices


def _upscaled_tile(pixels: Pixels, engine: Engine, tile: Tile) -> Floats:
    """Upscale one tile with whatever channels it has; float, not clipped."""
    channels = pixels.shape[2]
    colour_channels = channels - 1 if channels in (2, 4) else channels
    if colour_channels == channels:
        return _run_colour(engine, to_float(window_of(pixels, tile.window)), tile)
    bounds = bounds_of(pixels.shape[0], pixels.shape[1], _BLEED_PX + rim_of(engine.traits))
    around = tile.window.grown(_BLEED_PX, bounds)
    values = to_float(window_of(pixels, around))
    top, left = tile.window.top - around.top, tile.window.left - around.left
    inner = Rectangle(top, top + tile.window.height, left, left + tile.window.width)
    colour = _bleed(values[..., :-1], values[..., -1])[inner.slices]
    return np.concatenate(
        [_run_colour(engine, colour, tile), _run_alpha(engine, values[inner.slices][..., -1], tile)], axis=2
    )


def _run_colour(engine: Engine, window: Floats, tile: Tile) -> Floats:
    if window.shape[2] == 3:
        return run_tile(engine, window, tile)
    return run_tile(engine, np.repeat(window, 3, axis=2), tile).mean(axis=2, keepdims=True)


def _run_alpha(engine: Engine, alpha: Floats, tile: Tile) -> Floats:
    """Upscale alpha as a gray picture within the range of its neighbourhood: solid and clear stay what they are."""
    scale = engine.traits.scale
    around = np.ones((5, 5), np.uint8)
    low: Floats = np.asarray(cv2.erode(alpha, around), np.float32)
    high: Floats = np.asarray(cv2.dilate(alpha, around), np.float32)
    top, left = tile.core.top - tile.window.top, tile.core.left - tile.window.left
    core = (slice(top, top + tile.core.height), slice(left, left + tile.core.width))
    low, high = (bound[core].repeat(scale, axis=0).repeat(scale, axis=1) for bound in (low, high))
    if np.array_equal(low, high):
        return low[..., None]
    output = run_tile(engine, np.repeat(alpha[..., None], 3, axis=2), tile).mean(axis=2)
    return np.clip(output, low, high)[..., None]


def _bleed(colour: Floats, alpha: Floats) -> Floats:
    """Carry the colours of visible pixels into fully transparent ones nearby, so that no fringe arises."""
    known = (alpha > 0).astype(np.float32)
    if known.all() or not known.any():
        return colour
    filled = colour * known[..., None]
    for _ in range(_BLEED_PX):
        weight = cv2.boxFilter(known, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        total = np.asarray(cv2.boxFilter(filled, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)).reshape(
            filled.shape
        )
        new = (known == 0) & (weight > 0.5)
        filled = np.where(new[..., None], total / np.maximum(weight, 1.0)[..., None], filled)
        known = np.where(new, np.float32(1), known)
    return np.where(known[..., None] > 0, filled, colour).astype(np.float32, copy=False)
