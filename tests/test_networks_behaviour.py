"""What the networks promise beyond parity: sizes, tiles, half precision, caches, equal rewritings."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apisr.core.errors import ApisrError  # noqa: E402
from apisr.networks import architecture, build  # noqa: E402
from apisr.networks.functional import up_conv  # noqa: E402
from apisr.networks.grl import GRL  # noqa: E402
from apisr.networks.grl import network as grl  # noqa: E402

SMALL: dict[str, dict[str, Any]] = {
    "compact": {"features": 8, "depth": 2, "scale": 2, "unshuffle": 1},
    "lite": {
        "features": 8,
        "depth": 2,
        "scale": 2,
        "context_features": 8,
        "context_depth": 1,
        "deep_features": 8,
        "deep_depth": 1,
    },
    "grl": {"features": 16, "depths": [2, 2], "tail_features": 8},
    "rrdb": {"features": 8, "blocks": 1, "growth": 4, "scale": 4},
    "dat": {"features": 32, "depths": [3, 2], "heads": [2, 2], "split": [4, 8], "scale": 2},
    "cunet": {},
}


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in an error of this code."""
    with pytest.raises(ApisrError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)


def small(name: str, **changes: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    return build(name, {**SMALL[name], **changes}).eval()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(40, 24), (33, 27)])
def test_any_size_gives_scale_times_it(name: str, size: tuple[int, int]) -> None:
    module = small(name)
    scale = architecture(name).traits(SMALL[name]).scale
    with torch.inference_mode():
        output = module(torch.rand(1, 3, *size))
    assert tuple(output.shape) == (1, 3, scale * size[0], scale * size[1])


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_is_its_pictures(name: str) -> None:
    module = small(name)
    x = torch.rand(3, 3, 24, 32)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), torch.cat([module(part[None]) for part in x]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("upsampler", ["nearest+conv", "pixelshuffle", "pixelshuffledirect"])
@pytest.mark.parametrize("scale", [2, 4])
def test_grl_tails_are_read_from_the_names(upsampler: str, scale: int) -> None:
    hyper = {**grl.DEFAULTS, **SMALL["grl"], "upsampler": upsampler, "scale": scale}
    if upsampler == "pixelshuffledirect":
        hyper["tail_features"] = 64
    module = build("grl", hyper)
    assert grl.detect(module.state_dict()) == hyper
    with torch.inference_mode():
        assert tuple(module.eval()(torch.rand(1, 3, 8, 16)).shape) == (1, 3, 8 * scale, 16 * scale)


def test_grl_in_bundles_and_bands_equals_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = small("grl")
    x = torch.rand(2, 3, 48, 40)
    expected = module(x).detach()
    monkeypatch.setattr(grl, "BUNDLE", 3)
    monkeypatch.setattr(grl, "BAND_BYTES", 1 << 14)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-4)


def test_grl_window_of_one_row_needs_only_edge_masks() -> None:
    module = small("grl")
    x = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), module(x.clone()))
        assert torch.isfinite(module(x)).all()


def test_grl_follows_its_parameters_after_inference() -> None:
    """The cached position biases must not survive a change of the parameters."""
    module = small("grl")
    x = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        before = module(x)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if "cpb_mlp" in name or "logit_scale" in name:
                parameter.add_(0.5)
    expected = other(x).detach()
    module.load_state_dict(other.state_dict())
    with torch.inference_mode():
        after = module(x)
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(after, before, atol=1e-5)


def test_grl_trains_and_drops_paths() -> None:
    module = small("grl", drop_path=0.5).train()
    x = torch.rand(2, 3, 16, 16)
    torch.manual_seed(3)
    first = module(x)
    second = module(x)
    assert not torch.equal(first, second)
    first.abs().mean().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_grl_holds_in_half_precision(dtype: torch.dtype) -> None:
    """With large activations the squares of the cosine attention overflow float16 unless they are taken in float32."""
    module = small("grl")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "qkv" in name:
                parameter.mul_(2000.0)  # lengths of queries and keys do not matter, but their squares pass 65504
    x = torch.rand(1, 3, 24, 24)
    with torch.inference_mode():
        exact = module(x)
        half = copy.deepcopy(module).to(dtype)(x.to(dtype)).float()
    assert torch.isfinite(half).all()
    mse = float((half - exact).square().mean())
    assert 10 * np.log10(1 / mse) > (30 if dtype is torch.bfloat16 else 45)


def test_nearest_and_convolution_equals_the_transposed_form() -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(6, 5, 3, padding=1)
    x = torch.rand(2, 6, 7, 9)
    expected = convolution(torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(up_conv(x, convolution), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("unshuffle", "depth", "dilations"), [(1, 3, None), (2, 2, None), (1, 3, [1, 1, 3, 2, 1]), (2, 1, [1, 4, 1])]
)
def test_compact_halo_is_exact(unshuffle: int, depth: int, dilations: list[int] | None) -> None:
    hyper = {"features": 8, "depth": depth, "scale": 2, "unshuffle": unshuffle, "dilations": dilations}
    torch.manual_seed(0)
    module = build("compact", hyper).eval()
    halo = architecture("compact").traits(hyper).halo_px
    assert halo == (sum(dilations) if dilations else depth + 2) * unshuffle
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        whole = module(x)
        left, right = 24 - halo, 40 + halo
        tile = module(x[:, :, left:right, left:right])[:, :, 2 * halo : -2 * halo, 2 * halo : -2 * halo]
    torch.testing.assert_close(tile, whole[:, :, 48:80, 48:80], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("depth", "context_depth", "deep_depth"),
    [(1, 0, None), (2, 1, None), (3, 2, None), (3, 2, 0), (2, 1, 1), (1, 2, 1)],
)
def test_lite_halo_is_exact(depth: int, context_depth: int, deep_depth: int | None) -> None:
    hyper = {"features": 8, "depth": depth, "scale": 2, "context_features": 8, "context_depth": context_depth}
    if deep_depth is not None:
        hyper |= {"deep_features": 8, "deep_depth": deep_depth}
    torch.manual_seed(0)
    module = build("lite", hyper).eval()
    for branch in [module.context] + ([module.deep] if deep_depth is not None else []):
        torch.nn.init.normal_(branch[-1].weight, std=0.5)  # as trained: the branch takes part
    halo = architecture("lite").traits(hyper).halo_px
    x = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        whole = module(x)
        left, right = 40 - halo, 56 + halo
        tile = module(x[:, :, left:right, left:right])[:, :, 2 * halo : -2 * halo, 2 * halo : -2 * halo]
        less = 2 * module.multiple_px
        smaller = module(x[:, :, left + less : right - less, left + less : right - less])
    torch.testing.assert_close(tile, whole[:, :, 80:112, 80:112], atol=1e-6, rtol=0)
    cut = 2 * (halo - less)
    assert float((smaller[:, :, cut:-cut, cut:-cut] - whole[:, :, 80:112, 80:112]).abs().max()) > 1e-5


def test_compact_refuses_a_wrong_number_of_dilations() -> None:
    with refused("bad-dilations"):
        build("compact", {"features": 8, "depth": 2, "scale": 2, "dilations": [1, 2, 1]})


def test_grl_is_a_plain_module() -> None:
    module = GRL(features=16, depths=(2,), upsampler="pixelshuffledirect").eval()
    with torch.inference_mode():
        module(torch.rand(1, 3, 8, 8))
    twin = copy.deepcopy(module)
    assert set(twin.state_dict()) == set(module.state_dict())
    assert not any("table" in name or "index" in name or "mean" in name for name in module.state_dict())


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("step_bytes", [1, 1 << 15])
def test_grl_tail_as_a_stream_of_rows_equals_the_whole(
    scale: int, step_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bands of four rows and more; the height is not a multiple of the band."""
    module = small("grl", scale=scale)
    x = torch.rand(1, 3, 40, 24)
    expected = module(x).detach()
    monkeypatch.setattr(grl, "BAND_BYTES", step_bytes)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("logarithm", [np.log(59.0), np.log(61.0), 10.0])
def test_grl_large_cosine_scales_stay_exact(logarithm: float) -> None:
    """Above PLAIN_SCALE the softmax takes its maximum away first; below it need not."""
    module = small("grl")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "logit_scale" in name:
                parameter.fill_(float(logarithm))
    x = torch.rand(1, 3, 24, 24)
    expected = module(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-4)
