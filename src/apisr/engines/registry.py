"""The registry of engines, and opening a model in the one that suits this machine.

To add an engine: write a file of this package that holds an ``ENGINE``; nothing else names it.

    >>> sorted(ENGINES)
    ['ncnn', 'onnx', 'openvino', 'torch']
    >>> engine = open_engine("apisr-x2-fast", engine="onnx", device="cpu")
    >>> engine.name
    'onnx (cpu, fp32)'
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from apisr.core.config import nearest, unknown_name
from apisr.core.discovery import file_names
from apisr.core.errors import InputError, MissingExtra, ModelError
from apisr.engines.base import (
    LOWEST_PSNR_DB,
    Engine,
    EngineKind,
    Precision,
    PrecisionChoice,
    Request,
    check_pictures,
    check_precision,
    worst_psnr_db,
)

if TYPE_CHECKING:
    from apisr.weights import Model

#: Files of this package that hold no engine.
_OTHER_FILES = {
    *("base", "benchmark", "choice", "chroma", "exactness", "fallback", "ncnn_graph"),
    *("openvino_cache", "openvino_grl", "openvino_int8"),
    *("openvino_margins", "openvino_pixels", "pixels", "registry", "split", "tta", "wrapper"),
}


class _Engines(Mapping[str, EngineKind]):
    """The engines by name; the file of one is imported when it is asked for, all of them when they are listed."""

    def __init__(self) -> None:
        self._files = [name for name in file_names("apisr.engines") if name not in _OTHER_FILES]

    def __getitem__(self, name: str) -> EngineKind:
        if name not in self._files:
            raise KeyError(name)
        return importlib.import_module(f"apisr.engines.{name}").ENGINE

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files, key=lambda name: self[name].rank))

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files


#: Name of an engine, which is that of its file -> engine, in the order of preference where two are equally fast.
ENGINES: Mapping[str, EngineKind] = _Engines()
Candidate = tuple[EngineKind, Request]
#: More than any machine has; systems give up in odd ways long before a million.
MAX_THREADS = 1024
PRECISIONS: tuple[PrecisionChoice, ...] = ("auto", "fp32", "fp16", "bf16", "int8")


def engine_kind(name: str) -> EngineKind:
    """Return the engine called `name`, before anything heavy is loaded.

    Raises:
        InputError: there is none (code ``unknown-engine``).
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ["auto", *ENGINES])
    return ENGINES[name]


def open_engine(
    model: Model | str | Path,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
    tta: bool = False,
) -> Engine:
    """Load a model into an engine, behind the filter of :mod:`apisr.engines.chroma` where its card asks for that.

    Args:
        model: from :func:`apisr.weights.choose_model`, or a name or file.
        engine: a key of :data:`ENGINES`; ``auto`` takes the fastest on this machine (:mod:`apisr.engines.choice`).
        device: a device of the engine (``cpu``, ``cuda``, ``gpu``, ...); ``auto`` takes the fastest.
        precision: of the arithmetic; ``auto`` takes the fastest that stays above 50 dB of fp32.
        threads: processor threads; by default all that this process may use.
        tta: the mean over eight flips and turns (:mod:`apisr.engines.tta`).

    Raises:
        InputError: unknown engine or precision, or a device that is not there (codes ``unknown-engine``,
            ``unknown-precision``, ``bad-threads``, ``unknown-device``, ``device-not-available``,
            ``precision-not-accurate``).
        ModelError: the engine cannot run the model (code ``engine-cannot-run``), or its file was changed since it was
            read (code ``model-changed``).
        MissingExtra: the engine's package is not installed.
    """
    from apisr.weights import choose_model

    if isinstance(model, (str, Path)):
        model = choose_model(model)
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MAX_THREADS):
        raise InputError(f"expected 1 to {MAX_THREADS} threads, got {threads!r}.", code="bad-threads")
    candidates = list(candidate_requests(model, engine=engine, device=device, precision=precision, threads=threads))
    if len(candidates) == 1:
        opened = open_checked(*candidates[0], named=precision != "auto")
    else:
        from apisr.engines import choice

        opened = choice.open_fastest(candidates, named_precision=precision != "auto")
    model.check_unchanged()
    if chosen_device(opened) != "cpu":
        from apisr.engines.fallback import FallbackEngine

        opened = FallbackEngine(opened, lambda: _on_processor(model, threads))
    if tta:
        from apisr.engines.tta import TtaEngine

        opened = TtaEngine(opened)
    if model.cleans_colours:
        from apisr.engines.chroma import ChromaEngine

        opened = ChromaEngine(opened)
    return opened


def speed_px_per_s(
    model: Model,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
) -> float:
    """Return how fast :func:`open_engine` runs a model here, in input pixels a second; measured once and kept.

    Raises:
        InputError, ModelError, MissingExtra: as :func:`open_engine`.
    """
    from apisr.engines import choice

    candidates = list(candidate_requests(model, engine=engine, device=device, precision=precision, threads=threads))
    ranked = choice.ranked_candidates(candidates, named_precision=precision != "auto")
    return ranked[0].mpx_per_s * 1e6 if ranked else 0.0


def chosen_device(engine: Engine) -> str:
    """Return the device in an engine's name: ``"cpu"`` of ``"onnx (cpu, fp32)"``."""
    return engine.name.partition("(")[2].partition(",")[0]


def name_parts(name: str) -> tuple[str, str, Precision] | None:
    """Return engine, device and precision of an engine's name; None where it does not say them.

    >>> name_parts("ncnn (vulkan:1, fp16), mean of 8 flips")
    ('ncnn', 'vulkan:1', 'fp16')
    """
    found = re.match(r"(\w+) \(([^,()]+), (fp32|fp16|bf16|int8)\)", name)
    return None if found is None else (found[1], found[2], cast("Precision", found[3]))


def _on_processor(model: Model, threads: int | None) -> Engine:
    """What takes over when a device fails."""
    candidates = candidate_requests(model, engine="auto", device="cpu", precision="fp32", threads=threads)
    kind, request = next(iter(candidates))
    opened = kind.open(request)
    model.check_unchanged()
    return opened


def candidate_requests(
    model: Model,
    *,
    engine: str,
    device: str,
    precision: PrecisionChoice,
    threads: int | None,
    every: bool = False,
) -> Iterator[Candidate]:
    """Yield what can run a model here and fits what was asked for, the preferred first; at least one.

    With `every` also what the automatic choice does not try.

    Raises:
        InputError, ModelError, MissingExtra: nothing fits; see :func:`open_engine`.
    """
    kinds = [engine_kind(name) for name in ENGINES] if engine == "auto" else [engine_kind(engine)]
    runnable = [kind for kind in kinds if kind.runs(model) and (kind.devices() or engine != "auto")]
    if not runnable:
        raise _cannot_run(model, engine)
    chosen = [(kind, name) for kind in runnable for name in _matching(kind, device)]
    if not chosen:
        raise _no_device(runnable, device, engine)
    if device == "auto" and not every:
        chosen = _worth_trying(chosen)
    for kind, name in chosen:
        precisions: tuple[Precision, ...] = kind.precisions(name, model) if precision == "auto" else (precision,)
        for value in precisions:
            yield kind, Request(model, name, value, threads)


def open_checked(kind: EngineKind, request: Request, *, named: bool) -> Engine:
    """Open an engine; a reduced precision that was named is compared with fp32 first.

    Raises:
        InputError: the precision is not accurate enough for the network (code ``precision-not-accurate``).
    """
    opened = kind.open(request)
    if named and request.precision != "fp32":
        check_precision(request.model.name, request.precision, accuracy_db(kind, request, opened))
    return opened


def accuracy_db(kind: EngineKind, request: Request, opened: Engine) -> float:
    """Return the PSNR of an opened engine against the same engine in fp32, the worst of the built-in pictures."""
    from dataclasses import replace

    side = -(-96 // opened.traits.multiple_px) * opened.traits.multiple_px
    pictures = check_pictures(*(opened.traits.fixed_size or (side, side)))
    exact = kind.open(replace(request, precision="fp32"))
    return worst_psnr_db(map(opened.run, pictures), map(exact.run, pictures))


def _matching(kind: EngineKind, device: str) -> list[str]:
    devices = kind.devices()
    if device == "auto":
        return list(devices)
    return [device] if device in devices else []


def _worth_trying(chosen: list[tuple[EngineKind, str]]) -> list[tuple[EngineKind, str]]:
    """Leave out what is only taken when it is named.

    That is TensorRT (it builds for minutes), graphics cards that are programs, and torch and ncnn on the processor,
    where the other engines are faster.
    """
    kept = [
        (kind, name)
        for kind, name in chosen
        if name not in ("tensorrt", "npu") and not kind.devices()[name].endswith("(software)")
    ]
    slow = [(kind, name) for kind, name in kept if name == "cpu" and kind.name in ("torch", "ncnn")]
    fast = [choice for choice in kept if choice not in slow]
    return fast if any(name == "cpu" for _, name in fast) else kept


def _cannot_run(model: Model, engine: str) -> ModelError | MissingExtra:
    if engine == "auto":
        return MissingExtra("torch", f"to run '{model.path}'")
    kind = engine_kind(engine)
    if not kind.devices():
        return MissingExtra(kind.extra or kind.name, f"to use the engine {engine}")
    why = kind.why_not(model)
    return ModelError(
        f"the engine {engine} cannot run '{model.path}' (network {model.architecture}{why and ': '}{why}). "
        f"Use --engine auto{'' if why else ', or convert the file with apisr export'}.",
        code="engine-cannot-run",
    )


def _no_device(kinds: list[EngineKind], device: str, engine: str) -> InputError:
    found = {kind.name: kind.devices() for kind in kinds}
    if engine != "auto" and not found[kinds[0].name]:
        return MissingExtra(kinds[0].extra or kinds[0].name, f"to use the engine {engine}")
    listed = "; ".join(f"{name}: {', '.join(devices)}" for name, devices in found.items() if devices)
    near = nearest(device, {name for devices in found.values() for name in devices}, cutoff=0.7)
    hint = f" Did you mean '{near}'?" if near else ""
    return InputError(
        f"device '{device}' is not available here (available: {listed}).{hint} Choose one with --device.",
        code="device-not-available",
    )


__all__ = ["ENGINES", "LOWEST_PSNR_DB", "PRECISIONS", "candidate_requests", "engine_kind", "open_engine"]
