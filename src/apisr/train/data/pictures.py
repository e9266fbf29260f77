"""High-resolution pictures to train on: files, or composed scenes that are new in every epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from apisr.core.dataset import read_decisions
from apisr.core.errors import InputError
from apisr.core.media import find_media, is_dataset
from apisr.image import ImageU8, read_rgb
from apisr.synthesis.assets import Assets
from apisr.synthesis.compose import compose

#: Scenes in one epoch when the configuration sets no limit; every epoch composes others.
SCENES_PER_EPOCH = 1000
_SCENES_STREAM = 12


class Pictures(Protocol):
    """High-resolution pictures to make crops of."""

    @property
    def fixed(self) -> bool:
        """Whether a picture is the same in every epoch (its pseudo-GT can then be kept)."""
        ...

    def __len__(self) -> int:
        """How many pictures an epoch has."""
        ...

    def name(self, index: int) -> str:
        """Name for messages."""
        ...

    def load(self, epoch: int, index: int) -> ImageU8:
        """The picture, ``(H, W, 3)`` uint8 RGB."""
        ...


@dataclass(frozen=True)
class FilePictures:
    """Picture files.

    Attributes:
        paths: the files, in order.
    """

    paths: tuple[Path, ...]
    fixed: bool = True

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.paths)

    def name(self, index: int) -> str:
        """Path of the file."""
        return str(self.paths[index])

    def load(self, epoch: int, index: int) -> ImageU8:
        """Read the file; the epoch does not matter."""
        return read_rgb(self.paths[index])


@dataclass(frozen=True)
class ScenePictures:
    """Composed scenes: new ones in every epoch.

    Attributes:
        assets: what to compose from.
        count: scenes in an epoch.
        seed: of all scenes.
        height: of a scene in pixels.
        width: of a scene in pixels.
    """

    assets: Assets
    count: int = SCENES_PER_EPOCH
    seed: int = 0
    height: int = 720
    width: int = 1280
    fixed: bool = False

    def __len__(self) -> int:
        """How many scenes an epoch has."""
        return self.count

    def name(self, index: int) -> str:
        """Number of the scene."""
        return f"scene {index}"

    def load(self, epoch: int, index: int) -> ImageU8:
        """Compose the scene."""
        rng = np.random.default_rng((self.seed, _SCENES_STREAM, epoch, index))
        return compose(self.assets, rng, height=self.height, width=self.width)


def find_training_pictures(folders: Iterable[Path]) -> tuple[Path, ...]:
    """List the pictures of plain folders and of datasets (those with a ``manifest.parquet``: its kept rows), sorted.

    Raises:
        InputError: no such folder, no pictures, a manifest that cannot be read, or one whose files lie outside of it.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"cannot read the data folder '{folder}': no such folder.", code="no-such-folder")
        paths = _accepted(folder) if is_dataset(folder) else find_media(folder, kinds=("picture",)).found
        if not paths:
            raise InputError(f"the data folder '{folder}' holds no pictures. Give one that does.", code="no-pictures")
        found += sorted(paths)
    return tuple(found)


def _accepted(folder: Path) -> list[Path]:
    decisions = read_decisions(folder)
    kept = [path for path, accepted in decisions.items() if accepted]
    if decisions and not kept:
        raise InputError(
            f"none of the {len(decisions)} pictures of '{folder}' is accepted. Decide with: apisr review {folder}",
            code="nothing-accepted",
        )
    return kept
