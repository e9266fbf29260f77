"""Contact sheets: a crop of each high picture, the same crop of the low one, and what was drawn, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from apisr.degrade.recipe import Parameters
from apisr.image import ImageU8, from_float, resize, to_float

#: Side of the crops, in pixels of the sheet.
CROP_PX = 256
_TEXT_PX = 270
_GAP_PX = 6
_COLUMNS = 2


@dataclass(frozen=True)
class Example:
    """One row of a sheet.

    Attributes:
        name: shown above the parameters.
        high: ``(H, W, 3)`` uint8.
        low: ``(H/s, W/s, 3)`` uint8.
        parameters: what made `low`.
    """

    name: str
    high: ImageU8
    low: ImageU8
    parameters: Parameters


def contact_sheet(examples: Sequence[Example]) -> ImageU8:
    """Lay out examples in two columns: crop of the high picture, crop of the low one (pixels repeated), parameters."""
    cell_width, cell_height = 2 * CROP_PX + _TEXT_PX + 3 * _GAP_PX, CROP_PX + _GAP_PX
    columns = min(_COLUMNS, len(examples))
    rows = -(-len(examples) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height + _GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for index, example in enumerate(examples):
        left = index % columns * cell_width + _GAP_PX
        top = index // columns * cell_height + _GAP_PX
        high, low = _crops(example)
        sheet.paste(Image.fromarray(high), (left, top))
        sheet.paste(Image.fromarray(low), (left + CROP_PX + _GAP_PX, top))
        lines = [example.name, *describe(example.parameters)]
        draw.multiline_text((left + 2 * (CROP_PX + _GAP_PX), top), "\n".join(lines), "black", font, spacing=3)
    return np.asarray(sheet)


def describe(parameters: Parameters) -> list[str]:
    """Say what was drawn, one short line a stage."""
    height, width = parameters["size"]
    lines = [f"{parameters['recipe']} x{parameters['scale']}, {width}x{height}"]
    for stage in parameters["stages"]:
        rest = {key: value for key, value in stage.items() if key not in ("stage", "kind", "codec", "mode", "seed")}
        if stage["stage"] == "resize":
            lines.append(f"resize {stage['width']}x{stage['height']} {stage['mode']}")
            continue
        head = stage.get("codec") or f"{stage['stage']} {stage.get('kind', '')}"
        lines.append(
            f"{head} " + " ".join(f"{key} {_short(value)}" for key, value in rest.items() if value is not False)
        )
    return [line if len(line) < 46 else f"{line[:44]}..." for line in lines]


def _crops(example: Example) -> tuple[ImageU8, ImageU8]:
    scale = example.parameters["scale"]
    side = min(CROP_PX, *example.high.shape[:2])
    side -= side % scale
    side = max(side, scale)
    top, left = _busiest(example.high, side)
    top, left = top - top % scale, left - left % scale
    high = example.high[top : top + side, left : left + side]
    low = example.low[top // scale : (top + side) // scale, left // scale : (left + side) // scale]
    return _fitted(high), _fitted(low)


def _busiest(picture: ImageU8, side: int) -> tuple[int, int]:
    """Find the square with the strongest edges, on a coarse grid."""
    if side >= min(picture.shape[:2]):
        return 0, 0
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    energy = cv2.integral(np.abs(np.asarray(cv2.Laplacian(gray, cv2.CV_32F))))
    sums = np.asarray(energy)
    window = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    coarse = window[::16, ::16]
    row, column = divmod(int(coarse.argmax()), coarse.shape[1])
    return row * 16, column * 16


def _fitted(crop: ImageU8) -> ImageU8:
    if crop.shape[:2] == (CROP_PX, CROP_PX):
        return crop
    return from_float(resize(to_float(crop), CROP_PX, CROP_PX, method="nearest"), np.uint8)


def _short(value: object) -> str:
    if isinstance(value, list):
        return ",".join(_short(one) for one in value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)
