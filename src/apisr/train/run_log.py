"""The log of a run: ``metrics.jsonl``, TensorBoard, Weights & Biases, and the line that people watch.

``metrics.jsonl`` has one object a line, with ``step`` and ``kind`` (``train`` or ``validation``). On resuming, lines of
steps after the checkpoint are removed, so that the file reads as if the run had never stopped.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from apisr.core.errors import MissingExtra
from apisr.core.files import write_atomic
from apisr.core.text import parse_json
from apisr.image import ImageU8
from apisr.train.config import TrainConfig


class RunLog:
    """The open logs of a run (of its first process).

    Args:
        folder: the run's folder.
        config: of the run.
        step: step to continue from; later records are dropped.

    Raises:
        MissingExtra: TensorBoard or Weights & Biases is asked for and not installed.
    """

    def __init__(self, folder: Path, config: TrainConfig, *, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._board = _TensorBoard(folder, step=step) if config.log.tensorboard else None
        self._wandb = _Wandb(folder, config, step=step) if config.log.wandb else None
        path = folder / "metrics.jsonl"
        _drop_after(path, step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Record values of a step everywhere."""
        rounded = {key: float(f"{value:.8g}") for key, value in values.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **rounded}, allow_nan=False) + "\n")
        self._file.flush()
        for target in (self._board, self._wandb):
            if target is not None:
                target.write(step, {f"{kind}/{key}": value for key, value in values.items()})

    def panel(self, step: int, name: str, pixels: ImageU8) -> None:
        """Show a picture (uint8 ``(H, W, 3)``)."""
        for target in (self._board, self._wandb):
            if target is not None:
                target.panel(step, f"panels/{name}", pixels)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        for target in (self._board, self._wandb):
            if target is not None:
                target.close()


class _TensorBoard:
    def __init__(self, folder: Path, *, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("train", "to write TensorBoard events (or set log.tensorboard=false)") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def panel(self, step: int, name: str, pixels: ImageU8) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """One run of theirs, however often ours is resumed, with our own step as the axis: theirs may not go back."""

    def __init__(self, folder: Path, config: TrainConfig, *, step: int) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtra("wandb", "to log to Weights & Biases (or set log.wandb=false)") from error
        kept = folder / "wandb-id.txt"
        if not (step and kept.is_file()):
            write_atomic(kept, uuid.uuid4().hex[:12].encode(), overwrite=True)
        library = cast("Any", wandb)
        self._image = library.Image
        self._run = library.init(
            project=config.log.wandb_project,
            name=config.run.name,
            id=kept.read_text(encoding="utf-8"),
            dir=str(folder),
            config=config.model_dump(mode="json"),
            resume="allow",
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def panel(self, step: int, name: str, pixels: ImageU8) -> None:
        self._run.log({"step": step, name: self._image(pixels)})

    def close(self) -> None:
        self._run.finish()


def describe_record(values: Mapping[str, float], *, left_s: float) -> str:
    """Return a record as people read it: speed, time left, losses, rate, memory."""
    parts = [f"{values['it_per_s']:.2f} it/s", f"{values['samples_per_s']:.1f} samples/s"]
    parts += [f"left {clock(left_s)}", f"lr {values['lr']:.2e}"]
    parts += [f"{key.removeprefix('loss_')} {value:.4g}" for key, value in values.items() if key.startswith("loss_")]
    parts += [f"wait {100 * values['waiting_share']:.0f}%", f"{values['memory_mib']:.0f} MiB"]
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, and days where it takes them.

    >>> clock(3725), clock(90000)
    ('01:02:05', '1d01:00:00')
    """
    minutes = int(seconds // 60)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{days}d" if days else "") + f"{hours:02d}:{minutes:02d}:{int(seconds % 60):02d}"


def _drop_after(path: Path, step: int) -> None:
    """Drop records after `step`, and a last line that a killed process left unfinished."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = cast("dict[str, float]", parse_json(line))
            if record["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_atomic(path, "".join(line + "\n" for line in kept).encode(), overwrite=True)
