"""Whether an engine gives a pixel the same bits whatever the size and place of the window that it is computed in.

Where it does, exact reuse may cut windows freely. It is measured once for a machine, a version and a network, and kept
in the cache beside the choice of the engine.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from apisr.core.files import refused_to_keep
from apisr.core.locks import wait_for_lock
from apisr.core.text import parse_json
from apisr.core.version import __version__
from apisr.engines.base import Engine, Request, machine, usable_threads
from apisr.engines.pixels import cut, on_all_sides, run_pixels

#: Rows, columns, top and left of the windows that are compared, without their halo; two more begin at the network's
#: own step.
_WINDOWS = ((16, 16, 48, 16), (16, 48, 0, 48), (48, 16, 16, 0), (32, 80, 32, 32), (80, 96, 16, 48))

T = TypeVar("T", np.float32, np.uint8)

_log = logging.getLogger(__name__)


def kept_shape_exact(engine: Engine, request: Request, version: str) -> bool:
    """Return what :func:`is_shape_exact` found for this engine here, from the cache or measured now.

    Args:
        engine: what was opened.
        request: with this.
        version: of the engine's package.
    """
    from apisr.weights.releases import cache_folder

    parts = [
        *(__version__, version, *machine(), request.model.sha256),
        *(request.device, request.precision, str(request.threads or usable_threads())),
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    path = cache_folder().parent / "engines" / f"exact-{digest}.json"
    known = _read(path)
    if known is not None:
        return known
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with wait_for_lock(path.with_suffix(".lock")):  # of several that begin at once, one measures
            known = _read(path)
            if known is None:
                known = is_shape_exact(engine)
                if why := refused_to_keep(path, json.dumps({"shape_exact": known}).encode()):
                    _log.warning("cannot keep a measurement: %s", why)
            return known
    except OSError as error:  # a read-only home: measured at every start
        _log.warning("cannot keep a measurement in '%s': %s", path, error.strerror or error)
        return is_shape_exact(engine)


def _read(path: Path) -> bool | None:
    """Return what was measured before; None if nothing was, or the file is damaged."""
    try:
        known = parse_json(path.read_text(encoding="utf-8"))["shape_exact"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if isinstance(known, bool) else None


def is_shape_exact(engine: Engine) -> bool:
    """Compare windows of several sizes and places, bit by bit, with the same pixels of a larger picture.

    All ways through an engine are compared: floats, and whole numbers where it converts them itself; with what lies
    around the window, and without.
    """
    traits = engine.traits
    if traits.halo_px is None or traits.fixed_size is not None:
        return False
    side = 2 * _halo_px(engine) + 96
    picture = np.random.default_rng(7).random((side, side + 48, 3), dtype=np.float32)
    if not _same_windows(engine, picture):
        return False
    return not hasattr(engine, "run_pixels") or _same_windows(engine, (picture * 255).astype(np.uint8))


def _same_windows(engine: Engine, picture: NDArray[T]) -> bool:
    halo, step, scale = _halo_px(engine), engine.traits.multiple_px, engine.traits.scale
    whole = run_pixels(engine, picture)
    for height, width, top, left in (*_WINDOWS, (16 + step, 16 + 3 * step, step, 5 * step)):
        window = np.ascontiguousarray(picture[top : top + height + 2 * halo, left : left + width + 2 * halo])
        rows = slice(scale * (top + halo), scale * (top + halo + height))
        columns = slice(scale * (left + halo), scale * (left + halo + width))
        expected = whole[rows, columns]
        around = cut(run_pixels(engine, window), on_all_sides(halo), scale, rows_axis=0)
        inside = run_pixels(engine, window, on_all_sides(halo))
        if not np.array_equal(around, expected) or not np.array_equal(inside, expected):
            return False
    rim = engine.traits.rim_px or 0
    return all(
        np.array_equal(run_pixels(engine, picture, margins), cut(whole, margins, scale, rows_axis=0))
        for margins in (on_all_sides(rim), (halo, rim, rim, halo))
    )


def _halo_px(engine: Engine) -> int:
    return -(-(engine.traits.halo_px or 0) // 16) * 16
