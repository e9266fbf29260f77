"""A training step on one core, part by part.

The step of each preset is measured with random crops of its own size: forward and backward through network and losses,
the optimisers and the running mean. Times are those of the fastest of several steps, in milliseconds. The ratio is the
time of the first row of each group over that of the row: above 1 is faster.

Run: python -m benchmarks train --dry-run
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from apisr.train.build import build, build_fabric
from apisr.train.config import load_config
from apisr.train.data.crops import CropOptions
from apisr.train.data.degradation import Mixture
from apisr.train.data.loader import Batch
from apisr.train.data.shards import ShardCrops, ShardOptions, build_shards
from apisr.train.data.sources import DegradedCrops
from apisr.train.step import TrainingStep
from benchmarks.degrade import scene

NEEDS = ("torch", "lightning")
Row = dict[str, object]


def run(*, quick: bool = False) -> list[Row]:
    """Measure; see the module's text."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        repeats = 3 if quick else 8
        rows: list[Row] = []
        for preset in ("apisr-x2-fast", "apisr-x4-fast"):
            groups = {
                f"{preset}, fp32": ["run.precision=fp32", "run.channels_last=false"],
                f"{preset}, fp32, channels last": ["run.precision=fp32"],
                f"{preset}, bf16": ["run.channels_last=false"],
                f"{preset}, bf16, channels last (the preset)": [],
                f"{preset}, and a teacher of its size": [f"teacher.init_from={preset}"],
                f"{preset}, and a teacher in bf16": [f"teacher.init_from={preset}", "teacher.precision=bf16"],
                f"{preset}, and the teacher's outputs kept": ["teacher.cached=true"],
            }
            rows += _group({name: _step(preset, sets) for name, sets in groups.items()}, repeats)
        with tempfile.TemporaryDirectory() as folder:
            rows += _group(_crops(Path(folder)), max(2, repeats // 2))
        return rows
    finally:
        torch.set_num_threads(threads)


def _step(preset: str, sets: list[str]) -> Callable[[], object]:
    config = load_config(preset, sets=["run.accelerator=cpu", "loss.target=gt", *sets])
    step = TrainingStep(config, build(config, build_fabric(config)))
    random = torch.Generator().manual_seed(0)
    side, count = config.data.patch_px, config.data.batch
    high = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=random)
    low = high[..., :: config.model.scale, :: config.model.scale].contiguous()
    batch: Batch = {"lr": low, "gt": high, "pseudo": high, "bilinear_error": torch.full((count,), 0.01)}
    if config.teacher.cached:
        batch["teacher"] = high

    def batches() -> Iterator[Batch]:
        while True:
            yield batch

    endless = batches()
    return lambda: step(endless)


class _OnePicture:
    """One scene for everything that wants pictures."""

    fixed = True

    def __len__(self) -> int:
        return 1

    def name(self, index: int) -> str:
        return f"scene {index}"

    def load(self, epoch: int, index: int) -> np.ndarray:
        return scene(0)


def _crops(folder: Path) -> dict[str, Callable[[], object]]:
    """A batch of six crops: a picture degraded for two, or cut from shards."""
    pictures, options = _OnePicture(), CropOptions(scale=2, patch_px=192, crops_per_picture=2)
    enhanced = CropOptions(scale=2, patch_px=192, crops_per_picture=2, enhance="paper")
    kept = CropOptions(scale=2, patch_px=192, crops_per_picture=2, enhance="paper", cache=folder / "pseudo")
    mixtures = {"all": Mixture.parse("apisr", scale=2)}
    build_shards(folder / "shards", pictures, mixtures, ShardOptions(scale=2))
    sources = {
        "6 crops, degraded on the fly (apisr)": DegradedCrops(pictures, options, "apisr"),
        "6 crops of shards": ShardCrops.open(folder / "shards", options),
        "6 crops of shards, pseudo-GT made each time": ShardCrops.open(folder / "shards", enhanced),
        "6 crops of shards, pseudo-GT kept": ShardCrops.open(folder / "shards", kept),
    }
    return {
        name: lambda source=source: [source.crops(epoch, 0) for epoch in range(3)] for name, source in sources.items()
    }


def _group(works: dict[str, Callable[[], object]], repeats: int) -> list[Row]:
    """Time works that alternate; the first is what the others are compared with."""
    best = dict.fromkeys(works, float("inf"))
    for number in range(repeats + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if number:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - began)
    first = next(iter(best.values()))
    return [{"what": name, "ms": 1000 * seconds, "ratio": first / seconds} for name, seconds in best.items()]
