"""Safetensors files: arrays and text, no code.

Files of ours state the SHA-256 of their arrays, and that of their metadata; both are checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.core.errors import MissingExtra, ModelError
from apisr.core.files import atomic_path
from apisr.core.text import parse_json
from apisr.weights.sealing import METADATA_SHA256, digest_of

if TYPE_CHECKING:
    from torch import Tensor

#: Entry of the metadata of files of ours.
SHA256 = "apisr.sha256"
#: A file begins with the length of its header, an integer of 64 bits.
_LENGTH_BYTES = 8


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the arrays by name and the metadata.

    Raises:
        ModelError: the file is damaged (code ``model-damaged``), or holds numbers of a kind that torch or its reader
            does not know (code ``weights-not-numbers``).
        MissingExtra: safetensors or torch is not installed.
    """
    try:
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingExtra("torch", f"to load '{path}'") from error
    try:
        from safetensors.torch import load

        content = path.read_bytes()  # at once: a training run may put newer weights in its place meanwhile
        state: dict[str, Tensor] = load(content)
        header_end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        metadata: dict[str, str] = parse_json(content[_LENGTH_BYTES:header_end]).get("__metadata__") or {}
    except ModuleNotFoundError as error:
        raise MissingExtra("torch", f"to load '{path}'") from error
    except KeyError as error:  # the format has kinds of numbers that torch, or safetensors, does not know
        raise ModelError(
            f"cannot use the weights in '{path}': it holds arrays of a kind that no network here has ({error}).",
            code="weights-not-numbers",
        ) from error
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"cannot read the model '{path}': damaged, or not a safetensors file.", code="model-damaged"
        ) from error
    if SHA256 in metadata and state_sha256(state) != metadata[SHA256]:
        raise ModelError(
            f"the model '{path}' is damaged: its values do not have the SHA-256 that it states. Fetch it again.",
            code="model-damaged",
        )
    if METADATA_SHA256 in metadata and digest_of(metadata, without=METADATA_SHA256) != metadata[METADATA_SHA256]:
        raise ModelError(
            f"the model '{path}' is damaged: its metadata do not have the SHA-256 that it states. Fetch it again.",
            code="model-damaged",
        )
    return state, metadata


def write_safetensors(
    state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Write arrays with metadata and the SHA-256 of both."""
    from safetensors.torch import save

    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    content = {"format": "pt", **metadata, SHA256: state_sha256(plain)}
    content[METADATA_SHA256] = digest_of(content, without=METADATA_SHA256)
    with atomic_path(path, overwrite=overwrite) as partial:
        partial.write_bytes(save(plain, content))  # save_file would make a file that only its owner can read


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and values, independent of the order and of the file format."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
