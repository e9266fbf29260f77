"""What other programs make of a picture: ImageMagick for pixels, exiftool for metadata."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def by_imagemagick(path: Path, *, frame: int | None = 0, kind: str = "rgb", deep: bool = False) -> np.ndarray:
    """Return the pixels ``(H, W, C)`` that ImageMagick reads.

    Args:
        path: the file.
        frame: number of the frame or page.
        kind: ``"gray"``, ``"rgb"`` or ``"rgba"``.
        deep: as uint16.
    """
    program = shutil.which("convert")
    if program is None:
        pytest.skip("ImageMagick is not installed")
    source = str(path) if frame is None else f"{path}[{frame}]"
    size = subprocess.run([program, source, "-format", "%w %h", "info:"], capture_output=True, text=True, check=True)
    width, height = (int(word) for word in size.stdout.split()[:2])
    depth = ["-depth", "16", "-endian", "LSB"] if deep else ["-depth", "8"]
    # TGA may be stored from the bottom up: ImageMagick turns it only when asked to.
    raw = subprocess.run([program, source, "-auto-orient", *depth, f"{kind}:-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, "<u2" if deep else np.uint8).reshape(height, width, -1)


def composed_by_imagemagick(path: Path) -> np.ndarray:
    """Return all frames ``(N, H, W, 4)`` of an animation as ImageMagick puts them together."""
    program = shutil.which("convert")
    if program is None:
        pytest.skip("ImageMagick is not installed")
    found = subprocess.run(
        [program, str(path), "-format", "%W %H\n", "info:"], capture_output=True, text=True, check=True
    )
    width, height = (int(word) for word in found.stdout.split()[:2])
    raw = subprocess.run(
        [program, str(path), "-coalesce", "-depth", "8", "rgba:-"], capture_output=True, check=True
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 4)


def assert_same_animation(frames: tuple[np.ndarray, ...], judged: np.ndarray) -> None:
    """Compare frames with those of another program; what is transparent has no colour to compare."""
    assert len(frames) == len(judged)
    for ours, theirs in zip(frames, judged, strict=True):
        full = ours if ours.shape[2] == 4 else np.dstack([ours, np.full(ours.shape[:2], 255, np.uint8)])
        np.testing.assert_array_equal(full[..., 3], theirs[..., 3])
        np.testing.assert_array_equal(full[full[..., 3] > 0], theirs[theirs[..., 3] > 0])


def frames_by_imagemagick(path: Path) -> int:
    """Return how many frames or pages ImageMagick finds."""
    program = shutil.which("identify")
    if program is None:
        pytest.skip("ImageMagick is not installed")
    found = subprocess.run([program, str(path)], capture_output=True, text=True, check=True)
    return len(found.stdout.splitlines())


def by_exiftool(path: Path) -> dict[str, Any]:
    """Return group:tag -> value as exiftool reads them; its warnings are under ``ExifTool:Warning``."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed")
    found = subprocess.run([program, "-j", "-G", "-n", str(path)], capture_output=True, text=True, check=False)
    return json.loads(found.stdout)[0]
