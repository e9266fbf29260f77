"""Measure how far pictures must be continued for the shipped models, and write it into their cards.

    python scripts/measure_rims.py             # say it
    python scripts/measure_rims.py --write     # and write it where the card says another number

:func:`apisr.weights.export.export_onnx` measures it for each file that it writes; this is for files that were made
otherwise.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from apisr.core.files import atomic_path
from apisr.weights import list_models
from apisr.weights.export import onnx_runner
from apisr.weights.rim import smallest_rim_px
from apisr.weights.sealing import sealed


def main(write: Annotated[bool, typer.Option(help="Write the cards.")] = False) -> None:
    """Measure every shipped model."""
    for model in list_models():
        rim = smallest_rim_px(onnx_runner(model.path), model.traits)
        typer.echo(f"{model.name}: {rim}, the card says {model.traits.rim_px}")
        if write and rim != model.traits.rim_px:
            path = model.path.with_suffix(".json")
            card = json.loads(path.read_text(encoding="utf-8"))
            sha256 = card.pop("sha256")
            with atomic_path(path, overwrite=True) as partial:
                content = {**card, "rim_px": rim, "sha256": sha256}
                partial.write_text(json.dumps(sealed(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
