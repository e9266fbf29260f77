"""Configuration: presets, TOML there and back, --set, and errors that name the right key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisr.core.errors import InputError
from apisr.train.config import (
    PRESETS,
    ScheduleConfig,
    TrainConfig,
    key_names,
    learning_rate_factor,
    load_config,
    to_toml,
)


@pytest.mark.parametrize("name", PRESETS.names())
def test_preset_survives_toml(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_config(path) == config


def test_paper_values() -> None:
    """Section 4.1 and equation 4, number by number."""
    first, second = load_config("paper-stage1"), load_config("paper-stage2")
    for config, rate in ((first, 2e-4), (second, 1e-4)):
        assert config.model.network == "grl"
        assert config.model.scale == 4
        assert config.run.steps == 300_000
        assert config.optimizer.kind == "adam"
        assert config.optimizer.betas == (0.9, 0.99)
        assert config.optimizer.lr == rate
        assert (config.schedule.kind, config.schedule.every, config.schedule.factor) == ("step", 100_000, 0.5)
        assert (config.data.patch_px, config.data.batch) == (256, 32)
        assert config.loss.pixel_weight == 1.0
        assert config.loss.target == "pseudo"
    assert first.loss.perceptual_weight == first.loss.adversarial_weight == 0
    assert second.loss.perceptual_weight == 0.5
    assert second.loss.adversarial_weight == 0.2
    assert second.discriminator.loss == "lsgan"
    assert second.discriminator.real == "gt"
    anime, photo = second.loss.perceptual
    assert list(anime.weights.values()) == [0.1, 20.0, 25.0, 1.0, 1.0]
    assert list(photo.weights.values()) == [0.1, 1.0, 1.0, 1.0, 1.0]
    assert anime.weight == photo.weight == 1.0


@pytest.mark.parametrize(
    ("sets", "code", "expected"),
    [
        (["run.step=5"], "unknown-key", "'run.steps'"),
        (["optimiser.lr=1"], "unknown-key", "'optimizer"),
        (["data.batch"], "bad-assignment", "KEY=VALUE"),
        (["data.batch=0"], "bad-setting", "data.batch"),
        (["data.workers=-1"], "bad-setting", "data.workers"),
        (["run.precision=fp8"], "bad-setting", "run.precision"),
        (["data.patch_px=33"], "bad-setting", "model.scale"),
        (["loss.perceptual_weight=1"], "bad-setting", "loss.perceptual"),
        (["validation.best=lpips"], "bad-setting", "metrics"),
        (["data.batch.size=3"], "bad-assignment", "'data.batch'"),
    ],
)
def test_bad_values_name_the_key(sets: list[str], code: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config("tiny-test", sets=sets)
    assert caught.value.code == code
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def code_of(source: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        load_config(source)
    return caught.value.code


def test_bad_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[[validation.pairs]]\nname = "a"\nlow = "x"\nhi = "y"\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert caught.value.code == "bad-setting"
    path.write_text("[run\n", encoding="utf-8")
    assert code_of(path) == "bad-toml"
    path.write_text('base = "paper-stage-9"\n', encoding="utf-8")
    assert code_of(path) == "unknown-preset"
    with pytest.raises(InputError) as refused:
        load_config("paper-stage-1")
    assert refused.value.code == "unknown-preset"
    assert code_of(tmp_path / "absent.toml") == "cannot-read"


def test_base_and_set(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "paper-stage2"\n[data]\nbatch = 4\n', encoding="utf-8")
    config = load_config(path, sets=["run.name=mine", "model.arguments.depth=3", "optimizer.betas=[0.5, 0.9]"])
    assert config.data.batch == 4
    assert config.data.patch_px == 256
    assert len(config.loss.perceptual) == 2
    assert config.run.name == "mine"
    assert config.model.arguments == {"drop_path": 0.1, "depth": 3}
    assert config.optimizer.betas == (0.5, 0.9)


def test_another_network_does_not_inherit_arguments(tmp_path: Path) -> None:
    assert load_config("paper-stage2").model.arguments == {"drop_path": 0.1}
    assert "drop_path" not in load_config("rrdb").model.arguments
    path = tmp_path / "mine.toml"
    path.write_text('base = "apisr-x2-fast"\n[model.arguments]\ndepth = 3\n', encoding="utf-8")
    assert load_config(path).model.arguments["depth"] == 3
    assert load_config(path).model.arguments["features"] == 32


def test_every_key_can_be_set_to_its_own_value() -> None:
    dumped = load_config("paper-stage2").model_dump(mode="json")
    assert len(key_names()) > 60
    for name in key_names():
        if name.startswith(("loss.perceptual.", "validation.pairs.")):
            continue
        value: object = dumped
        for part in name.split("."):
            assert isinstance(value, dict)
            value = value[part]
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert load_config("paper-stage2", sets=[f"{name}={value}"]) == load_config("paper-stage2")


@given(
    kind=st.sampled_from(["step", "cosine", "constant"]),
    warmup=st.integers(0, 20),
    steps=st.integers(21, 500),
    every=st.integers(1, 200),
)
def test_rate_is_a_falling_function_of_the_step(kind: str, warmup: int, steps: int, every: int) -> None:
    schedule = ScheduleConfig.model_validate({"kind": kind, "warmup": warmup, "every": every})
    factors = [learning_rate_factor(schedule, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)


def test_step_schedule_is_the_papers() -> None:
    schedule = load_config("paper-stage1").schedule
    chosen = [learning_rate_factor(schedule, step, 300_000) for step in (0, 99_999, 100_000, 200_000, 299_999)]
    assert chosen == [1, 1, 0.5, 0.25, 0.25]


def test_presets_say_what_they_are_for() -> None:
    assert all(load_config(name).description for name in PRESETS.names())


def test_defaults_are_valid() -> None:
    assert TrainConfig().run_folder == Path("runs/run")
