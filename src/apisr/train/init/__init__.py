"""How the generator gets its first weights, and what that start asks of every later step.

:func:`init_generator` chooses by the section ``[model]``: weights as a network draws them, weights that are loaded
(:mod:`~apisr.train.init.weights`) or those of a smaller network (:mod:`~apisr.train.init.expand`), with or without a
residual path (:mod:`~apisr.train.init.residual_path`). It returns a :class:`TrainingHook`: the trainer calls it in
every step and knows nothing of the strategy behind it. A new strategy is a file here and a case below.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from apisr.core.errors import InputError
from apisr.core.text import parse_json
from apisr.networks import architecture, check_hyper
from apisr.networks.compact import Compact
from apisr.networks.lite import Lite
from apisr.train.config import DiscriminatorConfig, ModelConfig
from apisr.train.init import residual_path
from apisr.train.init.expand import expand
from apisr.train.init.weights import find_weights, load_into
from apisr.weights.checkpoint import load_network, load_state, read_checkpoint


class TrainingHook(Protocol):
    """What a start asks of the trainer, step by step."""

    @property
    def has_residual_path(self) -> bool:
        """Whether the network that trains is not the one that ships."""
        ...

    def complete(self, output: Tensor, low: Tensor) -> Tensor:
        """Add what is made outside the network to its output."""
        ...

    def mask_gradients(self) -> None:
        """Take the gradients of what must not move away."""
        ...

    def standalone(self, module: nn.Module) -> nn.Module:
        """Return a network that stands alone: what is validated, saved and exported."""
        ...


class NoHook:
    """A network that trains as it ships."""

    has_residual_path = False

    def complete(self, output: Tensor, low: Tensor) -> Tensor:
        """Return the output."""
        return output

    def mask_gradients(self) -> None:
        """Leave the gradients."""

    def standalone(self, module: nn.Module) -> nn.Module:
        """Return the network itself."""
        return module


class ResidualPathHook:
    """A network whose smooth enlargement is made outside while it trains.

    Args:
        network: the generator, with a residual path.
    """

    has_residual_path = True

    def __init__(self, network: residual_path.ResidualNetwork) -> None:
        self._network = network
        self._residual = residual_path.BilinearResidual(network).to(next(network.parameters()).device)

    def complete(self, output: Tensor, low: Tensor) -> Tensor:
        """Add bilinear minus nearest in float32, outside autocast."""
        return output.float() + self._residual(low)

    def mask_gradients(self) -> None:
        """Keep the path's rows as they are."""
        residual_path.mask_gradients(self._network)

    def standalone(self, module: nn.Module) -> nn.Module:
        """Return a copy with the enlargement fused into its last convolution."""
        fused = copy.deepcopy(cast("residual_path.ResidualNetwork", module))
        residual_path.fuse(fused)
        return fused


def hyper_of(config: ModelConfig) -> dict[str, object]:
    """Return the hyper-parameters of the generator."""
    return {**config.arguments, "scale": config.scale}


def resolve_model_config(config: ModelConfig) -> ModelConfig:
    """Replace ``network = "auto"`` by the network, arguments and residual path of the weights that the run starts from.

    Raises:
        InputError: the weights enlarge by another factor than ``model.scale``, or are not there; arguments that the
            network has not, or with which no machine could build it.
    """
    if config.network != "auto":
        check_hyper(architecture(config.network), config.arguments, where="model.arguments", code="bad-setting")
    if config.network != "auto" or config.init_from is None:
        return config
    checkpoint = read_checkpoint(find_weights(config.init_from))
    arguments = {key: value for key, value in checkpoint.hyper.items() if key != "scale" and value is not None}
    factor = checkpoint.network.traits(checkpoint.hyper).scale
    if factor != config.scale:
        raise InputError(
            f"model.init_from = '{config.init_from}' enlarges by {factor}, model.scale is {config.scale}. "
            f"Set model.scale to {factor}, or name other weights.",
            code="other-scale",
        )
    module = load_network(checkpoint)
    has_path = isinstance(module, Compact | Lite) and residual_path.has_residual_path(module)
    changes = {"network": checkpoint.network.name, "arguments": arguments, "residual_path": has_path}
    return config.model_copy(update=changes)


def check_discriminator_config(config: DiscriminatorConfig) -> None:
    """Check that there is such a discriminator, and that it can be built with its arguments.

    Raises:
        InputError: it has no such argument, or not with such a value.
    """
    chosen, where = architecture(config.network), "discriminator.arguments"
    check_hyper(chosen, config.arguments, where=where, code="bad-setting")
    try:
        with torch.device("meta"):
            chosen.build(config.arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{where} do not fit the network {chosen.name}, got {_listed(config.arguments)}: {error}",
            code="bad-setting",
        ) from error


def build_generator(config: ModelConfig, *, load: bool = True) -> nn.Module:
    """Build the generator, with the weights of ``model.init_from`` where it is given.

    Args:
        config: the section ``[model]``.
        load: False leaves the weights as the network draws them (a run that goes on brings its own).

    Raises:
        InputError: no such weights, the network cannot do this scale, or has no such arguments.
        ModelError: the weights are of another network.
    """
    chosen = architecture(config.network)
    if chosen.kind != "upscaler":
        raise InputError(
            f"model.network = '{chosen.name}' is not a network that enlarges pictures. Name one that does, "
            "like compact or grl.",
            code="not-an-upscaler",
        )
    try:
        module = chosen.build(hyper_of(config))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"model.arguments do not fit the network {chosen.name}, got {_listed(config.arguments)}: {error}",
            code="bad-setting",
        ) from error
    if config.init_from is None or not load:
        return module
    path = find_weights(config.init_from)
    if not config.expand:
        load_into(module, path, chosen.derived)
        return module
    if not isinstance(module, Compact | Lite):
        raise InputError(
            "model.expand is for the networks 'compact' and 'lite'. Set model.expand=false.", code="cannot-expand"
        )
    state, metadata = load_state(path)
    if isinstance(module, Lite) and max(parse_json(metadata.get("apisr.hyper", "{}")).get("dilations") or [1]) > 1:
        raise InputError(
            f"'{path}' is dilated, which a Lite network is not. Give model.init_from without dilations.",
            code="cannot-expand",
        )
    expand(module, state)
    return module


def init_generator(module: nn.Module, config: ModelConfig) -> TrainingHook:
    """Give a residual path to a built generator where the configuration asks for one, and return the hook.

    New weights begin with the path. Weights that were loaded must have it (they then come fused); without it they are
    trained as any others.
    """
    if not config.residual_path:
        return NoHook()
    network = residual_path.check_residual_path(module)
    if config.init_from is None:
        residual_path.init_residual_path(network)
    elif residual_path.has_residual_path(network):
        residual_path.unfuse(network)
    else:
        return NoHook()
    return ResidualPathHook(network)


def hook_of_checkpoint(module: nn.Module, *, has_residual_path: bool) -> TrainingHook:
    """Return the hook of a run that goes on: it has a residual path if it was saved with one.

    Raises:
        InputError: the network cannot have one.
    """
    return ResidualPathHook(residual_path.check_residual_path(module)) if has_residual_path else NoHook()


def _listed(arguments: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in arguments.items())
