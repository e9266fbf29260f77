"""Finding the weights that a run starts from, and loading them into its network."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from apisr.core.errors import InputError, ModelError
from apisr.train.checkpoint import list_checkpoints
from apisr.weights import list_models, resolve_model
from apisr.weights.checkpoint import load_state
from apisr.weights.model import RUN_WEIGHTS
from apisr.weights.releases import CATALOGUE, cached


def find_weights(init_from: Path, *, key: str = "model.init_from") -> Path:
    """Return the weights file behind a run's folder (its best, mean or last checkpoint), a file, or a model's name.

    A release of others that was fetched before is named as ``apisr models list`` names it.

    Args:
        init_from: what the configuration says.
        key: where it says so, for the message.

    Raises:
        InputError: there is none.
        ModelError: a fetched file is damaged.
    """
    if init_from.is_file():
        return init_from
    for name in RUN_WEIGHTS:
        if (init_from / name).is_file():
            return init_from / name
    checkpoints = list_checkpoints(init_from) if init_from.is_dir() else []
    if checkpoints:
        return checkpoints[-1][1]
    if str(init_from) in {model.name for model in list_models()}:
        return resolve_model(str(init_from)).path
    release = CATALOGUE.get(str(init_from))
    fetched = cached(release) if release is not None else None
    if fetched is not None:
        return fetched
    if release is not None:
        raise InputError(
            f"{key} names '{init_from}', which is not here yet. Fetch it with: apisr models fetch {init_from}",
            code="no-weights",
        )
    raise InputError(
        f"no weights at '{init_from}'. Give {key}: a run's folder, a checkpoint, a weights file or a model's name.",
        code="no-weights",
    )


def load_into(module: nn.Module, path: Path, derived: tuple[str, ...] = ()) -> None:
    """Load a file of weights into a network.

    Args:
        module: the network.
        path: the file.
        derived: beginnings of the names of tables that the network computes itself.

    Raises:
        ModelError: the weights are of another network.
    """
    state, _ = load_state(path)
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        wrong = str(error).splitlines()[-1].strip().rstrip(".")
        raise _misfit(path, wrong) from error
    missing = [name for name in result.missing_keys if not (derived and name.rsplit(".", 1)[-1].startswith(derived))]
    if missing or result.unexpected_keys:
        raise _misfit(path, f"{'missing' if missing else 'unknown'} '{(missing or result.unexpected_keys)[0]}'")


def _misfit(path: Path, wrong: str) -> ModelError:
    return ModelError(
        f"'{path}' does not fit the network of this configuration ({wrong}). Name other weights, or set "
        "model.network to 'auto', which takes the network of the weights.",
        code="weights-do-not-fit",
    )
