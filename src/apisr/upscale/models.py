"""Which network a file needs, and each network loaded once in a run.

>>> from apisr.upscale.options import UpscaleOptions
>>> needed_factor(UpscaleOptions(height=2160), 360)
6.0
>>> needed_factor(UpscaleOptions(scale=3), 360)
3
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.core.errors import InputError
from apisr.engines import open_engine
from apisr.upscale.options import UpscaleOptions
from apisr.weights import choose_model

if TYPE_CHECKING:
    from apisr.engines import Engine
    from apisr.weights import Model

OpenEngine = Callable[["Model"], "Engine"]

#: Factors that a request may have, see :func:`apisr.weights.choose_model`.
_FACTORS = (0.1, 16.0)


def needed_factor(options: UpscaleOptions, lines: int | None) -> float | None:
    """Return by how much a file of so many lines is enlarged; None where the model decides.

    Args:
        options: of the run.
        lines: rows of the file as the network gets it; None where they are not known yet.
    """
    if options.height is None or lines is None:
        return options.scale
    return min(max(options.height / lines, _FACTORS[0]), _FACTORS[1])


class Networks:
    """Chooses and loads the networks of one run.

    Args:
        options: of the run.
        open_engine: loads a model; by default as the options say.
    """

    def __init__(self, options: UpscaleOptions, open_engine: OpenEngine | None = None) -> None:
        self._options = options
        self._open = open_engine or self._load
        self._models: dict[float | None, Model] = {}
        self._engines: dict[Path, Engine] = {}
        self._lock = threading.Lock()

    @property
    def used(self) -> tuple[Model, ...]:
        """The models that were chosen so far, each once."""
        return tuple({model.path: model for model in self._models.values()}.values())

    def model_for(self, lines: int | None = None) -> Model:
        """Choose the model for a file of so many lines (rows); without them, for the factor alone.

        Raises:
            ModelError: unknown, damaged, or no model fits.
            InputError: the factor is out of range, or the model has no vivid twin and a strength was given.
        """
        options = self._options
        factor = needed_factor(options, lines)
        if factor not in self._models:
            model = options.model
            if model is None or isinstance(model, (str, Path)):
                model = choose_model(model, scale=factor, strength=options.strength)
            elif options.strength is not None:
                raise InputError("a strength goes with the name of a model. Load the model with that strength.")
            self._models[factor] = model
        return self._models[factor]

    def engine(self, model: Model) -> Engine:
        """Load a model, once."""
        with self._lock:
            if model.path not in self._engines:
                self._engines[model.path] = self._open(model)
            return self._engines[model.path]

    def _load(self, model: Model) -> Engine:
        options = self._options
        return open_engine(
            model,
            engine=options.engine,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            tta=options.tta,
        )


def network_notice(model: Model, options: UpscaleOptions, lines: int) -> str | None:
    """Say how the final size comes about where it is not the model's own: ``x4 network, then to 2160 lines``."""
    final = options.height if options.height is not None else round(lines * (options.scale or model.scale))
    if final == lines * model.scale:
        return None
    return f"x{model.scale} network ({model.name}), then to {final} lines."
