"""The losses: values against other implementations, and gradients that reach the output."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from error_codes import raises_code
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor

from apisr.networks import build
from apisr.train.config import load_config
from apisr.train.losses import pixel
from apisr.train.losses.adversarial import adversarial_loss
from apisr.train.losses.features import open_features
from apisr.train.losses.perceptual import PerceptualTerm, TwinPerceptual, balanced_weights, feature_distance
from apisr.train.losses.proxy_features import (
    PROXY_LAYERS,
    Graph,
    GraphFeatures,
    Node,
    fuse_norms,
    load_proxy,
    read_proxy,
    save_proxy,
)
from apisr.train.losses.similarity import ms_ssim_loss, ssim_loss


def pictures(seed: int, side: int = 32, count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=generator), torch.rand(count, 3, side, side, generator=generator)


def small_network(seed: int) -> GraphFeatures:
    """Two convolutions with a pool between: enough to have layers of different sizes."""
    random = np.random.default_rng(seed)
    first = random.normal(0, 0.2, (6, 3, 3, 3)).astype(np.float32)
    second = random.normal(0, 0.2, (8, 6, 3, 3)).astype(np.float32)
    nodes = (
        Node("one", "conv", ("input",), (first, np.zeros(6, np.float32)), padding=(1, 1)),
        Node("relu", "relu", ("one",)),
        Node("pool", "max", ("relu",), stride=2, size=(2, 2)),
        Node("two", "conv", ("pool",), (second,), padding=(1, 1)),
    )
    return GraphFeatures(Graph(nodes, mean=(0.5, 0.5, 0.5)), layers=("one", "two"))


@given(seed=st.integers(0, 100), epsilon=st.floats(1e-4, 1e-1))
@settings(max_examples=20, deadline=None)
def test_pixel_terms(seed: int, epsilon: float) -> None:
    output, target = pictures(seed, side=8)
    difference = (output.double() - target.double()).numpy()
    assert float(pixel.l1(output, target)) == pytest.approx(np.abs(difference).mean(), rel=1e-6)
    expected = np.sqrt(difference**2 + epsilon**2).mean()
    assert float(pixel.charbonnier(output, target, epsilon=epsilon)) == pytest.approx(expected, rel=1e-5)
    assert float(pixel.charbonnier(output, target, epsilon=epsilon)) >= float(pixel.l1(output, target))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_feature_distance_is_l1_with_the_same_gradient(dtype: torch.dtype) -> None:
    given, wanted = (picture.to(dtype) for picture in pictures(8, side=16))
    wanted[0, 0] = given[0, 0]  # equal features have gradient 0
    leaves = [given.clone().requires_grad_(True) for _ in range(2)]
    values = [
        feature_distance(leaves[0], wanted),
        torch.nn.functional.l1_loss(leaves[1].float(), wanted.float()),
    ]
    gradients = [torch.autograd.grad(3 * value, leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    assert values[0].dtype == torch.float32
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6 if dtype == torch.float32 else 2e-3)
    assert gradients[0].dtype == dtype
    assert torch.allclose(gradients[0].float(), gradients[1].float(), rtol=1e-2)


def test_norms_fuse_into_their_convolutions_and_rectifiers_work_in_place() -> None:
    random = np.random.default_rng(2)
    kernel = random.normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32)
    norm = tuple(random.uniform(0.5, 1.5, 5).astype(np.float32) for _ in range(3))
    second = random.normal(0, 0.3, (4, 5, 3, 3)).astype(np.float32)
    nodes = [
        Node("conv", "conv", ("input",), (kernel,), padding=(1, 1)),
        Node("norm", "norm", ("conv",), norm),
        Node("relu", "relu", ("norm",)),
        Node("last", "conv", ("relu",), (second,)),
        Node("end", "relu", ("last",)),
    ]
    picture = pictures(9)[0]
    for layers in (("norm", "end"), ("last", "end"), ("end",)):
        plain = GraphFeatures(Graph(tuple(nodes)), layers=layers)
        quick = GraphFeatures(Graph(tuple(fuse_norms(nodes))), layers=layers)
        assert len(quick.nodes) == len(plain.nodes) - 1
        leaves = [picture.clone().requires_grad_(True) for _ in range(2)]
        given = [network(leaf) for network, leaf in zip((plain, quick), leaves, strict=True)]
        gradients = [
            torch.autograd.grad(sum((value.square().sum() for value in values.values()), torch.zeros(())), leaf)[0]
            for values, leaf in zip(given, leaves, strict=True)
        ]
        assert all(torch.allclose(given[0][layer], given[1][layer], atol=1e-5) for layer in layers)
        assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4)


def test_log_mse_is_the_mean_of_logarithms_over_crops() -> None:
    output, target = pictures(5, side=8)
    target[0] = output[0] + 0.01 * (target[0] - output[0])  # one crop with far less error
    output.requires_grad_(True)
    errors = ((output - target).double() ** 2).mean((1, 2, 3)).detach().numpy()
    value = pixel.log_mse(output, target)
    assert value.item() == pytest.approx(np.mean(np.log((errors + 2e-4) / 2e-4)), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, output)
    expected = (output - target).detach() * 2 / (192 * 2 * (torch.from_numpy(errors).float() + 2e-4)).view(2, 1, 1, 1)
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-9)
    assert float(pixel.log_mse(target, target)) == 0


def test_relative_mse_weighs_crops_by_their_pictures() -> None:
    output, target = pictures(6, side=8)
    blurred = torch.tensor([0.02, 0.3])
    output.requires_grad_(True)
    errors = ((output - target).double() ** 2).mean((1, 2, 3)).detach().numpy()
    value = pixel.relative_mse(output, target, blurred)
    assert value.item() == pytest.approx(np.mean(errors / (blurred.numpy() + 1e-4)), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, output)
    expected = (output - target).detach() * 2 / (192 * 2 * (blurred + 1e-4)).view(2, 1, 1, 1)
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-9)


def test_ssim_equals_its_definition_window_by_window() -> None:
    output, target = pictures(6, side=24, count=1)
    values = []
    for row in range(0, 24 - 8 + 1, 2):
        for column in range(0, 24 - 8 + 1, 2):
            place = (slice(row, row + 8), slice(column, column + 8))
            for channel in range(3):
                x, y = (p[0, channel][place].double().numpy() for p in (output, target))
                covariance = ((x - x.mean()) * (y - y.mean())).mean()
                numerator = (2 * x.mean() * y.mean() + 1e-4) * (2 * covariance + 9e-4)
                values.append(numerator / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (x.var() + y.var() + 9e-4)))
    assert float(ssim_loss(output, target)) == pytest.approx(1 - np.mean(values), rel=1e-4)
    assert float(ssim_loss(target, target)) == pytest.approx(0, abs=1e-5)
    loss = float(ssim_loss(output, target))
    assert float(ssim_loss(output, target, kind="log")) == pytest.approx(np.log1p(loss / 0.01), rel=1e-5)


def test_frequency_equals_numpy() -> None:
    output, target = pictures(3, side=16)
    spectrum = np.fft.rfft2((output - target).numpy().astype(np.float64), norm="ortho")
    expected = np.mean(np.stack([np.abs(spectrum.real), np.abs(spectrum.imag)]))
    assert float(pixel.frequency(output, target)) == pytest.approx(expected, rel=1e-5)
    assert float(pixel.frequency(target, target)) == 0


def test_chroma_equals_opencv() -> None:
    output, target = pictures(3, side=16)
    planes = [
        cv2.cvtColor(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2YCrCb)[..., 1:]
        for picture in (*output, *target)
    ]
    count = len(output)
    expected = np.mean([np.abs(planes[place] - planes[count + place]).mean() for place in range(count)])
    assert float(pixel.chroma(output, target)) == pytest.approx(expected, rel=1e-3)
    assert float(pixel.chroma(target + 0.1, target)) == pytest.approx(0, abs=1e-6)  # gray has no colour


def test_line_depth_is_that_of_opencv() -> None:
    output, target = pictures(11, side=40)
    window = np.ones((7, 7), np.uint8)
    depths: list[np.ndarray] = []
    for batch in (output, target):
        lumas = [cv2.cvtColor(picture.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for picture in batch]
        lumas = [(luma[:-1, :-1] + luma[1:, :-1] + luma[:-1, 1:] + luma[1:, 1:]) / 4 for luma in lumas]
        depths.append(np.stack([cv2.morphologyEx(luma, cv2.MORPH_BLACKHAT, window) for luma in lumas]))
    missing = depths[1] - depths[0]
    expected = np.where(missing > 0, missing, -0.25 * missing).mean()
    assert float(pixel.line_depth(output, target, scale=2, deeper=0.25)) == pytest.approx(expected, rel=1e-4)
    assert float(pixel.line_depth(target, target, scale=2, deeper=0.25)) == 0


def test_line_depth_in_doubt_is_above_the_mean() -> None:
    """A line that is there in half of the cases is drawn whole where lost depth costs more, else not at all."""
    drawn = torch.full((1, 3, 24, 24), 0.8)
    drawn[..., 11:13] = 0.2
    blank = torch.full_like(drawn, 0.8)

    def best(deeper: float) -> float:
        shares = [share / 10 for share in range(11)]
        costs = [
            sum(
                float(pixel.line_depth(blank.lerp(drawn, share), true, scale=2, deeper=deeper))
                for true in (drawn, blank)
            )
            for share in shares
        ]
        return shares[costs.index(min(costs))]

    assert best(0.3) == 1
    assert best(3.0) == 0


def test_dots_do_not_count_as_lines() -> None:
    """A raster as dark as a line in the mean has no depth; a line has."""
    target = torch.full((1, 3, 24, 24), 0.6)
    dotted, lined = target.clone(), target.clone()
    dotted[..., ::2, ::2] = 0.0
    lined[..., 11:13] = 0.0
    assert float(pixel.line_depth(target, dotted, scale=2, deeper=0.3)) == pytest.approx(0, abs=1e-6)
    assert float(pixel.line_depth(target, lined, scale=2, deeper=0.3)) > 0.02


def test_dots_are_what_alternates_both_ways() -> None:
    """Lines and edges along the grid have none; a raster of a tenth has a fortieth everywhere."""
    flat = torch.full((1, 3, 24, 24), 0.5)
    dotted, lined = flat.clone(), flat.clone()
    dotted[..., ::2, ::2] += 0.1
    lined[..., 11:13] = 0.0
    assert float(pixel.dots(dotted, flat)) == pytest.approx(0.1 / 4, rel=1e-4)
    assert float(pixel.dots(lined, flat)) == 0
    assert float(pixel.dots(flat, dotted)) == 0


def test_grid_is_the_uneven_share_of_the_steps() -> None:
    """Written once more in NumPy; a ramp whose every second step is left out is as uneven as can be."""
    output, target = pictures(2, side=18)

    def uneven(picture: np.ndarray) -> list[float]:
        luma = np.tensordot((0.299, 0.587, 0.114), picture.astype(np.float64), 1)
        shares: list[float] = []
        for turned in (luma, luma.T):
            energy = np.square(np.diff(turned, axis=0)).mean(axis=1)[:16]
            shares.append((energy[0::2].sum() - energy[1::2].sum()) / (energy.sum() + 1e-4))
        return shares

    expected = np.abs(np.subtract([uneven(p.numpy()) for p in output], [uneven(p.numpy()) for p in target])).mean()
    assert float(pixel.grid(output, target)) == pytest.approx(expected, rel=1e-4)
    assert float(pixel.grid(target, target)) == 0
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 8, 32)
    stairs = ramp[..., ::2].repeat_interleave(2, -1)
    assert float(pixel.grid(stairs, ramp)) == pytest.approx(0.5, abs=0.02)  # across wholly, down not at all
    halfway = (stairs / 2 + ramp / 2).requires_grad_()
    loss = pixel.grid(halfway, ramp)
    (gradient,) = torch.autograd.grad(loss, halfway)
    assert float(pixel.grid((halfway - gradient).detach(), ramp)) < 0.9 * float(loss.detach())


def test_ms_ssim_of_one_scale_is_ssim() -> None:
    """A crop of 21 pixels holds one scale, which scikit-image computes too (Gaussian window, population statistics)."""
    noise, target = pictures(5, side=21, count=1)
    output = 0.3 * noise + 0.7 * target
    expected = np.mean(
        [
            structural_similarity(
                output[0, channel].double().numpy(),
                target[0, channel].double().numpy(),
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                truncate=3.3,
                use_sample_covariance=False,
            )
            for channel in range(3)
        ]
    )
    assert 1 - float(ms_ssim_loss(output, target)) == pytest.approx(expected, abs=2e-4)


def test_ms_ssim_is_zero_for_equal_pictures_and_has_a_gradient() -> None:
    output, target = pictures(6, side=180, count=1)
    assert float(ms_ssim_loss(target, target)) == pytest.approx(0, abs=1e-6)
    output.requires_grad_()
    ms_ssim_loss(output * 0.1 + target * 0.9, target).backward()
    assert output.grad is not None
    assert float(output.grad.abs().max()) > 0
    with raises_code("crop-too-small"):
        ms_ssim_loss(*pictures(0, side=8))


def test_adversarial_terms() -> None:
    verdicts = [torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0]])]
    assert float(adversarial_loss(verdicts, real=True, kind="lsgan")) == pytest.approx((1.0 + 0.0) / 2)
    assert float(adversarial_loss(verdicts, real=False, kind="lsgan")) == pytest.approx((2.0 + 1.0) / 2)
    expected = (np.mean([np.log(2), np.log1p(np.exp(-2))]) + np.log1p(np.exp(-1))) / 2
    assert float(adversarial_loss(verdicts, real=True, kind="vanilla")) == pytest.approx(expected, rel=1e-6)


def test_branch_is_the_weighted_sum_of_layers() -> None:
    network = small_network(0)
    output, target = pictures(1)
    term = PerceptualTerm(network, weights={"one": 0.1, "two": 20.0}, weight=0.5)
    ours, wanted = network(output), network(target)
    expected = 0.5 * sum(
        weight * float((ours[layer] - wanted[layer]).abs().mean())
        for layer, weight in {"one": 0.1, "two": 20.0}.items()
    )
    assert float(term(output, target)) == pytest.approx(expected, rel=1e-5)
    assert float(term(target, target)) == 0
    with raises_code("unknown-layer"):
        PerceptualTerm(network, weights={"three": 1.0})(output, target)


def test_gradient_through_both_branches_and_every_layer() -> None:
    output, target = pictures(2)
    for layer in ("one", "two"):
        picture = output.clone().requires_grad_()
        PerceptualTerm(small_network(0), weights={layer: 1.0})(picture, target).backward()
        assert picture.grad is not None
        assert float(picture.grad.abs().sum()) > 0
    twin = TwinPerceptual(
        [
            PerceptualTerm(small_network(0), weights={"one": 1.0, "two": 1.0}, name="anime"),
            PerceptualTerm(small_network(1), weights={"one": 1.0, "two": 1.0}, name="photo"),
        ]
    )
    twin.train()
    gradients: list[Tensor] = []
    for name in ("anime", "photo"):
        picture = output.clone().requires_grad_()
        twin(picture, target)[name].backward()
        assert picture.grad is not None
        gradients.append(picture.grad)
    assert float(gradients[0].norm()) > 0
    assert float(gradients[1].norm()) > 0
    picture = output.clone().requires_grad_()
    torch.stack(list(twin(picture, target).values())).sum().backward()
    assert picture.grad is not None
    torch.testing.assert_close(picture.grad, gradients[0] + gradients[1])
    assert not any(value.requires_grad for value in twin.parameters())
    assert not any(module.training for term in twin.terms for module in term.modules())


def test_balanced_layers_contribute_alike() -> None:
    network = small_network(0)
    pairs = [pictures(seed) for seed in range(3)]
    weights = balanced_weights(network, pairs, total=1.0)
    shares = [
        np.mean([float(PerceptualTerm(network, weights={layer: weight})(*pair)) for pair in pairs])
        for layer, weight in weights.items()
    ]
    assert shares == pytest.approx([0.5, 0.5], rel=1e-5)


def test_missing_networks_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path))
    for name in ("danbooru-resnet50", "vgg19"):
        with raises_code("missing-features") as caught:
            open_features(name)
        assert f"apisr models fetch {name}" in str(caught.value)
    for name in PROXY_LAYERS:
        with raises_code("missing-features") as caught:
            open_features(name)
        assert f"scripts/convert_proxy_features.py {name}" in str(caught.value)
    with raises_code("unknown-features"):
        open_features("vgg11")
    with raises_code("unknown-layer"):
        load_proxy("proxy-vgg16", layers=["conv9_9"])


def test_proxy_features_survive_their_file(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    kernels = [random.normal(0, 0.2, shape).astype(np.float32) for shape in ((4, 3, 3, 3), (5, 4, 1, 3))]
    nodes = (
        Node("conv1_2", "conv", ("input",), (kernels[0], np.ones(4, np.float32)), padding=(1, 1), stride=2),
        Node("relu", "relu", ("conv1_2",)),
        Node("mean", "mean", ("relu",), stride=1, size=(3, 3), padding=(1, 1)),
        Node("both", "concat", ("relu", "mean")),
        Node("conv2_2", "conv", ("mean",), (kernels[1],), padding=(0, 1)),
    )
    graph = Graph(nodes, mean=(1.0, 2.0, 3.0), factor=255.0, bgr=True)
    path, layers = tmp_path / "a.safetensors", ["conv1_2", "conv2_2"]
    save_proxy(graph, path, origin="made here")
    before, after = GraphFeatures(graph, layers=layers), load_proxy("proxy-vgg16", path, layers=layers)
    picture, _ = pictures(0, side=16, count=1)
    assert all(torch.equal(before(picture)[layer], after(picture)[layer]) for layer in layers)
    with raises_code("weights-do-not-fit"):
        load_proxy("proxy-vgg16", path)
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with raises_code("bad-model"):
        read_proxy(tmp_path / "b.safetensors")


def test_the_npm_package_is_converted(tmp_path: Path, script: Callable[[str], ModuleType]) -> None:
    """A package of the same form, with a first convolution that can be computed by hand."""
    import base64

    convert = script("convert_proxy_features")
    kernel = np.zeros((3, 3, 3, 2), np.uint8)
    kernel[1, 1, :, 0] = 10  # value 10*0.1 - 0.5 = 0.5 where set, else -0.5
    layers = (
        '{name:"input_1",class_name:"InputLayer",config:{sparse:!1},inbound_nodes:[]},'
        '{name:"conv2d_1",class_name:"Conv2D",config:{kernel_size:[3,3],strides:[2,2],padding:"valid",rate:.5},'
        'inbound_nodes:[[["input_1",0,0,{}]]]},'
        '{name:"mixed8",class_name:"Concatenate",config:{axis:3},'
        'inbound_nodes:[[["conv2d_1",0,0,{}],["conv2d_1",0,0,{}]]]}'
    )
    names = ",".join(
        f'{{name:"{name}",class_name:"Activation",config:{{}},inbound_nodes:[[["conv2d_1",0,0,{{}}]]]}}'
        for name in ("batch_normalization_3", "batch_normalization_5", "mixed2", "mixed5")
    )
    weights = '{name:"conv2d_1/kernel",shape:[3,3,3,2],dtype:"float32",quantization:{min:-.5,scale:.1,dtype:"uint8"}}'
    model = (
        "!function(e){n.exports={modelTopology:{model_config:{config:{layers:["
        + layers.replace(',{name:"mixed8"', f",{names}" + ',{name:"mixed8"')
        + "]}}},"
        'weightsManifest:[{paths:["group1-shard1of1"],weights:[' + weights + "]}]}}()"
    )
    folder = tmp_path / "package" / "dist" / "models" / "inception_v3"
    folder.mkdir(parents=True)
    (folder / "model.min.js").write_text(model, encoding="utf-8")
    coded = base64.b64encode(kernel.tobytes()).decode()
    (folder / "group1-shard1of1.min.js").write_text(f'x({{1:[function(d,h,Z){{h.exports="{coded}"}}', encoding="utf-8")
    with tarfile.open(tmp_path / "nsfwjs.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    picture, _ = pictures(0, side=9, count=1)
    for place in (tmp_path / "package", tmp_path / "nsfwjs.tgz"):
        save_proxy(convert.read_inception(place), tmp_path / "a.safetensors", origin="made here", overwrite=True)
        found = open_features(f"proxy-inception:{tmp_path / 'a.safetensors'}")(picture)["mixed8"]
        window = picture[0, :, 2:5, 2:5]
        expected = float(-0.5 * window.sum() + 1.0 * window[:, 1, 1].sum())
        assert found.shape == (1, 4, 4, 4)
        assert float(found[0, 0, 1, 1]) == pytest.approx(expected, rel=1e-4)
        assert float(found[0, 1, 1, 1]) == pytest.approx(float(-0.5 * window.sum()), rel=1e-4)


def _golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / "losses.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def _filled(name: str, hyper: dict[str, int]) -> torch.nn.Module:
    """A feature network whose parameters come from their names, as those of the golden arrays did."""
    module = build(name, hyper)
    state = module.state_dict()
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        shape = tuple(value.shape)
        drawn = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
        if key.endswith("running_var"):
            drawn = 1 + 0.1 * np.abs(drawn)
        elif len(shape) >= 2:
            drawn = drawn / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn = 0.1 * drawn
        value.copy_(torch.from_numpy(np.asarray(drawn, np.float32)))
    return module


def _picture(seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((1, 3, 96, 96), dtype=np.float32))


@pytest.fixture(scope="module")
def anime() -> torch.nn.Module:
    return _filled("resnet50", {})


@pytest.fixture(scope="module")
def photo() -> torch.nn.Module:
    return _filled("vgg", {"depth": 19})


ANIME_WEIGHTS = {"0": 0.1, "4_2_conv3": 20.0, "5_3_conv3": 25.0, "6_5_conv3": 1.0, "7_2_conv3": 1.0}
PHOTO_WEIGHTS = {"conv1_2": 0.1, "conv2_2": 1.0, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


def test_golden_values_of_both_branches(shared: Path, anime: torch.nn.Module, photo: torch.nn.Module) -> None:
    """Arrays of the reference implementation: features, both losses, and the gradient of the photo branch."""
    golden = _golden(shared)
    for name, network in (("danbooru", anime), ("vgg19", photo)):
        for layer, value in network(_picture(2)).items():
            np.testing.assert_allclose(
                value.mean((2, 3)).numpy(), golden[f"{name}.mean.{layer}"], rtol=2e-3, atol=2e-4, err_msg=layer
            )
    term = PerceptualTerm(anime, weights=ANIME_WEIGHTS, weight=0.5)
    assert float(term(_picture(1), _picture(2))) == pytest.approx(float(golden["danbooru.loss"]), rel=1e-4)
    picture = _picture(1).requires_grad_()
    value = PerceptualTerm(photo, weights=PHOTO_WEIGHTS)(picture, _picture(2))
    assert value.item() == pytest.approx(float(golden["vgg19.loss"]), rel=1e-4)
    value.backward()
    assert picture.grad is not None
    assert float(picture.grad.norm()) == pytest.approx(float(golden["vgg19.gradnorm"]), rel=1e-3)


def test_gradient_through_the_papers_two_branches(anime: torch.nn.Module, photo: torch.nn.Module) -> None:
    """The reference's anime branch has no gradient; ours has one at every layer, and so has the photo branch."""
    for network, weights in ((anime, ANIME_WEIGHTS), (photo, PHOTO_WEIGHTS)):
        for layer in weights:
            picture = _picture(1)[..., :64, :64].clone().requires_grad_()
            PerceptualTerm(network, weights={layer: 1.0})(picture, _picture(2)[..., :64, :64]).backward()
            assert picture.grad is not None
            assert float(picture.grad.norm()) > 0, layer


def test_papers_networks_load_from_files(tmp_path: Path, anime: torch.nn.Module, photo: torch.nn.Module) -> None:
    """Files with the names of the released ones, heads included."""
    for name, network, head in (
        ("danbooru-resnet50", anime, "1.8.weight"),
        ("vgg19", photo, "classifier.0.weight"),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save({**network.state_dict(), head: torch.zeros(4, 4)}, path)
        opened = open_features(f"{name}:{path}")
        for one, other in zip(opened(_picture(3)).values(), network(_picture(3)).values(), strict=True):
            assert torch.equal(one, other)
        assert not any(value.requires_grad for value in opened.parameters())
    torch.save({"0.0.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pth")
    with raises_code("weights-do-not-fit"):
        open_features(f"danbooru-resnet50:{tmp_path / 'part.pth'}")


def test_presets_weigh_the_layers_that_the_networks_give(anime: torch.nn.Module, photo: torch.nn.Module) -> None:
    first, second = load_config("paper-stage2").loss.perceptual
    assert first.weights == ANIME_WEIGHTS
    assert second.weights == PHOTO_WEIGHTS
    assert list(anime(_picture(0))) == list(ANIME_WEIGHTS)
    assert list(photo(_picture(0))) == list(PHOTO_WEIGHTS)
