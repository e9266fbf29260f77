"""IC9600's network as the score of a curation: found by its name, fetched from a server, or the classical one without.

The checkpoint is made here: the released names and shapes, with parameters derived from the names as
`tests/data/networks/README.md` describes.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from curate_clips import short_film

from apisr.core.errors import ModelError
from apisr.core.files import sha256_file
from apisr.curate.complexity import open_scorer
from apisr.curate.manifest import read_manifest
from apisr.image import read_rgb

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The released file's layout: a plain state dict of 20 million parameters."""
    described = json.loads((data / "networks" / "losses.json").read_text())
    state = {}
    for name, shape in described["icnet.keys"].items():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
        if name.endswith("running_var"):
            values = 1 + 0.1 * np.abs(values)
        elif name.endswith("running_mean"):
            values = 0.1 * values
        elif len(shape) >= 2:
            values = values / np.sqrt(np.prod(shape[1:]))
        else:
            values = 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    path = tmp_path_factory.mktemp("server") / "ck.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def address(checkpoint: Path) -> Iterator[str]:
    """Where a server on this machine offers the checkpoint."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            del format, args

    handler = functools.partial(Handler, directory=str(checkpoint.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_golden_score(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path))
    assert open_scorer("auto").name == "classical"
    with pytest.raises(ModelError) as refused:
        open_scorer("icnet")
    assert refused.value.code == "model-not-fetched"
    (tmp_path / "models").mkdir()
    shutil.copyfile(checkpoint, tmp_path / "models" / "ck.pth")
    scorer = open_scorer("auto")
    assert scorer.name == "icnet"
    with np.load(data / "networks" / "losses.npz") as golden:
        expected = float(golden["icnet.score"])
    x = np.random.default_rng(3).random((1, 3, 512, 512), dtype=np.float32)
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        score = scorer.network(torch.from_numpy((x - mean) / std))[0]  # pyright: ignore
    assert float(score) == pytest.approx(expected, abs=1e-5)
    picture = (x[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    assert scorer(picture) == pytest.approx(expected, abs=2e-3)
    (tmp_path / "models" / "ck.pth").write_bytes(b"")
    with pytest.raises(ModelError) as refused:
        open_scorer("auto")
    assert refused.value.code == "model-damaged"


@pytest.mark.slow
def test_fetched_and_used(apisr: Run, checkpoint: Path, address: str, tmp_path: Path) -> None:
    """`apisr models fetch ic9600` from a server, then `apisr curate`, which takes up the network by itself."""
    environment = {**os.environ, "APISR_CACHE": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    refused = apisr("models", "fetch", "ic9600", env=environment)
    assert refused.returncode == 2
    assert refused.code == "no-address"
    assert "https://github.com/tinglyfeng/IC9600" in refused.stderr
    absent = apisr("models", "fetch", "ic9600", "--url", f"{address}/other.pth", env=environment)
    assert absent.returncode == 1
    assert absent.code == "download-failed"
    given = ["--url", f"{address}/ck.pth", "--sha256", sha256_file(checkpoint)]
    fetched = apisr("models", "fetch", "ic9600", *given, env=environment)
    assert fetched.returncode == 0, fetched.stderr
    assert Path(fetched.stdout.strip()) == tmp_path / "cache" / "models" / "ck.pth"
    film = short_film(tmp_path / "film.mkv", 1, scenes=2)
    command = ["curate", film, "-o", tmp_path / "set", "--count", 2, "--distance", 0.1, "--height", "keep", "-q"]
    made = apisr(*command, env=environment)
    assert made.returncode == 0, made.stderr
    rows = read_manifest(tmp_path / "set")[0]
    assert [row.score_name for row in rows] == ["icnet", "icnet"]
    for row in rows:  # the score is that of the network on the written picture, but for the decoder's colour conversion
        assert row.score == pytest.approx(_score(checkpoint, read_rgb(tmp_path / "set" / row.file)), abs=5e-3)


def _score(checkpoint: Path, picture: np.ndarray) -> float:
    from apisr.curate.complexity import NetworkScorer
    from apisr.weights.checkpoint import load_network

    return NetworkScorer(load_network(checkpoint))(picture)
