"""Means with intervals: bootstrap over pictures, with a seed.

Frames of one clip resemble each other, so a clip is drawn or left out as a whole.

    >>> from apisr.evaluate.protocols import PROTOCOLS
    >>> summary = summarise({"a": 1.0, "b": 2.0, "c": 3.0}, clips={}, protocol=PROTOCOLS["deterministic"])
    >>> summary.mean, summary.count, summary.low is not None and summary.low >= 1.0
    (2.0, 3, True)
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from apisr.evaluate.protocols import Protocol

#: Draws that are held in memory at once.
_DRAWN_AT_ONCE = 1 << 20


class Summary(BaseModel):
    """One metric over all scored pictures.

    Attributes:
        mean: arithmetic mean of the values that exist.
        count: how many there are.
        low: lower end of the interval of the mean; None where it cannot be estimated (fewer than two pictures or
        clips).
        high: upper end.
        median: middle value.
        minimum: smallest value.
        maximum: largest value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    count: int
    low: float | None
    high: float | None
    median: float
    minimum: float
    maximum: float


def summarise(
    values: Mapping[str, float],
    *,
    clips: Mapping[str, str],
    protocol: Protocol,
    stream: str = "",
) -> Summary:
    """Summarise one metric (percentile bootstrap of the mean, clips drawn as a whole).

    Args:
        values: picture name -> value; not empty.
        clips: picture name -> clip name, for those that are frames of a clip.
        protocol: says how many resamples are drawn, from which seed, and the confidence.
        stream: name of the quantity, so that metrics do not share draws.
    """
    array = np.array(list(values.values()))
    groups: dict[str, list[float]] = {}
    for name, value in values.items():
        groups.setdefault(f"clip {clips[name]}" if name in clips else f"picture {name}", []).append(value)
    low = high = None
    if len(groups) >= 2:
        sums = np.array([sum(group) for group in groups.values()])
        counts = np.array([len(group) for group in groups.values()])
        rng = np.random.default_rng([protocol.seed, zlib.crc32(stream.encode())])
        means = np.empty(protocol.resamples)
        rows = max(1, _DRAWN_AT_ONCE // len(groups))
        for start in range(0, protocol.resamples, rows):
            part = means[start : start + rows]
            drawn = rng.integers(0, len(groups), (len(part), len(groups)))
            part[:] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        tail = (1 - protocol.confidence) / 2
        low, high = (float(value) for value in np.quantile(means, [tail, 1 - tail]))
    return Summary(
        mean=float(array.mean()),
        count=len(array),
        low=low,
        high=high,
        median=float(np.median(array)),
        minimum=float(array.min()),
        maximum=float(array.max()),
    )
