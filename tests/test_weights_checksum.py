"""The checksum in ONNX files of ours: a flipped bit or a lost piece is refused, whoever opens the file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from error_codes import raises_code

from apisr.core.errors import ModelError
from apisr.engines import open_engine
from apisr.weights import list_models, resolve_model
from apisr.weights.formats.onnx import SHA256, check_sha256, read_metadata, with_sha256

MODELS = Path(__file__).parent / "data" / "models"
KEY = SHA256.encode()


def small(folder: Path) -> Path:
    return Path(shutil.copy(MODELS / "tiny-x4.onnx", folder / "small.onnx"))


def stated_and_computed(path: Path) -> tuple[str, str]:
    """What a file states, read by the package of the format, and the same computed from its bytes."""
    onnx = pytest.importorskip("onnx")
    stated = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}[SHA256]
    content = path.read_bytes()
    assert content.count(stated.encode()) == 1
    return stated, hashlib.sha256(content.replace(stated.encode(), b"")).hexdigest()


@pytest.mark.parametrize("path", [model.path for model in list_models()], ids=lambda path: path.stem)
def test_every_shipped_file_states_the_checksum_of_its_bytes(path: Path, tmp_path: Path) -> None:
    stated, computed = stated_and_computed(path)
    assert stated == computed
    copy = Path(shutil.copy(path, tmp_path / "copy.onnx"))
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 4
    copy.write_bytes(content)
    with raises_code("model-damaged"):
        resolve_model(copy)


def test_a_bit_flipped_anywhere_is_found(tmp_path: Path) -> None:
    path = small(tmp_path)
    whole = path.read_bytes()
    entry = whole.index(KEY) - 6  # the entry's own heads and key: without them the rest is as it was
    harmless = range(entry, entry + 6 + len(KEY) + 2)
    codes: dict[int, str] = {}
    for at in [*range(0, len(whole), 41), *range(entry - 40, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            check_sha256(path)
            codes[at] = "none"
        except ModelError as error:
            codes[at] = error.code
    assert {at for at, code in codes.items() if code == "none"} <= set(harmless)
    assert set(codes.values()) == {"none", "model-damaged", "not-an-onnx-file"}


def test_a_lost_piece_is_found(tmp_path: Path) -> None:
    path = small(tmp_path)
    whole = path.read_bytes()
    first = whole.index(KEY)
    for start in range(0, len(whole) - 300, 997):
        if first - 206 < start < first + len(KEY):
            continue  # the entry itself is lost
        path.write_bytes(whole[:start] + whole[start + 200 :])
        with pytest.raises(ModelError):
            check_sha256(path)
    for end in range(first + 100, len(whole), 53):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError):
            check_sha256(path)


def test_whoever_opens_it_sees_the_damage(tmp_path: Path) -> None:
    path = small(tmp_path)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 16, 3), np.uint8))
    calls = [["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--model", str(path)]]
    calls += [["export", str(path), "-o", str(tmp_path / "b.onnx")], ["models", "show", str(path)]]
    for call in calls:
        done = subprocess.run([sys.executable, "-m", "apisr", *call], capture_output=True, text=True, check=False)
        lines = done.stderr.strip().splitlines()
        assert (done.returncode, len(lines)) == (2, 1), (call, done.stderr)
        assert str(path) in lines[0]
    assert not [left for left in tmp_path.iterdir() if left.name.startswith("b")]
    pytest.importorskip("torch")
    from apisr.weights.checkpoint import load_state

    with raises_code("model-damaged"):
        load_state(path)  # what training starts from


def test_files_without_a_checksum_are_taken_as_they_are(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = small(tmp_path)
    model = onnx.load(str(path))
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != SHA256}
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, str(path))
    assert SHA256 not in read_metadata(path)
    assert resolve_model(path).traits == resolve_model(MODELS / "tiny-x4.onnx").traits


def test_only_the_entry_is_added_and_the_graph_keeps_its_bytes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = small(tmp_path)
    model = onnx.load(str(path))
    del model.metadata_props[:]
    foreign = model.SerializeToString()
    for content in (foreign, path.read_bytes().replace(KEY, b"other.sha256")):
        path.write_bytes(with_sha256(content))
        stated, computed = stated_and_computed(path)
        assert stated == computed
        added = path.read_bytes()
        at = next(place for place in range(len(content) + 1) if content[place : place + 1] != added[place : place + 1])
        assert len(added) - len(content) == 82
        assert any(added[:cut] + added[cut + 82 :] == content for cut in range(max(0, at - 4), at + 1))
        assert with_sha256(added) == added
    after = onnx.load(str(path))
    assert after.graph.SerializeToString(deterministic=True) == model.graph.SerializeToString(deterministic=True)


def test_exports_and_mixtures_have_their_own(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from apisr.weights.convert import convert
    from apisr.weights.interpolate import between

    for precision in ("fp32", "fp16", "int8"):
        convert(MODELS / "tiny-x4.onnx", tmp_path / f"{precision}.onnx", precision=precision)
        stated, computed = stated_and_computed(tmp_path / f"{precision}.onnx")
        assert stated == computed, precision
    mixture = between(resolve_model("apisr-x2-fast"), 0.5, cache=tmp_path)
    stated, computed = stated_and_computed(mixture.path)
    assert stated == computed
    assert resolve_model(mixture.path).scale == 2


def test_a_damaged_file_in_the_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from apisr.weights.derived import as_onnx

    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    model = resolve_model(small(tmp_path))
    path = as_onnx(model, "fp16").path
    batch = np.random.default_rng(0).random((1, 3, 24, 24), dtype=np.float32)
    expected = open_engine(resolve_model(path), engine="onnx", device="cpu", threads=1).run(batch)
    whole = path.read_bytes()
    for damage in (whole[:-40], whole[:3000] + b"\x7f" * 64 + whole[3064:], b""):
        path.write_bytes(damage)
        again = as_onnx(model, "fp16").path
        assert again == path
        found = open_engine(resolve_model(path), engine="onnx", device="cpu", threads=1).run(batch)
        np.testing.assert_array_equal(found, expected)
