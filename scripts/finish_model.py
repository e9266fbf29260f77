"""Finish a trained network as the shipped files are: weights in 16 bits, flat areas as bright as before.

    python scripts/finish_model.py runs/apisr-x4-vivid-judges -o apisr-x4-vivid.onnx --card card.json

Weights are rounded to what 16 bits hold. Then the bias of the last convolution is set so that flat areas of 64 colours
keep their brightness, each of the pixels that one becomes by itself. The card has the entries of the given JSON file,
and what is known of the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from apisr.core.text import parse_json
from apisr.train.init.weights import find_weights
from apisr.weights.checkpoint import load_network, read_checkpoint
from apisr.weights.export import export_onnx, write_card

#: Levels of each channel in the flat pictures, away from the ends, where outputs are cut off.
LEVELS = torch.linspace(0.06, 0.94, 4)
#: Side of the flat pictures and of their middle, which is far enough from the rim, in pixels.
SIDE_PX, MIDDLE_PX = 64, 8
#: Arrays of fewer values stay in 32 bits, as :func:`apisr.weights.export.pack_halves` leaves them.
AT_LEAST = 1024


def main(
    weights: Annotated[Path, typer.Argument(help="A run's folder or a weights file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file; its card is written beside it.")],
    card: Annotated[Path | None, typer.Option(help="JSON file with entries of the card.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
) -> None:
    """Finish one model."""
    checkpoint = read_checkpoint(find_weights(weights))
    network = load_network(checkpoint).eval().float()
    round_weights(network)
    traits = checkpoint.network.traits(checkpoint.hyper)
    before, after = keep_brightness(network, scale=traits.scale)
    given = parse_json(card.read_text(encoding="utf-8")) if card else {}
    hyper = {key: value for key, value in checkpoint.hyper.items() if value is not None}
    content = {"name": output.stem, "license": "unknown", **given, "architecture": checkpoint.network.name}
    content |= {"hyper": hyper, "parameters": sum(parameter.numel() for parameter in network.parameters())}
    content["flops_per_pixel"] = float(checkpoint.network.flops_per_pixel(checkpoint.hyper))
    difference = export_onnx(network, output, traits=traits, card=content, halves=True, overwrite=overwrite)
    write_card(output, traits=traits, card=content, overwrite=overwrite)
    typer.echo(f"{output}: flat areas off by {before:.2f} levels before, {after:.2f} now; PyTorch to {difference:.1g}")


@torch.no_grad()
def round_weights(network: nn.Module) -> None:
    """Round every larger array to what 16 bits hold, in place."""
    for parameter in network.parameters():
        if parameter.numel() >= AT_LEAST:
            parameter.copy_(parameter.half().float())


@torch.no_grad()
def keep_brightness(network: nn.Module, *, scale: int) -> tuple[float, float]:
    """Set the bias of the last convolution so that flat areas keep their brightness on average; in place.

    Args:
        network: an upscaler whose last convolution makes the three channels of the output, or of each of the
            ``scale**2`` pixels that one becomes.
        scale: output size over input size.

    Returns:
        By how many levels of 255 flat areas were off before and are off now, the mean over colours and pixels.
    """
    off, last = _off(network, scale), _last_convolution(network)
    means = functional.pixel_unshuffle(off, scale).mean((0, 2, 3))
    if last.out_channels == 3:
        means = means.reshape(3, scale**2).mean(1)
    cast(Tensor, last.bias).sub_(means)
    return tuple(float(255 * values.abs().mean()) for values in (off, _off(network, scale)))  # pyright: ignore[reportReturnType]


def _last_convolution(network: nn.Module) -> nn.Conv2d:
    """The convolution that is computed last: that of a branch may stand behind it among the modules."""
    called: list[nn.Conv2d] = []

    def note(module: nn.Module, *_: object) -> None:
        called.append(cast(nn.Conv2d, module))

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, nn.Conv2d)]
    network(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
    for hook in hooks:
        hook.remove()
    return called[-1]


def _off(network: nn.Module, scale: int) -> Tensor:
    """Output minus colour in the middle of flat pictures: (64, 3, side, side)."""
    colours = torch.cartesian_prod(LEVELS, LEVELS, LEVELS)[:, :, None, None]
    start = (SIDE_PX - MIDDLE_PX) // 2 * scale
    inner = slice(start, start + MIDDLE_PX * scale)
    outputs = [network(colour[None].expand(-1, -1, SIDE_PX, SIDE_PX)) for colour in colours]
    return torch.cat(outputs)[:, :, inner, inner] - colours


if __name__ == "__main__":
    typer.run(main)
