"""A network that travels: its file and how it is run, from which any machine makes an upscaler."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from apisr.engines import Engine, open_engine
from apisr.upscale.options import Reuse, UpscaleOptions
from apisr.upscale.reuse import CanvasUpscaler
from apisr.weights import Model


@dataclass(frozen=True)
class NetworkRecipe:
    """Makes an upscaler on any machine: the model's file travels with it.

    Attributes:
        model: what is known of the network.
        content: the bytes of its file.
        options: engine, device, threads and tta.
        reuse: see :mod:`apisr.upscale.reuse`.
    """

    model: Model
    content: bytes
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    reuse: Reuse = "exact"

    @staticmethod
    def of(model: Model, options: UpscaleOptions = UpscaleOptions()) -> NetworkRecipe:
        """Read the model's file."""
        portable = replace(model, card=dict(model.card))
        return NetworkRecipe(portable, model.path.read_bytes(), options.portable, options.video.reuse)

    def load(self) -> Engine:
        """Load the network on this machine."""
        options = self.options
        with tempfile.TemporaryDirectory(prefix="apisr-model-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / self.model.path.name
            path.write_bytes(self.content)
            return open_engine(
                replace(self.model, path=path),
                engine=options.engine,
                device=options.device,
                precision=options.precision,
                threads=options.threads,
                tta=options.tta,
            )

    def __call__(self) -> CanvasUpscaler:
        """Load the network and return an upscaler."""
        return CanvasUpscaler(self.load(), reuse=self.reuse)
