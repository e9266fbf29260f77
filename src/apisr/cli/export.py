"""``apisr export``: a checkpoint as an ONNX file that needs no flags, checked against the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors, .pth, .pt or .ckpt file, or a model's name.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The ONNX file to write.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    tile: Annotated[
        int | None, typer.Option(help="Accept only square inputs of this side (default: any size).")
    ] = None,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators.")] = 17,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a checkpoint as an ONNX file and print the largest difference between both."""
    from apisr.core.errors import InputError
    from apisr.weights.convert import PRECISIONS, convert

    if precision not in PRECISIONS:
        raise InputError(f"unknown precision '{precision}'. Choose one of: {', '.join(PRECISIONS)}.")
    report = convert(checkpoint, output, precision=precision, tile_px=tile, opset=opset, overwrite=overwrite)
    typer.echo(
        f"{output}: {report.architecture} x{report.scale}, {precision}, "
        f"{'any size' if tile is None else f'{tile}x{tile} only'}, opset {opset}, {report.size_bytes / 1e6:.1f} MB"
    )
    typer.echo(f"largest difference to the checkpoint: {report.largest_difference:.2e}; PSNR {report.psnr_db:.1f} dB")
