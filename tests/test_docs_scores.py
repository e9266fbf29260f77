"""The README's table of scores: what is stored, what is shown, and a part of it scored again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Processors differ in the last bits of a network's output.
TOLERANCE = {"psnr": 0.02, "ssim": 0.0005, "line_lost": 0.005}

pytestmark = pytest.mark.skipif(not (ROOT / "validation").is_dir(), reason="the validation scenes are not here")


@pytest.fixture(scope="module")
def scores(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("scores")


def test_the_readme_shows_what_is_stored(scores: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert scores.with_table(text, scores.read()["rows"]) == text, "run: python -m benchmarks.scores"


def test_every_shipped_model_was_scored_with_the_weights_that_ship(scores: ModuleType) -> None:
    rows = scores.read()["rows"]
    for row in scores.ROWS:
        for name, upscaler in scores.as_used(scores.upscalers(int(row[-1]))).items():
            assert name in rows[row], f"{name} on {row}; run: python -m benchmarks.scores"
            assert rows[row][name]["identity"] == upscaler.identity, f"{name}; run: python -m benchmarks.scores"


@pytest.mark.parametrize(
    "row, name",
    [
        ("old_x2", "lanczos"),
        ("old_x2", "apisr-x2-fast"),
        ("clean_x4", "apisr-x4-fast"),
        ("web_x2", "apisr-x2"),
    ],
)
def test_a_scene_scored_again_has_the_stored_scores(scores: ModuleType, row: str, name: str) -> None:
    used = scores.as_used(scores.upscalers(int(row[-1])))
    name = name if name in used else f"{name}, auto"
    lows, truths = scores.pairs(scores.SMALL, row, 1)
    again = scores.score(scores.metrics(scores.SCORED), [used[name].apply(lows[0])], truths)
    stored = scores.read()["rows"][row][name]["scores"]
    for metric, (value,) in again.items():
        assert value == pytest.approx(stored[metric][0], abs=TOLERANCE[metric]), metric


def test_the_scenes_are_whole_small_and_licensed(scores: ModuleType) -> None:
    folder = scores.SMALL
    names = [path.name for path in scores.scenes(folder, "gt")]
    assert [Path(name).stem for name in names] == scores.read()["scenes"]
    for row in scores.ROWS:
        assert [path.name for path in scores.scenes(folder, row)] == names
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8_000_000
    about = (folder / "README.md").read_text(encoding="utf-8")
    licences = (folder / "LICENSES.txt").read_text(encoding="utf-8")
    for name in names:
        assert f"| `{Path(name).stem}` |" in about
    for source in ("Nova", "Learn to Code RPG", "Suika2", "Ren'Py"):
        assert source in about
        assert f"===== {source}" in licences
