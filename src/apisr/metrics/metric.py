"""What a metric is: one definition, one adapter, and the few helpers that all of them share.

A module of this package that defines ``METRICS``, a tuple of :class:`Definition`, is found by
:mod:`apisr.metrics.registry`; nothing else has to be told. Pictures are uint8 RGB ``(H, W, 3)``: what is scored is what
a file would hold, after rounding to 8 bits. A score that does not exist for a picture raises :class:`Undefined` with
the reason; nothing returns NaN or infinity, because either would end in somebody's mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.image.convert import BT601_LUMA
from apisr.image.types import ImageU8

#: float64 of any shape, mostly one plane ``(H, W)``.
Values = NDArray[np.float64]

#: Which values are better; ``zero`` means nearer to 0.
Direction = Literal["higher", "lower", "zero"]

#: Largest value of a pixel.
PEAK = 255.0
#: The border that our own tables cut, in pixels: at the edge, upscalers differ for reasons that nobody sees.
BORDER_PX = 8


class Undefined(InputError):  # noqa: N818 - not a mistake of the user's, a fact about the pictures
    """A score that does not exist for these pictures; the message is the reason, in words."""

    default_code = "score-undefined"


@dataclass(frozen=True)
class Definition:
    """A metric that needs no weights.

    Attributes:
        name: as in ``--metrics`` and in reports.
        title: for people.
        better: which values are better.
        source: definition and origin, one sentence.
        unit: ``dB``, ``px``, ... or nothing.
        digits: decimal places that mean something.
        compare: output, ground truth, border in pixels -> value; for metrics with a reference.
        assess: output, border in pixels -> value; for metrics without one.
    """

    name: str
    title: str
    better: Direction
    source: str
    unit: str = ""
    digits: int = 4
    compare: Callable[[ImageU8, ImageU8, int], float] | None = None
    assess: Callable[[ImageU8, int], float] | None = None

    def opened(self, border_px: int) -> Metric:
        """Return the metric, ready to run, with so many pixels cut at each side."""

        def score(output: ImageU8, reference: ImageU8 | None) -> float:
            if self.assess is not None:
                return finite(self.assess(output, border_px), self.name)
            if self.compare is None or reference is None:
                raise Undefined("there is no ground truth to compare with", code="no-reference")
            return finite(self.compare(output, reference, border_px), self.name)

        return Metric(
            name=self.name,
            title=self.title,
            better=self.better,
            unit=self.unit,
            digits=self.digits,
            needs_reference=self.compare is not None,
            source=self.source,
            score=score,
        )


@dataclass(frozen=True)
class Metric:
    """A metric that is ready to run.

    Attributes:
        name: as in ``--metrics`` and in reports.
        title: for people.
        better: which values are better.
        needs_reference: whether it compares with ground truth.
        source: definition and origin of weights, one sentence.
        score: output and reference (None without) -> value. Raises Undefined.
        unit: ``dB``, ``px``, ... or nothing.
        digits: decimal places that mean something.
        learned: whether it is a network; without a reference it then runs on the crops of a protocol.
    """

    name: str
    title: str
    better: Direction
    needs_reference: bool
    source: str
    score: Callable[[ImageU8, ImageU8 | None], float]
    unit: str = ""
    digits: int = 4
    learned: bool = False

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether a value is better than the best so far (None: there is none yet)."""
        return best is None or self.goodness(value) > self.goodness(best)

    def goodness(self, value: float) -> float:
        """Return a number that is larger for a better value."""
        return goodness(self.better, value)


def goodness(better: Direction, value: float) -> float:
    """Return a number that is larger for a better value.

    >>> goodness("zero", -2.0) < goodness("zero", 1.0)
    True
    """
    if better == "zero":
        return -abs(value)
    return value if better == "higher" else -value


def finite(value: float, what: str) -> float:
    """Return the value if it is a number.

    Raises:
        Undefined: it is infinite or NaN.
    """
    if not math.isfinite(value):
        raise Undefined(f"{what} gave {value}")
    return value


def luma(picture: ImageU8) -> Values:
    """Luma of BT.601 in full range (0 to 255), rounded to whole levels, as float64 ``(H, W)``."""
    values = picture.astype(np.float32) / np.float32(PEAK)
    return np.rint((values @ np.array(BT601_LUMA, np.float32)) * np.float32(PEAK)).astype(np.float64)


def checked_pair(output: ImageU8, reference: ImageU8, border_px: int, *, least_px: int = 1) -> tuple[ImageU8, ImageU8]:
    """Check that two pictures can be compared, and return them without their border.

    Raises:
        InputError: they are not uint8 RGB, or their sizes differ.
        Undefined: less than `least_px` is left of a side.
    """
    for picture in (output, reference):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise InputError(
                f"a score needs uint8 RGB pictures (H, W, 3), got {picture.dtype} {picture.shape}. Convert them first.",
                code="bad-picture",
            )
    check_sizes(output.shape, reference.shape)
    if border_px:
        output, reference = cut_border(output, border_px), cut_border(reference, border_px)
    if min(output.shape[:2]) < least_px:
        raise Undefined(
            f"at least {least_px}x{least_px} pixels are needed after the border is cut, "
            f"there are {output.shape[1]}x{output.shape[0]}",
            code="picture-too-small",
        )
    return output, reference


def check_sizes(output: tuple[int, ...], reference: tuple[int, ...]) -> None:
    """Check that two shapes ``(H, W, ...)`` do not differ.

    Raises:
        InputError: they do (``"size-mismatch"``).
    """
    if output[:2] != reference[:2]:
        raise InputError(
            f"the sizes differ: output {output[1]}x{output[0]}, reference {reference[1]}x{reference[0]}. "
            "Give outputs of exactly the reference's size.",
            code="size-mismatch",
        )


def cut_border(picture: ImageU8, border_px: int) -> ImageU8:
    """Return a picture without so many pixels at each side.

    Raises:
        Undefined: nothing is left.
    """
    height, width = picture.shape[:2]
    if min(height, width) <= 2 * border_px:
        raise Undefined(
            f"nothing is left of {width}x{height} pixels after cutting {border_px} at each side", code="nothing-left"
        )
    return picture[border_px : height - border_px, border_px : width - border_px]
