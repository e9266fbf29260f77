"""What a job would do, how long it would take and how large its result would be, measured on this machine.

Videos: a few frames from several places go through the whole work (:mod:`apisr.upscale.video.estimate`). Pictures: nine
pieces of the picture, side by side, go through the network and the writer of the result's format; time and bytes are
those of the whole in the proportion of the pixels that the network computes and that are written.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import apisr
from apisr.upscale.dry_run import DryRun
from apisr.upscale.jobs import plan_jobs
from apisr.upscale.models import Networks
from apisr.upscale.options import UpscaleOptions

if TYPE_CHECKING:
    from apisr.engines import ModelTraits
    from apisr.image import ImageU8
    from apisr.upscale.job import Job

#: Side of a piece, and pieces along each axis.
PIECE_PX, PIECES = 32, 3


class Planner:
    """Plans jobs with the same options; models and measurements are kept.

    Args:
        options: of the jobs.
    """

    def __init__(self, options: UpscaleOptions) -> None:
        self._options = options
        self._networks = Networks(options)
        self._dry_run = DryRun(options, self._networks)
        self._known: dict[tuple[Path, int], tuple[float, int]] = {}

    def plan(self, source: Path, folder: Path, read: Callable[[], ImageU8]) -> dict[str, object]:
        """Plan the job of one file.

        Args:
            source: the file.
            folder: where the result would lie.
            read: gives the first frame of a picture.

        Raises:
            InputError: it cannot be read, or the options are impossible.
        """
        job = plan_jobs([source], folder, self._options, networks=self._networks).jobs[0]
        before = self._dry_run.total
        row = self._dry_run.describe(job)
        key = (source, source.stat().st_mtime_ns)
        if key not in self._known:
            total = self._dry_run.total
            if job.kind == "picture":
                self._known[key] = self._try_picture(job, read())
            elif total is not None:
                spent = (before.seconds, before.size_bytes) if before is not None else (0.0, 0)
                self._known[key] = (total.seconds - spent[0], total.size_bytes - spent[1])
        seconds, size_bytes = self._known.get(key, (None, None))
        return {
            "seconds": seconds,
            "bytes": size_bytes,
            "name": job.target.name,
            "size": str(row["size"]).rsplit(" ", 1)[-1].replace("x", "×"),
            "model": row["model"],
            "streams": row.get("streams", []),
            "notices": [notice for notice in (row.get("network"), *row.get("notices", [])) if notice],
        }

    def _try_picture(self, job: Job, picture: ImageU8) -> tuple[float, int]:
        from apisr.image import write_picture
        from apisr.upscale.softness import file_edge_width

        options, (height, width) = self._options, picture.shape[:2]
        model = self._networks.model_for(height, partial(file_edge_width, job.source, options.picture.max_pixels))
        loaded = apisr.LoadedModel(model, self._networks.engine(model))
        final = options.size.of_picture(height, width, scale=model.scale)
        pieces = mosaic(picture)
        scale = final[0] / height
        began = time.perf_counter()
        large = loaded(pieces, scale=scale)
        network_s = time.perf_counter() - began
        with tempfile.TemporaryDirectory(prefix="apisr-estimate-") as folder:
            path = Path(folder) / f"pieces{job.target.suffix}"
            began = time.perf_counter()
            write_picture(path, large, quality=options.picture.quality)
            written_s, written = time.perf_counter() - began, path.stat().st_size
        computed = _computed_px(height, width, loaded.traits) / _computed_px(
            pieces.shape[0], pieces.shape[1], loaded.traits
        )
        output = final[0] * final[1] / (large.shape[0] * large.shape[1])
        return network_s * computed + written_s * output, round(written * output)


def mosaic(picture: ImageU8) -> ImageU8:
    """Return nine pieces from all over a picture, side by side; a small picture as it is.

    >>> import numpy as np
    >>> mosaic(np.zeros((500, 700, 3), np.uint8)).shape
    (96, 96, 3)
    """
    import numpy as np

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
    from apisr.upscale.tiles import default_tile_px, plan_tiles, rim_of

    tiles = plan_tiles(
        height,
        width,
        tile_px=traits.core_px(default_tile_px(traits)),
        halo_px=traits.halo_px,
        multiple_px=traits.multiple_px,
        rim_px=rim_of(traits),
    )
    return sum(tile.window.area_px for tile in tiles)
