"""Runs of the command itself: killed and resumed, and on two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch

from apisr.image import write_picture
from apisr.train.checkpoint import list_checkpoints, load_checkpoint

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
#: After so long nothing comes any more; a loaded machine takes many times what a free one does.
HANGS_S = 1800
COMMON = [
    "run.accelerator=cpu",
    "run.threads=1",
    "log.tensorboard=false",
    "log.every=1",
    "data.degradation=bicubic",
    "data.enhance=none",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(4):
        small = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        write_picture(folder / f"{number}.png", np.ascontiguousarray(small.repeat(8, axis=0).repeat(8, axis=1)))
    return folder


def command(folder: Path, pictures: Path, *sets: str, resume: bool = False) -> list[str]:
    chosen = [*COMMON, f"run.folder={folder}", f'data.folders=["{pictures}"]', *sets]
    options = [part for value in chosen for part in ("--set", value)]
    return [
        "-m",
        "apisr",
        "train",
        "tiny-test",
        "--json",
        "--progress",
        "json",
        *options,
        *(["--resume"] if resume else []),
    ]


def run(arguments: list[str]) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=HANGS_S
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_for_step(stream: IO[str], step: int) -> None:
    """Read events (--progress json) until the run has done so many steps."""
    for line in stream:
        if line.startswith("{") and json.loads(line)["done"] >= step:
            return
    raise AssertionError("the run ended before")


def curve(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["step"], line["loss_total"]) for line in map(json.loads, lines)]


def last_state(folder: Path) -> dict[str, object]:
    return load_checkpoint(list_checkpoints(folder)[-1][1])


@pytest.mark.slow
def test_killed_run_goes_on_bit_for_bit(tmp_path: Path, pictures: Path) -> None:
    sets = ["checkpoint.every=7"]
    killed = subprocess.Popen(
        [sys.executable, *command(tmp_path, pictures, "run.name=parts", *sets, "run.steps=1000000")],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert killed.stderr is not None
    wait_for_step(killed.stderr, 17)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(HANGS_S) == -signal.SIGKILL
    killed.stderr.close()
    step = list_checkpoints(tmp_path / "parts")[-1][0]
    assert step >= 14
    assert step % 7 == 0
    sets.append(f"run.steps={step + 50}")  # the rate is constant: it does not depend on the number of steps
    run(command(tmp_path, pictures, "run.name=whole", *sets))
    result = run(command(tmp_path, pictures, "run.name=parts", *sets, resume=True))
    assert result["complete"] is True
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    first, second = last_state(tmp_path / "whole"), last_state(tmp_path / "parts")
    for part in ("ema", "generator"):
        one, other = first[part], second[part]
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_with_the_double_batch(tmp_path: Path, pictures: Path) -> None:
    sets = ["run.steps=1", "data.shuffle_crops=0", "data.crops_per_picture=2", "model.arguments.depth=1"]
    run(command(tmp_path, pictures, "run.name=one", "data.batch=4", *sets))
    # Without looking up this machine's name, and with time: a loaded machine starts processes one after another.
    patient = f"timeout={HANGS_S},join_timeout={HANGS_S},read_timeout={HANGS_S},keep_alive_max_attempt=1000"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--rdzv-conf", patient]
    launcher += ["--nproc-per-node", "2"]
    run([*launcher, *command(tmp_path, pictures, "run.name=two", "data.batch=2", *sets)])
    one, two = last_state(tmp_path / "one")["optimizer"], last_state(tmp_path / "two")["optimizer"]
    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert len(one["state"]) == 6
    for key, entry in one["state"].items():  # after the first step the running mean is (1 - beta) * gradient
        assert float(entry["exp_avg"].abs().max()) > 0
        torch.testing.assert_close(entry["exp_avg"], two["state"][key]["exp_avg"], rtol=1e-4, atol=1e-8)
    assert curve(tmp_path / "two")[0][1] == pytest.approx(curve(tmp_path / "one")[0][1], rel=1e-6)


@pytest.mark.slow
def test_stop_signal_saves_first(tmp_path: Path, pictures: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *command(tmp_path, pictures, "run.name=stopped", "run.steps=100000")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    wait_for_step(process.stderr, 3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=HANGS_S)  # of 100,000 steps it made a few
    assert process.returncode == 0
    result = json.loads(output)
    assert result["complete"] is False
    assert list_checkpoints(tmp_path / "stopped")[-1][0] == result["step"]
