"""What OpenVINO keeps on the disk: a file of which a part is lost is made again, never run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from apisr.engines.base import Precision, Request
from apisr.engines.openvino_cache import is_whole, seal
from apisr.engines.registry import engine_kind
from apisr.weights import resolve_model

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


def lose_a_piece(path: Path) -> None:
    """Put zeros in the place of a piece, as a disk does that lost its power."""
    content = bytearray(path.read_bytes())
    begin, length = len(content) // 3, len(content) // 10
    content[begin : begin + length] = bytes(length)
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)  # an engine may have the old one open


@pytest.mark.parametrize(("precision", "pattern"), [("fp32", "*.blob"), ("int8", "int8-*.bin"), ("int8", "*.blob")])
def test_a_kept_network_that_lost_a_piece_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, pattern: str
) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    picture = np.random.default_rng(0).random((1, 3, 48, 64), np.float32)

    def result() -> np.ndarray:
        request = Request(resolve_model("apisr-x2-fast"), "cpu", precision, 1)
        return engine_kind("openvino").open(request).run(picture)

    right = result()
    kept = sorted((tmp_path / "cache").rglob(pattern))
    assert kept
    assert all(map(is_whole, kept))
    for path in kept:
        lose_a_piece(path)
        assert not is_whole(path)
    assert np.array_equal(result(), right)
    assert all(map(is_whole, (tmp_path / "cache").rglob(pattern)))


def test_checksums_are_of_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.blob"
    path.write_bytes(b"network")
    assert not is_whole(path)
    seal(path)
    assert is_whole(path)
    path.write_bytes(b"networc")
    assert not is_whole(path)
