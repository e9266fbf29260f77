"""Shipped models on constructed pictures: colour noise, a grid, dots, brightness

What a person sees at once, and what scores of whole pictures hide, on drawings whose every pixel is known. "colour
noise": standard deviation of Cb and Cr in flat areas (`noise_chroma` of `apisr evaluate`) behind JPEG, MPEG-2 and
H.264, the mean of four pictures; Lanczos shows what the codecs left. "grid": by how much the energy of the steps from
pixel to pixel is uneven between odd and even places on blurred edges, the larger of both directions (0: no pattern with
a period of two pixels; the drawings themselves have less than .003). "dots": levels by which
channels alternate from pixel to pixel in both directions more than in the drawings, on the old transfers of the folder
`validation`, where they do so most (.999 quantile of a mean over a few pixels): a raster, with which a network can win
a score of lines. "brightness": levels by which flat areas of the
coded pictures are lighter than with Lanczos, the mean of the four. Networks run in float32.

Run: python -m benchmarks constructed
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from apisr.degrade.codecs import round_trip
from apisr.engines import open_engine
from apisr.image import read_rgb
from apisr.metrics import flat_noise
from apisr.upscale import upscale_pixels
from apisr.upscale.baselines import ResampleEngine
from apisr.weights import Model, list_models

#: What a model should stay below: levels of colour noise, share of uneven energy, levels of dots, of brightness.
GOALS = {"colour noise": 0.36, "grid": 0.03, "dots": 0.5, "brightness": 0.3}
BORDER_PX = 8
VALIDATION = Path(__file__).resolve().parent.parent / "validation"
#: Grain that the drawing gets, and what codes it: everyday damage.
CODECS = (
    (0.0, "jpeg", {"quality": 80}),
    (2.0, "jpeg", {"quality": 75}),
    (2.0, "mpeg2", {"quantizer": 4}),
    (2.0, "h264", {"crf": 23}),
)
#: Blur of the edges on which a grid is looked for, in pixels of the low picture.
BLURS_PX = (0.7, 1.2, 1.8)
_COLOURS = ((244, 214, 190), (150, 186, 222), (120, 96, 88), (226, 150, 140), (176, 196, 150), (240, 238, 228))
_LUMA = np.array([0.299, 0.587, 0.114])

Enlarge = Callable[[np.ndarray], np.ndarray]


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure Lanczos and every shipped model."""
    rows: list[dict[str, object]] = []
    for scale in (2, 4):
        rows.append({"model": f"lanczos x{scale}", **_digits(measured(lanczos(scale), scale))})
        rows += (
            {"model": model.name, **_digits(measured(network(model), scale))}
            for model in list_models()
            if model.scale == scale and not (quick and model.architecture in ("grl", "rrdb"))
        )
    return [{"model": "goal", **{name: f"{value:.2f}" for name, value in GOALS.items()}}, *rows]


def network(model: Model) -> Enlarge:
    """Return what enlarges by a model in float32."""
    engine = open_engine(model, engine="onnx", device="cpu", precision="fp32")
    return lambda low: upscale_pixels(low, engine)


def lanczos(scale: int) -> Enlarge:
    """Return what enlarges by Lanczos."""
    engine = ResampleEngine(scale)
    return lambda low: upscale_pixels(low, engine)


def measured(enlarge: Enlarge, scale: int) -> dict[str, float]:
    """Return the numbers of :data:`GOALS`."""
    noise, lighter = zip(*(_coded(enlarge, scale, low) for low in coded(scale)), strict=True)
    return {
        "colour noise": float(np.mean(noise)),
        "grid": grid(enlarge, scale),
        "dots": dots(enlarge, scale),
        "brightness": float(np.mean(lighter)),
    }


def figures(scale: int, width: int = 144, height: int = 96) -> np.ndarray:
    """Draw six figures in ordinary colours with dark outlines, `scale` times as large as the low picture."""
    zoom = 4 * scale
    large = np.full((height * zoom, width * zoom, 3), (206, 214, 224), np.uint8)
    for place, colour in enumerate(_COLOURS):
        x, y = (place % 3) * 48 + 24, (place // 3) * 48 + 24
        centre, axes = (x * zoom, y * zoom), (20 * zoom, 18 * zoom)
        cv2.ellipse(large, centre, axes, 15 * place, 0, 360, colour, -1)
        cv2.ellipse(large, centre, axes, 15 * place, 0, 360, (52, 40, 44), round(1.5 * zoom))
    return _reduced(large, 4)


def coded(scale: int) -> Iterator[np.ndarray]:
    """Yield the figures at a low resolution, coded in each of :data:`CODECS`."""
    low = _reduced(figures(scale), scale)
    for sigma, codec, settings in CODECS:
        grain = np.random.default_rng(7).normal(0, 1, (*low.shape[:2], 1)) * sigma
        noisy = np.clip(np.rint(low + grain), 0, 255).astype(np.uint8)
        yield round_trip(noisy, codec, **settings).picture


def grid(enlarge: Enlarge, scale: int, *, drawings: int = 4) -> float:
    """Return the grid of :data:`GOALS` on blurred drawings of random shapes."""
    energy = np.zeros((2, 2))
    for seed in range(drawings):
        for blur in BLURS_PX:
            soft = cv2.GaussianBlur(shapes(seed, scale), (0, 0), blur * scale)
            energy += energies(enlarge(_reduced(soft, scale)))
    return uneven(energy)


def dots(enlarge: Enlarge, scale: int) -> float:
    """Return the dots of :data:`GOALS` on the old transfers of the folder ``validation``."""
    strongest: list[float] = []
    for low in sorted((VALIDATION / f"old_x{scale}").glob("*.webp")):
        made, truth = enlarge(read_rgb(low)), read_rgb(VALIDATION / "gt" / low.name)
        strongest.append(float(np.quantile(alternating(made) - alternating(truth), 0.999)))
    return float(np.mean(strongest))


def alternating(picture: np.ndarray) -> np.ndarray:
    """Return how far channels alternate from pixel to pixel in both directions, in levels, around each pixel."""
    second = np.array([1, -2, 1], np.float32) / 4
    steps = np.abs(cv2.sepFilter2D(picture.astype(np.float32), -1, second, second)).mean(axis=2)
    return np.asarray(cv2.GaussianBlur(steps, (0, 0), 2)[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX])


def shapes(seed: int, scale: int, width: int = 96, height: int = 72) -> np.ndarray:
    """Draw ellipses of random colours and places."""
    rng, zoom = np.random.default_rng(seed), 4 * scale
    large = np.full((height * zoom, width * zoom, 3), rng.integers(150, 240, 3).tolist(), np.uint8)
    for number in range(14):
        centre = (int(rng.uniform(0, width) * zoom), int(rng.uniform(0, height) * zoom))
        axes = (int(rng.uniform(6, 26) * zoom), int(rng.uniform(6, 26) * zoom))
        thickness = -1 if number % 2 else round(rng.uniform(1, 3) * zoom)
        cv2.ellipse(large, centre, axes, rng.uniform(0, 180), 0, 360, rng.integers(20, 250, 3).tolist(), thickness)
    return _reduced(large, 4)


def energies(picture: np.ndarray) -> np.ndarray:
    """Return the energy of the steps of luma: down and across, from even places and from odd ones."""
    luma = picture[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].astype(np.float64) @ _LUMA
    steps = [np.square(np.diff(luma, axis=axis)) for axis in (0, 1)]
    down, across = steps[0][: len(steps[0]) // 2 * 2], steps[1][:, : steps[1].shape[1] // 2 * 2]
    return np.array([[down[0::2].sum(), down[1::2].sum()], [across[:, 0::2].sum(), across[:, 1::2].sum()]])


def uneven(energy: np.ndarray) -> float:
    """Return by how much the larger part of each direction is above one half, the larger of the two."""
    return float((energy.max(axis=1) / energy.sum(axis=1)).max() - 0.5)


def _coded(enlarge: Enlarge, scale: int, low: np.ndarray) -> tuple[float, float]:
    """Colour noise, and levels of luma above Lanczos in flat areas."""
    truth, made, plain = figures(scale), enlarge(low), lanczos(scale)(low)
    inside = np.zeros(truth.shape[:2], bool)
    for place in range(len(_COLOURS)):
        x, y = ((place % 3) * 48 + 24) * scale, ((place // 3) * 48 + 24) * scale
        inside[y - 10 * scale : y + 10 * scale, x - 10 * scale : x + 10 * scale] = True
    lighter = ((made[inside].astype(np.float64) - plain[inside]) @ _LUMA).mean()
    return flat_noise(made, truth, border_px=BORDER_PX).chroma, float(lighter)


def _reduced(picture: np.ndarray, factor: int) -> np.ndarray:
    size = (picture.shape[1] // factor, picture.shape[0] // factor)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _digits(values: dict[str, float]) -> dict[str, object]:
    formats = {"colour noise": ".2f", "grid": ".3f", "dots": ".2f", "brightness": "+.2f"}
    return {name: format(values[name], text) for name, text in formats.items()}
