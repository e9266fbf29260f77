"""The size of an output: the network's own, another factor, or a number of lines.

>>> SizeRequest(height=1080).of_video((640, 360), (1280, 720))
(1920, 1080)
>>> SizeRequest(factor=1.5).of_picture(10, 20, scale=2)
(15, 30)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from apisr.core.errors import InputError
from apisr.core.memory import available_memory

#: A picture is resampled in bands of at least so many rows of the source; bytes of a pixel meanwhile (RGB floats).
_LEAST_ROWS, _RESAMPLED_BYTES = 16, 12


@dataclass(frozen=True)
class SizeRequest:
    """What size is asked for; without anything it is the network's own.

    Attributes:
        factor: output over input.
        height: rows of the output.
    """

    factor: float | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        if self.height is not None and self.factor is not None:
            raise InputError("--scale and --height were both given. Give one of them.", code="height-and-scale")
        if self.height is not None and self.height < 1:
            raise InputError(f"--height {self.height}: expected a positive number of lines.", code="bad-size")
        if self.factor is not None and self.factor <= 0:
            raise InputError(f"--scale {self.factor:g}: expected a positive number.", code="bad-size")

    def of_picture(self, height: int, width: int, *, scale: int) -> tuple[int, int]:
        """Return (height, width) of the output of a picture for a network of this scale.

        Raises:
            InputError: a size that was asked for is larger than this machine can resample.
        """
        if self.height is not None:
            asked = f"--height {self.height}"
            rows, columns = self.height, max(1, round(width * self.height / height))
        elif self.factor is not None:
            asked = f"--scale {self.factor:g}"
            rows, columns = max(1, round(height * self.factor)), max(1, round(width * self.factor))
        else:
            return height * scale, width * scale
        if rows > height * scale:
            band = min(rows, math.ceil(rows * _LEAST_ROWS / height))
            if band * columns * _RESAMPLED_BYTES > available_memory():
                raise InputError(
                    f"{asked} makes {columns}x{rows} pixels of {width}x{height}, for which this machine has too little "
                    "memory. Give a smaller number.",
                    code="bad-size",
                )
        return rows, columns

    def of_video(self, source: tuple[int, int], network: tuple[int, int]) -> tuple[int, int]:
        """Return (width, height) of the output of a video; with a height asked for, the width is even.

        Args:
            source: (width, height) of the source.
            network: (width, height) of what the network gives.
        """
        if self.height is not None:
            width = round(source[0] * Fraction(self.height, source[1]))
            return max(1, width + (width % 2)), self.height
        if self.factor is not None:
            return max(1, round(source[0] * self.factor)), max(1, round(source[1] * self.factor))
        return network
