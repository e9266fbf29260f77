"""A checkpoint of every kind: load, upscale, export, upscale again, the same picture; precisions are measured."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")


from apisr.core.errors import ApisrError, ModelError  # noqa: E402
from apisr.engines import open_engine  # noqa: E402
from apisr.image import from_float, read_rgb, write_picture  # noqa: E402
from apisr.networks import architecture, build  # noqa: E402
from apisr.weights import resolve_model  # noqa: E402
from apisr.weights.checkpoint import load_state  # noqa: E402
from apisr.weights.convert import convert, drawn_pictures  # noqa: E402
from apisr.weights.export import export_onnx, run_onnx  # noqa: E402
from apisr.weights.formats.onnx import with_sha256  # noqa: E402
from apisr.weights.interpolate import mixed  # noqa: E402

KINDS: dict[str, dict[str, Any]] = {
    "compact": {"features": 8, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"},
    "compact-prelu": {"features": 8, "depth": 2, "scale": 4, "unshuffle": 1, "activation": "prelu"},
    "grl": {"features": 16, "depths": [2], "tail_features": 8},
    "grl-direct": {"features": 16, "depths": [2], "upsampler": "pixelshuffledirect", "scale": 2},
    "rrdb": {"features": 8, "blocks": 1, "growth": 4, "scale": 4},
    "rrdb-x2": {"features": 8, "blocks": 1, "growth": 4, "scale": 2},
    "dat": {"features": 32, "depths": [3, 2], "heads": [2, 2], "scale": 2},
    "cunet": {},
}


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in an error of this code."""
    with pytest.raises(ApisrError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)


def checkpoint_of(folder: Path, kind: str) -> Path:
    """A file in the official layout, parameters derived from their names as in tests/data/networks/README.md."""
    state = {
        name: parameter_of(name, tuple(value.shape))
        for name, value in build(kind.split("-")[0], KINDS[kind]).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path = folder / f"{kind}.pth"
    torch.save({"params_ema": state}, path)
    return path


def parameter_of(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    r = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        r = 1 + 0.1 * np.abs(r)
    elif len(shape) >= 2:
        r = r / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
    else:
        r = 1 + 0.1 * r if name.endswith("weight") else 0.1 * r
    return torch.from_numpy(np.asarray(r, np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("released", ["grl_tiny2_x4", "dat_small_x4", "rrdb6_x4", "rrdb6_x2", "cunet_x2"])
def test_released_sizes_load_upscale_export_and_upscale_the_same(
    apisr: Run, tmp_path: Path, data: Path, released: str
) -> None:
    """The names and shapes of the released files at their full size, through the command line."""
    described = json.loads((data / "networks" / "networks.json").read_text())[released]
    state = {name: parameter_of(name, tuple(shape)) for name, shape in described["keys"].items()}
    checkpoint, exported = tmp_path / "released.pth", tmp_path / "exported.onnx"
    torch.save({"model_state_dict": {f"module.{name}": value for name, value in state.items()}}, checkpoint)
    picture = drawn_pictures(1, side=48, multiple=1)[0].transpose(1, 2, 0)[:40, :36]
    write_picture(tmp_path / "in.png", from_float(np.ascontiguousarray(picture), np.uint8))
    made = []
    for number, model in enumerate((checkpoint, exported)):
        if model == exported:
            result = apisr("export", checkpoint, "-o", exported)
            assert result.returncode == 0, result.stderr
        target = tmp_path / f"{number}.png"
        options = ("--device", "cpu", "--precision", "fp32", "--quiet")
        result = apisr("upscale", tmp_path / "in.png", "-o", target, "-m", model, *options)
        assert result.returncode == 0, result.stderr
        made.append(read_rgb(target).astype(int))
    found = resolve_model(checkpoint)
    assert found.card["parameters"] == described["parameters"] == resolve_model(exported).card["parameters"]
    scale = int(released[-1])
    assert made[0].shape == made[1].shape == (40 * scale, 36 * scale, 3)
    assert np.mean((made[0] > 0) & (made[0] < 255)) > 0.05  # there is something to compare
    assert np.abs(made[0] - made[1]).max() <= 1


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in ("dat", "cunet", "grl") else kind for kind in KINDS]
)
def test_export_gives_the_same_picture(tmp_path: Path, kind: str) -> None:
    path = checkpoint_of(tmp_path, kind)
    output = tmp_path / "out.onnx"
    report = convert(path, output)
    assert report.largest_difference < 1e-4
    before, after = resolve_model(path), resolve_model(output)
    assert after.architecture == before.architecture
    # Measured by the export, but where a network looks at the whole picture.
    assert (after.traits.rim_px is None) == (after.traits.halo_px is None)
    assert replace(after.traits_on("onnx"), rim_px=None) == before.traits_on("onnx")
    picture = np.stack(drawn_pictures(2, side=80, multiple=16))[:, :, :, :48]  # not the size of the tracing
    expected = open_engine(before, engine="torch", device="cpu", precision="fp32").run(picture)
    found = open_engine(after, engine="onnx", device="cpu", threads=1).run(picture)
    assert found.shape == (2, 3, 80 * before.scale, 48 * before.scale)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    if kind in ("dat", "cunet"):  # some of their values are computed ahead
        return
    weights, metadata = load_state(output)
    assert metadata["apisr.architecture"] == after.architecture
    given, _ = load_state(path)
    assert set(weights) == set(given)
    assert all(torch.equal(weights[name], given[name]) for name in given)


def test_files_without_weights_are_no_start_for_training(tmp_path: Path) -> None:
    path = checkpoint_of(tmp_path, "compact")
    output = tmp_path / "out.onnx"
    convert(path, output)
    assert load_state(output)[1]["apisr.architecture"] == "compact"
    model = onnx.load(str(output))
    model.graph.initializer[0].name = "something"
    (tmp_path / "renamed.onnx").write_bytes(with_sha256(model.SerializeToString()))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    for name in ("renamed", "foreign"):
        with refused("no-weights"):
            load_state(tmp_path / f"{name}.onnx")


@pytest.mark.parametrize("kind", ["compact-prelu", "grl", "dat", "rrdb"])
def test_a_network_that_ran_exports_the_same(tmp_path: Path, kind: str) -> None:
    """What a network keeps from run to run must not take the place of its parameters."""
    base, hyper = kind.split("-")[0], KINDS[kind]
    network = build(base, hyper).eval()
    for name, value in network.named_parameters():
        value.data = parameter_of(name, tuple(value.shape))
    traits = architecture(base).traits(hyper)
    for name in ("before", "after"):
        export_onnx(network, tmp_path / f"{name}.onnx", traits=traits, card={"architecture": base, "hyper": hyper})
        with torch.inference_mode():
            network(torch.rand(1, 3, 64, 64))
    assert (tmp_path / "before.onnx").read_bytes() == (tmp_path / "after.onnx").read_bytes()


@pytest.mark.parametrize("kind", ["compact-prelu", "grl"])
def test_equal_parameters_do_not_part_twins(tmp_path: Path, kind: str) -> None:
    base, hyper = kind.split("-")[0], KINDS[kind]
    network = build(base, hyper).eval()
    traits = architecture(base).traits(hyper)
    contents = []
    for equal in (False, True):
        named: dict[tuple[int, ...], str] = {}
        for name, value in network.named_parameters():
            shape = tuple(value.shape)
            value.data = parameter_of(named.setdefault(shape, name) if equal else name, shape)
        path = tmp_path / f"{equal}.onnx"
        export_onnx(network, path, traits=traits, card={"architecture": base, "hyper": hyper})
        weights, _ = load_state(path)
        assert all(torch.equal(weights[name], value) for name, value in network.named_parameters())
        contents.append(path.read_bytes())
    (tmp_path / "half.onnx").write_bytes(mixed(contents[0], contents[1], 0.5))
    for name, value in network.named_parameters():
        value.data = (value.data + parameter_of(name, tuple(value.shape))) / 2
    picture = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(picture)).numpy()
    np.testing.assert_allclose(run_onnx(tmp_path / "half.onnx", picture), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["compact", pytest.param("grl", marks=pytest.mark.slow), "rrdb"])
def test_half_precision_files(tmp_path: Path, kind: str) -> None:
    path = checkpoint_of(tmp_path, kind)
    full = convert(path, tmp_path / "full.onnx")
    half = convert(path, tmp_path / "half.onnx", precision="fp16")
    assert half.psnr_db >= 50
    assert half.size_bytes < full.size_bytes
    model = resolve_model(tmp_path / "half.onnx")
    assert model.card["precision"] == "fp16"
    picture = np.stack(drawn_pictures(1, side=32, multiple=16))
    output = open_engine(model, engine="onnx", device="cpu", threads=1).run(picture)
    assert output.dtype == np.float32
    np.testing.assert_allclose(
        output, open_engine(tmp_path / "full.onnx", engine="onnx", device="cpu").run(picture), atol=0.03
    )


def test_int8_is_measured_and_refused_where_it_does_not_hold(tmp_path: Path) -> None:
    path = checkpoint_of(tmp_path, "compact")
    output = tmp_path / "int8.onnx"
    try:
        report = convert(path, output, precision="int8")
    except ModelError as error:
        assert error.code == "precision-not-accurate"  # noqa: PT017 - either outcome is right; the file must agree with it
        assert not output.exists()
    else:
        assert report.psnr_db >= 40
        assert resolve_model(output).card["precision"] == "int8"
    with refused("precision-not-accurate"):
        convert(
            path,
            tmp_path / "wild.onnx",
            precision="int8",
            pictures=[p * 1e-3 for p in drawn_pictures(2, side=32, multiple=2)]
            + [p * 9 for p in drawn_pictures(2, side=32, multiple=2)],
        )
    assert not (tmp_path / "wild.onnx").exists()


def test_one_size_only(tmp_path: Path) -> None:
    path = checkpoint_of(tmp_path, "grl-direct")
    convert(path, tmp_path / "tile.onnx", tile_px=32)
    assert resolve_model(tmp_path / "tile.onnx").traits.fixed_size == (32, 32)
    with refused("bad-tile"):
        convert(path, tmp_path / "other.onnx", tile_px=20)


def test_command_line(apisr: Run, tmp_path: Path) -> None:
    path = checkpoint_of(tmp_path, "compact")
    output = tmp_path / "x.onnx"
    result = apisr("export", path, "-o", output)
    assert result.returncode == 0, result.stderr
    assert "compact x2, fp32, any size" in result.stdout
    assert "largest difference" in result.stdout
    assert apisr("export", path, "-o", output).code == "output-exists"
    wrong = apisr("export", path, "-o", output, "--precision", "fp7")
    assert wrong.code == "usage"
    assert "'fp7'" in wrong.stderr
    assert apisr("models", "show", output, "--json").json()["halo_px"] == 8
    assert "realesr-animevideov3" in apisr("models", "list").stdout
    assert apisr("models", "verify", output).returncode == 0


def test_weights_stored_in_16_bits_compute_the_same(tmp_path: Path) -> None:
    hyper = {"features": 24, "depth": 2, "scale": 2}
    network = build("compact", hyper).half().float()
    with torch.no_grad():
        network.body[2].weight[0, 0, 0, 0] = 1 + 2**-20  # not a value of 16 bits: this array stays as it is
    card = {"name": "small", "architecture": "compact", "hyper": hyper, "license": "Apache-2.0"}
    traits = architecture("compact").traits(hyper)
    for name, halves in (("plain", False), ("packed", True)):
        export_onnx(network, tmp_path / f"{name}.onnx", traits=traits, card=card, halves=halves)
    plain, packed = (onnx.load(str(tmp_path / f"{name}.onnx")) for name in ("plain", "packed"))
    kinds = {tensor.name: tensor.data_type for tensor in packed.graph.initializer}
    large = [tensor for tensor in plain.graph.initializer if np.prod(tensor.dims) >= 1024]
    kept = [tensor.name for tensor in large if tensor.name in kinds]
    assert len(large) == 3
    assert kept == ["body.2.weight"]
    assert all(kinds[f"{tensor.name}.half"] == onnx.TensorProto.FLOAT16 for tensor in large if tensor.name not in kept)
    picture = np.stack(drawn_pictures(1, side=64, multiple=8))
    outputs = [run_onnx(tmp_path / f"{name}.onnx", picture) for name in ("plain", "packed")]
    np.testing.assert_array_equal(*outputs)
