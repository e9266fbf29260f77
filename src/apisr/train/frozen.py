"""The frozen networks that a training learns from, known again by the SHA-256 of their files.

A run that goes on brings its own weights, but opens teachers and feature networks anew: a file that was replaced
meanwhile makes it another training.
"""

from __future__ import annotations

from collections.abc import Mapping

from apisr.core.errors import InputError
from apisr.core.files import sha256_file
from apisr.train.config import TrainConfig
from apisr.train.init.weights import find_weights
from apisr.train.losses.features import features_file


def frozen_files(config: TrainConfig) -> dict[str, str]:
    """Return where the configuration names a frozen network -> the SHA-256 of its file.

    Raises:
        InputError: a file is not there.
    """
    found: dict[str, str] = {}
    if config.teacher.init_from is not None:
        path = find_weights(config.teacher.init_from, key="teacher.init_from")
        found[f"teacher.init_from = '{config.teacher.init_from}'"] = sha256_file(path)
    if config.loss.perceptual_weight > 0:
        for term in config.loss.perceptual:
            found[f"loss.perceptual '{term.network}'"] = sha256_file(features_file(term.network))
    return found


def check_frozen(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Check that the files of frozen networks are still those that a run began with; arguments: as they were and are.

    Raises:
        InputError: one was changed or replaced (code ``other-settings``).
    """
    changed = next((name for name, digest in now.items() if before.get(name, digest) != digest), None)
    if changed is not None:
        raise InputError(
            f"the file of {changed} is not the one that this run began with. Put that back, or begin another run with "
            "model.init_from and this run's folder.",
            code="other-settings",
        )
