"""A short round of damaged model files: each loads or is refused in one line, in a process with a memory limit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.mutate import mutate

MODELS = Path(__file__).resolve().parent.parent / "data" / "models"
#: Reads every file named on its input; a model that is read is run once.
CODE = """
import json, resource, sys, warnings
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
warnings.simplefilter("ignore")
import numpy as np
from apisr.core.errors import ApisrError
from apisr.engines import open_engine
from apisr.weights import resolve_model
for line in sys.stdin:
    path = json.loads(line)
    try:
        model = resolve_model(path)
        side = max(32, model.traits.multiple_px)
        if side <= 256 and model.traits.fixed_size is None:
            engine = "onnx" if model.format == "onnx" else "torch"
            open_engine(model, engine=engine, device="cpu", threads=1).run(np.zeros((1, 3, side, side), np.float32))
        kind, detail = "read", ""
    except ApisrError as error:
        kind, detail = ("refused", error.code) if "\\n" not in str(error) else ("other error", str(error))
    except BaseException as error:
        kind, detail = "other error", f"{type(error).__name__}: {error}"
    print(json.dumps([path, kind, detail]), flush=True)
"""


def seeds(folder: Path) -> list[Path]:
    torch = pytest.importorskip("torch")
    from apisr.networks import build
    from apisr.weights.checkpoint import save_network

    hyper = {"features": 4, "depth": 1, "scale": 2}
    module = build("compact", hyper)
    save_network(module, folder / "seed.safetensors", "compact", hyper, card={"name": "seed"})
    torch.save({"params": module.state_dict()}, folder / "seed.pth")
    # Without its checksum, which would end every round at once: what lies behind it is tried.
    content = (MODELS / "tiny-x2.onnx").read_bytes()
    (folder / "seed.onnx").write_bytes(content.replace(b"apisr.sha256", b"other.sha256"))
    return [folder / "seed.onnx", folder / "seed.safetensors", folder / "seed.pth"]


def outcomes(paths: list[Path]) -> list[tuple[str, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input="".join(json.dumps(str(path)) + "\n" for path in paths),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    found = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(paths), f"the process died at {paths[len(found)]}: {done.stderr[-400:]}"
    return found


def test_damaged_models_are_read_or_refused(tmp_path: Path) -> None:
    draw = random.Random(4)
    originals = seeds(tmp_path)
    paths = list(originals)
    for number in range(90):
        seed = originals[number % len(originals)]
        path = tmp_path / f"{number}{seed.suffix}"
        path.write_bytes(mutate(seed.read_bytes(), draw))
        paths.append(path)
    found = outcomes(paths)
    assert [kind for _, kind, _ in found[: len(originals)]] == ["read"] * len(originals)
    assert [(path, detail) for path, kind, detail in found if kind == "other error"] == []
    assert sum(kind == "refused" for _, kind, _ in found) > 20
