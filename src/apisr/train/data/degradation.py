"""Mixtures of degradation recipes: ``"apisr"``, or ``"bicubic:0.35, video:0.4, apisr:0.25"``.

>>> Mixture.parse("bicubic:3, apisr:1", scale=4).weights
(0.75, 0.25)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from apisr.core.errors import InputError
from apisr.degrade.recipe import CompressStage, Recipe, apply, load_recipe, sample
from apisr.image import ImageU8


@dataclass(frozen=True)
class Mixture:
    """Several recipes, one of which is drawn for each picture.

    Attributes:
        recipes: the recipes.
        weights: their probabilities.
    """

    recipes: tuple[Recipe, ...]
    weights: tuple[float, ...]

    @classmethod
    def parse(cls, text: str, *, scale: int) -> Mixture:
        """Read ``"apisr"``, ``"my.toml"`` or ``"bicubic:0.35, video:0.4, apisr:0.25"``.

        Raises:
            InputError: unknown recipe, or a weight that is not a number above 0.
        """
        recipes: list[Recipe] = []
        weights: list[float] = []
        for part in text.split(","):
            name, _, weight = part.strip().partition(":")
            try:
                value = float(weight) if weight else 1.0
            except ValueError:
                value = 0.0
            if not 0 < value < float("inf"):
                raise InputError(
                    f"cannot read the degradation '{text}': the weight '{weight}' of {name} is not above 0.",
                    code="bad-mixture",
                )
            recipes.append(load_recipe("apisr" if name == "paper" else name, scale=scale))
            weights.append(value)
        return cls(tuple(recipes), tuple(value / sum(weights) for value in weights))

    def with_codecs(self, names: Sequence[str]) -> Mixture:
        """The same recipes with only these codecs, where a recipe has one of them (to see what the others do).

        Raises:
            InputError: a recipe compresses with none of them.
        """
        return replace(self, recipes=tuple(_with_codecs(recipe, names) for recipe in self.recipes))

    def degrade(self, picture: ImageU8, rng: np.random.Generator) -> ImageU8:
        """Draw a recipe and its parameters, and degrade the whole picture ``(H, W, 3)`` uint8 to its low resolution."""
        recipe = self.recipes[int(rng.choice(len(self.recipes), p=self.weights))]
        return apply(picture, sample(recipe, rng, *picture.shape[:2]))


def _with_codecs(recipe: Recipe, names: Sequence[str]) -> Recipe:
    passes = tuple(
        step.model_copy(
            update={"stages": tuple(_stage_with_codecs(stage, names, recipe.name) for stage in step.stages)}
        )
        for step in recipe.passes
    )
    return recipe.model_copy(update={"passes": passes, "name": f"{recipe.name} ({', '.join(names)})"})


def _stage_with_codecs(stage: object, names: Sequence[str], recipe: str) -> object:
    if not isinstance(stage, CompressStage):
        return stage
    codecs = {name: choice for name, choice in stage.codecs.items() if name in names}
    if not codecs:
        raise InputError(
            f"the recipe '{recipe}' compresses with none of {', '.join(names)}. It has: {', '.join(stage.codecs)}.",
            code="no-codec",
        )
    return stage.model_copy(update={"codecs": codecs})
