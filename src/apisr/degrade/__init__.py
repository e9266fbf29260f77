"""The anime degradation model (paper 3.2 and 4.1): recipes in, low-resolution pictures out, all in memory.

The whole picture is degraded and only then cropped, because codecs predict across blocks. The public functions:

    load_recipe(name_or_path, *, scale=4) -> Recipe
    sample(recipe, generator, height, width) -> dict                 everything drawn, JSON-able
    apply(picture, parameters) -> (ceil(H/scale), ceil(W/scale), 3) uint8 RGB

`picture` is ``(H, W, 3)`` RGB, uint8 or float32 in [0, 1]. :func:`apply` starts no process, writes no file, and may be
called from several threads at once; the same parameters give the same bytes. `generator` is a
``numpy.random.Generator``. Recipes: ``apisr`` (the paper), ``prediction`` (without shuffled resize), ``real-esrgan``,
``bsrgan``, ``bicubic``, ``video`` (mild), ``tv`` (old and broadcast anime).

    >>> import numpy as np
    >>> from apisr.degrade import apply, load_recipe, sample
    >>> recipe = load_recipe("apisr", scale=4)
    >>> high = np.full((96, 128, 3), 200, np.uint8)
    >>> parameters = sample(recipe, np.random.default_rng(0), *high.shape[:2])
    >>> apply(high, parameters).shape
    (24, 32, 3)
"""

from __future__ import annotations

from apisr.degrade.recipe import SCALES, Parameters, Recipe, apply, load_recipe, low_size, preset_names, sample

__all__ = ["SCALES", "Parameters", "Recipe", "apply", "load_recipe", "low_size", "preset_names", "sample"]
