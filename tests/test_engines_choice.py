"""The automatic choice: measured once, kept, the same afterwards, and never an inaccurate precision."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apisr.engines import choice, engine_kind, open_engine
from apisr.engines.base import EngineKind, Request
from apisr.engines.choice import Measurement, ranking
from apisr.engines.registry import candidate_requests
from apisr.engines.split import run_in_parts
from apisr.weights import resolve_model
from apisr.weights.sealing import sealed


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))


def entry(engine: str, speed: float, db: float = 200.0, problem: str = "") -> Measurement:
    return Measurement(engine, "cpu", "fp32", speed, db, problem)


def test_the_fastest_wins_unless_it_is_only_a_little_faster() -> None:
    assert ranking([entry("a", 1.0), entry("b", 2.0)], required_db=50)[0].engine == "b"
    assert ranking([entry("a", 1.0), entry("b", 1.05)], required_db=50)[0].engine == "a"


def test_what_is_not_accurate_or_does_not_run_is_left_out() -> None:
    table = [entry("a", 9.0, 49.9), entry("b", 8.0, 0.0, "no driver"), entry("c", 1.0)]
    assert [found.engine for found in ranking(table, required_db=50)] == ["c"]
    assert [found.engine for found in ranking(table, required_db=40)] == ["a", "c"]
    assert ranking(table[1:2], required_db=40) == []


def test_the_measurement_is_kept_and_decides(tmp_path: Path, tiny_x2: Path) -> None:
    model = resolve_model(tiny_x2)
    candidates = list(candidate_requests(model, engine="auto", device="cpu", precision="auto", threads=1))
    table = choice.measured(candidates)
    assert len(table) == len(candidates)
    assert all(found.psnr_db > 90 for found in table if found.precision == "fp32")
    (path,) = (tmp_path / "cache").rglob("*.json")
    content = json.loads(path.read_text())
    if len(candidates) == 1:
        pytest.skip("one engine is installed: nothing to choose from")
    for number, kept in enumerate(content["measurements"]):
        kept |= {"mpx_per_s": 1000.0 if number == 1 else 1.0, "psnr_db": 200.0}
    path.write_text(json.dumps(sealed(content, entry=choice.SHA256)))
    chosen = open_engine(model, device="cpu", threads=1)
    kind, request = candidates[1]
    assert chosen.name == f"{kind.name} ({request.device}, {request.precision})"


def test_a_damaged_table_is_measured_again(tmp_path: Path, tiny_x2: Path) -> None:
    model = resolve_model(tiny_x2)
    candidates = list(candidate_requests(model, engine="auto", device="cpu", precision="auto", threads=1))
    choice.measured(candidates)
    (path,) = (tmp_path / "cache").rglob("*.json")
    path.write_text("{")
    assert len(choice.measured(candidates)) == len(candidates)
    assert json.loads(path.read_text())["measurements"]
    whole = path.read_text()
    for damaged in (
        whole.replace('"psnr_db": ', '"psnr_db": 9', 1),
        whole.replace('"precision": "fp32"', '"precision": "fp30"', 1),
        whole.replace('"mpx_per_s"', '"mpx_per_z"', 1),
        whole[:-40],
        "[]",
        "null",
        json.dumps({"measurements": [{}]}),
    ):
        assert damaged != whole
        path.write_text(damaged)
        again = choice.measured(candidates)
        assert [entry.key for entry in again] == [(kind.name, one.device, one.precision) for kind, one in candidates]
        assert all(entry.psnr_db > 90 for entry in again if entry.precision == "fp32")


def test_two_processes_measure_once(tmp_path: Path, tiny_x2: Path) -> None:
    code = (
        "import sys\nfrom apisr.engines import choice\nfrom apisr.engines.registry import candidate_requests\n"
        "from apisr.weights import resolve_model\nmodel = resolve_model(sys.argv[1])\n"
        "found = candidate_requests(model, engine='onnx', device='cpu', precision='auto', threads=1)\n"
        "print(choice.measured(list(found)))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, tiny_x2], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(told) == 1


class Broken:
    """A fast engine whose library gives no picture, or one that is not of numbers."""

    name = "broken (cpu, bf16)"
    shape_exact = False

    def __init__(self, request: Request, output: np.ndarray) -> None:
        self.traits = request.model.traits
        self._output = output

    def run(self, batch: np.ndarray) -> np.ndarray:
        return run_in_parts(lambda part: np.resize(self._output, self._shape(part)), batch, self.traits)

    def _shape(self, part: np.ndarray) -> tuple[int, ...]:
        height, width = part.shape[2:]
        scale = self.traits.scale if self._output.size else 0
        return part.shape[0], 3, scale * height, scale * width


@pytest.mark.parametrize("output", [np.empty(0, np.float32), np.array([np.nan], np.float32)], ids=["empty", "nan"])
def test_an_engine_without_a_picture_is_never_chosen(output: np.ndarray, tiny_x2: Path) -> None:
    model = resolve_model(tiny_x2)
    sound = engine_kind("onnx")

    def opened(request: Request) -> Broken:
        return Broken(request, output)

    broken: EngineKind = replace(sound, name="broken", open=opened)
    for precision in ("bf16", "fp32"):
        candidates = [(broken, Request(model, "cpu", precision, 1)), (sound, Request(model, "cpu", "fp32", 1))]
        table = list(choice.measure(candidates, seconds=0.01))
        assert [found.engine for found in choice.ranking(table, required_db=40)] == ["onnx"]
        assert choice.open_fastest(candidates, named_precision=False).name == "onnx (cpu, fp32)"


HELD = """
import json, sys
import numpy as np
from apisr.engines import engine_kind, open_engine
from apisr.engines.base import probe_picture, psnr_db
picture = probe_picture(64, 64)
exact = open_engine("apisr-x2-fast", engine="onnx", device="cpu").run(picture)
found = {}
there = "cpu" in engine_kind("openvino").devices()
for precision in ("auto", "bf16", "int8") if there else ("auto",):
    engine = open_engine("apisr-x2-fast", engine="openvino" if there else "auto", precision=precision, threads=1)
    found[precision] = [engine.name, psnr_db(engine.run(picture), exact)]
json.dump(found, sys.stdout)
"""


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize("held_to", ["SSE41", "AVX2"])
def test_a_library_held_to_fewer_instructions_computes_in_what_it_has(held_to: str, tmp_path: Path) -> None:
    """OpenVINO asks the processor alone, and gave empty pictures in bf16 where its kernels were held back."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": held_to, "APISR_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", HELD], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(db > 50 for _, db in found.values()), found
    assert "bf16" not in found["auto"][0]
    if held_to == "AVX2":
        assert found["bf16"][1] > 90  # computed in fp32
    else:
        assert found["auto"][0].startswith("onnx")


def test_engines_that_need_more_memory_see_the_same_picture(tmp_path: Path) -> None:
    """CUNet needs so much in ncnn that its own choice would be a smaller picture; outputs of one size are compared."""
    pytest.importorskip("ncnn")
    pytest.importorskip("torch")
    from apisr.networks import build
    from apisr.weights.checkpoint import save_network

    path = tmp_path / "cunet.safetensors"
    save_network(build("cunet", {}), path, "cunet", {}, card={})
    model = resolve_model(path)
    candidates = [(engine_kind(name), Request(model, "cpu", "fp32")) for name in ("torch", "ncnn")]
    for order in (candidates, candidates[::-1]):
        found = list(choice.measure(order, seconds=0.01))
        assert [one.problem for one in found] == ["", ""]
        assert min(one.psnr_db for one in found) > 60
