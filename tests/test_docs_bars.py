"""The table of goals met and missed follows the cards of the models that ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from apisr.weights import list_models


@pytest.fixture(scope="module")
def bars(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("bars")


def test_the_page_shows_what_the_cards_hold(bars: ModuleType) -> None:
    text = bars.PAGE.read_text(encoding="utf-8")
    assert bars.with_table(text) == text, "run: python -m benchmarks.bars"


def test_every_shipped_model_has_goals(bars: ModuleType) -> None:
    faithful = {model.name for model in list_models() if not model.name.endswith("-vivid")}
    assert set(bars.BARS) == faithful


def test_more_is_better_for_psnr_alone(bars: ModuleType) -> None:
    assert bars.Bar("old_x2", "psnr", 29.0).met(29.1)
    assert not bars.Bar("old_x2", "psnr", 29.0).met(28.9)
    assert bars.Bar("old_x2", "lines_lost", 0.35).met(0.34)
    assert not bars.Bar("old_x2", "st_lpips", 0.135).met(0.14)


def test_scores_come_from_the_right_card(bars: ModuleType) -> None:
    """A goal of the twin is measured on the twin."""
    for twin in (False, True):
        bar = bars.Bar("old_x4", "psnr", 25.0, twin=twin)
        card = next(model.card for model in list_models() if model.name == f"apisr-x4{'-vivid' if twin else ''}")
        assert bars.reached("apisr-x4", bar) == card["scores"]["rows"]["old_x4"]["psnr"]


def test_the_benchmark_scores_every_shipped_model(bars: ModuleType) -> None:
    from benchmarks import validation

    for scale in (2, 4):
        found = validation.upscalers(scale)
        assert {model.name for model in list_models() if model.scale == scale} | {"lanczos"} <= found.keys()
    assert {bar.row for of_model in bars.BARS.values() for bar in of_model} <= set(validation.ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("name, row", [("apisr-x4-fast", "old_x4"), ("apisr-x2-fast", "web_x2")])
def test_a_card_scored_again_has_its_scores(bars: ModuleType, shared: Path, name: str, row: str) -> None:
    """The first 8 scenes, PSNR alone."""
    from benchmarks import validation

    lows, truths = validation.pairs(shared / "data" / "val", row, validation.SCENES)
    upscaler = validation.upscalers(int(row[-1]))[name]
    scored = validation.score(validation.metrics(["psnr"]), [upscaler.apply(low) for low in lows], truths)["psnr"]
    shown = bars.reached(name, bars.Bar(row, "psnr", 0.0))
    assert sum(scored) / len(scored) == pytest.approx(shown, abs=0.03)
