"""The engines: the same picture from each, honest precisions, memory retries that drop nothing, clear errors."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Run

from apisr.core.errors import ApisrError, InputError, MissingExtra, ModelError, RunError
from apisr.engines import ENGINES, engine_kind, open_engine
from apisr.engines.base import Request, probe_picture, psnr_db
from apisr.engines.exactness import is_shape_exact
from apisr.engines.fallback import FallbackEngine
from apisr.engines.split import OutOfMemory, run_in_parts
from apisr.networks import ModelTraits
from apisr.weights import Model, list_models, resolve_model
from apisr.weights.model import CLEANS_COLOURS

SHIPPED = [model.name for model in list_models()]
GRL = resolve_model("grl-x4")
INSTALLED = [name for name in ENGINES if "cpu" in engine_kind(name).devices()]


def unfiltered(name: str) -> Model:
    """The network alone: the filter before the fast models rounds to bytes where bytes come in."""
    model = resolve_model(name)
    return replace(model, card={**model.card, CLEANS_COLOURS: False})


def batch_of(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 3, height, width), dtype=np.float32)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("engine", [name for name in INSTALLED if name != "onnx"])
def test_every_engine_gives_the_same_picture(name: str, engine: str) -> None:
    """In fp32 to far below an 8-bit step, which is 48 dB: 90 dB."""
    if not engine_kind(engine).runs(resolve_model(name)):
        pytest.skip(f"{engine} has no graph of this network")
    batch = batch_of(1, 48, 64)
    reference = open_engine(name, engine="onnx", device="cpu", precision="fp32")
    other = open_engine(name, engine=engine, device="cpu", precision="fp32")
    output = other.run(batch)
    assert output.dtype == np.float32
    assert output.shape == (1, 3, 48 * reference.traits.scale, 64 * reference.traits.scale)
    assert psnr_db(output, reference.run(batch)) > 90


@pytest.mark.parametrize("engine", INSTALLED)
def test_what_an_engine_claims_of_its_bits_holds(engine: str) -> None:
    opened = open_engine("apisr-x2-fast", engine=engine, device="cpu")
    if not opened.shape_exact:
        pytest.skip("this engine promises nothing: fixed tiles are used")
    whole = batch_of(1, 224, 256)
    halo, scale = opened.traits.aligned_halo_px, opened.traits.scale
    part = opened.run(np.ascontiguousarray(whole[:, :, 32 - 32 : 64 + 2 * halo, 64 : 160 + 2 * halo]))
    inner = slice(scale * halo, scale * (halo + 64)), slice(scale * halo, scale * (halo + 96))
    same = opened.run(whole)[:, :, scale * halo : scale * (halo + 64), scale * (64 + halo) : scale * (160 + halo)]
    np.testing.assert_array_equal(part[:, :, inner[0], inner[1]], same)
    assert is_shape_exact(opened)


@pytest.mark.parametrize("engine", INSTALLED)
def test_runs_repeat_bit_for_bit(engine: str) -> None:
    batch = batch_of(1, 64, 48)
    first, second = (open_engine("apisr-x4-fast", engine=engine, device="cpu").run(batch) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_reduced_precision_is_close_to_fp32() -> None:
    exact = open_engine("apisr-x2-fast", engine="openvino", device="cpu", precision="fp32")
    reduced = open_engine("apisr-x2-fast", engine="openvino", device="cpu", precision="bf16")
    batch = batch_of(1, 64, 64)
    assert psnr_db(reduced.run(batch), exact.run(batch)) > 45  # noise, on which rounding is worst


@pytest.mark.skipif(
    not engine_kind("openvino").devices() or "bf16" not in engine_kind("openvino").precisions("cpu", GRL),
    reason="no openvino, or a processor without units for bf16",
)
def test_the_end_of_grl_stays_exact() -> None:
    """In bf16 throughout it has 49.6 dB, too few to be chosen by itself."""
    exact = open_engine(GRL, engine="openvino", device="cpu", precision="fp32")
    reduced = open_engine(GRL, engine="openvino", device="cpu", precision="bf16")
    picture = probe_picture(64, 64)
    assert 55 < psnr_db(reduced.run(picture), exact.run(picture)) < 200


def test_a_precision_that_is_not_accurate_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from apisr.networks import build
    from apisr.weights.checkpoint import save_network

    hyper = {"features": 12, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"}
    module = build("compact", hyper)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(6.0)  # large activations that cancel: beyond what 8 bits of mantissa hold
    path = tmp_path / "wild.safetensors"
    save_network(module, path, "compact", hyper, card={})
    with pytest.raises(InputError) as caught:
        open_engine(path, engine="torch", device="cpu", precision="bf16")
    assert caught.value.code == "precision-not-accurate"


def test_checkpoints_run_in_every_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from apisr.networks import build
    from apisr.weights.checkpoint import load_network, save_network

    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    hyper = {"features": 12, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"}
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_network(build("compact", hyper), path, "compact", hyper, card={"name": "small"})
    batch = batch_of(2, 32, 48)
    with torch.inference_mode():
        expected = load_network(path)(torch.from_numpy(batch)).numpy()
    for engine in INSTALLED:
        opened = open_engine(path, engine=engine, device="cpu", precision="fp32")
        np.testing.assert_allclose(opened.run(batch), expected, atol=1e-4)


def test_threads_of_torch_are_those_that_were_asked_for() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        for asked in (1, 2):
            open_engine("apisr-x2-fast", engine="torch", device="cpu", threads=asked)
            assert torch.get_num_threads() == asked
    finally:
        torch.set_num_threads(before)


class Limited:
    """A device's memory limit around an engine: fails above so many pixels and records what passed."""

    def __init__(self, model: Model, limit: int) -> None:
        self.engine = open_engine(model, engine="onnx", device="cpu")
        self.limit, self.passed = limit, 0

    def run(self, batch: np.ndarray) -> np.ndarray:
        if batch.shape[0] * batch.shape[2] * batch.shape[3] > self.limit:
            raise OutOfMemory("full (limit of the test).")
        self.passed += 1
        return self.engine.run(batch)


def test_lack_of_memory_splits_and_drops_nothing(tiny_x2: Path) -> None:
    model = resolve_model(tiny_x2)
    limited = Limited(model, 80 * 96)
    batch = batch_of(3, 160, 96)
    output = run_in_parts(limited.run, batch, model.traits)
    assert limited.passed > 3
    np.testing.assert_array_equal(output, limited.engine.run(batch))


def test_lack_of_memory_ends_with_an_error(tiny_x2: Path) -> None:
    model = resolve_model(tiny_x2)
    with pytest.raises(OutOfMemory) as caught:
        run_in_parts(Limited(model, 16).run, batch_of(1, 64, 64), model.traits)
    assert caught.value.code == "out-of-memory"
    with pytest.raises(OutOfMemory):
        run_in_parts(Limited(model, 16).run, batch_of(1, 640, 64), ModelTraits(2, None))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"engine": "toaster"}, "unknown-engine"),
        ({"precision": "fp8"}, "unknown-precision"),
        ({"device": "toaster"}, "device-not-available"),
        ({"engine": "onnx", "device": "mps"}, "device-not-available"),
    ],
)
def test_unknown_names_are_refused(options: dict[str, str], code: str, tiny_x2: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_engine(tiny_x2, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.exit_code == 2


@pytest.mark.skipif(not engine_kind("ncnn").devices(), reason="the extra 'vulkan' (ncnn) is not installed")
def test_ncnn_says_why_it_does_not_run_grl() -> None:
    with pytest.raises(ModelError) as caught:
        open_engine(GRL, engine="ncnn", device="cpu")
    assert caught.value.code == "engine-cannot-run"
    assert engine_kind("ncnn").why_not(GRL) in str(caught.value)
    assert engine_kind("ncnn").why_not(GRL)


@pytest.mark.parametrize("engine", INSTALLED)
def test_a_file_that_is_no_network_is_refused(engine: str, tmp_path: Path, tiny_x2: Path) -> None:
    content = bytearray(tiny_x2.read_bytes())
    content[200:600] = bytes(400)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content)
    with pytest.raises(ApisrError) as caught:
        engine_kind(engine).open(Request(Model("broken", broken, "compact", ModelTraits(2, 8, 2)), "cpu", "fp32"))
    assert caught.value.code in ("model-not-runnable", "bad-model", "not-an-onnx-file", "no-weights", "model-damaged")


def test_where_there_is_no_card_torch_is_not_loaded_to_look_for_one() -> None:
    pytest.importorskip("torch")
    from apisr.engines.torch import may_have_card

    if may_have_card():
        pytest.skip("this machine has the driver of a card")
    program = "import sys, apisr.engines as e; e.open_engine('apisr-x2-fast'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_engine_says_what_it_needs() -> None:
    for name in ENGINES:
        kind = engine_kind(name)
        assert kind.name == name
        if not kind.devices():
            with pytest.raises(MissingExtra):
                open_engine("apisr-x2-fast", engine=name)


VULKAN = "vulkan" in engine_kind("ncnn").devices()


@pytest.mark.skipif(not VULKAN, reason="no Vulkan device (the package mesa-vulkan-drivers has one for any machine)")
@pytest.mark.parametrize("name", [model.name for model in list_models() if model.architecture == "lite"][:1])
def test_vulkan_gives_the_same_picture(name: str) -> None:
    """In fp32 no byte differs by more than 1; in fp16 none by more than 6 on noise."""
    batch = batch_of(1, 32, 48)
    reference = np.clip(open_engine(name, engine="onnx", device="cpu").run(batch), 0, 1)
    for precision, tolerance in (("fp32", 1), ("fp16", 6)):
        output = open_engine(name, engine="ncnn", device="vulkan", precision=precision).run(batch)  # type: ignore[arg-type]
        difference = np.abs(np.rint(np.clip(output, 0, 1) * 255) - np.rint(reference * 255))
        assert difference.max() <= tolerance


@pytest.mark.skipif(not engine_kind("ncnn").devices(), reason="the extra 'vulkan' (ncnn) is not installed")
@pytest.mark.parametrize(
    ("kind", "hyper"),
    [
        ("compact", {"features": 8, "depth": 2, "scale": 4, "activation": "prelu"}),
        ("compact", {"features": 8, "depth": 1, "scale": 2, "unshuffle": 2, "activation": "leakyrelu"}),
        ("compact", {"features": 8, "depth": 1, "scale": 2, "activation": "silu", "dilations": [1, 2, 1]}),
        ("lite", {"features": 8, "depth": 2, "scale": 2, "context_features": 8, "context_depth": 3}),
        (
            "lite",
            {
                "features": 8,
                "depth": 1,
                "scale": 4,
                "context_features": 8,
                "context_depth": 2,
                "deep_features": 8,
                "deep_depth": 1,
            },
        ),
        *(
            ("lite", {"features": 8, "depth": 2, "context_features": 8, "context_depth": 1, "activation": activation})
            for activation in ("prelu", "leakyrelu", "silu")
        ),
        ("rrdb", {"features": 8, "blocks": 1, "growth": 4, "scale": 4}),
        ("rrdb", {"features": 8, "blocks": 1, "growth": 4, "scale": 2}),
        ("cunet", {}),
    ],
)
def test_ncnn_graphs_are_the_networks(kind: str, hyper: dict[str, object], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from apisr.networks import build
    from apisr.weights.checkpoint import save_network

    torch.manual_seed(0)
    module = build(kind, hyper).eval()
    with torch.no_grad():
        for parameter in module.parameters():  # some begin at zero: nothing would be compared
            parameter.add_(0.05 * torch.randn_like(parameter))
    path = tmp_path / "a.safetensors"
    save_network(module, path, kind, hyper, card={})
    batch = batch_of(2, 24, 32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch)).numpy()
    output = open_engine(path, engine="ncnn", device="cpu", precision="fp32").run(batch)
    np.testing.assert_allclose(output, expected, atol=2e-4 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.skipif(not VULKAN, reason="no Vulkan device (the package mesa-vulkan-drivers has one for any machine)")
@pytest.mark.parametrize("size", [(36, 48), (12, 40)], ids=["mirrored", "smaller than the margin"])
def test_vulkan_runs_cunet(size: tuple[int, int], tmp_path: Path) -> None:
    """Channel weights of the whole picture, transposed convolutions and crops: in fp32 no byte differs by more than 1.

    In fp16 none by more than 6 on noise.
    """
    torch = pytest.importorskip("torch")
    from apisr.networks import build
    from apisr.weights.checkpoint import save_network

    torch.manual_seed(0)
    module = build("cunet", {}).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("weight"):  # so that the layers hand on what they get, as learned ones do
                torch.nn.init.kaiming_normal_(parameter)
    batch = batch_of(1, *size)
    with torch.no_grad():
        output = module(torch.from_numpy(batch))
        module.unet1.conv_bottom.weight.mul_(0.2 / output.std())
        module.unet2.conv_bottom.weight.mul_(0.2 / output.std())
        module.unet2.conv_bottom.bias.fill_(0.5)
        expected = module(torch.from_numpy(batch)).numpy()
    assert np.clip(expected, 0, 1).std() > 0.05
    path = tmp_path / "cunet.safetensors"
    save_network(module, path, "cunet", {}, card={})
    for precision, tolerance in (("fp32", 1), ("fp16", 6)):
        found = open_engine(path, engine="ncnn", device="vulkan", precision=precision).run(batch)  # type: ignore[arg-type]
        difference = np.abs(np.rint(np.clip(found, 0, 1) * 255) - np.rint(np.clip(expected, 0, 1) * 255))
        assert difference.max() <= tolerance


class Failing:
    """A device that is lost after some pictures."""

    name = "device (gpu, fp32)"
    shape_exact = False

    def __init__(self, model: Model, pictures: int) -> None:
        self._engine = open_engine(model, engine="onnx", device="cpu")
        self.traits = self._engine.traits
        self.left = pictures

    def run(self, batch: np.ndarray) -> np.ndarray:
        if not self.left:
            raise RunError("the device is lost.")
        self.left -= 1
        return self._engine.run(batch)


def test_a_lost_device_is_replaced_with_a_notice(tiny_x2: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = resolve_model(tiny_x2)
    failing = Failing(model, 2)
    engine = FallbackEngine(failing, lambda: open_engine(model, engine="onnx", device="cpu"))
    batches = [batch_of(1, 16, 16 + 2 * number) for number in range(5)]
    expected = [failing._engine.run(batch) for batch in batches]
    for batch, output in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(engine.run(batch), output)
    assert engine.name == "onnx (cpu, fp32)"
    assert [record.getMessage() for record in caplog.records] == ["the device is lost: onnx (cpu, fp32) goes on."]


def test_a_network_that_fails_everywhere_is_an_error(tiny_x2: Path) -> None:
    model = resolve_model(tiny_x2)
    engine = FallbackEngine(Failing(model, 0), lambda: Failing(model, 0))
    for _ in range(2):
        with pytest.raises(RunError):
            engine.run(batch_of(1, 16, 16))


def test_the_table_of_the_machine(tiny_x2: Path) -> None:
    from apisr.engines.benchmark import benchmark

    table = benchmark(tiny_x2, seconds=0.05, threads=1)
    assert {row.engine for row in table.rows} >= {"onnx"}
    assert [row.automatic for row in table.rows].count(True) == 1
    assert table.advice
    for row in table.rows:
        assert row.problem or row.frames_per_s > 0
        assert row.precision != "fp32" or row.problem or row.psnr_db > 80


@pytest.mark.parametrize("engine", INSTALLED)
@pytest.mark.parametrize("name", ["apisr-x2-fast", "apisr-x4-fast"])
def test_whole_numbers_are_what_the_floats_round_to(name: str, engine: str) -> None:
    """Half up; in fp32 one level in ten thousand values may fall on the other side of a half."""
    from apisr.engines.pixels import run_pixels
    from apisr.image import from_float, to_float, to_tensor

    opened = open_engine(unfiltered(name), engine=engine, device="cpu", precision="fp32")
    pixels = np.random.default_rng(2).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    output = run_pixels(opened, pixels)
    expected = from_float(opened.run(to_tensor(to_float(pixels)))[0].transpose(1, 2, 0), np.uint8)
    difference = np.abs(output.astype(np.int16) - expected.astype(np.int16))
    assert output.dtype == np.uint8
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= difference.size / 10_000
    wide = run_pixels(opened, pixels.astype(np.uint16) * np.uint16(257))
    assert wide.dtype == np.uint16
    assert np.abs(wide.astype(np.int32) - expected.astype(np.int32) * 257).max() <= 129


def test_lack_of_memory_splits_whole_numbers_too(tiny_x2: Path) -> None:
    model = resolve_model(tiny_x2)
    engine = open_engine(model, engine="openvino", device="cpu", precision="fp32")
    pixels = np.random.default_rng(3).integers(0, 256, (1, 96, 160, 3), dtype=np.uint8)
    sizes: list[int] = []

    def limited(batch: np.ndarray) -> np.ndarray:
        if batch.shape[1] * batch.shape[2] > 90 * 96:
            raise OutOfMemory("full (limit of the test).")
        sizes.append(batch.shape[2])
        return engine.run_pixels(batch[0])[None]  # type: ignore[attr-defined]

    output = run_in_parts(limited, pixels, model.traits, rows_axis=1)
    assert len(sizes) > 1
    np.testing.assert_array_equal(output[0], engine.run_pixels(pixels[0]))  # type: ignore[attr-defined]


def test_what_is_known_of_an_engine_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_x2: Path) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    engine = open_engine(tiny_x2, engine="onnx", device="cpu", threads=1)
    found = engine.shape_exact
    (kept,) = (tmp_path / "cache").rglob("exact-*.json")
    assert json.loads(kept.read_text()) == {"shape_exact": found}
    kept.write_text(json.dumps({"shape_exact": not found}))
    assert open_engine(tiny_x2, engine="onnx", device="cpu", threads=1).shape_exact is not found
    kept.write_text("{")
    assert open_engine(tiny_x2, engine="onnx", device="cpu", threads=1).shape_exact is found


def test_what_cannot_be_recorded_runs_as_before() -> None:
    """CUDA graphs need a card; without one recording fails, and the network runs as it is."""
    torch = pytest.importorskip("torch")
    from apisr.engines.torch import CudaGraphs

    calls: list[int] = []

    def network(batch: object) -> object:
        calls.append(1)
        return batch * 2  # type: ignore[operator]

    batch = torch.from_numpy(batch_of(1, 8, 8))
    graphs = CudaGraphs(network)  # type: ignore[arg-type]
    for _ in range(4):
        assert torch.equal(graphs(batch), batch * 2)
    if not torch.cuda.is_available():
        assert len(calls) == 4
    graphs.forget()
    assert torch.equal(graphs(batch), batch * 2)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--device", "toaster"], "device-not-available"),
        (["--engine", "onnx", "--device", "mps"], "device-not-available"),
        pytest.param(
            ["--model", "grl-x4", "--engine", "ncnn"],
            "engine-cannot-run",
            marks=pytest.mark.skipif(not engine_kind("ncnn").devices(), reason="the extra 'vulkan' is not installed"),
        ),
    ],
)
def test_what_does_not_fit_is_one_line(options: list[str], code: str, tmp_path: Path, apisr: Run) -> None:
    source = tmp_path / "a.png"
    cv2.imwrite(str(source), np.full((24, 24, 3), 90, np.uint8))
    done = apisr("upscale", source, "-o", tmp_path / "b.png", "--json", *options)
    assert done.returncode == 2
    assert done.code == code or [entry["code"] for entry in json.loads(done.stdout)["files"]] == [code]
    assert sum(line.startswith("apisr: error: ") for line in done.stderr.splitlines()) == 1
    assert not (tmp_path / "b.png").exists()


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize("name", ["apisr-x2", "apisr-x2-fast", "apisr-x4", "apisr-x4-fast"])
def test_bytes_that_the_network_leaves_alone_stay_exact_in_bf16(name: str) -> None:
    """The sum comes before the shuffle, where bytes are exact: closer to fp32 than floats through the same network."""
    from apisr.engines.pixels import run_pixels
    from apisr.image import from_float

    if "bf16" not in engine_kind("openvino").precisions("cpu", resolve_model(name)):
        pytest.skip("this processor has no units for bf16")
    pixels = from_float(probe_picture(64, 64)[0].transpose(1, 2, 0), np.dtype(np.uint8))
    floats = np.ascontiguousarray((pixels / np.float32(255)).transpose(2, 0, 1)[None], np.float32)
    exact = open_engine(unfiltered(name), engine="onnx", device="cpu", precision="fp32").run(floats)
    expected = from_float(exact[0].transpose(1, 2, 0), np.dtype(np.uint8)).astype(int)
    short = open_engine(unfiltered(name), engine="openvino", device="cpu", precision="bf16")
    through_floats = from_float(short.run(floats)[0].transpose(1, 2, 0), np.dtype(np.uint8)).astype(int)
    through_bytes = run_pixels(short, pixels).astype(int)
    assert np.mean(through_bytes != expected) < 0.8 * np.mean(through_floats != expected)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_int8_of_the_fast_network_is_accurate_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close to fp32 but for noise, free of the window's size, made once, and made anew where it is damaged."""
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    model = unfiltered("apisr-x2-fast")
    assert "int8" in engine_kind("openvino").precisions("cpu", model)
    assert "int8" not in engine_kind("openvino").precisions("cpu", resolve_model("apisr-x4"))
    picture = probe_picture(96, 128)
    exact = open_engine(model, engine="openvino", device="cpu", precision="fp32").run(picture)
    kind = engine_kind("openvino")
    first = kind.open(Request(model, "cpu", "int8", 1))
    output = first.run(picture)
    assert 50 < psnr_db(output, exact) < 80
    assert first.shape_exact
    (kept,) = (tmp_path / "cache").rglob("int8-*.xml")
    made = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(kind.open(Request(model, "cpu", "int8", 1)).run(picture), output)
    assert kept.stat().st_mtime_ns == made
    kept.write_text("<net")
    np.testing.assert_array_equal(kind.open(Request(model, "cpu", "int8", 1)).run(picture), output)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_int8_is_not_chosen_by_itself(strength: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noisy pictures fall below 50 dB, and the built-in noise shows it, for the twin and what lies between too."""
    from apisr.engines.registry import accuracy_db
    from apisr.weights import choose_model

    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    model = choose_model("apisr-x2-fast", strength=strength)
    kind = engine_kind("openvino")
    request = Request(model, "cpu", "int8", 1)
    assert 40 < accuracy_db(kind, request, kind.open(request)) < 50


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize("name", ["apisr-x4-fast", "apisr-x2"])
def test_quick_shuffles_change_no_bit(name: str) -> None:
    from apisr.core.telemetry import import_openvino
    from apisr.engines.openvino_pixels import with_quick_shuffles

    core = import_openvino().Core()
    network = core.read_model(str(resolve_model(name).path))
    quick = with_quick_shuffles(network)
    modes = [
        node.get_attributes()["mode"] for node in quick.get_ordered_ops() if node.get_type_name() == "DepthToSpace"
    ]
    assert modes.count("blocks_first") == {"apisr-x4-fast": 2, "apisr-x2": 0}[name]
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    outputs = [
        core.compile_model(one, "CPU", options).create_infer_request().infer([batch_of(1, 32, 48)])[0]
        for one in (network, quick)
    ]
    np.testing.assert_array_equal(*outputs)
