"""All file formats that can be written, by the ending of the file name.

>>> sorted(CONTAINERS[".webm"].video)
['av1', 'vp8', 'vp9']
"""

from __future__ import annotations

from pathlib import Path

from apisr.core.discovery import modules_with
from apisr.core.errors import InputError
from apisr.video.containers import pictures
from apisr.video.containers.base import Container
from apisr.video.sequence import is_sequence

#: File ending -> what the format can carry.
CONTAINERS: dict[str, Container] = {
    suffix: container
    for module in modules_with("apisr.video.containers", "ENTRIES")
    for suffix, container in module.ENTRIES.items()
}


def container_of(target: Path) -> Container:
    """Return what the format of a file name can carry.

    Raises:
        InputError: the ending is not one of :data:`CONTAINERS`.
    """
    suffix = target.suffix.lower()
    if is_sequence(target):
        return pictures.PICTURES
    if suffix not in CONTAINERS:
        raise InputError(
            f"cannot write '{target.name}': '{suffix}' is not the ending of a video format known here "
            f"(known: {', '.join(CONTAINERS)}). Choose one with -o.",
            code="unknown-container",
        )
    return CONTAINERS[suffix]
