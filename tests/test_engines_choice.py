"""The automatic choice: measured once, kept, the same afterwards, and never an inaccurate precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apisr.engines import choice, open_engine
from apisr.engines.choice import Measurement, ranking
from apisr.engines.registry import candidate_requests
from apisr.weights import resolve_model


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
    path.write_text(json.dumps(content))
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
