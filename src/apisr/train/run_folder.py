"""The folder of a run: its resolved configuration, where it was made, and whether a continuation is the same run."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch

from apisr.core.errors import InputError
from apisr.core.files import write_atomic
from apisr.core.locks import take_lock
from apisr.core.version import __version__
from apisr.train.checkpoint import list_checkpoints
from apisr.train.config import TrainConfig, load_config, to_toml

#: Keys that may differ between a run and its continuation: they change what is watched and how fast, not the numbers.
FREE_ON_RESUME = (
    "description",
    "run.name",
    "run.folder",
    "run.steps",
    "run.max_seconds",
    "run.threads",
    "run.accelerator",
    "run.devices",
    "run.nodes",
    "run.strategy",
    "run.compile",
    "model.init_from",
    "data.workers",
    "data.cache",
    "validation",
    "checkpoint",
    "log",
    "divergence_guard",
)


def checkpoints_to_resume(config: TrainConfig, *, resume: bool) -> list[Path]:
    """Return the checkpoints that a run can go on from, newest first; none begins a new one.

    Raises:
        InputError: the run's folder holds a run and `resume` is false, or a run with other settings.
    """
    folder = config.run_folder
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return []
    if not resume:
        raise InputError(
            f"'{folder}' holds a run at step {checkpoints[-1][0]}. Add --resume to go on, or --set run.name=OTHER.",
            code="run-exists",
        )
    _check_same_run(folder, config)
    return [path for _, path in reversed(checkpoints)]


@contextlib.contextmanager
def hold_run(folder: Path, begun: Sequence[Path]) -> Generator[None]:
    """Keep other runs out of a run's folder while the block runs (where the disk knows locks).

    Args:
        folder: of the run.
        begun: what :func:`checkpoints_to_resume` returned; another run may have changed it since.

    Raises:
        InputError: another run works in it, or did meanwhile (code ``run-busy``).
    """
    busy = f"another run trains in '{folder}'. Wait for it, or give this one another name: --set run.name=OTHER."
    lock = None
    try:
        lock = take_lock(folder / ".lock", busy=busy, code="run-busy")
    except InputError as error:
        if error.code != "cannot-lock":  # file systems of clusters often know none
            raise
    try:
        if [path for _, path in reversed(list_checkpoints(folder))] != list(begun):
            raise InputError(busy, code="run-busy")
        yield
    finally:
        if lock is not None:
            lock.release()


def describe_run(folder: Path, config: TrainConfig) -> None:
    """Write ``config.toml`` and ``environment.json``."""
    write_atomic(folder / "config.toml", to_toml(config).encode(), overwrite=True)
    environment = {
        "apisr": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "lightning")},
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "seed": config.run.seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_atomic(folder / "environment.json", (json.dumps(environment, indent=1) + "\n").encode(), overwrite=True)


def _check_same_run(folder: Path, config: TrainConfig) -> None:
    """Refuse to continue a run with a configuration that would change its numbers."""
    saved = folder / "config.toml"
    if not saved.is_file():
        return
    before = _flat(load_config(saved).model_dump(mode="json"))
    now = _flat(config.model_dump(mode="json"))
    for key in before | now:
        is_free = any(key == free or key.startswith(f"{free}.") for free in FREE_ON_RESUME)
        if before.get(key) != now.get(key) and not is_free:
            raise InputError(
                f"cannot resume '{folder}': {key} was {before.get(key)!r} and is {now.get(key)!r}. "
                "Use the run's own config.toml, or start another run with model.init_from.",
                code="other-settings",
            )


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(cast("dict[str, object]", value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _commit() -> str | None:
    """The commit of the package's sources where they lie in a repository."""
    here = Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
        if done.returncode == 0:
            return done.stdout.strip()
    return None
