"""Model files of all layouts: found, recognised, loaded exactly, or refused with one clear line."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import apisr.weights as weights  # noqa: E402
from apisr.core.errors import ApisrError, ModelError  # noqa: E402
from apisr.networks import architecture, build  # noqa: E402
from apisr.weights import default_model, list_models, releases, resolve_model  # noqa: E402
from apisr.weights.checkpoint import load_network, load_state, read_checkpoint, save_network  # noqa: E402
from apisr.weights.export import export_onnx, onnx_runner, write_card  # noqa: E402
from apisr.weights.formats.onnx import with_sha256  # noqa: E402
from apisr.weights.formats.safetensors import read_safetensors, write_safetensors  # noqa: E402
from apisr.weights.rim import smallest_rim_px  # noqa: E402
from apisr.weights.sealing import sealed  # noqa: E402

HYPER = {"features": 8, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"}


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in an error of this code."""
    with pytest.raises(ApisrError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)


def module_of(**changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("compact", {**HYPER, **changes}).eval()


def exported(folder: Path, name: str = "small", **changes: Any) -> Path:
    hyper = {**HYPER, **changes}
    traits = architecture("compact").traits(hyper)
    card = {"name": name, "architecture": "compact", "hyper": hyper, "license": "CC0"}
    export_onnx(module_of(**changes), folder / f"{name}.onnx", traits=traits, card=card)
    write_card(folder / f"{name}.onnx", traits=traits, card=card)
    return folder / f"{name}.onnx"


def test_shipped_models_are_whole() -> None:
    models = list_models()
    assert models, "the package ships no model"
    for model in models:
        assert resolve_model(model.name, scale=model.scale) == model
    assert default_model() in {model.name for model in models}


def test_default_model_names_the_scales_it_has() -> None:
    with refused("no-model-for-scale"):
        default_model(7)


def test_a_changed_byte_in_a_shipped_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported(tmp_path)
    monkeypatch.setattr(weights.model, "SHIPPED", tmp_path)
    assert resolve_model("small").scale == 2
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with refused("shipped-model-damaged"):
        resolve_model("small")


def test_onnx_file_tells_everything_itself(tmp_path: Path) -> None:
    path = exported(tmp_path)
    rim_on_the_card = json.loads(path.with_suffix(".json").read_text())["rim_px"]
    path.with_suffix(".json").unlink()
    model = resolve_model(path)
    assert (model.name, model.scale, model.traits.halo_px, model.traits.multiple_px) == ("small", 2, 8, 2)
    assert (model.architecture, model.format, model.card["hyper"]) == ("compact", "onnx", HYPER)
    assert model.traits.rim_px == smallest_rim_px(onnx_runner(path), model.traits) == rim_on_the_card
    with refused("model-other-scale"):
        resolve_model(path, scale=4)


@pytest.mark.parametrize(("unshuffle", "scale"), [(1, 1), (1, 4), (2, 2)])
def test_foreign_onnx_is_probed(tmp_path: Path, unshuffle: int, scale: int) -> None:
    path = exported(tmp_path, unshuffle=unshuffle, scale=scale)
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.save(model, str(path))
    found = resolve_model(path)
    assert (found.scale, found.traits.multiple_px, found.architecture) == (scale, unshuffle, "foreign")
    assert found.traits.halo_px == 8


def test_onnx_of_one_size_is_known_as_such(tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    traits = architecture("compact").traits(HYPER)
    export_onnx(module_of(), path, traits=traits, card={"architecture": "compact"}, fixed_size=(32, 48))
    assert resolve_model(path).traits.fixed_size == (32, 48)
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.save(model, str(path))
    assert resolve_model(path).traits.fixed_size == (32, 48)


@pytest.mark.parametrize("content", [b"", b"not a model at all, just text", b"\x3a\xff\xff\xff\xff\x7f", b"\x08\x07"])
@pytest.mark.parametrize("suffix", [".onnx", ".pth", ".safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        resolve_model(path)
    assert caught.value.code in ("model-damaged", "not-an-onnx-file")


def test_cut_checkpoints_are_refused(tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"cut{suffix}"
        if suffix == ".pth":
            torch.save(module_of().state_dict(), path)
        else:
            save_network(module_of(), path, "compact", HYPER, card={})
        path.write_bytes(path.read_bytes()[:-500])
        with refused("model-damaged"):
            resolve_model(path)


WRAPPERS: dict[str, Any] = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "params_ema first": lambda state: {"params": {k: v * 0 for k, v in state.items()}, "params_ema": state},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "iteration": 7, "lr": 1e-4},
    "DataParallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled": lambda state: {"params": {f"_orig_mod.{k}": v for k, v in state.items()}},
    "both": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "training module": lambda state: {
        "state_dict": {**{f"net_g.{k}": v for k, v in state.items()}, "net_d.conv.weight": torch.zeros(2)}
    },
    "ordered": collections.OrderedDict,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_wrappers(tmp_path: Path, wrapper: str, suffix: str) -> None:
    module = module_of()
    path = tmp_path / f"model{suffix}"
    torch.save(WRAPPERS[wrapper](module.state_dict()), path)
    model = resolve_model(path)
    assert model.card["hyper"] == HYPER
    assert model.card["parameters"] == sum(p.numel() for p in module.parameters())
    loaded = load_network(model)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in module.state_dict().items())


def test_foreign_safetensors_loads_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({f"module.{k}": v for k, v in module_of().state_dict().items()}, str(tmp_path / "a.safetensors"))
    assert resolve_model(tmp_path / "a.safetensors").card["hyper"] == HYPER


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3", "F8_E8M0"])
def test_safetensors_of_small_floats_are_refused(tmp_path: Path, kind: str) -> None:
    """The format has more kinds of numbers than torch or its reader."""
    bits = {"F4": 4, "F6_E2M3": 6, "F8_E8M0": 8}[kind]
    array = {"dtype": kind, "shape": [16], "data_offsets": [0, 2 * bits]}
    header = json.dumps({"body.0.weight": array}).encode()
    path = tmp_path / "small.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2 * bits))
    with pytest.raises(ModelError):
        resolve_model(path)


def test_weights_that_a_training_run_replaces_are_read_whole(tmp_path: Path) -> None:
    """Never the header of one file and the values of another: that would be called damaged."""
    path = tmp_path / "ema.safetensors"
    for number in range(2):
        write_safetensors({"weight": torch.full((64, 64), float(number))}, tmp_path / f"{number}", {})
    os.link(tmp_path / "0", path)
    replacing = (
        "import itertools, os\n"
        "for name in itertools.cycle('10'):\n"
        "    os.link(name, 'next')\n"
        "    os.replace('next', 'ema.safetensors')\n"
    )
    training = subprocess.Popen([sys.executable, "-c", replacing], cwd=tmp_path)
    try:
        seen = {float(read_safetensors(path)[0]["weight"].max()) for _ in range(1500)}
    finally:
        training.kill()
        training.wait()
    assert seen == {0.0, 1.0}


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "exploded",))  # type: ignore[return-value]

    path = tmp_path / "bomb.pth"
    torch.save({"params": module_of().state_dict(), "extra": Bomb()}, path)
    with refused("unsafe-pickle"):
        resolve_model(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_is_refused_in_our_words_alone(tmp_path: Path, protocol: int) -> None:
    """Warnings are errors in these tests: what torch says beside our line would show."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (os.system, (f"touch {tmp_path / 'exploded'}",))

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"params": Bomb()}, protocol=protocol))
    with pytest.raises(ModelError) as caught:
        resolve_model(tmp_path / "bomb.pth")
    assert caught.value.code in ("unsafe-pickle", "model-damaged")  # torch reads protocol 2 alone
    assert not (tmp_path / "exploded").exists()


def test_a_flipped_bit_in_a_checkpoint_is_seen(tmp_path: Path) -> None:
    """Such a file states checksums, which torch does not compare: the values were wrong in silence."""
    path = tmp_path / "a.pth"
    torch.save(module_of().state_dict(), path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + 64 + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    with refused("model-damaged"):
        resolve_model(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value * float("nan"),
        lambda value: value * float("inf"),
        lambda value: value.to(torch.complex64),
        lambda value: value.to_sparse(),
        lambda value: torch.empty(value.shape, device="meta"),
    ],
)
def test_weights_that_are_not_numbers_are_refused(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    torch.save({name: change(value) for name, value in module_of().state_dict().items()}, tmp_path / "a.pth")
    with refused("weights-not-numbers"):
        resolve_model(tmp_path / "a.pth")


def test_unknown_checkpoint_says_what_was_recognised(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    state = build("rrdb", {"blocks": 2, "features": 8, "growth": 4}).state_dict()
    state.pop("conv_up2.weight")
    torch.save(state, path)
    with refused("unknown-network"):
        resolve_model(path)
    torch.save({"something.else": torch.zeros(3)}, path)
    with refused("unknown-network"):
        resolve_model(path)
    torch.save({"epoch": 1, "lr": 0.1}, path)
    with refused("no-state-dict"):
        resolve_model(path)


def test_a_checkpoint_that_does_not_fit_lists_the_names(tmp_path: Path) -> None:
    path = tmp_path / "misfit.pth"
    state = module_of(activation="prelu").state_dict()
    state["body.2.weight"] = torch.zeros(8, 9, 3, 3)
    del state["body.4.bias"]
    torch.save(state, path)
    with refused("weights-do-not-fit"):
        load_network(path)


def test_networks_that_do_not_enlarge_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.pth"
    torch.save(build("unet_sn", {"features": 4}).state_dict(), path)
    with refused("not-an-upscaler"):
        resolve_model(path)
    assert read_checkpoint(path).network.name == "unet_sn"


def test_stored_tables_are_ignored_but_tell_the_sizes(tmp_path: Path) -> None:
    hyper = {"features": 16, "depths": [2], "upsampler": "pixelshuffledirect"}
    state = dict(build("grl", hyper).state_dict())
    state["table_w"] = torch.zeros(1, 15, 15, 2)
    state["table_sh"] = torch.zeros(1, 11, 11, 2)
    state["index_w"] = torch.zeros(64, 64, dtype=torch.int64)
    state["mask_w"] = torch.zeros(64, 64, 64)
    path = tmp_path / "grl.pth"
    torch.save({"model_state_dict": state}, path)
    model = resolve_model(path)
    assert (model.architecture, model.card["hyper"]["window"], model.card["hyper"]["anchor_factor"]) == ("grl", 8, 2)
    load_network(model)


def test_our_files_load_back_exactly_and_notice_changes(tmp_path: Path) -> None:
    module = module_of(activation="leakyrelu")
    hyper = {**HYPER, "activation": "leakyrelu"}
    path = tmp_path / "ours.safetensors"
    save_network(module, path, "compact", hyper, card={"name": "ours", "license": "CC0"})
    checkpoint = read_checkpoint(path)
    assert checkpoint.hyper == hyper  # not visible in names or shapes
    assert checkpoint.card["license"] == "CC0"
    x = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(load_network(path)(x), module(x))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with refused("model-damaged"):
        load_state(path)


def test_names_and_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path))
    with refused("no-such-model"):
        resolve_model("nothing")
    with refused("no-such-model"):
        resolve_model(tmp_path / "absent.onnx")
    with refused("model-not-fetched"):
        resolve_model("apisr-grl-x4")
    (tmp_path / "a.txt").write_text("x")
    with refused("not-a-model"):
        resolve_model(tmp_path / "a.txt")


def test_a_fetched_release_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path))
    folder = releases.cache_folder()
    folder.mkdir(parents=True)
    torch.save({"params": build("rrdb", {"blocks": 1, "features": 8, "growth": 4}).state_dict()}, tmp_path / "r.pth")
    shutil.copy(tmp_path / "r.pth", folder / "4x_APISR_RRDB_GAN_generator.pth")
    model = resolve_model("apisr-rrdb-x4", scale=4)
    assert (model.name, model.architecture, model.card["license"]) == (
        "apisr-rrdb-x4",
        "rrdb",
        "GPL-3.0 (of its repository)",
    )


def test_damaged_cards_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported(tmp_path)
    monkeypatch.setattr(weights.model, "SHIPPED", tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    for damaged in ({**card, "sha256": None}, {**card, "rim_px": 0}, sealed({"scale": 2}), [], {}, None):
        path.with_suffix(".json").write_text(json.dumps(damaged))
        with refused("shipped-model-damaged"):
            resolve_model("small")


def test_onnx_output_equals_the_network(tmp_path: Path) -> None:
    from apisr.weights.export import run_onnx

    path = exported(tmp_path)
    batch = np.random.default_rng(0).random((2, 3, 18, 14), dtype=np.float32)
    with torch.inference_mode():
        expected = module_of()(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(run_onnx(path, batch), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("apisr.scale", "1000000000"),
        ("apisr.scale", "0"),
        ("apisr.scale", "-2"),
        ("apisr.halo_px", "99999999999999999999"),
        ("apisr.rim_px", "99999999999999999999"),
        ("apisr.multiple_px", "0"),
        ("apisr.card", "[" * 5000),
        ("apisr.card", '{"fixed_size": [1, 1e300]}'),
        ("apisr.card", '{"fixed_size": ["a", 2]}'),
        ("apisr.card", '{"fixed_size": 3}'),
    ],
)
def test_absurd_metadata_are_refused(tmp_path: Path, entry: str, value: str) -> None:
    onnx = pytest.importorskip("onnx")
    path = exported(tmp_path)
    model = onnx.load(str(path))
    entries = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, {**entries, entry: value})
    path.write_bytes(with_sha256(model.SerializeToString()))  # by somebody who means it
    with refused("model-metadata-damaged"):
        resolve_model(path)


@pytest.mark.parametrize("hyper", [{"depth": 10**9}, {"features": -1}, {"dilations": [1] * 100_000}])
def test_absurd_hyper_parameters_are_refused(tmp_path: Path, hyper: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "huge.safetensors"
    metadata = {"apisr.architecture": "compact", "apisr.hyper": json.dumps({**HYPER, **hyper})}
    save_file({"body.0.weight": torch.zeros(1)}, str(path), metadata=metadata)
    with refused("model-metadata-damaged"):
        resolve_model(path)


def test_hyper_parameters_that_a_network_has_not_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    metadata = {"apisr.architecture": "compact", "apisr.hyper": json.dumps({**HYPER, "widht": 8})}
    save_file({"body.0.weight": torch.zeros(1)}, str(path), metadata=metadata)
    with refused("unknown-argument"):
        resolve_model(path)


def test_a_missing_shipped_file_is_never_replaced_by_its_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported(tmp_path)
    for suffix in (".onnx", ".json"):
        shutil.copy(path.with_suffix(suffix), tmp_path / f"small-vivid{suffix}")
    card = json.loads((tmp_path / "small-vivid.json").read_text())
    (tmp_path / "small-vivid.json").write_text(json.dumps(sealed({**card, "name": "small-vivid"})))
    monkeypatch.setattr(weights.model, "SHIPPED", tmp_path)
    assert default_model(2) == "small"
    path.unlink()
    with refused("shipped-model-damaged"):
        resolve_model(default_model(2))
    path.with_suffix(".json").unlink()
    with refused("no-model-for-scale"):
        default_model(2)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_export_writes_what_the_name_says(tmp_path: Path, suffix: str) -> None:
    from apisr.weights.convert import convert

    source = exported(tmp_path)
    output = tmp_path / f"arrays{suffix}"
    report = convert(source, output)
    assert report.largest_difference == 0
    assert set(load_state(output)[0]) == set(module_of().state_dict())
    x = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(load_network(output)(x), load_network(source)(x))
    assert (suffix == ".pth") == output.read_bytes().startswith(b"PK")


@pytest.mark.parametrize("name", ["a.bin", "a", "a.onnx.txt"])
def test_export_refuses_names_that_say_something_else(tmp_path: Path, name: str) -> None:
    from apisr.weights.convert import convert

    with refused("unknown-model-format"):
        convert(exported(tmp_path), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_weights_read_without_the_onnx_package_are_the_same() -> None:
    onnx = pytest.importorskip("onnx")
    from apisr.weights.formats.onnx import read_arrays, read_metadata

    path = resolve_model("grl-x4").path
    arrays = read_arrays(path)
    model = onnx.load(str(path))
    floats = [t for t in model.graph.initializer if t.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)]
    assert {tensor.name.removesuffix(".half") for tensor in floats} == set(arrays)
    for tensor in floats:
        np.testing.assert_array_equal(arrays[tensor.name.removesuffix(".half")], onnx.numpy_helper.to_array(tensor))
    assert read_metadata(path) == {entry.key: entry.value for entry in model.metadata_props}
