"""A network that travels: its file and how it is run, from which any machine makes an upscaler."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, field, replace

from apisr.core.errors import InputError
from apisr.core.worker_folder import temporary_folder
from apisr.engines import Engine, open_engine
from apisr.engines.registry import name_parts
from apisr.upscale.options import Reuse, UpscaleOptions
from apisr.upscale.reuse import CanvasUpscaler
from apisr.weights import Model
from apisr.weights.model import model_changed


@dataclass(frozen=True)
class NetworkRecipe:
    """Makes an upscaler on any machine: the model's file travels with it.

    Attributes:
        model: what is known of the network.
        content: the bytes of its file.
        options: engine, device, threads and tta.
        reuse: see :mod:`apisr.upscale.reuse`.
        engine_name: what must run the network there, as an engine calls itself; empty leaves it to each machine.
    """

    model: Model
    content: bytes
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    reuse: Reuse = "exact"
    engine_name: str = ""

    @staticmethod
    def of(model: Model, options: UpscaleOptions = UpscaleOptions(), *, engine_name: str = "") -> NetworkRecipe:
        """Read the model's file; with the name of an engine, every machine must run it by this one.

        Raises:
            ModelError: the file is no longer the one that the model was made of (code ``model-changed``).
        """
        content = model.path.read_bytes()
        if model.sha256 and hashlib.sha256(content).hexdigest() != model.sha256:
            raise model_changed(model.path)
        portable = replace(model, card=dict(model.card))
        chosen, parts = options.portable, name_parts(engine_name)
        if parts is not None:
            chosen = replace(chosen, engine=parts[0], device=parts[1], precision=parts[2])
        return NetworkRecipe(portable, content, chosen, options.video.reuse, engine_name)

    def load(self) -> Engine:
        """Load the network on this machine.

        Raises:
            InputError: no engine here runs it, or another one than every machine must have.
        """
        options = self.options
        with temporary_folder("apisr-model-") as folder:
            path = folder / self.model.path.name
            path.write_bytes(self.content)
            engine = open_engine(
                replace(self.model, path=path),
                engine=options.engine,
                device=options.device,
                precision=options.precision,
                threads=options.threads,
                tta=options.tta,
            )
        if self.engine_name and engine.name != self.engine_name:
            raise InputError(
                f"{platform.node()} runs the model as {engine.name}, not as {self.engine_name}. "
                "Give --engine, --device and --precision that all machines of the cluster have.",
                code="workers-differ",
            )
        return engine

    def __call__(self) -> CanvasUpscaler:
        """Load the network and return an upscaler."""
        return CanvasUpscaler(self.load(), reuse=self.reuse)
