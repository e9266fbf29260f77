"""``apisr export``: a checkpoint as an ONNX file that needs no flags, checked against the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from apisr.cli import completing
from apisr.cli.helping import examples
from apisr.cli.options import OverwriteOption

EXAMPLES = examples(
    "apisr export apisr-x2-fast -o apisr-x2-fast.onnx",
    "apisr export runs/mine/best.safetensors -o mine.onnx",
    "apisr export apisr-x2-fast -o half.onnx --precision fp16 --tile 256",
)


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A .safetensors, .pth, .pt or .ckpt file, or a model's name.",
            autocompletion=completing.models,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    precision: Annotated[Literal["fp32", "fp16", "int8"], typer.Option("--precision", help="Of the weights.")] = "fp32",
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", help="Accept only square inputs of this side; by default any size.", min=16, show_default=False
        ),
    ] = None,
    opset: Annotated[int, typer.Option("--opset", help="Version of the ONNX operators.")] = 17,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a checkpoint as an ONNX file and print the largest difference between both."""
    from apisr.cli.output import say
    from apisr.weights.convert import convert

    report = convert(checkpoint, output, precision=precision, tile_px=tile, opset=opset, overwrite=overwrite)
    sizes = "any size" if tile is None else f"{tile}x{tile} only"
    graph = f", {sizes}, opset {opset}" if output.suffix.lower() == ".onnx" else ""
    say(f"{output}: {report.architecture} x{report.scale}, {precision}{graph}, {report.size_bytes / 1e6:.1f} MB")
    say(f"largest difference to the checkpoint: {report.largest_difference:.2e}; PSNR {report.psnr_db:.1f} dB")
