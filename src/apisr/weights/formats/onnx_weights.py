"""The learned values inside an ONNX file, by the names that they have in the network: a start for further training.

An exporter renames and transposes some arrays and leaves out what it could compute ahead. :func:`parameter_names` finds
every learned value again by its bytes when a file is written; :func:`read_weights` gives them back:

    >>> from apisr.weights import resolve_model
    >>> state, metadata = read_weights(resolve_model("apisr-x4-fast").path)
    >>> tuple(state["body.0.weight"].shape), metadata["apisr.architecture"]
    ((48, 3, 3, 3), 'lite')
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import ModelError
from apisr.core.text import parse_json
from apisr.networks import architecture, check_hyper
from apisr.weights.formats.onnx import check_sha256, read_arrays, read_metadata
from apisr.weights.model import CardDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: Entry of the metadata: JSON, name in the network -> name in the file, for arrays that are called otherwise there.
ENTRY = "apisr.parameters"
_TRANSPOSED = "^T"


def parameter_names(state: Mapping[str, Tensor], path: Path) -> dict[str, str] | None:
    """Find the values of a network in the ONNX file that was exported from it.

    Args:
        state: learned values by name.
        path: the file.

    Returns:
        Name in the network -> name in the file (with ``^T`` if it is transposed there) where they differ; None if a
        value is not in the file.
    """
    arrays = read_arrays(path)
    by_value: dict[bytes, str] = {}
    for name, array in arrays.items():
        by_value.setdefault(array.tobytes(), name)
        if array.ndim == 2:
            by_value.setdefault(array.T.tobytes(), name + _TRANSPOSED)
    names: dict[str, str] = {}
    for name, value in state.items():
        expected = value.detach().cpu().numpy().astype(np.float32).tobytes()
        if name in arrays and arrays[name].tobytes() == expected:
            continue
        if expected not in by_value:
            return None
        names[name] = by_value[expected]
    return names


def read_named_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float arrays of an ONNX file of ours under their names in the network; no torch is needed.

    Raises:
        ModelError: not an ONNX file (code ``not-an-onnx-file``), or damaged metadata (``model-metadata-damaged``).
    """
    arrays = read_arrays(path)
    try:
        names: dict[str, str] = json.loads(read_metadata(path).get(ENTRY, "{}"))
        renamed = {
            name: arrays[stored.removesuffix(_TRANSPOSED)].T if stored.endswith(_TRANSPOSED) else arrays[stored]
            for name, stored in names.items()
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"the metadata of '{path}' are damaged ({error!r}). Export the model again.", code="model-metadata-damaged"
        ) from error
    return {**arrays, **renamed}


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the learned values of an ONNX file that was exported by this package.

    Returns:
        The values by name, float32, and the metadata that a weights file of ours has (network, hyper-parameters, card).

    Raises:
        ModelError: not such a file, damaged, or its values are no longer there (quantised to 8 bits, joined to others).
        ImportError: torch is not installed.
    """
    import torch

    check_sha256(path)
    metadata = read_metadata(path)
    refusal = f"'{path}' holds no weights to train on (expected a file of 'apisr export', not quantised)."
    try:
        network = architecture(metadata["apisr.architecture"])
        card: CardDict = parse_json(metadata["apisr.card"])
        hyper: CardDict = card["hyper"]
        check_hyper(network, hyper, where=f"'{path}'", code="model-metadata-damaged")
        template = network.build(hyper).state_dict()
    except (KeyError, ValueError, TypeError, ModelError) as error:
        if isinstance(error, ModelError) and error.code == "unknown-argument":
            raise
        raise ModelError(refusal, code="no-weights") from error
    arrays = read_named_arrays(path)
    state: dict[str, Tensor] = {}
    for name, expected in template.items():
        array = arrays.get(name)
        if array is None or array.size != expected.numel():
            raise ModelError(refusal, code="no-weights")
        state[name] = torch.from_numpy(np.array(array, np.float32).reshape(expected.shape))
    kept = {
        "apisr.architecture": network.name,
        "apisr.hyper": json.dumps(hyper, sort_keys=True),
        "apisr.card": metadata["apisr.card"],
    }
    return state, kept
