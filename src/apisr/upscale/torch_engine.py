"""The torch engine: checkpoints of any known network on CUDA, MPS or the processor.

What is done for speed: evaluation under ``inference_mode``, channels-last memory, half precision where it is close
enough to float32 (checked on a probe when the engine is made), pinned and asynchronous transfers on CUDA, and on
request ``torch.compile`` (fixed tile shapes make it pay; on CUDA with graphs). When the device runs out of memory, the
batch and then the picture are split and every part is computed again: nothing is dropped.

    >>> from apisr.weights import resolve_model                                     # doctest: +SKIP
    >>> engine = TorchEngine(resolve_model("grl.safetensors"), device="cpu")         # doctest: +SKIP
    >>> engine.run(batch).shape                                                     # doctest: +SKIP
    (1, 3, 720, 1280)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError, MissingExtra, RunError
from apisr.upscale.engine import NetworkTraits

if TYPE_CHECKING:
    import torch

    from apisr.weights import Model

Precision = Literal["auto", "fp32", "fp16", "bf16"]

#: Half precision is offered if a probe's PSNR against float32 reaches this.
HALF_PSNR_DB = 50.0
#: A tile that does not fit the memory is not split below this side.
SMALLEST_TILE_PX = 32


class TorchEngine:
    """Runs a checkpoint; see :class:`apisr.upscale.engine.Engine`.

    Args:
        model: a checkpoint (``.safetensors``, ``.pth``, ``.pt``, ``.ckpt``).
        device: ``auto`` (CUDA, else MPS, else the processor) or a torch device such as ``cpu``, ``cuda``, ``cuda:1``.
        precision: ``fp32``, ``fp16``, ``bf16``; ``auto`` takes fp16 on CUDA where it holds, else fp32.
        compile_network: let ``torch.compile`` specialise the network for the tile sizes that come.
        threads: processor threads, of all of torch in this process; by default torch's choice.

    Raises:
        InputError: unknown device or precision, or one that this network does not hold (less than 50 dB).
        ModelError: the file cannot be used.
        MissingExtra: torch is not installed.
    """

    #: The device's kernels are chosen by size: equal pixels may differ in the last bits.
    shape_exact = False

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        compile_network: bool = False,
        threads: int | None = None,
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("torch", f"to run '{model.path}'") from error
        from apisr.weights.checkpoint import load_network

        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        self.device = _device(device)
        if precision not in ("auto", "fp32", "fp16", "bf16"):
            raise InputError(f"unknown precision '{precision}'. Choose auto, fp32, fp16 or bf16.")
        self.traits = NetworkTraits.of(model)
        module: Any = load_network(model)
        module = module.to(self.device, memory_format=torch.channels_last)
        wanted = ("fp16" if self.device.type == "cuda" else "fp32") if precision == "auto" else precision
        self._module: Any = module
        self._dtype = torch.float32
        self.half_psnr_db: float | None = None
        if wanted != "fp32":
            self._use_half(wanted, required=precision != "auto")
        self.precision = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[self._dtype]
        if compile_network:
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"  # the former records CUDA graphs
            self._module = torch.compile(self._module, mode=mode, dynamic=False)
        self.name = f"torch ({self.device}, {self.precision})"

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`apisr.upscale.engine.Engine.run`.

        Raises:
            RunError: the device's memory does not suffice even for the smallest tile.
        """
        tensor = self._torch.from_numpy(np.ascontiguousarray(batch))
        return self._split_if_needed(tensor).numpy()

    def run_pixels(self, batch: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8 | np.uint16]:
        """Like :meth:`run` for ``(N, H, W, 3)`` of uint8 or uint16, converted and rounded on the device."""
        torch = self._torch
        peak = float(np.iinfo(batch.dtype).max)
        pixels = torch.from_numpy(np.ascontiguousarray(batch).astype(np.int32) if peak > 255 else batch)
        planes = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32) / peak
        output = self._split_if_needed(planes, keep_on_device=True)
        rounded = (output.clamp(0, 1) * peak).round_().permute(0, 2, 3, 1)
        return rounded.to(torch.int32).cpu().numpy().astype(batch.dtype)

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        torch = self._torch
        with torch.inference_mode():
            if self.device.type == "cuda" and batch.device.type == "cpu":
                batch = batch.pin_memory()
            x = batch.to(self.device, non_blocking=True).to(self._dtype, memory_format=torch.channels_last)
            return self._module(x).to(torch.float32)

    def _split_if_needed(self, batch: torch.Tensor, *, keep_on_device: bool = False) -> torch.Tensor:
        """Run; on lack of memory run halves (pictures of the batch, then of the picture) and join them."""
        torch = self._torch
        try:
            output = self._forward(batch)
            return output if keep_on_device else output.cpu()
        except torch.OutOfMemoryError as error:
            message = str(error).splitlines()[0]
        except RuntimeError as error:
            if "not enough memory" not in str(error) and "out of memory" not in str(error).lower():
                raise RunError(f"the network failed on {_size(batch)}: {str(error).splitlines()[0]}") from error
            message = str(error).splitlines()[0]
        # Outside the handler, so that the failed attempt's tensors are free.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if batch.shape[0] > 1:
            halves = (batch[: batch.shape[0] // 2], batch[batch.shape[0] // 2 :])
            return torch.cat([self._split_if_needed(half, keep_on_device=keep_on_device) for half in halves])
        return self._in_two_tiles(batch, keep_on_device=keep_on_device, message=message)

    def _in_two_tiles(self, batch: torch.Tensor, *, keep_on_device: bool, message: str) -> torch.Tensor:
        dim = 2 if batch.shape[2] >= batch.shape[3] else 3
        side, scale, unit = batch.shape[dim], self.traits.scale, self.traits.multiple_px
        middle = -(-side // (2 * unit)) * unit
        halo = self.traits.halo_px
        if halo is not None:
            halo = -(-halo // unit) * unit
        if halo is None or middle < SMALLEST_TILE_PX or middle + halo >= side:
            raise RunError(
                f"{self.device} has not enough memory for {_size(batch)} ({message}). "
                "Use smaller tiles, another device or precision, or a smaller model."
            )
        first = self._split_if_needed(batch.narrow(dim, 0, middle + halo), keep_on_device=keep_on_device)
        second = self._split_if_needed(
            batch.narrow(dim, middle - halo, side - middle + halo), keep_on_device=keep_on_device
        )
        parts = (
            first.narrow(dim, 0, middle * scale),
            second.narrow(dim, halo * scale, (side - middle) * scale),
        )
        return self._torch.cat(parts, dim)

    def _use_half(self, wanted: str, *, required: bool) -> None:
        """Switch to half precision if a probe comes out close enough to float32."""
        import copy

        torch = self._torch
        dtype = torch.float16 if wanted == "fp16" else torch.bfloat16
        side = -(-64 // self.traits.multiple_px) * self.traits.multiple_px
        probe = _probe_picture(side)
        exact = self._forward(torch.from_numpy(probe))
        full = self._module
        self._module, self._dtype = copy.deepcopy(full).to(dtype), dtype
        error = (self._forward(torch.from_numpy(probe)) - exact).square().mean().item()
        self.half_psnr_db = 10 * math.log10(1 / max(error, 1e-12)) if math.isfinite(error) else 0.0
        if self.half_psnr_db < HALF_PSNR_DB:
            self._module, self._dtype = full, torch.float32
            if required:
                raise InputError(
                    f"{wanted} does not hold for this network: {self.half_psnr_db:.1f} dB against fp32, "
                    f"at least {HALF_PSNR_DB:.0f} expected. Use fp32."
                )


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device '{name}'. Choose auto, cpu, cuda, cuda:1, ... or mps.") from error
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(device.type, False):
        have = ", ".join(kind for kind, there in usable.items() if there)
        raise InputError(f"device '{name}' is not available here (available: {have}). Choose one with --device.")
    return device


def _probe_picture(side: int) -> NDArray[np.float32]:
    """A picture of flat areas, edges and a gradient, as drawings have them: (1, 3, side, side)."""
    rng = np.random.default_rng(0)
    cells = rng.random((3, -(-side // 8), -(-side // 8)), dtype=np.float32).repeat(8, 1).repeat(8, 2)
    ramp = np.linspace(0, 0.2, side, dtype=np.float32)
    return (0.8 * cells[:, :side, :side] + ramp)[None]


def _size(batch: torch.Tensor) -> str:
    return f"a picture of {batch.shape[3]}x{batch.shape[2]}"
