"""Weights of others that ship: their licence is in the package and named in NOTICE."""

from __future__ import annotations

from pathlib import Path

import pytest

from apisr.weights import Model, list_models
from apisr.weights.model import SHIPPED

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_the_origin_of_a_model_has_its_licence(model: Model) -> None:
    origin = model.card.get("origin")
    if origin is None:
        assert model.card["license"] == "Apache-2.0"
        assert model.card["data"], "a model trained from nothing names the art it was trained on"
        return
    assert model.card["license"] == origin["licence"]
    notice = (SHIPPED / origin["notice"]).read_text(encoding="utf-8")
    assert "Redistribution and use in source and binary forms" in notice
    stated = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert model.name.removesuffix("-vivid") in stated
    assert origin["project"] in stated


def test_all_models_fit_into_a_wheel_of_40_megabytes() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 38e6
