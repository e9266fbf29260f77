"""How much there is to see in a picture: the score by which frames are chosen (paper 3.1).

The paper ranks frames by image complexity (the network of IC9600), not by image quality: quality metrics favour flat,
simple scenes, complexity favours detail. Both kinds sit behind one protocol, :class:`Scorer`:

- ``icnet``: the network of IC9600, where its weights are installed (``apisr models fetch ic9600``) and torch is;
- ``classical``: no network, no weights; the mean of four measures over three scales, described at
  :func:`classical_complexity`. It is the default where the network is absent, and the manifest says which was used;
- any no-reference metric of :mod:`apisr.metrics.registry` by its name (``niqe`` for the ablation of the paper's
  table 2; those of pyiqa with the extra ``eval``), negated where lower is better.

    >>> import numpy as np
    >>> flat = np.full((64, 64, 3), 128, np.uint8)
    >>> lined = flat.copy(); lined[::4] = 0
    >>> classical_complexity(lined) > classical_complexity(flat)
    True
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.config import nearest, unknown_name
from apisr.core.errors import InputError, MissingExtra, ModelError
from apisr.image.types import ImageU8
from apisr.metrics import Metric, Undefined
from apisr.metrics.registry import open_metric

#: Longest side, in pixels, of the picture that the classical score looks at.
CLASSICAL_SIDE_PX = 512
#: Scales of the classical score, relative to that side.
CLASSICAL_SCALES = (1.0, 0.5, 0.25)
#: Values of the four measures that count as "full" (the 95th percentile over painted backgrounds); see
#: `classical_measures`.
FULL_EDGES, FULL_ENTROPY_BITS, FULL_OCCUPIED, FULL_BITS_PER_PIXEL = 0.45, 6.0, 1.0, 2.6

#: Stands for a metric that is not defined for a frame: such frames are chosen last.
UNDEFINED_SCORE = -1000.0
#: Scores that are no metrics.
SCORES = ("auto", "classical", "icnet")

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
_ICNET_SIDE_PX = 512


class Scorer(Protocol):
    """A score of pictures; more is better."""

    @property
    def name(self) -> str:
        """What the manifest records."""
        ...

    @property
    def side_px(self) -> int | None:
        """Pictures need no longer side than this; None: full size."""
        ...

    def __call__(self, picture: ImageU8) -> float:
        """Score one RGB picture ``(H, W, 3)``."""
        ...


@dataclass(frozen=True)
class ClassicalScorer:
    """:func:`classical_complexity` as a :class:`Scorer`."""

    name: str = "classical"
    side_px: int | None = CLASSICAL_SIDE_PX

    def __call__(self, picture: ImageU8) -> float:
        """Score one RGB picture ``(H, W, 3)`` in [0, 1]."""
        return classical_complexity(picture)


def classical_complexity(picture: ImageU8) -> float:
    """Score the complexity of an RGB picture ``(H, W, 3)`` from 0 (empty) to 1, without a network.

    The mean over the scales 1, 1/2 and 1/4 (of 512 pixels) of the four measures of :func:`classical_measures`, each
    divided by its "full" value and cut at 1. Fine grain counts little: the finest scale is smoothed first and the
    others average it.
    """
    height, width = picture.shape[:2]
    total = 0.0
    for scale in CLASSICAL_SCALES:
        factor = min(scale * CLASSICAL_SIDE_PX / max(height, width), scale)
        size = max(round(width * factor), 16), max(round(height * factor), 16)
        gray = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        edges, entropy, occupied, bits = classical_measures(np.asarray(gray, np.uint8))
        total += min(edges / FULL_EDGES, 1) + min(entropy / FULL_ENTROPY_BITS, 1)
        total += min(occupied / FULL_OCCUPIED, 1) + min(bits / FULL_BITS_PER_PIXEL, 1)
    return total / (4 * len(CLASSICAL_SCALES))


def classical_measures(gray: ImageU8) -> tuple[float, float, float, float]:
    """Return the four measures of a gray picture ``(H, W)`` at one scale.

    Returns:
        Share of edge pixels (Sobel magnitude above 24 of 255 per pixel after a Gaussian of sigma 0.8); entropy of
        the luma histogram in 64 bins, in bits (0 to 6); share of 8x8 blocks that are not flat (standard deviation
        above 4 of 255); size as a JPEG of quality 80, in bits per pixel.
    """
    smooth = cv2.GaussianBlur(gray, (0, 0), 0.8).astype(np.float32)
    gradient_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125)
    gradient_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)
    edges = float(np.mean(cv2.magnitude(gradient_x, gradient_y) > 6.0))
    counts = np.bincount((gray >> 2).ravel(), minlength=64)
    shares = counts[counts > 0] / gray.size
    entropy = float(-(shares * np.log2(shares)).sum())
    mean, square = cv2.blur(smooth, (8, 8))[4::8, 4::8], cv2.blur(smooth * smooth, (8, 8))[4::8, 4::8]
    occupied = float(np.mean(square - mean * mean > 16.0))
    encoded = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return edges, max(entropy, 0.0), occupied, 8.0 * encoded.size / gray.size


@dataclass(frozen=True)
class MetricScorer:
    """A no-reference metric of :mod:`apisr.metrics.registry` as a :class:`Scorer`; more is better."""

    metric: Metric
    side_px: int | None = None

    @property
    def name(self) -> str:
        """What the manifest records: the metric's name."""
        return self.metric.name

    def __call__(self, picture: ImageU8) -> float:
        """Score one RGB picture ``(H, W, 3)``; pictures that the metric is not defined for come last."""
        try:
            return self.metric.goodness(self.metric.score(picture, None))
        except Undefined:
            return UNDEFINED_SCORE


def open_scorer(name: str) -> Scorer:
    """Return the scorer called `name`: ``auto``, ``classical``, ``icnet`` or a metric.

    ``auto`` is ``icnet`` where its weights and torch are installed, else ``classical``.

    Raises:
        InputError: unknown name, missing extra or missing weights.
    """
    if name == "classical":
        return ClassicalScorer()
    if name == "icnet":
        return _open_icnet()
    if name == "auto":
        ready = importlib.util.find_spec("torch") is not None and _icnet_path() is not None
        return _open_icnet() if ready else ClassicalScorer()
    return _open_metric(name)


def icnet_input(picture: ImageU8) -> NDArray[np.float32]:
    """Prepare an RGB picture ``(H, W, 3)`` for IC9600: 512x512, ImageNet mean and std, ``(1, 3, 512, 512)``."""
    from apisr.image import resize, to_float, to_tensor

    values = resize(to_float(picture), _ICNET_SIDE_PX, _ICNET_SIDE_PX, method="bilinear")
    return to_tensor(((values - _IMAGENET_MEAN) / _IMAGENET_STD).astype(np.float32))


@dataclass(frozen=True)
class NetworkScorer:
    """A torch network that maps ``(1, 3, 512, 512)`` to a score and a map (IC9600's), as a :class:`Scorer`."""

    network: Any
    name: str = "icnet"
    side_px: int | None = None

    def __call__(self, picture: ImageU8) -> float:
        """Score one RGB picture ``(H, W, 3)`` in [0, 1]."""
        import torch

        with torch.inference_mode():
            score = self.network(torch.from_numpy(icnet_input(picture)))
        first = score[0] if isinstance(score, tuple) else score
        return float(first.reshape(-1)[0])


def _open_metric(name: str) -> Scorer:
    if nearest(name, SCORES, cutoff=0.75) is not None:
        raise unknown_name("score", name, SCORES)
    try:
        metric = open_metric(name)
    except Undefined as error:
        raise ModelError(
            f"the metric '{name}' cannot be used: {error}. Choose another --score.", code=error.code
        ) from error
    if metric.needs_reference:
        raise InputError(
            f"the metric '{name}' compares with ground truth, which frames do not have. Choose another --score.",
            code="needs-reference",
        )
    return MetricScorer(metric)


def _open_icnet() -> Scorer:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch", "to score complexity with IC9600's network")
    path = _icnet_path()
    if path is None:
        raise ModelError("IC9600's network is not installed. Run: apisr models fetch ic9600", code="model-not-fetched")
    from apisr.weights.checkpoint import load_network, read_checkpoint

    checkpoint = read_checkpoint(path)
    if checkpoint.network.name != "icnet":
        raise ModelError(
            f"'{path}' is not IC9600's network but {checkpoint.network.title}. Remove it and run: "
            "apisr models fetch ic9600",
            code="wrong-network",
        )
    return NetworkScorer(load_network(checkpoint))


def _icnet_path() -> Path | None:
    """Where the fetched checkpoint is, None where there is none; a damaged one is an error."""
    from apisr.weights.releases import CATALOGUE, cached

    return cached(CATALOGUE["ic9600"])
