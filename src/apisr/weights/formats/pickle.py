"""Checkpoints of torch (``.pth``, ``.pt``, ``.ckpt``): opened without running code, wrappers taken off.

A checkpoint is a dictionary of arrays, wrapped in ways that differ from project to project: under ``params_ema``,
``params``, ``state_dict``, ``model_state_dict``..., each name after ``module.`` (DataParallel), ``_orig_mod.``
(torch.compile) or ``model.``/``net_g.``/``generator.``. Pickles can run code: they are opened with
``weights_only=True`` and anything but arrays and plain values is refused.
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from apisr.core.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from torch import Tensor

#: Names under which state dicts are wrapped, the preferred first (averaged parameters before raw ones).
WRAPPERS = (
    "params_ema",
    "ema",
    "ema_state_dict",
    "params",
    "model_state_dict",
    "state_dict",
    "model",
    "net_g",
    "generator",
    "weights",
)

#: Beginnings that training wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net_g.", "generator.", "network.", "net.", "ema_model.")
#: Beginnings of the parts of a training module of which the generator is kept.
_GENERATORS = ("generator.", "net_g.", "ema_model.")
_DEEPEST_WRAPPING = 4
#: What torch says of a pickle that wants to run something.
_UNSAFE = ("unsupported global", "unsupported class", "reduce", "is blocked")
#: What a damaged file makes torch.load raise.
_DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    AttributeError,
    IndexError,
    TypeError,
    AssertionError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
)


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a checkpoint by name, on the CPU, wrappers taken off and prefixes left on.

    Raises:
        ModelError: it is damaged (code ``model-damaged``), could run code (``unsafe-pickle``), or holds no arrays
            (``no-state-dict``).
        MissingExtra: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", f"to load '{path}'") from error
    try:
        check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says in two lines what we say in one
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(sign in str(error).lower() for sign in _UNSAFE):
            raise ModelError(
                f"'{path}' holds more than arrays and plain values and could run code when opened: refused. "
                "Save its state dict alone (torch.save(model.state_dict(), ...)) or as .safetensors.",
                code="unsafe-pickle",
            ) from error
        raise _damaged(path) from error
    except _DAMAGED as error:
        raise _damaged(path) from error
    state = _unwrapped(content)
    if not state:
        present = (
            ", ".join(str(key) for key in list(cast(Mapping[object, object], content))[:8])
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise ModelError(
            f"'{path}' holds no state dict (expected names with arrays; found {present}).", code="no-state-dict"
        )
    return state


def check_archive(path: Path) -> None:
    """Compare the checksums in a checkpoint of the usual layout (a ZIP archive), which torch does not look at.

    Raises:
        zipfile.BadZipFile: a part of it was changed.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} has another checksum")


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take common prefixes off the names; of a whole training module, keep the generator."""
    result = {name: value for name, value in state.items() if name != "n_averaged"}
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            inside = {name[len(prefix) :]: value for name, value in result.items() if name.startswith(prefix)}
            whole = len(inside) == len(result)
            if inside and (whole or (prefix in _GENERATORS and len(inside) > 1)):
                result, changed = inside, True
                break
    return result


def _unwrapped(content: object) -> dict[str, Tensor]:
    """Find the state dict inside the usual wrappers; empty if there is none."""
    from torch import Tensor

    for _ in range(_DEEPEST_WRAPPING):
        if not isinstance(content, Mapping):
            return {}
        mapping = cast(Mapping[object, object], content)
        inner = next((mapping[key] for key in WRAPPERS if isinstance(mapping.get(key), Mapping) and mapping[key]), None)
        if inner is None:
            return {str(key): value for key, value in mapping.items() if isinstance(value, Tensor)}
        content = inner
    return {}


def _damaged(path: Path) -> ModelError:
    return ModelError(f"cannot read the checkpoint '{path}': damaged, or not a checkpoint.", code="model-damaged")
