"""Checksums of cards and of metadata: nothing that is said of a model changes in silence."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from error_codes import raises_code

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import apisr.weights as weights  # noqa: E402
from apisr.core.errors import ModelError  # noqa: E402
from apisr.networks import architecture, build  # noqa: E402
from apisr.weights import Model, list_models, resolve_model  # noqa: E402
from apisr.weights.checkpoint import read_checkpoint, save_network  # noqa: E402
from apisr.weights.export import export_onnx, write_card  # noqa: E402

HYPER = {"features": 8, "depth": 2, "scale": 2, "unshuffle": 2, "activation": "relu"}


def exported(folder: Path) -> Path:
    """Write a small model with its card, as shipped models have it."""
    torch.manual_seed(0)
    traits, path = architecture("compact").traits(HYPER), folder / "small.onnx"
    card = {"name": "small", "architecture": "compact", "hyper": HYPER, "license": "CC0"}
    export_onnx(build("compact", HYPER).eval(), path, traits=traits, card=card)
    write_card(path, traits=traits, card=card)
    return path


def digest(card: dict[str, Any]) -> str:
    """What a card must state, by its definition: the SHA-256 of the sorted JSON of all other entries."""
    others = {name: value for name, value in card.items() if name != "card_sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_cards_state_their_checksum_and_what_the_file_says(model: Model) -> None:
    card = json.loads(model.path.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["card_sha256"] == digest(card)
    by_path = resolve_model(model.path)
    others = {name: value for name, value in card.items() if name not in ("card_sha256", "sha256", "rim_px")}
    assert {name: by_path.card[name] for name in others} == others
    assert by_path.traits.halo_px == model.traits.halo_px
    assert by_path.cleans_colours == model.cleans_colours


def outcome(name: str) -> tuple[str, Model | None]:
    """The code of a refusal, or the model."""
    try:
        return "", resolve_model(name)
    except ModelError as error:
        return error.code, None


def test_no_flipped_bit_of_a_card_changes_anything_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for suffix in (".onnx", ".json"):
        shutil.copy(weights.model.SHIPPED / f"apisr-x2-fast{suffix}", shipped)
    monkeypatch.setattr(weights.model, "SHIPPED", shipped)
    expected, path = resolve_model("apisr-x2-fast"), shipped / "apisr-x2-fast.json"
    whole, caught = path.read_bytes(), 0
    draw = random.Random(5)
    for _ in range(400):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        code, found = outcome("apisr-x2-fast")
        assert code == "shipped-model-damaged" or found == expected
        caught += bool(code)
    assert caught > 300


@pytest.mark.parametrize(
    ("entry", "value"),
    [("rim_px", 4), ("halo_px", 2), ("scale", 4), ("cleans_colours", True), ("hyper", {}), ("default", True)],
)
def test_a_card_that_says_something_else_than_its_file_is_raises_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, value: object
) -> None:
    path = exported(tmp_path)
    monkeypatch.setattr(weights.model, "SHIPPED", tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card.get(entry) != value
    changed = {**card, entry: value}
    path.with_suffix(".json").write_text(json.dumps({**changed, "card_sha256": digest(changed)}))
    with raises_code("shipped-model-damaged"):
        resolve_model("small")


def test_no_flipped_bit_of_a_weights_file_changes_anything_in_silence(tmp_path: Path) -> None:
    """The header holds the network's hyper-parameters and its card: dilations leave no trace in the values."""
    path = tmp_path / "a.safetensors"
    hyper = {**HYPER, "dilations": [1, 2, 1, 1]}
    card = {"name": "a", "cleans_colours": True, "license": "CC0"}
    save_network(build("compact", hyper), path, "compact", hyper, card=card)
    whole = path.read_bytes()
    expected = read_checkpoint(path)
    header = 8 + int.from_bytes(whole[:8], "little")
    draw, same = random.Random(6), 0
    for _ in range(300):
        content = bytearray(whole)
        content[draw.randrange(8, header)] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = read_checkpoint(path)
        except ModelError:
            continue
        same += 1
        assert (found.hyper, found.card) == (expected.hyper, expected.card)
        assert all(torch.equal(found.state[name], value) for name, value in expected.state.items())
    assert same < 60
