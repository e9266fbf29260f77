"""Lite: Compact with a wider view, for processors.

A :class:`~apisr.networks.compact.Compact` network at full resolution, with ReLU, and beside it a small stack of
convolutions at a quarter of the resolution (pixels un-shuffled by 4). What that *context branch* sees is added to the
features after the first convolution, so that everything behind can use it. Blocks and blotches of heavy compression
are larger than what a dozen 3x3 convolutions see; the branch of the shipped `lite-x4` sees 40
pixels further for a third of the body's cost.

    >>> import torch
    >>> net = Lite(features=16, depth=2, scale=2, context_features=8, context_depth=1)
    >>> net(torch.rand(1, 3, 8, 12)).shape
    torch.Size([1, 3, 16, 24])
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks import Architecture, Hyper, Traits

DEFAULTS: dict[str, Any] = {"features": 48, "depth": 8, "scale": 4, "context_features": 64, "context_depth": 6}

#: Side of the blocks that are one pixel of the context branch.
BLOCK = 4


class Lite(nn.Module):
    """Plain convolutions, a context branch, pixel shuffle, plus the nearest-enlarged input.

    Args:
        features: channels of the body.
        depth: convolutions of the body between the first and the last.
        scale: output size over input size.
        context_features: channels of the context branch.
        context_depth: 3x3 convolutions of the context branch after its first.
    """

    def __init__(
        self,
        *,
        features: int = 48,
        depth: int = 8,
        scale: int = 4,
        context_features: int = 64,
        context_depth: int = 6,
    ) -> None:
        super().__init__()
        self.scale = scale
        body: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1)]
        for _ in range(depth):
            body += [nn.ReLU(inplace=True), nn.Conv2d(features, features, 3, padding=1)]
        self.body = nn.ModuleList([*body, nn.ReLU(inplace=True), nn.Conv2d(features, 3 * scale**2, 3, padding=1)])
        branch: list[nn.Module] = [nn.Conv2d(3 * BLOCK**2, context_features, 3, padding=1)]
        for _ in range(context_depth):
            branch += [nn.ReLU(inplace=True), nn.Conv2d(context_features, context_features, 3, padding=1)]
        joint = nn.Conv2d(context_features, features * BLOCK**2, 1)
        nn.init.zeros_(joint.weight)  # training starts as if the branch were not there
        nn.init.zeros_(cast(Tensor, joint.bias))
        self.context = nn.ModuleList([*branch, nn.ReLU(inplace=True), joint])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``; any size (exported: multiples of 4)."""
        height, width = x.shape[-2:]
        bottom, right = -height % BLOCK, -width % BLOCK
        if not torch.jit.is_tracing() and (bottom or right):  # pyright: ignore[reportPrivateImportUsage]
            whole = self(functional.pad(x, (0, right, 0, bottom), "replicate"))
            return whole[:, :, : height * self.scale, : width * self.scale]
        wide = functional.pixel_unshuffle(x, BLOCK)
        for layer in self.context:
            wide = layer(wide)
        y = self.body[0](x) + functional.pixel_shuffle(wide, BLOCK)
        for layer in self.body[1:]:
            y = layer(y)
        return functional.pixel_shuffle(y, self.scale) + functional.interpolate(
            x, scale_factor=self.scale, mode="nearest"
        )


def build(hyper: Hyper) -> Lite:
    """Build from hyper-parameters (keys of :data:`DEFAULTS`)."""
    values = {**DEFAULTS, **hyper}
    return Lite(**{key: values[key] for key in DEFAULTS})


def detect(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Read the hyper-parameters from the shapes."""
    names = {part: _numbers(state, part) for part in ("body", "context")}
    if not all(names.values()) or any(not key.startswith(("body.", "context.")) for key in state):
        return None
    first, last = state["body.0.weight"], state[f"body.{names['body'][-1]}.weight"]
    branch = state["context.0.weight"]
    if branch.shape[1] != 3 * BLOCK**2 or first.shape[1] != 3:
        return None
    return {
        "features": int(first.shape[0]),
        "depth": names["body"][-1] // 2 - 1,
        "scale": round((last.shape[0] / 3) ** 0.5),
        "context_features": int(branch.shape[0]),
        "context_depth": names["context"][-1] // 2 - 1,
    }


def _numbers(state: Mapping[str, Tensor], part: str) -> list[int]:
    return sorted(int(match[1]) for key in state if (match := re.fullmatch(rf"{part}\.(\d+)\.weight", key)))


def traits(hyper: Hyper) -> Traits:
    """The branch looks ``context_depth + 1`` whole blocks further, the body one pixel a convolution."""
    values = {**DEFAULTS, **hyper}
    reach = (values["context_depth"] + 2) * BLOCK - 1 + values["depth"] + 1
    return Traits(scale=values["scale"], halo_px=-(-reach // BLOCK) * BLOCK, multiple_px=BLOCK)


def flops_per_pixel(hyper: Hyper) -> float:
    """Two operations per multiply-add of the convolutions."""
    values = {**DEFAULTS, **hyper}
    f, c = values["features"], values["context_features"]
    body = 9 * f * (3 + values["depth"] * f + 3 * values["scale"] ** 2)
    branch = 9 * c * (3 * BLOCK**2 + values["context_depth"] * c) + c * f * BLOCK**2
    return 2 * (body + branch / BLOCK**2)


ARCHITECTURE = Architecture(
    name="lite",
    title="Lite (Compact with a context branch)",
    kind="upscaler",
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
)
