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

import itertools
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeIs

from apisr.core.config import unknown_name
from apisr.core.errors import ApisrError, Cancelled, InputError
from apisr.core.files import check_target, real_path
from apisr.core.media import LOOK_FOLDER, LeftOut, kind_of_name, set_apart
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.image import (
    ImageF32,
    ImageInt,
    ImageU8,
    ImageU16,
    PictureSource,
    check_floats,
    check_format,
    find_pictures,
    format_of,
    frames_kept,
    from_float,
    losses,
    open_picture,
    open_writer,
    output_suffix,
    to_float,
    write_picture,
)

Preset = Literal["paper", "reference"]
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
#: What these endings hold is lossy: their outputs become PNG.
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".avif")
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

    sharp_once: ImageF32
    sharp: ImageF32
    map_raw: ImageU8
    map_filtered: ImageU8
    map: ImageU8
    result: ImageF32


@overload
def enhance(picture: ImageU8, *, preset: Preset = ..., gamma: float = ..., rounds: int = ...) -> ImageU8: ...
@overload
def enhance(picture: ImageU16, *, preset: Preset = ..., gamma: float = ..., rounds: int = ...) -> ImageU16: ...
@overload
def enhance(picture: ImageF32, *, preset: Preset = ..., gamma: float = ..., rounds: int = ...) -> ImageF32: ...
def enhance(
    picture: ImageU8 | ImageU16 | ImageF32, *, preset: Preset = "paper", gamma: float = GAMMA, rounds: int = ROUNDS
) -> ImageInt | ImageF32:
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
    result = enhance_steps(picture, preset=preset, gamma=gamma, rounds=rounds).result
    if not _is_float(picture):
        return _like_integers(picture, result)
    return np.concatenate([result, picture[..., -1:]], axis=2) if picture.shape[2] in (2, 4) else result


def enhance_steps(
    picture: ImageInt | ImageF32, *, preset: Preset = "paper", gamma: float = GAMMA, rounds: int = ROUNDS
) -> Enhancement:
    """Sharpen the hand-drawn lines and return every step (without alpha); arguments as :func:`enhance`.

    Raises:
        InputError: a shape, a dtype, a preset or a value that is not one of these.
    """
    if picture.ndim != 3 or not 1 <= picture.shape[2] <= 4 or str(picture.dtype) not in ("uint8", "uint16", "float32"):
        raise InputError(
            f"expected a picture (H, W, 1 to 4) of uint8, uint16 or float32, got {picture.shape} {picture.dtype}.",
            code="bad-array",
        )
    if not picture.size:
        raise InputError(f"expected a picture, got one without pixels: {picture.shape}.", code="bad-array")
    if _is_float(picture):
        check_floats(picture)
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    if rounds < 1:
        raise InputError(f"{rounds} rounds of sharpening are out of range. Give 1 or more.", code="out-of-range")
    _check_gamma(gamma)
    colours = picture.shape[2] - 1 if picture.shape[2] in (2, 4) else picture.shape[2]
    values = picture if _is_float(picture) else to_float(picture)
    values = np.ascontiguousarray(values[..., :colours])
    sharp_once = sharp = unsharp_mask(values)
    for _ in range(rounds - 1):
        sharp = unsharp_mask(sharp)
    gray: ImageF32 = sharp[..., 0] if colours == 1 else cast("ImageF32", cv2.cvtColor(sharp, cv2.COLOR_RGB2GRAY))
    map_raw = xdog(np.ascontiguousarray(gray), gamma=gamma)
    map_filtered = without_outliers(map_raw)
    lines = passively_dilated(map_filtered)
    outside = values if preset == "paper" else sharp_once
    result = np.where(lines[..., None].astype(bool), sharp, outside)
    return Enhancement(sharp_once, sharp, map_raw, map_filtered, lines, result)


def unsharp_mask(values: ImageF32) -> ImageF32:
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


def xdog(gray: ImageF32, *, gamma: float = GAMMA) -> ImageU8:
    """Find lines by extended difference of Gaussians (g of equation 2).

    The soft threshold ``1 + tanh(phi (d - eps))`` has phi = 1e9 in the reference, so that it is a plain comparison.

    Args:
        gray: ``(H, W)`` float32.
        gamma: weight of the wide Gaussian.

    Returns:
        ``(H, W)`` uint8, 1 on lines.
    """
    narrow = cast("ImageF32", cv2.GaussianBlur(gray, (0, 0), _XDOG_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101))
    wide = cast(
        "ImageF32", cv2.GaussianBlur(gray, (0, 0), _XDOG_SIGMA_PX * _XDOG_RATIO, borderType=cv2.BORDER_REFLECT_101)
    )
    difference = narrow - np.float32(gamma) * wide
    largest = float(difference.max())
    if largest <= 0:  # black or one tone at gamma 1: nothing to compare with
        return np.zeros(gray.shape, np.uint8)
    return (difference / np.float32(largest) < np.float32(_XDOG_EPSILON)).view(np.uint8)


def without_outliers(lines: ImageU8, *, min_pixels: int = MIN_PIXELS) -> ImageU8:
    """Remove 8-connected components of fewer than `min_pixels` pixels (the outlier filter of h, equation 2)."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(lines, connectivity=8, ltype=cv2.CV_32S)
    keep = np.zeros(count, np.uint8)
    keep[1:] = np.asarray(statistics)[1:, cv2.CC_STAT_AREA] >= min_pixels
    return keep[cast("NDArray[np.int32]", labels)]


def passively_dilated(lines: ImageU8, *, min_neighbours: int = MIN_NEIGHBOURS) -> ImageU8:
    """Turn background pixels with at least `min_neighbours` of 8 line neighbours into line, once (h of equation 2)."""
    counts = cv2.boxFilter(lines, cv2.CV_8U, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return lines | (np.asarray(counts) >= min_neighbours).view(np.uint8)


def draw_gamma(generator: np.random.Generator, gamma_range: tuple[float, float] = (0.97, 0.98)) -> float:
    """Draw gamma as the reference does (once for a data set)."""
    return float(generator.uniform(*gamma_range))


def panel(picture: ImageInt, steps: Enhancement) -> NDArray[np.uint8]:
    """Put input, line map (dark on white) and result side by side, ``(H, 3 W + 16, 3)`` uint8, to look at."""
    values = to_float(picture)
    values = values[..., : steps.result.shape[2]]
    height = values.shape[0]
    gap = np.ones((height, 8, 3), np.float32)
    map_picture = np.repeat(1 - steps.map.astype(np.float32)[..., None], 3, axis=2)
    parts = [_three(values), gap, map_picture, gap, _three(steps.result)]
    return from_float(np.concatenate(parts, axis=1), np.uint8)


@dataclass(frozen=True)
class EnhanceOptions:
    """How files are enhanced.

    Attributes:
        preset: as for :func:`enhance`.
        gamma: as for :func:`enhance`.
        gamma_range: draw gamma for each picture from this range instead, from `seed` and the picture's name.
        seed: of these draws.
        show: also write ``_look/NAME.panel.png``.
        overwrite: replace files that exist.
        max_pixels: refuse inputs of more pixels than this; None: what the memory allows.
        provenance: what made the outputs, written into them where their format has a place.
    """

    preset: Preset = "paper"
    gamma: float = GAMMA
    gamma_range: tuple[float, float] | None = None
    seed: int = 0
    show: bool = False
    overwrite: bool = False
    max_pixels: int | None = None
    provenance: Mapping[str, str] | None = None


class EnhanceResult(BaseModel):
    """What :func:`enhance_files` did.

    Attributes:
        done: file written -> gamma used.
        failed: input -> why.
        notices: input -> what of it was not kept.
        left_out: files of searched folders that were not taken, and why.
    """

    model_config = ConfigDict(frozen=True)

    done: dict[Path, float]
    failed: dict[Path, str]
    notices: dict[Path, tuple[str, ...]]
    left_out: dict[Path, LeftOut] = {}


def enhance_files(
    source: Path | Sequence[Path],
    output: Path,
    options: EnhanceOptions = EnhanceOptions(),
    *,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> EnhanceResult:
    """Enhance picture files and folders of them; animations and pages one by one; metadata is kept.

    Args:
        source: a picture or a folder (searched with its subfolders), or several.
        output: a folder, or a file name if `source` is one picture.
        options: preset, gamma, what is written.
        progress: called after each picture.
        cancel: stops the run between two frames.

    Raises:
        InputError: nothing to read, two inputs with one output, an output that exists.
        Cancelled: the run was stopped; what was finished is kept.
    """
    if options.gamma_range is not None and not 0 < options.gamma_range[0] <= options.gamma_range[1] <= 1:
        low, high = options.gamma_range
        raise InputError(
            f"the gamma range {low} {high} is out of range. Give two rising values in 0 to 1, like 0.97 0.98.",
            code="out-of-range",
        )
    _check_gamma(options.gamma)
    cancel = cancel or Cancel()
    listing = find_pictures(source, without=output)
    jobs = _jobs(source, listing.found, output, options)
    done: dict[Path, float] = {}
    failed: dict[Path, str] = {}
    notices: dict[Path, tuple[str, ...]] = {}
    for target, (path, relative) in jobs.items():
        gamma = _gamma_for(relative, options)
        try:
            with open_picture(path, max_pixels=options.max_pixels) as picture:
                remarks = (*picture.info.notices, *losses(picture.info, target))
                for line in remarks:
                    progress(Progress("enhance", "notice", message=f"{path}: {line}"))
                _enhance_picture(picture, target, gamma, options, cancel)
            done[target] = gamma
            if remarks:
                notices[path] = remarks
        except Cancelled:
            raise
        except ApisrError as error:
            failed[path] = str(error)
        finished = len(done) + len(failed)
        progress(Progress("enhance", item=str(path), done=finished, total=len(jobs), unit="pictures"))
    return EnhanceResult(done=done, failed=failed, notices=notices, left_out=listing.left_out)


def _jobs(
    source: Path | Sequence[Path], found: Sequence[tuple[Path, Path]], output: Path, options: EnhanceOptions
) -> dict[Path, tuple[Path, Path]]:
    """Return target -> (source, its relative name) after all checks that need no decoding."""
    jobs: dict[Path, tuple[Path, Path]] = {}
    one = source if isinstance(source, Path) else source[0] if len(source) == 1 else None
    if one is None and output.suffix and not output.is_dir() and kind_of_name(output) is not None:
        raise InputError(
            f"{len(found)} pictures cannot become the one file '{output}'. Give a folder with -o.", code="one-output"
        )
    for path, relative in found:
        suffix = ".png" if path.suffix.lower() in _LOSSY_SUFFIXES else output_suffix(path)
        target = (output / relative).with_suffix(suffix)
        if one is not None and one.is_file() and not output.is_dir() and output.suffix:
            target = output
            format_of(target)
        if target in jobs:
            raise InputError(
                f"'{jobs[target][0]}' and '{path}' would both become '{target}'. Rename one of them.", code="name-taken"
            )
        if real_path(target) == real_path(path):
            raise InputError(
                f"the output '{target}' is the input itself. Choose another name or folder with -o.",
                code="output-is-input",
            )
        check_target(target, overwrite=options.overwrite)
        if options.show:
            check_target(_panel_path(target), overwrite=options.overwrite)
        jobs[target] = (path, relative)
    return jobs


def _gamma_for(relative: Path, options: EnhanceOptions) -> float:
    if options.gamma_range is None:
        return options.gamma
    generator = np.random.default_rng([options.seed, zlib.crc32(os.fsencode(relative.as_posix()))])
    return draw_gamma(generator, options.gamma_range)


def _enhance_picture(
    picture: PictureSource, target: Path, gamma: float, options: EnhanceOptions, cancel: Cancel
) -> None:
    """Enhance one picture frame by frame."""
    shown: ImageU8 | None = None
    info = picture.info
    with open_writer(target, info, overwrite=options.overwrite, provenance=options.provenance) as writer:
        for frame in itertools.islice(picture.frames(), frames_kept(info, target)):
            cancel.check()
            height, width, channels = frame.pixels.shape
            check_format(target, height, width)
            steps = enhance_steps(frame.pixels, preset=options.preset, gamma=gamma)
            writer.start_frame(height, width, channels, frame.pixels.dtype, duration_ms=frame.duration_ms)
            writer.write(_like_integers(frame.pixels, steps.result))
            if options.show and shown is None:
                shown = panel(frame.pixels, steps)
        picture.check_unchanged()
    if shown is not None:
        set_apart(_panel_path(target).parent)
        write_picture(_panel_path(target), shown, overwrite=options.overwrite)


def _check_gamma(gamma: float) -> None:
    if not 0 < gamma <= 1:
        raise InputError(
            f"gamma {gamma} is out of range. Give a value above 0 and at most 1 (the paper's is 0.97 to 0.98).",
            code="out-of-range",
        )


def _panel_path(target: Path) -> Path:
    return target.parent / LOOK_FOLDER / f"{target.stem}.panel.png"


def _blurred(values: ImageF32 | ImageU8) -> ImageF32:
    kernel = cast("ImageF32", cv2.getGaussianKernel(_BLUR_SIZE_PX, _BLUR_SIGMA_PX, cv2.CV_32F))
    blurred = cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return cast("ImageF32", np.reshape(blurred, values.shape))


def _three(values: ImageF32) -> ImageF32:
    return values if values.shape[2] == 3 else np.repeat(values, 3, axis=2)


def _like_integers(picture: ImageInt, result: ImageF32) -> ImageInt:
    done = from_float(result, picture.dtype)
    return np.concatenate([done, picture[..., -1:]], axis=2) if picture.shape[2] in (2, 4) else done


def _is_float(picture: ImageInt | ImageF32) -> TypeIs[ImageF32]:
    return picture.dtype == np.float32
