"""The paper's tables and the ablations: figures, variants, and a real run of the smallest kind."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from apisr.core.errors import InputError
from apisr.evaluate import EvaluateOptions, evaluate, write_report
from apisr.evaluate.tables import PAPER, measured_table, paper_table
from apisr.image import write_picture


def scene(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), (220, 205, 180), np.uint8)
    for _ in range(10):
        points = rng.integers(0, (width, height), (3, 2), dtype=np.int32)
        cv2.fillPoly(picture, [points], tuple(int(value) for value in rng.integers(0, 255, 3)))
        cv2.polylines(picture, [points], True, (20, 20, 25), 2, cv2.LINE_AA)
    return picture


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for index in range(2):
        high = scene(index)
        write_picture(tmp_path / "high" / f"{index}.png", high)
        write_picture(tmp_path / "low" / f"{index}.png", cv2.resize(high, (64, 48), interpolation=cv2.INTER_AREA))
    return tmp_path


def test_the_last_row_of_every_ablation_is_the_papers_method() -> None:
    best = PAPER[1][-1].values
    assert all(PAPER[table][-1].values == best for table in (2, 3, 4))
    assert [len(PAPER[table]) for table in (1, 2, 3, 4)] == [6, 5, 4, 4]
    text = paper_table(1)
    assert "The paper's figures" in text
    assert text.splitlines()[-1].split() == ["APISR", "1.03", "6.719", "0.514", "0.711"]
    with pytest.raises(InputError) as absent:
        paper_table(5)
    assert absent.value.code == "unknown-table"


def test_measured_rows_say_what_they_were_measured_on(pairs: Path) -> None:
    report = evaluate(
        pairs / "low", reference=pairs / "high", model="lanczos", options=EvaluateOptions(metrics=["psnr", "ssim"])
    ).report
    text = measured_table([("lanczos", report)])
    assert str(pairs / "low") in text
    assert f"{report.summary['psnr'].mean:.2f}" in text
    assert "6.719" not in text
    assert "nothing yet" in measured_table([])


def test_variants_differ_in_what_the_table_is_about(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="ablations train")
    from apisr.evaluate.ablate import Stages, stage_configs, variants

    stages = Stages(sets=("run.steps=9",))
    plain, sharpen, anime, balanced = (stage_configs(variant, tmp_path, stages) for variant in variants("enhancement"))
    assert [config.data.enhance for config in plain] == ["none", "none"]
    assert [config.run.steps for config in balanced] == [9, 9]
    # The first stage is the same run for the three that sharpen; the second stages are all different.
    assert sharpen[0].run.name == anime[0].run.name == balanced[0].run.name != plain[0].run.name
    assert len({configs[1].run.name for configs in (plain, sharpen, anime, balanced)}) == 4
    assert balanced[1].model.init_from == tmp_path / balanced[0].run.name
    assert [term.network for term in sharpen[1].loss.perceptual] == ["vgg19"]
    weights = [list(configs[1].loss.perceptual[0].weights.values()) for configs in (anime, balanced)]
    assert weights == [[0.1, 1, 1, 1, 1], [0.1, 20, 25, 1, 1]]
    recipes = [stage_configs(variant, tmp_path, stages)[0].data.degradation for variant in variants("degradation")]
    assert recipes == ["real-esrgan", "bsrgan", "prediction", "apisr"]


def test_parts_are_left_out_one_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="ablations train")
    from apisr.evaluate.ablate import Stages, stage_configs, variants

    start = tmp_path / "faithful.safetensors"
    found = [
        stage_configs(variant, tmp_path, Stages("apisr-x4-fast", "apisr-x4-fast-vivid", start, ("run.steps=9",)))
        for variant in variants("parts")
    ]
    assert all(len(stages) == 1 and stages[0].model.init_from == start for stages in found)
    whole, seed, codecs, order, lines, anime, balance = (stages[0] for stages in found)
    assert len({stages[0].run.name for stages in found}) == 7
    first = whole.model_dump(mode="json")

    def changed(config: object) -> set[str]:
        other = config.model_dump(mode="json")  # type: ignore[attr-defined]
        sections = [part for part in first if isinstance(first[part], dict)]
        keys = {f"{part}.{key}" for part in sections for key in first[part] if first[part][key] != other[part][key]}
        return keys - {"run.name"}

    assert changed(seed) == {"run.seed"}
    assert changed(codecs) == changed(order) == {"data.sampling_weights"}
    assert changed(lines) == {"data.enhance"}
    assert changed(anime) == changed(balance) == {"loss.perceptual"}
    assert [term.network for term in anime.loss.perceptual] == ["proxy-vgg16"]
    for term, before in zip(balance.loss.perceptual, whole.loss.perceptual, strict=True):
        (weight,) = set(term.weights.values())
        # Where the given weights balance the layers (every term 1/n), the branch stays as large: its terms sum to 1.
        count = len(before.weights)
        assert sum(weight / (count * value) for value in before.weights.values()) == pytest.approx(1)


def test_datasets_that_are_not_given_are_named() -> None:
    pytest.importorskip("torch", reason="ablations train")
    from apisr.evaluate.ablate import variants

    rows = variants("dataset", datasets={"ica": Path("/data/ica")})
    assert [row.missing is None for row in rows] == [False, False, False, True, False]
    assert rows[0].missing == "no folder given (--dataset avc-train=FOLDER)"
    with pytest.raises(InputError) as unknown:
        variants("dataset", datasets={"iga": Path()})
    assert unknown.value.code == "unknown-dataset"


def test_what_training_needs_is_checked_before_anything_is_made(pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="ablations train")
    from apisr.evaluate.ablate import Stages, ablate

    stages = Stages.smoke([f'data.folders=["{pairs / "high"}"]'])
    absent = replace(stages, sets=(*stages.sets, 'loss.perceptual=[{network="vgg19:absent.pth", weights={relu1_1=1}}]'))
    for wanted, metrics, code in ((absent, ["psnr"], "missing-features"), (stages, ["maniqa"], "ambiguous-metric")):
        with pytest.raises(InputError) as refused:
            ablate(
                "parts",
                tmp_path / "runs",
                pictures=pairs / "low",
                reference=pairs / "high",
                options=EvaluateOptions(metrics=metrics),
                stages=wanted,
            )
        assert refused.value.code == code
        assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_an_ablation_runs_and_goes_on(pairs: Path) -> None:
    pytest.importorskip("lightning", reason="ablations train")
    from apisr.evaluate.ablate import Stages, ablate

    said: list[str] = []

    def run() -> object:
        return ablate(
            "dataset",
            pairs / "runs",
            pictures=pairs / "low",
            reference=pairs / "high",
            datasets={"random": pairs / "high"},
            options=EvaluateOptions(metrics=["psnr"]),
            stages=Stages.smoke(["run.steps=4", "run.threads=1", "data.degradation=bicubic"]),
            progress=lambda event: said.append(event.message),
        )

    first = run()
    assert [*first.reports] == ["random"]
    assert len(first.missing) == 4
    assert first.reports["random"].model is not None
    assert any("training" in words for words in said)
    said.clear()
    second = run()
    assert second.reports == first.reports
    assert said[0].startswith("random: done before")


@pytest.mark.slow
def test_parts_train_on_the_same_shards(pairs: Path) -> None:
    pytest.importorskip("lightning", reason="ablations train")
    from apisr.evaluate.ablate import Stages, ablate

    said: list[str] = []
    outcome = ablate(
        "parts",
        pairs / "runs",
        pictures=pairs / "low",
        reference=pairs / "high",
        options=EvaluateOptions(metrics=["psnr"]),
        stages=Stages.smoke(["run.steps=3", "run.threads=1", f'data.folders=["{pairs / "high"}"]']),
        progress=lambda event: said.append(event.message),
    )
    assert re.fullmatch(r"degrading: (\d+) of \1 files", [line for line in said if "degrading: " in line][-1])
    assert len(outcome.reports) == 5
    assert set(outcome.missing) == {"without anime branch", "without balanced layers"}
    shards = pairs / "runs" / "shards"
    lows = {kind: np.load(shards / f"lr2_{kind}_0000.npy") for kind in ("apisr", "prediction", "jpeg")}
    assert len({low.tobytes() for low in lows.values()}) == 3
    table = (pairs / "runs" / "table.txt").read_text(encoding="utf-8")
    assert all(name in table for name in outcome.reports)


def test_reports_of_the_command_line_are_found_again(pairs: Path) -> None:
    evaluation = evaluate(
        pairs / "low", reference=pairs / "high", model="bicubic", options=EvaluateOptions(metrics=["psnr"])
    )
    json_file, _ = write_report(evaluation, pairs / "report")
    assert json.loads(json_file.read_text(encoding="utf-8"))["model"]["name"] == "bicubic"
