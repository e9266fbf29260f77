"""The model between a faithful one and its vivid twin: exact weights, cached, refused where there is none."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from make_tiny_models import FOLDER  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import apisr  # noqa: E402
import apisr.weights as weights  # noqa: E402
from apisr.cli import build as build_cli  # noqa: E402
from apisr.core.errors import (  # noqa: E402
    ApisrError,
    InputError,
)
from apisr.core.files import sha256_file  # noqa: E402
from apisr.engines import open_engine  # noqa: E402
from apisr.networks import architecture  # noqa: E402
from apisr.weights import choose_model, resolve_model  # noqa: E402
from apisr.weights.export import export_onnx, write_card  # noqa: E402
from apisr.weights.formats.onnx import with_sha256  # noqa: E402
from apisr.weights.interpolate import between, mixed  # noqa: E402

HYPER = {"features": 8, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"}  # of tiny-x2


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in an error of this code."""
    with pytest.raises(ApisrError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models" / "between"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """tiny-x2 of tests/make_tiny_models.py and a twin of it with other random weights."""
    faithful = tmp_path / "tiny-x2.onnx"
    faithful.write_bytes((FOLDER / "tiny-x2.onnx").read_bytes())
    twin(tmp_path / "tiny-x2-vivid.onnx")
    return faithful


def twin(path: Path, **changes: object) -> Path:
    torch.manual_seed(77)
    compact, hyper = architecture("compact"), {**HYPER, **changes}
    card = {"name": path.stem, "architecture": "compact", "hyper": hyper, "license": "Apache-2.0"}
    export_onnx(compact.build(hyper), path, traits=compact.traits(hyper), card=card)
    write_card(path, traits=compact.traits(hyper), card=card)
    return path


def state(path: Path) -> dict[str, torch.Tensor]:
    graph = onnx.load(str(path)).graph
    return {value.name: torch.from_numpy(onnx.numpy_helper.to_array(value).copy()) for value in graph.initializer}


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.8])
def test_the_output_is_that_of_interpolated_weights(network: Path, strength: float) -> None:
    model = between(resolve_model(network), strength)
    faithful, vivid = state(network), state(network.with_name("tiny-x2-vivid.onnx"))
    module = architecture("compact").build(HYPER).eval()
    module.load_state_dict({key: torch.lerp(faithful[key], vivid[key], strength) for key in faithful})
    picture = np.random.default_rng(0).random((1, 3, 24, 32), dtype=np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(picture)).numpy()
    assert float(np.abs(open_engine(model, precision="fp32").run(picture) - expected).max()) < 1e-5
    onnx.checker.check_model(str(model.path))
    assert (model.scale, model.traits.halo_px, model.traits.multiple_px) == (2, 8, 2)


def test_the_ends_are_the_files_themselves(network: Path) -> None:
    faithful, vivid = resolve_model(network), resolve_model(network.with_name("tiny-x2-vivid.onnx"))
    assert between(faithful, 0) == between(vivid, 0) == faithful
    assert between(faithful, 1) == between(vivid, 1) == vivid
    assert between(faithful, 0.5) == between(vivid, 0.5)


def test_a_cache_that_cannot_be_written_stops_nobody(network: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    expected = between(resolve_model(network), 0.5, cache=tmp_path / "kept")
    model = between(resolve_model(network), 0.5, cache=tmp_path / "file" / "below")
    assert model.path.read_bytes() == expected.path.read_bytes()
    assert model.sha256 == expected.sha256
    assert between(resolve_model(network), 0.5, cache=tmp_path / "file" / "below") == model
    assert model.path.parent != expected.path.parent


def test_kept_by_both_hashes_and_the_strength(network: Path, cache: Path) -> None:
    first = between(resolve_model(network), 0.5)
    assert first.path.parent == cache
    assert first.sha256 == sha256_file(first.path)
    assert "strength 0.5" in first.name
    time = first.path.stat().st_mtime_ns
    assert between(resolve_model(network), 0.5) == first
    assert first.path.stat().st_mtime_ns == time
    assert between(resolve_model(network), 0.6).path != first.path
    first.path.write_bytes(b"damaged")
    assert between(resolve_model(network), 0.5) == first
    assert sha256_file(first.path) == first.sha256
    other = network.with_name("tiny-x2-vivid.onnx")
    content = onnx.load(str(other))
    content.graph.initializer[0].raw_data = b"\0" * len(content.graph.initializer[0].raw_data)
    other.write_bytes(with_sha256(content.SerializeToString()))
    assert between(resolve_model(network), 0.5).path != first.path


def test_shipped_pairs_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin(tmp_path / "small-x2.onnx")
    twin(tmp_path / "small-x2-vivid.onnx", activation="leakyrelu")
    twin(tmp_path / "lone.onnx")
    monkeypatch.setattr(weights.model, "SHIPPED", tmp_path)
    with refused("no-vivid-twin"):
        between(resolve_model("lone"), 0.5)
    with refused("twins-differ"):
        between(resolve_model("small-x2"), 0.5)
    vivid = tmp_path / "small-x2-vivid.onnx"
    vivid.write_bytes(vivid.read_bytes()[:-3])
    with refused("shipped-model-damaged"):
        between(resolve_model("small-x2"), 0.5)


def test_other_structures_are_refused(network: Path) -> None:
    faithful = network.read_bytes()
    for name in ("tiny-x4", "tiny-x4-unshuffled"):
        with refused("twins-differ"):
            mixed(faithful, (FOLDER / f"{name}.onnx").read_bytes(), 0.5)
    for wrong in (b"", b"no model", faithful[: len(faithful) // 2]):
        with refused("not-an-onnx-file"):
            mixed(wrong, faithful, 0.5)
    with refused("bad-strength"):
        between(resolve_model(network), 1.5)


def test_arrays_and_pictures_with_a_strength(network: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    results = [apisr.load(network, strength=value)(picture) for value in (None, 0, 0.5, 1)]
    assert np.array_equal(results[0], results[1])
    assert len({result.tobytes() for result in results}) == 3
    from apisr.image import Picture, write_picture

    write_picture(tmp_path / "in.png", Picture((picture,)))
    arguments = ["upscale", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "-m", str(network), "--json"]
    done = CliRunner().invoke(build_cli(), [*arguments, "--strength", "0.5"], catch_exceptions=False)
    assert done.exit_code == 0
    report = json.loads(done.stdout)["models"][0]
    assert report["sha256"] == between(resolve_model(network), 0.5).sha256
    from apisr.image import read_rgb

    assert np.array_equal(read_rgb(tmp_path / "out.png"), results[2])


def test_one_clear_line_without_a_twin() -> None:
    with pytest.raises(InputError) as caught:
        choose_model(FOLDER / "tiny-x4.onnx", strength=0.5)
    assert caught.value.code == "no-vivid-twin"
    assert "\n" not in str(caught.value)
