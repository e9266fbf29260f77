"""The model for a request: by name, file, scale and strength.

>>> choose_model(None, scale=3).scale
4
"""

from __future__ import annotations

from pathlib import Path

from apisr.core.errors import InputError
from apisr.weights.interpolate import between
from apisr.weights.model import Model, default_model
from apisr.weights.resolve import resolve_model


def choose_model(model: str | Path | None, *, scale: float | None = None, strength: float | None = None) -> Model:
    """Find the model for a request: the one named, else the shipped one for the next whole scale (2 or 4).

    With a strength it is the one between that model and its vivid twin (:mod:`apisr.weights.interpolate`).

    Raises:
        ModelError: unknown, damaged, or no model fits.
        InputError: the factor is out of range (code ``bad-scale``), or a strength is given and the model has no vivid
            twin.
    """
    chosen = _chosen_model(model, scale=scale)
    if strength is None:
        return chosen
    return between(chosen, strength)


def _chosen_model(model: str | Path | None, *, scale: float | None) -> Model:
    if scale is not None and not 0.1 <= scale <= 16:
        raise InputError(
            f"expected a scale from 0.1 to 16, got {scale:g}. The models' own scales are 2 and 4.", code="bad-scale"
        )
    base = 4 if scale is not None and scale > 2 else 2
    if model is None:
        return resolve_model(default_model(base))
    try:
        return resolve_model(model)
    except InputError:
        if Path(model).suffix:
            raise
        return resolve_model(model, scale=base)
