"""Which network a file needs, and each network loaded once in a run.

>>> from apisr.upscale.options import UpscaleOptions
>>> needed_factor(UpscaleOptions(height=2160), 360)
6.0
>>> needed_factor(UpscaleOptions(scale=3), 360)
3
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.core.errors import ApisrError, InputError
from apisr.core.processes import usable_cores
from apisr.core.text import counted
from apisr.engines import open_engine
from apisr.engines.registry import name_parts, speed_px_per_s
from apisr.engines.tta import VIEWS
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.softness import file_edge_width, strength_for
from apisr.weights import choose_model, list_models, resolve_model
from apisr.weights.interpolate import between
from apisr.weights.model import SOFT_TWIN, VIVID

if TYPE_CHECKING:
    from apisr.engines import Engine
    from apisr.image import PictureInfo
    from apisr.weights import Model

OpenEngine = Callable[["Model"], "Engine"]

#: Entry of a card: the model for videos on few processor cores.
FAST_TWIN = "fast_twin"
#: Entry of a card: the model for a single picture, where it takes no longer than :data:`PATIENCE_S`.
LARGE_TWIN = "large_twin"
#: From so many cores videos get the model that pictures get.
MANY_CORES = 16
#: How long a single picture may take for the large model to be taken, in seconds.
PATIENCE_S = 30.0
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
        many: the files of the run are some of many that come one by one.
    """

    def __init__(self, options: UpscaleOptions, open_engine: OpenEngine | None = None, *, many: bool = False) -> None:
        self._options = options
        self._open = open_engine or self._load
        self._models: dict[tuple[str, float | None, float | None], Model] = {}
        self._engines: dict[tuple[Path, str], Engine] = {}
        self._lock = threading.Lock()
        self._many = many
        self._single = False

    @property
    def used(self) -> tuple[Model, ...]:
        """The models that were chosen so far, each once."""
        return tuple({model.path: model for model in self._models.values()}.values())

    def named(self, names: Collection[str]) -> tuple[Model, ...]:
        """Return those of :attr:`used` that results name; all of them where no result names one."""
        return tuple(model for model in self.used if model.name in names) or self.used

    def model_for(
        self,
        lines: int | None = None,
        edge_width: Callable[[], float | None] | None = None,
        *,
        video: bool = False,
        pixels: int = 0,
    ) -> Model:
        """Choose the model for a file.

        Args:
            lines: rows of the file; without them, the model for the factor alone.
            edge_width: measures how soft the file is, called where the model has weights for crisp and soft sources
                and the options leave the choice open; None takes the file for a crisp one.
            video: whether it is a video: where none is named, few processor cores get the fast model.
            pixels: of a picture: where none is named, a single one gets the large model if that is fast enough here.

        Raises:
            ModelError: unknown, damaged, or no model fits.
            InputError: the factor is out of range, or the model has no crisp twin and a strength was given.
        """
        options = self._options
        factor = needed_factor(options, lines)
        model = self._chosen(options.model, factor, options.strength)
        name: Model | str | Path | None = options.model
        if video and name is None and (fast := model.card.get(FAST_TWIN)) and usable_cores() < MANY_CORES:
            name = str(fast)
            model = self._chosen(name, factor, options.strength)
        large = model.card.get(LARGE_TWIN)
        if large and pixels and self._single and name is None and self._fast_enough(str(large), pixels):
            name = str(large)
            model = self._chosen(name, factor, options.strength)
        if options.strength is not None or not model.card.get(SOFT_TWIN):
            return model
        if options.source == "auto":
            strength = strength_for(edge_width() if edge_width is not None else None)
        else:
            strength = 1.0 if options.source == "soft" else 0.0
        return self._chosen(name, factor, strength) if strength else model

    def expect(self, files: int) -> None:
        """Say how many files the run has: a single picture may take its time, where it is made on this machine."""
        self._single = files == 1 and not self._many and self._options.cluster is None

    def picture_model(self, source: Path, info: PictureInfo) -> Model:
        """Choose the model for a picture, by its size and by how soft it is; see :meth:`model_for`."""
        edge_width = partial(file_edge_width, source, self._options.picture.max_pixels)
        return self.model_for(info.height, edge_width, pixels=info.height * info.width * info.frame_count)

    def _fast_enough(self, name: str, pixels: int) -> bool:
        """Whether a picture goes through a network within :data:`PATIENCE_S`, by the speed that was measured here."""
        options = self._options
        model = resolve_model(name)
        speed = speed_px_per_s(
            model, engine=options.engine, device=options.device, precision=options.precision, threads=options.threads
        )
        return pixels * (VIEWS if options.tta else 1) <= speed * PATIENCE_S

    def _chosen(self, name: Model | str | Path | None, factor: float | None, strength: float | None) -> Model:
        key = (str(name) if isinstance(name, (str, Path)) else "", factor, strength)
        if key not in self._models:
            if name is None or isinstance(name, (str, Path)):
                self._models[key] = choose_model(name, scale=factor, strength=strength)
            elif self._options.strength is not None:
                raise InputError(
                    "a strength goes with the name of a model. Load the model with that strength.",
                    code="strength-of-loaded-model",
                )
            elif strength is not None:
                self._models[key] = between(name, strength)
            else:
                self._models[key] = name
        return self._models[key]

    def engine_names(self) -> tuple[str, ...]:
        """Return what ran where and how, for people: ``"apisr-x2: openvino (cpu, bf16)"``."""
        names = {model.path: model.name for model in self.used}
        return tuple(f"{names[path]}: {engine.name}" for (path, _), engine in self._engines.items() if path in names)

    def engine(self, model: Model, *, earlier: str = "") -> Engine:
        """Load a model, once.

        Args:
            model: the network.
            earlier: name of the engine of an interrupted run that is continued, which is taken again where the options
                leave the choice open: another one would give other pictures.
        """
        with self._lock:
            key = (model.path, earlier)
            if key not in self._engines:
                self._engines[key] = (earlier and self._opened_again(model, earlier)) or self._open(model)
            return self._engines[key]

    def _opened_again(self, model: Model, name: str) -> Engine | None:
        """Open an engine by its name; None where the options ask for another, or it does not run here now."""
        options, parts = self._options, name_parts(name)
        if self._open != self._load or parts is None:
            return None
        asked = (options.engine, options.device, options.precision)
        if any(value not in ("auto", part) for value, part in zip(asked, parts, strict=True)):
            return None
        engine, device, precision = parts
        try:
            opened = open_engine(
                model, engine=engine, device=device, precision=precision, threads=options.threads, tta=options.tta
            )
        except ApisrError:
            return None
        return opened if opened.name == name else None

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


def fast_notice(model: Model, options: UpscaleOptions) -> str | None:
    """Say that a video gets the fast model, where that was not asked for."""
    usual, fast = _stands_for(model, options, FAST_TWIN)
    if usual is None:
        return None
    cores = counted(usable_cores(), "processor core")
    return f"{cores}: the fast model {fast} is taken; --model {usual} is slower and better."


def large_notice(model: Model, options: UpscaleOptions) -> str | None:
    """Say that a single picture gets the large model, where that was not asked for."""
    usual, large = _stands_for(model, options, LARGE_TWIN)
    if usual is None:
        return None
    return f"a single picture: the large model {large} is taken; --model {usual} is several times as fast."


def _stands_for(model: Model, options: UpscaleOptions, entry: str) -> tuple[str | None, str]:
    """Return the default model whose card names this one under `entry`, None if none does or one was asked for."""
    name = model.name.partition(",")[0]
    names = (name, name.removesuffix(VIVID))  # the twin for soft sources stands for the same model
    usual = (known.name for known in list_models() if known.card.get(entry) in names)
    return (next(usual, None) if options.model is None else None), name


def network_notice(model: Model, options: UpscaleOptions, lines: int) -> str | None:
    """Say how the final size comes about where it is not the model's own: ``x4 network, then to 2160 lines``."""
    final = options.height if options.height is not None else round(lines * (options.scale or model.scale))
    if final == lines * model.scale:
        return None
    return f"x{model.scale} network ({model.name}), then to {final} lines."
