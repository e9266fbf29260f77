"""Lite: Compact with a wider view, for processors.

A :class:`~apisr.networks.compact.Compact` network at full resolution, and beside it a small stack of convolutions
with ReLU at a quarter of the resolution (pixels un-shuffled by 4). What that *context branch* sees is added to the
features after the first convolution, so that everything behind can use it. Blocks and blotches of heavy compression
are larger than what a dozen 3x3 convolutions see; the branch of the shipped `apisr-x4-fast` sees 40
pixels further for a third of the body's cost. A *deep level* (optional) does the same to the branch at an eighth of the
resolution, for little more: its convolutions begin and end in the middle of the branch.

    >>> import torch
    >>> net = Lite(features=16, depth=2, scale=2, context_features=8, context_depth=1)
    >>> net(torch.rand(1, 3, 8, 12)).shape
    torch.Size([1, 3, 16, 24])
    >>> traits({"context_depth": 8, "depth": 6, "deep_features": 128, "deep_depth": 4}).halo_px
    88
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.compact import Activation, activation_layer
from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

DEFAULTS: HyperDict = {
    "features": 48,
    "depth": 8,
    "scale": 4,
    "context_features": 64,
    "context_depth": 6,
    "deep_features": 0,
    "deep_depth": 0,
    "activation": "relu",
}

#: Side of the blocks that are one pixel of the context branch.
BLOCK = 4
#: Side, in pixels of the context branch, of the blocks that are one pixel of the deep level.
DEEP_BLOCK = 2


class Lite(nn.Module):
    """Plain convolutions, a context branch, pixel shuffle, plus the nearest-enlarged input.

    Args:
        features: channels of the body.
        depth: convolutions of the body between the first and the last.
        scale: output size over input size.
        context_features: channels of the context branch.
        context_depth: 3x3 convolutions of the context branch after its first.
        deep_features: channels of the deep level; 0: there is none.
        deep_depth: 3x3 convolutions of the deep level.
        activation: of the body, as in :class:`~apisr.networks.compact.Compact`; the branch has ReLU.
    """

    def __init__(
        self,
        *,
        features: int = 48,
        depth: int = 8,
        scale: int = 4,
        context_features: int = 64,
        context_depth: int = 6,
        deep_features: int = 0,
        deep_depth: int = 0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.multiple_px = BLOCK * (DEEP_BLOCK if deep_features else 1)
        #: Place in ``context`` of the convolution whose result the deep level takes and adds to.
        self.deep_place = 2 * (context_depth // 2)
        body: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1)]
        for _ in range(depth):
            body += [activation_layer(activation, features), nn.Conv2d(features, features, 3, padding=1)]
        body += [activation_layer(activation, features), nn.Conv2d(features, 3 * scale**2, 3, padding=1)]
        self.body = nn.ModuleList(body)
        branch: list[nn.Module] = [nn.Conv2d(3 * BLOCK**2, context_features, 3, padding=1)]
        for _ in range(context_depth):
            branch += [nn.ReLU(inplace=True), nn.Conv2d(context_features, context_features, 3, padding=1)]
        self.context = nn.ModuleList([*branch, nn.ReLU(inplace=True), _joint(context_features, features * BLOCK**2)])
        if deep_features:
            deep: list[nn.Module] = [nn.Conv2d(context_features * DEEP_BLOCK**2, deep_features, 1)]
            for _ in range(deep_depth):
                deep += [nn.ReLU(inplace=True), nn.Conv2d(deep_features, deep_features, 3, padding=1)]
            last = _joint(deep_features, context_features * DEEP_BLOCK**2)
            self.deep = nn.ModuleList([*deep, nn.ReLU(inplace=True), last])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``; any size (exported: multiples of 4 or 8)."""
        height, width = x.shape[-2:]
        bottom, right = -height % self.multiple_px, -width % self.multiple_px
        if not torch.jit.is_tracing() and (bottom or right):  # pyright: ignore[reportPrivateImportUsage]
            whole = self(functional.pad(x, (0, right, 0, bottom), "replicate"))
            return whole[:, :, : height * self.scale, : width * self.scale]
        wide = functional.pixel_unshuffle(x, BLOCK)
        for place, layer in enumerate(self.context):
            wide = layer(wide)
            if self.multiple_px > BLOCK and place == self.deep_place:
                wide = wide + self._deep(wide)
        y = self.body[0](x) + functional.pixel_shuffle(wide, BLOCK)
        for layer in self.body[1:]:
            y = layer(y)
        return functional.pixel_shuffle(y, self.scale) + functional.interpolate(
            x, scale_factor=self.scale, mode="nearest"
        )

    def _deep(self, wide: Tensor) -> Tensor:
        y = functional.pixel_unshuffle(wide, DEEP_BLOCK)
        for layer in self.deep:
            y = layer(y)
        return functional.pixel_shuffle(y, DEEP_BLOCK)


def _joint(channels: int, out_channels: int) -> nn.Conv2d:
    """The last convolution of a branch, zero: training starts as if the branch were not there."""
    joint = nn.Conv2d(channels, out_channels, 1)
    nn.init.zeros_(joint.weight)
    nn.init.zeros_(cast(Tensor, joint.bias))
    return joint


def build(hyper: Hyper) -> Lite:
    """Build from hyper-parameters (keys of :data:`DEFAULTS`)."""
    values = {**DEFAULTS, **hyper}
    return Lite(**{key: values[key] for key in DEFAULTS})


def detect(state: Mapping[str, Tensor]) -> HyperDict | None:
    """Read the hyper-parameters from the shapes; activations without parameters are taken for ReLU."""
    names = {part: _numbers(state, part) for part in ("body", "context", "deep")}
    known = tuple(f"{part}." for part in names)
    if not (names["body"] and names["context"]) or any(not key.startswith(known) for key in state):
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
        "deep_features": int(state["deep.0.weight"].shape[0]) if names["deep"] else 0,
        "deep_depth": names["deep"][-1] // 2 - 1 if names["deep"] else 0,
        "activation": "prelu" if "body.1.weight" in state else "relu",
    }


def _numbers(state: Mapping[str, Tensor], part: str) -> list[int]:
    return sorted(int(match[1]) for key in state if (match := re.fullmatch(rf"{part}\.(\d+)\.weight", key)))


def traits(hyper: Hyper) -> ModelTraits:
    """The branch looks ``context_depth + 1`` whole blocks further, the body one pixel a convolution.

    The deep level looks ``deep_depth`` of its larger blocks further, and to the end of the one it is in.
    """
    values = {**DEFAULTS, **hyper}
    multiple = BLOCK * (DEEP_BLOCK if values["deep_features"] else 1)
    reach = max(place - _first_seen(place, values) for place in range(multiple))
    return ModelTraits(scale=values["scale"], halo_px=-(-reach // multiple) * multiple, multiple_px=multiple)


def _first_seen(place: int, values: Hyper) -> int:
    """The first pixel of a line of the input that pixel `place` of it depends on: through all layers, backwards."""
    before = values["context_depth"] // 2  # convolutions of the branch, after its first, before the deep level
    block = (place - values["depth"] - 1) // BLOCK - (values["context_depth"] - before)
    if values["deep_features"]:
        block = DEEP_BLOCK * (block // DEEP_BLOCK - values["deep_depth"])
    return BLOCK * (block - before - 1)


def flops_per_pixel(hyper: Hyper) -> float:
    """Two operations per multiply-add of the convolutions."""
    values = {**DEFAULTS, **hyper}
    f, c, d = values["features"], values["context_features"], values["deep_features"]
    body = 9 * f * (3 + values["depth"] * f + 3 * values["scale"] ** 2)
    branch = 9 * c * (3 * BLOCK**2 + values["context_depth"] * c) + c * f * BLOCK**2
    deep = 2 * c * d + 9 * values["deep_depth"] * d * d / DEEP_BLOCK**2
    return 2 * (body + (branch + deep) / BLOCK**2)


ARCHITECTURE = Architecture(
    name="lite",
    title="Lite (Compact with a context branch)",
    kind="upscaler",
    arguments=tuple(DEFAULTS),
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
)
