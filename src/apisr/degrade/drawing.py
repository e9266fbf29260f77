"""What every stage draws with: one generator, the present and the low size, and the few kinds of draws there are."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

#: An interval ``[smallest, largest]``.
Range = tuple[float, float]
#: What a stage drew: a JSON object.
Drawn = dict[str, object]


@dataclass(frozen=True)
class Draw:
    """The state of drawing: where randomness comes from and how large the picture is by now.

    Attributes:
        generator: source of all randomness.
        size: (height, width) of the picture before the stage.
        low: (height, width) of the low-resolution picture in the end.
    """

    generator: np.random.Generator
    size: tuple[int, int]
    low: tuple[int, int]

    @property
    def pixels_per_low_pixel(self) -> float:
        """Side of a pixel of the final low picture in present pixels."""
        return self.size[0] / self.low[0]

    def uniform(self, limits: Range) -> float:
        """Draw from an interval."""
        return float(self.generator.uniform(limits[0], limits[1]))

    def whole(self, limits: tuple[int, int]) -> int:
        """Draw a whole number, both ends included."""
        return int(self.generator.integers(limits[0], limits[1] + 1))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self.generator.random() < probability)

    def choose(self, weights: dict[str, float]) -> str:
        """Draw a name by relative weights."""
        names = list(weights)
        chances = np.array([weights[name] for name in names], np.float64)
        return names[int(self.generator.choice(len(names), p=chances / chances.sum()))]

    def seed(self) -> int:
        """Draw the seed of a generator that works while a picture is degraded."""
        return int(self.generator.integers(0, 1 << 53))


def noise_generator(seed: int) -> np.random.Generator:
    """Return the generator of a drawn seed."""
    return np.random.Generator(np.random.SFC64(seed))


def check_known(name: str, names: Collection[str], what: str) -> None:
    """Check (for pydantic) that `name` is one of `names`.

    Raises:
        ValueError: it is not.
    """
    if name not in names:
        raise ValueError(f"unknown {what} '{name}'{nearest_hint(name, names)}. Use one of {', '.join(names)}")


def nearest_hint(name: str, names: Collection[str]) -> str:
    """Return ``" (did you mean 'NEAR'?)"``, or nothing where no name is near."""
    near = difflib.get_close_matches(name, list(names), 1)
    return f" (did you mean '{near[0]}'?)" if near else ""
