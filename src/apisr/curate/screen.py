"""Screening for what the paper's authors took out by hand: nudity, and pictures that are no drawings.

Two small models that other packages carry are run here with onnxruntime; none of those packages' code is run. They are
scorers, no judges: a score past its threshold flags the picture, a person decides. The nudity detector was trained on
photographs and finds only part of what is drawn: look at the pictures.

- ``nudity``: the detector of the package ``nudenet`` (YOLOv8, 320x320), the highest score of an exposed part;
- ``anime``: the classifier of the package ``anime-or-not`` (224x224), the probability of a drawing. Install it with
  ``pip install --no-deps anime-or-not``: what it declares as dependencies is not needed.

    >>> open_screen("kittens")
    Traceback (most recent call last):
    ...
    apisr.core.errors.InputError: there is no screening model 'kittens'. There are: anime, nudity.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from apisr.core.config import unknown_name
from apisr.core.errors import InputError
from apisr.image.types import ImageU8

#: A score in [0, 1] of one RGB picture ``(H, W, 3)``.
Screen = Callable[[ImageU8], float]

#: Class numbers of nudenet's detector that show what must not be in a training set.
EXPOSED_CLASSES = {2: "buttocks", 3: "breast", 4: "genitalia", 6: "anus", 14: "genitalia"}

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def open_screen(name: str) -> Screen:
    """Return the scorer ``nudity`` or ``anime``.

    Raises:
        InputError: unknown name, or the package that carries the model is not installed.
    """
    if name == "nudity":
        session = _session(_model("nudenet", "320n.onnx", "pip install nudenet"))
        return lambda picture: _nudity(session, picture)
    if name == "anime":
        session = _session(_model("anime_or_not", "anime_or_not_model.onnx", "pip install --no-deps anime-or-not"))
        return lambda picture: _anime(session, picture)
    raise unknown_name("screening model", name, ("nudity", "anime"), code="unknown-screening-model")


def _model(package: str, file_name: str, remedy: str) -> Path:
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / file_name
        if path.is_file():
            return path
    raise InputError(
        f"the screening model of '{package}' is not installed. Install it with: {remedy}", code="model-not-fetched"
    )


def _session(path: Path) -> Any:
    from apisr.core.telemetry import import_onnxruntime

    onnxruntime = import_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _nudity(session: Any, picture: ImageU8) -> float:
    """Highest score of an exposed class over all boxes; the picture is padded to a square at its right and bottom."""
    height, width = picture.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = picture
    values = cv2.resize(square, (320, 320), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    boxes = session.run(None, {session.get_inputs()[0].name: values.transpose(2, 0, 1)[None]})[0][0]
    return float(boxes[[4 + number for number in EXPOSED_CLASSES]].max())


def _anime(session: Any, picture: ImageU8) -> float:
    """Softmax of the second class."""
    small = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    values = ((small - _IMAGENET_MEAN) / _IMAGENET_STD).transpose(2, 0, 1)[None].astype(np.float32)
    logits = session.run(None, {session.get_inputs()[0].name: values})[0][0]
    powers = np.exp(logits - logits.max())
    return float(powers[1] / powers.sum())
