"""Hand-drawn line enhancement (paper 3.3, equations 1 to 3): sharpen the lines of a picture and nothing else.

    I_sharp    = f(f(f(I)))                     three rounds of unsharp masking           (1)
    I_map      = h(g(I_sharp))                  XDoG, outlier filter, passive dilation    (2)
    I_pseudoGT = I_sharp I_map + I (1 - I_map)                                            (3)

The map is binary. The preset ``paper`` is equation 3; ``reference`` keeps, outside the map, the picture sharpened once,
as the released reference implementation does. Arithmetic is float32 throughout, nothing is rounded between rounds.

    >>> import numpy as np
    >>> flat = np.full((64, 64, 3), 180, np.uint8)
    >>> bool(np.array_equal(enhance(flat), flat))
    True
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import ApisrError, InputError
from apisr.core.files import check_target
from apisr.image import (
    Floats,
    Pixels,
    check_format,
    find_pictures,
    from_float,
    read_picture,
    to_float,
    write_picture,
)

Preset = Literal["paper", "reference"]
Map = NDArray[np.uint8]
PRESETS: tuple[str, ...] = get_args(Preset)

#: Middle of the reference's range 0.97 to 0.98.
GAMMA = 0.975
ROUNDS = 3
#: Components of the line map with fewer pixels are removed.
MIN_PIXELS = 32
#: A background pixel with at least this many line neighbours (of 8) becomes line.
MIN_NEIGHBOURS = 3

_BLUR_SIZE_PX = 51
_BLUR_SIGMA_PX = 0.3 * ((_BLUR_SIZE_PX - 1) * 0.5 - 1) + 0.8  # OpenCV's rule for a size without a sigma: 8.0
_BAND_ROWS = 16
_LOSSY_ENDINGS = (".jpg", ".jpeg", ".avif")
_EDGE_LEVEL = 10 / 255
_STRENGTH = 0.5
_XDOG_SIGMA_PX = 0.6
_XDOG_RATIO = 2.5
_XDOG_EPSILON = -15 / 255


@dataclass(frozen=True)
class Enhancement:
    """All steps of one enhancement.

    Attributes:
        sharp_once: ``(H, W, C)`` float32 in [0, 1], after one round of unsharp masking.
        sharp: after all rounds.
        map_raw: ``(H, W)`` uint8, 1 where XDoG sees a line.
        map_filtered: without small components.
        map: after passive dilation; the one that is used.
        result: the pseudo ground truth, float32 in [0, 1].
    """

    sharp_once: Floats
    sharp: Floats
    map_raw: Map
    map_filtered: Map
    map: Map
    result: Floats


def enhance(picture: Pixels | Floats, *, preset: Preset = "paper", gamma: float = GAMMA, rounds: int = ROUNDS) -> Any:
    """Sharpen the hand-drawn lines of a picture.

    Args:
        picture: ``(H, W, C)``, uint8, uint16 or float32 in [0, 1]; gray, gray + alpha, RGB or RGB + alpha.
            Alpha is passed through.
        preset: ``paper`` or ``reference`` (see the module's text).
        gamma: weight of XDoG's wide Gaussian; larger finds more lines. The reference draws it from 0.97 to 0.98.
        rounds: rounds of unsharp masking (the paper's n).

    Returns:
        An array of the same shape and dtype.

    Raises:
        InputError: a shape, dtype, preset or value that is not one of these.
    """
    return _like(picture, enhance_steps(picture, preset=preset, gamma=gamma, rounds=rounds).result)


def enhance_steps(
    picture: Pixels | Floats, *, preset: Preset = "paper", gamma: float = GAMMA, rounds: int = ROUNDS
) -> Enhancement:
    """Sharpen the hand-drawn lines and return every step (without alpha); arguments as :func:`enhance`."""
    if picture.ndim != 3 or not 1 <= picture.shape[2] <= 4 or str(picture.dtype) not in ("uint8", "uint16", "float32"):
        raise InputError(
            f"expected a picture (H, W, 1 to 4) of uint8, uint16 or float32, got {picture.shape} {picture.dtype}."
        )
    if preset not in PRESETS:
        raise InputError(f"unknown preset '{preset}'. Use one of {', '.join(PRESETS)}.")
    if rounds < 1:
        raise InputError(f"{rounds} rounds of sharpening are out of range. Give 1 or more.")
    _check_gamma(gamma)
    colours = picture.shape[2] - 1 if picture.shape[2] in (2, 4) else picture.shape[2]
    values = cast("Floats", picture) if picture.dtype == np.float32 else to_float(cast("Pixels", picture))
    values = np.ascontiguousarray(values[..., :colours])
    sharp_once = sharp = unsharp_mask(values)
    for _ in range(rounds - 1):
        sharp = unsharp_mask(sharp)
    gray: Floats = sharp[..., 0] if colours == 1 else cast("Floats", cv2.cvtColor(sharp, cv2.COLOR_RGB2GRAY))
    map_raw = xdog(np.ascontiguousarray(gray), gamma=gamma)
    map_filtered = without_outliers(map_raw)
    lines = passively_dilated(map_filtered)
    outside = values if preset == "paper" else sharp_once
    result = np.where(lines[..., None].astype(bool), sharp, outside)
    return Enhancement(sharp_once, sharp, map_raw, map_filtered, lines, result)


def unsharp_mask(values: Floats) -> Floats:
    """Sharpen once where the picture differs from its blur by more than 10 levels (f of equation 1).

    The mask of those places is itself blurred, so that the change fades out.

    Args:
        values: ``(H, W, C)`` float32 in [0, 1].

    Returns:
        A new array, float32 in [0, 1].
    """
    residual = _blurred(values)
    edges = np.empty(values.shape, np.uint8)
    bands = [slice(top, top + _BAND_ROWS) for top in range(0, len(values), _BAND_ROWS)]
    for band in bands:  # in bands of rows, so that what is in between stays in the processor's cache
        part = residual[band]
        np.subtract(values[band], part, out=part)
        np.greater(np.abs(part), np.float32(_EDGE_LEVEL), out=edges[band].view(np.bool_))
    weight = _blurred(edges)
    for band in bands:
        original, part = values[band], residual[band]
        part *= np.float32(_STRENGTH)
        part += original
        np.clip(part, 0, 1, out=part)
        part -= original
        part *= weight[band]
        part += original
    return residual


def xdog(gray: Floats, *, gamma: float = GAMMA) -> Map:
    """Find lines by extended difference of Gaussians (g of equation 2).

    The soft threshold ``1 + tanh(phi (d - eps))`` has phi = 1e9 in the reference, so that it is a plain comparison.

    Args:
        gray: ``(H, W)`` float32.
        gamma: weight of the wide Gaussian.

    Returns:
        ``(H, W)`` uint8, 1 on lines.
    """
    narrow = cast("Floats", cv2.GaussianBlur(gray, (0, 0), _XDOG_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101))
    wide = cast(
        "Floats", cv2.GaussianBlur(gray, (0, 0), _XDOG_SIGMA_PX * _XDOG_RATIO, borderType=cv2.BORDER_REFLECT_101)
    )
    difference = narrow - np.float32(gamma) * wide
    largest = float(difference.max())
    if largest <= 0:  # black or one tone at gamma 1: nothing to compare with
        return np.zeros(gray.shape, np.uint8)
    return (difference / np.float32(largest) < np.float32(_XDOG_EPSILON)).view(np.uint8)


def without_outliers(lines: Map, *, min_pixels: int = MIN_PIXELS) -> Map:
    """Remove 8-connected components of fewer than `min_pixels` pixels (the outlier filter of h, equation 2)."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(lines, connectivity=8, ltype=cv2.CV_32S)
    keep = np.zeros(count, np.uint8)
    keep[1:] = np.asarray(statistics)[1:, cv2.CC_STAT_AREA] >= min_pixels
    return keep[cast("NDArray[np.int32]", labels)]


def passively_dilated(lines: Map, *, min_neighbours: int = MIN_NEIGHBOURS) -> Map:
    """Turn background pixels with at least `min_neighbours` of 8 line neighbours into line, once (h of equation 2)."""
    counts = cv2.boxFilter(lines, cv2.CV_8U, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return lines | (np.asarray(counts) >= min_neighbours).view(np.uint8)


def draw_gamma(generator: np.random.Generator, gamma_range: tuple[float, float] = (0.97, 0.98)) -> float:
    """Draw gamma as the reference does (once for a data set)."""
    return float(generator.uniform(*gamma_range))


def panel(picture: Pixels, steps: Enhancement) -> NDArray[np.uint8]:
    """Put input, line map (dark on white) and result side by side, ``(H, 3 W + 16, 3)`` uint8, to look at."""
    values = to_float(picture)
    values = values[..., : steps.result.shape[2]]
    height = values.shape[0]
    gap = np.ones((height, 8, 3), np.float32)
    map_picture = np.repeat(1 - steps.map.astype(np.float32)[..., None], 3, axis=2)
    parts = [_three(values), gap, map_picture, gap, _three(steps.result)]
    return from_float(np.concatenate(parts, axis=1), np.uint8)


@dataclass(frozen=True)
class FilesOutcome:
    """What :func:`enhance_files` did.

    Attributes:
        done: file written -> gamma used.
        failed: input -> why.
    """

    done: dict[Path, float]
    failed: dict[Path, str]


def enhance_files(
    given: Path,
    output: Path,
    *,
    preset: Preset = "paper",
    gamma: float = GAMMA,
    gamma_range: tuple[float, float] | None = None,
    seed: int = 0,
    show: bool = False,
    overwrite: bool = False,
    progressed: Callable[[int, int], None] | None = None,
) -> FilesOutcome:
    """Enhance a picture file or a folder of them; animations frame by frame; metadata is kept.

    Args:
        given: a picture or a folder (searched with its subfolders).
        output: a folder, or a file name if `given` is one picture.
        preset: as for :func:`enhance`.
        gamma: as for :func:`enhance`.
        gamma_range: draw gamma for each picture from this range instead, from `seed` and the picture's name.
        seed: of these draws.
        show: also write ``NAME.panel.png``.
        overwrite: replace files that exist.
        progressed: called with (finished, all) pictures.

    Raises:
        InputError: nothing to read, two inputs with one output, an output that exists.
    """
    if gamma_range is not None and not 0 < gamma_range[0] <= gamma_range[1] <= 1:
        raise InputError(f"the gamma range {gamma_range[0]} {gamma_range[1]} is not two rising values in 0 to 1.")
    _check_gamma(gamma)
    targets: dict[Path, tuple[Path, Path]] = {}
    for source, relative in find_pictures(given, without=output):
        ending = ".png" if source.suffix.lower() in _LOSSY_ENDINGS else source.suffix
        target = (output / relative).with_suffix(ending)
        if given.is_file() and not output.is_dir() and output.suffix:
            target = output
            check_format(target, 1, 1)
        if target in targets:
            raise InputError(f"'{targets[target][0]}' and '{source}' would both become '{target}'. Rename one of them.")
        if target.resolve() == source.resolve():
            raise InputError(f"the output '{target}' is the input itself. Choose another name or folder with -o.")
        check_target(target, overwrite=overwrite)
        if show:
            check_target(_panel_path(target), overwrite=overwrite)
        targets[target] = (source, relative)
    done: dict[Path, float] = {}
    failed: dict[Path, str] = {}
    for target, (source, relative) in targets.items():
        if gamma_range is not None:
            gamma = draw_gamma(np.random.default_rng([seed, zlib.crc32(relative.as_posix().encode())]), gamma_range)
        try:
            picture = read_picture(source)
            steps = [enhance_steps(frame, preset=preset, gamma=gamma) for frame in picture.frames]
            frames = tuple(_like(frame, one.result) for frame, one in zip(picture.frames, steps, strict=True))
            write_picture(target, replace(picture, frames=frames), overwrite=overwrite)
            if show:
                write_picture(_panel_path(target), panel(picture.pixels, steps[0]), overwrite=overwrite)
            done[target] = gamma
        except ApisrError as error:
            failed[source] = str(error)
        if progressed is not None:
            progressed(len(done) + len(failed), len(targets))
    return FilesOutcome(done, failed)


def _check_gamma(gamma: float) -> None:
    if not 0 < gamma <= 1:
        raise InputError(
            f"gamma {gamma} is out of range. Give a value above 0 and at most 1 (the paper's is 0.97 to 0.98)."
        )


def _panel_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}.panel.png")


def _blurred(values: Floats | Map) -> Floats:
    kernel = cast("Floats", cv2.getGaussianKernel(_BLUR_SIZE_PX, _BLUR_SIGMA_PX, cv2.CV_32F))
    blurred = cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return cast("Floats", np.reshape(blurred, values.shape))


def _three(values: Floats) -> Floats:
    return values if values.shape[2] == 3 else np.repeat(values, 3, axis=2)


def _like(picture: Pixels | Floats, result: Floats) -> Any:
    done: Any = result if picture.dtype == np.float32 else from_float(result, picture.dtype)
    if picture.shape[2] in (2, 4):
        done = np.concatenate([done, picture[..., -1:]], axis=2)
    return done
