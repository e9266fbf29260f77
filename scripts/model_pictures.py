"""Make the small pictures beside the models on the app's page: the same eye, drawn larger by each model.

    python -m scripts.model_pictures

The source is examples/character.webp (its author and licence are in examples/README.md). Run it again when a model
changes.
"""

from __future__ import annotations

from pathlib import Path

import apisr
from apisr.image import read_rgb, write_picture
from apisr.weights import list_models

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "examples" / "character.webp"
TARGET = ROOT / "src" / "apisr" / "app" / "static" / "models"
#: Size of the pictures, and the middle of the crop in the source, in pixels.
WIDTH_PX, HEIGHT_PX = 176, 116
MIDDLE = (82, 112)


def main() -> None:
    """Write one picture a model."""
    source = read_rgb(SOURCE)
    y, x = 4 * MIDDLE[0] - HEIGHT_PX // 2, 4 * MIDDLE[1] - WIDTH_PX // 2
    for model in list_models():
        if not model.name.endswith("-vivid"):
            large = apisr.load(model.name)(source, scale=4)
            picture = large[y : y + HEIGHT_PX, x : x + WIDTH_PX]
            write_picture(TARGET / f"{model.name}.webp", picture, overwrite=True, quality=82)


if __name__ == "__main__":
    main()
