"""The comparison crops of a report: where the worst, the middle and the best output differ most from the truth.

>>> import numpy as np
>>> busiest_window(np.eye(500, 400)[..., None] * np.ones(3), width_px=100, height_px=80)
(0, 0)
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.evaluate.report import MetricInfo, Report
from apisr.image.types import ImageU8
from apisr.metrics.metric import goodness

#: Size of a crop, in output pixels.
CROP_WIDTH_PX, CROP_HEIGHT_PX = 400, 300


@dataclass(frozen=True)
class Choice:
    """A picture that the report shows.

    Attributes:
        role: ``worst``, ``median`` or ``best``.
        name: of the picture in the report.
        metric: by which it was chosen.
        value: of that metric.
    """

    role: str
    name: str
    metric: MetricInfo
    value: float


@dataclass(frozen=True)
class ComparisonCrop:
    """The same place of a picture, as several made it.

    Attributes:
        choice: why it is shown.
        left_px: place of the crop in the output.
        top_px: place of the crop in the output.
        panels: label (``input``, ``output``, ``truth``) -> PNG as a data URI, all of one size.
    """

    choice: Choice
    left_px: int
    top_px: int
    panels: dict[str, str]


def chosen_pictures(report: Report) -> list[Choice]:
    """Choose the pictures to show: by PSNR, else by the first metric of the report."""
    of_pictures = [metric for metric in report.metrics if any(metric.name in score.values for score in report.pictures)]
    if not of_pictures:
        return []
    metric = next((metric for metric in of_pictures if metric.name == "psnr"), of_pictures[0])
    values = [(score.values[metric.name], score.name) for score in report.pictures if metric.name in score.values]
    values.sort(key=lambda pair: (goodness(metric.better, pair[0]), pair[1]))
    places = {"worst": 0, "median": len(values) // 2, "best": len(values) - 1}
    if len(values) < 3:
        places = dict(list({"worst": 0, "best": len(values) - 1}.items())[: len(values)])
    return [Choice(role, values[place][1], metric, values[place][0]) for role, place in places.items()]


def cut_comparison(choice: Choice, *, low: ImageU8 | None, output: ImageU8, truth: ImageU8 | None) -> ComparisonCrop:
    """Cut the same crop out of the input (repeated pixels), the output and the truth, where they differ most."""
    if truth is not None:
        difference = output.astype(np.float32) - truth.astype(np.float32)
    else:  # where there is most to see
        difference = output.astype(np.float32) - cv2.GaussianBlur(output, (0, 0), 3).astype(np.float32)
    top, left = busiest_window(difference, width_px=CROP_WIDTH_PX, height_px=CROP_HEIGHT_PX)
    pictures: dict[str, ImageU8] = {}
    if low is not None:
        factor = output.shape[0] // low.shape[0]
        pictures["input"] = low.repeat(factor, axis=0).repeat(factor, axis=1)
    pictures["output"] = output
    if truth is not None:
        pictures["truth"] = truth
    window = (slice(top, top + CROP_HEIGHT_PX), slice(left, left + CROP_WIDTH_PX))
    panels = {label: data_uri(np.ascontiguousarray(picture[window])) for label, picture in pictures.items()}
    return ComparisonCrop(choice, left, top, panels)


def busiest_window(difference: NDArray[np.floating], *, width_px: int, height_px: int) -> tuple[int, int]:
    """Return the top and left of the window with the most energy."""
    height, width = difference.shape[:2]
    rows, columns = max(height - height_px, 0) + 1, max(width - width_px, 0) + 1
    energy = np.square(difference.astype(np.float64)).sum(axis=2)
    total = np.pad(energy, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    tall, wide = min(height, height_px), min(width, width_px)
    windows = (
        total[tall:, wide:][:rows, :columns]
        - total[:rows, wide:][:, :columns]
        - total[tall:, :columns][:rows]
        + total[:rows, :columns]
    )
    top, left = np.unravel_index(int(np.argmax(windows)), windows.shape)
    return int(top), int(left)


def data_uri(picture: ImageU8) -> str:
    """Return an RGB picture ``(H, W, 3)`` as a PNG in a data URI."""
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
