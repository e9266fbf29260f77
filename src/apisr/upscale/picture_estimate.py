"""How long a picture will take and how large its output will be, from pieces of it.

Nine pieces of the picture, side by side, go through the network and the writer of the output's format. Time and bytes
are those of the whole in the proportion of the pixels that the network computes and that are written.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from apisr.core.worker_folder import temporary_folder
from apisr.image import ImageU8, from_float, read_rgb, resize, to_float, write_picture
from apisr.upscale.picture import upscale_pixels
from apisr.upscale.planned import JobEstimate
from apisr.upscale.tiles import plan_model_tiles

if TYPE_CHECKING:
    from apisr.engines import Engine, ModelTraits
    from apisr.upscale.job import Job
    from apisr.upscale.options import UpscaleOptions

#: Side of a piece, and pieces along each axis.
PIECE_PX, PIECES = 32, 3


def estimate_picture(job: Job, engine: Engine, options: UpscaleOptions) -> JobEstimate:
    """Estimate what a picture takes by upscaling and writing a little of it.

    Args:
        job: the picture and its output.
        engine: the network.
        options: of the run.

    Raises:
        InputError: it cannot be read.
    """
    picture = read_rgb(job.source, max_pixels=options.picture.max_pixels)
    height, width = picture.shape[:2]
    final = options.size.of_picture(height, width, scale=engine.traits.scale)
    pieces = mosaic(picture)
    rows, columns = (max(1, round(side * final[0] / height)) for side in pieces.shape[:2])
    began = time.perf_counter()
    large = upscale_pixels(pieces, engine)
    if large.shape[:2] != (rows, columns):
        large = from_float(resize(to_float(large), rows, columns), np.uint8)
    network_s = time.perf_counter() - began
    with temporary_folder("apisr-estimate-") as folder:
        path = folder / f"pieces{job.target.suffix}"
        began = time.perf_counter()
        write_picture(path, large, quality=options.picture.quality)
        written_s, written = time.perf_counter() - began, path.stat().st_size
    computed = _computed_px(height, width, engine.traits) / _computed_px(
        pieces.shape[0], pieces.shape[1], engine.traits
    )
    output = final[0] * final[1] / (rows * columns)
    return JobEstimate(network_s * computed + written_s * output, round(written * output))


def mosaic(picture: ImageU8) -> ImageU8:
    """Return nine pieces from all over a picture, side by side; a small picture as it is.

    >>> mosaic(np.zeros((500, 700, 3), np.uint8)).shape
    (96, 96, 3)
    """
    height, width = picture.shape[:2]
    if height <= PIECES * PIECE_PX or width <= PIECES * PIECE_PX:
        return picture[: PIECES * PIECE_PX, : PIECES * PIECE_PX]
    tops, lefts = (
        [(2 * n + 1) * side // (2 * PIECES) - PIECE_PX // 2 for n in range(PIECES)] for side in (height, width)
    )
    rows = [
        np.concatenate([picture[top : top + PIECE_PX, left : left + PIECE_PX] for left in lefts], axis=1)
        for top in tops
    ]
    return np.ascontiguousarray(np.concatenate(rows, axis=0))


def _computed_px(height: int, width: int, traits: ModelTraits) -> int:
    """Pixels that go through the network for a picture, halos included."""
    return sum(tile.window.area_px for tile in plan_model_tiles(height, width, traits))
