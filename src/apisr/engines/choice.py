"""Choosing an engine by measurement, once for a machine and a network.

Each candidate (engine, device, precision) runs the built-in picture for half a second. One that is less than 50 dB
from fp32 on it, as it is or with noise, is out; of the rest the fastest wins, the preferred one where they differ by
less than a tenth. The table is kept in the cache, under a name that changes with the machine, the drivers, the
versions and the model: the choice is then the same at every start, and in all processes of a run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import ApisrError, RunError
from apisr.core.files import refused_to_keep
from apisr.core.locks import wait_for_lock
from apisr.core.text import parse_json
from apisr.core.version import __version__
from apisr.engines.base import (
    AUTOMATIC_PSNR_DB,
    LOWEST_PSNR_DB,
    Engine,
    EngineKind,
    Request,
    check_pictures,
    machine,
    usable_threads,
    worst_psnr_db,
)
from apisr.weights.sealing import check_sealed, sealed

if TYPE_CHECKING:
    from apisr.weights import Model

#: An engine and what it is asked to open.
Candidate = tuple[EngineKind, Request]

#: Changes with what is measured: what was kept is then measured again.
_METHOD = 2
#: Entry of a kept table: the SHA-256 of all others.
SHA256 = "sha256"
#: How long a candidate is measured.
SECONDS = 0.5
#: A less preferred candidate must be faster by this factor.
MARGIN = 1.1
#: Side of the picture that is measured.
SIDE_PX = 256
#: From this memory or work for a pixel on, a network is so slow that a quarter of the side suffices.
_LARGE_BYTES_PER_PX = 4096
_LARGE_FLOPS_PER_PX = 4e6

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """How fast and how exact a candidate is.

    Attributes:
        engine: name of the engine.
        device: name of the device.
        precision: of the arithmetic.
        mpx_per_s: input megapixels a second; 0 if it does not run.
        psnr_db: against fp32 of the same machine, the worst of the built-in pictures; 200 where there is no difference.
        problem: why it does not run; empty if it does.
    """

    engine: str
    device: str
    precision: str
    mpx_per_s: float
    psnr_db: float
    problem: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells candidates apart."""
        return self.engine, self.device, self.precision


def open_fastest(candidates: Sequence[Candidate], *, named_precision: bool) -> Engine:
    """Open the fastest candidate that is accurate enough.

    Args:
        candidates: the preferred first.
        named_precision: the user asked for the precision, so that less accuracy is accepted.

    Raises:
        ApisrError: none of them runs; the error of the last.
    """
    ranked = ranked_candidates(candidates, named_precision=named_precision)
    by_key = {(kind.name, request.device, request.precision): (kind, request) for kind, request in candidates}
    problem: ApisrError | None = None
    for entry in ranked:
        kind, request = by_key[entry.key]
        try:
            return kind.open(request)
        except ApisrError as error:  # a driver that is gone since the measurement
            _log.warning("%s", error)
            problem = error
    if problem is not None:
        raise problem
    kind, request = next((kind, request) for kind, request in reversed(candidates))
    return kind.open(request)


def ranked_candidates(candidates: Sequence[Candidate], *, named_precision: bool) -> list[Measurement]:
    """Return the measurements of those that are accurate enough, the winner first; see :func:`open_fastest`."""
    required_db = LOWEST_PSNR_DB if named_precision else AUTOMATIC_PSNR_DB
    return ranking(measured(candidates), required_db=required_db)


def ranking(table: Sequence[Measurement], *, required_db: float) -> list[Measurement]:
    """Order measurements: the winner first, then the others by speed; without those that fail or are not accurate."""
    fitting = [entry for entry in table if not entry.problem and entry.psnr_db >= required_db]
    if not fitting:
        return []
    fastest = max(entry.mpx_per_s for entry in fitting)
    winner = next(entry for entry in fitting if entry.mpx_per_s * MARGIN >= fastest)
    others = sorted((entry for entry in fitting if entry is not winner), key=lambda entry: -entry.mpx_per_s)
    return [winner, *others]


def measured(candidates: Sequence[Candidate], *, folder: Path | None = None) -> list[Measurement]:
    """Return the measurements of candidates for one model, from the cache or made now.

    Args:
        candidates: at least one, all for the same model.
        folder: where tables are kept; None is the cache folder.
    """
    from apisr.weights.releases import cache_folder

    path = (folder or cache_folder().parent / "engines") / f"{_key(candidates)}.json"
    known = _read(path)
    if known is not None:
        return known
    try:
        with wait_for_lock(path.with_suffix(".lock")):
            known = _read(path)
            if known is not None:
                return known
            table = list(measure(candidates))
            candidates[0][1].model.check_unchanged()  # what was measured of another file is not kept as this one's
            content = {"measurements": [asdict(entry) for entry in table], "machine": machine()}
            if why := refused_to_keep(path, (json.dumps(sealed(content, entry=SHA256), indent=2) + "\n").encode()):
                _log.warning("cannot keep the measurement of engines: %s", why)
            return table
    except OSError as error:  # a read-only home: measured at every start
        _log.warning("cannot keep the measurement of engines in '%s': %s", path, error.strerror or error)
        return list(measure(candidates))


def measure(
    candidates: Sequence[Candidate], *, seconds: float = SECONDS, size: tuple[int, int] | None = None
) -> Iterator[Measurement]:
    """Measure candidates one after the other, nothing else running.

    Args:
        candidates: all for the same model.
        seconds: for each.
        size: (height, width) of the picture; None takes what suits the network.

    Raises:
        RunError: an engine gives values that are not numbers.
    """
    references: list[NDArray[np.float32]] | None = None
    for kind, request in candidates:
        names = (kind.name, request.device, request.precision)
        try:
            engine = kind.open(request)
            size = _size(engine, size, request.model)  # the first one's suits all: their outputs are compared
            pictures = check_pictures(*size)
            outputs = _checked_runs(engine, pictures)
            if references is None:
                exact = engine if request.precision == "fp32" else kind.open(replace(request, precision="fp32"))
                references = _checked_runs(exact, pictures)
            speed = _speed(engine, pictures[0], seconds)
        except ApisrError as error:
            yield Measurement(*names, 0.0, 0.0, str(error))
            continue
        yield Measurement(*names, round(speed, 4), round(worst_psnr_db(outputs, references), 1))


def _checked_runs(engine: Engine, pictures: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    outputs = [engine.run(picture) for picture in pictures]
    if not all(np.isfinite(output).all() for output in outputs):
        raise RunError(f"{engine.name} gives values that are not numbers.", code="network-failed")
    return outputs


def _speed(engine: Engine, picture: NDArray[np.float32], seconds: float) -> float:
    """Input megapixels a second, after the first run."""
    start = time.perf_counter()
    count, elapsed = 0, 0.0
    while elapsed < seconds:
        engine.run(picture)
        count += 1
        elapsed = time.perf_counter() - start
    return count * picture.shape[2] * picture.shape[3] / elapsed / 1e6


def _size(engine: Engine, size: tuple[int, int] | None, model: Model) -> tuple[int, int]:
    fixed, unit = engine.traits.fixed_size, engine.traits.multiple_px
    if fixed is not None:
        return fixed
    if size is not None:
        return -(-size[0] // unit) * unit, -(-size[1] // unit) * unit
    work = cast("float", model.card.get("flops_per_pixel", 0.0))
    large = engine.traits.bytes_per_px >= _LARGE_BYTES_PER_PX or work >= _LARGE_FLOPS_PER_PX
    side = SIDE_PX // 4 if large else SIDE_PX
    return -(-side // unit) * unit, -(-side // unit) * unit


def _key(candidates: Sequence[Candidate]) -> str:
    model = candidates[0][1].model
    parts = [
        f"{__version__} {_METHOD}",
        *machine(),
        model.sha256,
        str(candidates[0][1].threads or usable_threads()),
        *(f"{kind.version()} {request.device} {request.precision}" for kind, request in candidates),
        *(f"{kind.name} {kind.devices().get(request.device)}" for kind, request in candidates),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> list[Measurement] | None:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        check_sealed(content, entry=SHA256)  # a digit that changed could let an inaccurate engine win
        return [Measurement(**entry) for entry in content["measurements"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
