"""What a run tells while it works: ``metrics.jsonl``, TensorBoard, Weights & Biases, and one progress line.

``metrics.jsonl`` has one object a line, with ``step`` and ``kind`` (``train`` or ``validation``). On resuming, lines of
steps after the checkpoint are removed, so that the file reads as if the run had never stopped.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from numpy.typing import NDArray

from apisr.core.errors import MissingExtra
from apisr.core.files import atomic_path


class Records:
    """The open logs of a run (of its first process).

    Args:
        folder: the run's folder.
        step: step to continue from; later records are dropped.
        tensorboard: also write TensorBoard events.
        wandb_project: also send to Weights & Biases; None does not.
        name: name of the run.
        config: the resolved configuration, for Weights & Biases.

    Raises:
        MissingExtra: TensorBoard or Weights & Biases is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: int = 0,
        tensorboard: bool = True,
        wandb_project: str | None = None,
        name: str = "run",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._board: Any = None
        self._wandb: Any = None
        self._image: Any = None
        if wandb_project is not None:
            try:
                import wandb  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise MissingExtra(
                    "wandb", "to send the records to Weights & Biases (or set log.wandb=false)"
                ) from error
            # the same identity after a resume, and our own step as the axis: theirs may not go back to a checkpoint
            kept = folder / "wandb-id.txt"
            if not (step and kept.is_file()):
                with atomic_path(kept, overwrite=True) as part:
                    part.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
            self._wandb = wandb.init(  # pyright: ignore[reportAttributeAccessIssue]
                project=wandb_project,
                name=name,
                id=kept.read_text(encoding="utf-8"),
                dir=str(folder),
                config=dict(config or {}),
                resume="allow",
            )
            self._image = wandb.Image  # pyright: ignore[reportAttributeAccessIssue]
            self._wandb.define_metric("step")
            self._wandb.define_metric("*", step_metric="step")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingExtra("train", "to write TensorBoard events (or set log.tensorboard=false)") from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        _cut_after(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Record values of a step everywhere."""
        rounded = {key: float(f"{value:.8g}") for key, value in values.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **rounded}, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"{kind}/{key}", value, step)
        if self._wandb is not None:
            self._wandb.log({"step": step, **{f"{kind}/{key}": value for key, value in values.items()}})

    def panel(self, step: int, name: str, pixels: NDArray[Any]) -> None:
        """Show a picture (uint8 ``(H, W, 3)``)."""
        if self._board is not None:
            self._board.add_image(f"panels/{name}", pixels, step, dataformats="HWC")
        if self._wandb is not None:
            self._wandb.log({"step": step, f"panels/{name}": self._image(pixels)})

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


class Progress:
    """One line on standard error: rewritten in place on a terminal, else a line for each record.

    Args:
        steps: last step of the run.
        start: step at which this process began.
    """

    def __init__(self, *, steps: int, start: int, stream: TextIO | None = None) -> None:
        self._steps = steps
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start = start
        self._began = time.monotonic()

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Show a record: step, speed, time left, losses, rate, memory."""
        elapsed = max(1e-9, time.monotonic() - self._began)
        left_s = (self._steps - step) * elapsed / max(1, step - self._start)
        parts = [
            f"step {step}/{self._steps}",
            f"{values['it_per_s']:.2f} it/s",
            f"{values['samples_per_s']:.1f} samples/s",
        ]
        parts += [f"left {_clock(left_s)}", f"lr {values['lr']:.2e}"]
        parts += [
            f"{key.removeprefix('loss_')} {value:.4g}" for key, value in values.items() if key.startswith("loss_")
        ]
        parts += [f"wait {100 * values['waiting_share']:.0f}%", f"{values['memory_mib']:.0f} MiB"]
        line = "  ".join(parts)
        self._stream.write(f"\r\x1b[K{line}" if self._live else line + "\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._stream.write(f"\r\x1b[K{text}\n" if self._live else text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._live:
            self._stream.write("\n")


def _clock(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{days}d" if days else "") + f"{hours:02d}:{minutes:02d}:{int(seconds % 60):02d}"


def _cut_after(path: Path, step: int) -> None:
    """Drop records after `step`, and a last line that a killed process left unfinished."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["step"] <= step:
            kept.append(line)
    with atomic_path(path, overwrite=True) as partial:
        partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
