"""The torch engine: same values as the network, memory retries that drop nothing, clear errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apisr.core.errors import InputError, RunError  # noqa: E402
from apisr.networks import build  # noqa: E402
from apisr.upscale import load_engine  # noqa: E402
from apisr.upscale.torch_engine import TorchEngine  # noqa: E402
from apisr.weights import Model, resolve_model  # noqa: E402
from apisr.weights.checkpoint import load_network, save_network  # noqa: E402

HYPER = {"features": 12, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = tmp_path / "small.safetensors"
    torch.manual_seed(0)
    save_network(build("compact", HYPER), path, "compact", HYPER, card={"name": "small"})
    return resolve_model(path)


def batch_of(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 3, height, width), dtype=np.float32)


def test_gives_the_networks_values(model: Model) -> None:
    engine = TorchEngine(model, device="cpu")
    batch = batch_of(2, 32, 48)
    with torch.inference_mode():
        expected = load_network(model)(torch.from_numpy(batch)).numpy()
    output = engine.run(batch)
    assert output.dtype == np.float32
    assert output.shape == (2, 3, 64, 96)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert engine.precision == "fp32"
    assert engine.traits.scale == 2


def test_threads_are_those_that_were_asked_for(model: Model) -> None:
    before = torch.get_num_threads()
    try:
        for wanted in (1, 2):
            load_engine(model, device="cpu", threads=wanted)
            assert torch.get_num_threads() == wanted
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_rounded_once(model: Model, dtype: type[np.generic]) -> None:
    engine = TorchEngine(model, device="cpu")
    peak = np.iinfo(dtype).max
    pixels = np.random.default_rng(2).integers(0, peak, (1, 16, 20, 3), endpoint=True).astype(dtype)
    output = engine.run_pixels(pixels)
    exact = engine.run(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(peak))
    expected = np.clip(exact, 0, 1).transpose(0, 2, 3, 1) * peak
    assert output.dtype == dtype
    assert np.abs(output - expected).max() <= 0.51


class Limited(torch.nn.Module):
    """A device's memory limit: fails above so many pixels and records what passed."""

    def __init__(self, inner: torch.nn.Module, limit: int) -> None:
        super().__init__()
        self.inner, self.limit, self.passed = inner, limit, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] * x.shape[2] * x.shape[3] > self.limit:
            raise torch.OutOfMemoryError("out of memory (limit of the test)")
        self.passed += 1
        return self.inner(x)


def test_lack_of_memory_splits_and_drops_nothing(model: Model) -> None:
    engine = TorchEngine(model, device="cpu")
    batch = batch_of(3, 160, 96)
    expected = engine.run(batch)
    limited = Limited(engine._module, 80 * 96)
    engine._module = limited
    output = engine.run(batch)
    assert limited.passed > 3
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_lack_of_memory_ends_with_advice(model: Model) -> None:
    engine = TorchEngine(model, device="cpu")
    engine._module = Limited(engine._module, 16)
    with pytest.raises(RunError, match=r"not enough memory for a picture of .* Use smaller tiles"):
        engine.run(batch_of(1, 64, 64))


def test_half_precision_is_measured(model: Model) -> None:
    engine = TorchEngine(model, device="cpu", precision="bf16")
    assert engine.precision == "bf16"
    assert engine.half_psnr_db is not None
    assert engine.half_psnr_db >= 50
    batch = batch_of(1, 32, 32)
    difference = engine.run(batch) - TorchEngine(model, device="cpu").run(batch)
    assert 10 * np.log10(1 / np.mean(difference**2)) > 45


def test_half_precision_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    module = build("compact", HYPER)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0)  # large activations that cancel: beyond what 8 bits of mantissa hold
    path = tmp_path / "wild.safetensors"
    save_network(module, path, "compact", HYPER, card={})
    with pytest.raises(InputError, match="bf16 does not hold for this network"):
        TorchEngine(resolve_model(path), device="cpu", precision="bf16")


def test_unknown_devices_and_precisions(model: Model) -> None:
    with pytest.raises(InputError, match="unknown device 'toaster'"):
        TorchEngine(model, device="toaster")
    with pytest.raises(InputError, match="unknown precision 'fp8'"):
        TorchEngine(model, device="cpu", precision="fp8")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="'cuda' is not available here"):
            TorchEngine(model, device="cuda")
