"""Libraries that report to their makers, told not to.

onnxruntime writes a device id and an event database into the user's cache folder and looks up a host of its maker;
openvino writes an id into the home folder and sends an event when it is imported. Both are switched off before they
start: whoever needs one of them imports it here.

    >>> import_onnxruntime().__name__
    'onnxruntime'
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

#: onnxruntime reads this when its environment is made.
ONNXRUNTIME_SWITCH = "ORT_DISABLE_TELEMETRY"


def disable_onnxruntime_telemetry() -> None:
    """Switch the reports of onnxruntime off in this process and its children; call it before the first import."""
    os.environ[ONNXRUNTIME_SWITCH] = "1"


def import_onnxruntime() -> Any:
    """Return the module ``onnxruntime``, which reports nothing.

    Raises:
        ImportError: it is not installed.
    """
    disable_onnxruntime_telemetry()
    module = importlib.import_module("onnxruntime")
    switch_off = getattr(module, "disable_telemetry_events", None)
    if switch_off is not None:
        switch_off()
    return module


def import_openvino() -> Any:
    """Return the module ``openvino``, which reports nothing.

    Raises:
        ImportError: it is not installed.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    before = sys.modules.get("openvino_telemetry")
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    modules["openvino_telemetry"] = None  # openvino then falls back to a stub of its own that does nothing
    try:
        return importlib.import_module("openvino")
    finally:
        if before is None:
            del sys.modules["openvino_telemetry"]
        else:
            sys.modules["openvino_telemetry"] = before
