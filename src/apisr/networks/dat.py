"""DAT: spatial windows and channels attend by turns, each joined by a convolution branch.

Chen et al., "Dual Aggregation Transformer for Image Super-Resolution", ICCV 2023 (arXiv 2308.03364). State-dict names
are those of the released checkpoints; their stored offset tables, indices and masks are ignored and computed here,
once per size. Position biases depend on parameters only and are computed once at inference.

The channel attention of every second block takes its statistics from the whole input: cut into tiles, the result
differs a little from that of the whole picture (unlike windows and convolutions).

    >>> import torch
    >>> net = DAT(features=32, depths=(2,), heads=(2,), split=(4, 8), scale=2).eval()
    >>> net(torch.rand(1, 3, 10, 12)).shape
    torch.Size([1, 3, 20, 24])
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.functional import is_tracing, unit_vectors
from apisr.networks.position_tables import pair_index
from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

Upsampler = Literal["pixelshuffle", "pixelshuffledirect"]

#: DAT-small as APISR uses it.
DEFAULTS: HyperDict = {
    "features": 180,
    "depths": [6] * 6,
    "heads": [6] * 6,
    "split": [8, 16],
    "expansion": 2.0,
    "scale": 4,
    "upsampler": "pixelshuffledirect",
    "connection": "1conv",
    "tail_features": 64,
}
MEAN = (0.4488, 0.4371, 0.4040)
HALO_PX = 32


class PositionBias(nn.Module):
    """Maps relative offsets to a bias per head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.pos_proj = nn.Linear(2, width)
        self.pos1 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))
        self.pos2 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))
        self.pos3 = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, heads))

    def forward(self, offsets: Tensor) -> Tensor:
        """Map (pairs, 2) to (pairs, heads)."""
        return self.pos3(self.pos2(self.pos1(self.pos_proj(offsets))))


class WindowAttention(nn.Module):
    """Attention within windows of `rows` x `columns` pixels."""

    offsets: Tensor
    index: Tensor

    def __init__(self, features: int, heads: int, rows: int, columns: int) -> None:
        super().__init__()
        self.heads, self.rows, self.columns = heads, rows, columns
        self.pos = PositionBias(features // 4 // 4, heads)
        self.register_buffer("offsets", _offsets(rows, columns), persistent=False)
        index = pair_index((rows, columns), (rows, columns))
        self.register_buffer("index", torch.from_numpy(index), persistent=False)
        self._cached: tuple[tuple[object, ...], Tensor] | None = None

    def bias(self) -> Tensor:
        """Return (1, heads, tokens, tokens)."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or is_tracing():
            return self._compute_bias()
        key = tuple((p.data_ptr(), p._version if not p.is_inference() else 0, p.dtype) for p in self.parameters())
        if self._cached is None or self._cached[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                self._cached = (key, self._compute_bias())
        return self._cached[1]

    def _compute_bias(self) -> Tensor:
        values = self.pos(self.offsets.to(self.pos.pos_proj.weight.dtype))
        return values[self.index].permute(2, 0, 1).unsqueeze(0).contiguous()

    def forward(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Map (N, H, W, 3, C) to (N, H, W, C), sizes multiples of the window; `mask` (windows, tokens, tokens) adds."""
        batch, height, width, _, features = qkv.shape
        down, across = height // self.rows, width // self.columns
        parts = qkv.reshape(batch, down, self.rows, across, self.columns, 3, self.heads, features // self.heads)
        parts = parts.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(
            3, batch * down * across, self.heads, self.rows * self.columns, features // self.heads
        )
        q, k, v = parts.unbind(0)
        bias = self.bias()
        if mask is not None:
            bias = bias + mask.to(bias.dtype).unsqueeze(1).repeat(batch, 1, 1, 1)
        scale = (features // self.heads) ** -0.5
        if is_tracing():
            mixed = torch.softmax((q * scale) @ k.transpose(-1, -2) + bias, -1) @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=scale)
        mixed = mixed.reshape(batch, down, across, self.heads, self.rows, self.columns, features // self.heads)
        return mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, features)

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "_cached": None}


class Interaction(nn.Module):
    """What both attentions share: projections, a depthwise convolution branch, and the two adaptive maps."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)
        self.dwconv = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1, groups=features), nn.BatchNorm2d(features), nn.GELU()
        )
        self.channel_interaction = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(features, features // 8, 1),
            nn.BatchNorm2d(features // 8),
            nn.GELU(),
            nn.Conv2d(features // 8, features, 1),
        )
        self.spatial_interaction = nn.Sequential(
            nn.Conv2d(features, features // 16, 1),
            nn.BatchNorm2d(features // 16),
            nn.GELU(),
            nn.Conv2d(features // 16, 1, 1),
        )


class SpatialAttention(Interaction):
    """Two halves of the channels attend in flat and in upright windows; shifted in some blocks."""

    def __init__(self, features: int, heads: int, split: Sequence[int], *, shifted: bool) -> None:
        super().__init__(features)
        self.split, self.shifted = (split[0], split[1]), shifted
        self.attns = nn.ModuleList(
            (
                WindowAttention(features // 2, heads // 2, split[0], split[1]),
                WindowAttention(features // 2, heads // 2, split[1], split[0]),
            )
        )
        self._masks: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same."""
        _, height, width, features = x.shape
        qkv = self.qkv(x).unflatten(-1, (3, features))
        value = qkv[..., 2, :].permute(0, 3, 1, 2)
        unit = max(self.split)
        if is_tracing():
            bottom, right = 0, 0  # exported networks are given whole windows
        else:
            bottom, right = -height % unit, -width % unit
        if bottom or right:
            qkv = functional.pad(qkv, (0, 0, 0, 0, 0, right, 0, bottom))
        halves = (qkv[..., : features // 2], qkv[..., features // 2 :])
        shifts = ((self.split[0] // 2, self.split[1] // 2), (self.split[1] // 2, self.split[0] // 2))
        masks = self._shift_masks(height + bottom, width + right, x.device) if self.shifted else (None, None)
        attended: list[Tensor] = []
        for half, shift, mask, attention in zip(halves, shifts, masks, self.attns, strict=True):
            if self.shifted:
                half = torch.roll(half, (-shift[0], -shift[1]), (1, 2))
            mixed = attention(half, mask)
            attended.append(torch.roll(mixed, shift, (1, 2)) if self.shifted else mixed)
        y = torch.cat(attended, -1)[:, :height, :width]
        near = self.dwconv(value)
        channel = self.channel_interaction(near).permute(0, 2, 3, 1)
        spatial = self.spatial_interaction(y.permute(0, 3, 1, 2))
        joined = y * torch.sigmoid(channel) + (torch.sigmoid(spatial) * near).permute(0, 2, 3, 1)
        return self.proj(joined)

    def _shift_masks(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        rows, columns = self.split
        if is_tracing():
            return _shift_mask(height, width, rows, columns, device), _shift_mask(height, width, columns, rows, device)
        key = (height, width, device)
        if key not in self._masks:
            if len(self._masks) >= 4:
                self._masks.clear()
            with torch.inference_mode(False), torch.no_grad():
                first = _shift_mask(height, width, rows, columns, device)
                self._masks[key] = (first, _shift_mask(height, width, columns, rows, device))
        return self._masks[key]

    def __getstate__(self) -> dict[str, object]:
        """Leave the cached masks out of copies and pickles."""
        return {**self.__dict__, "_masks": {}}


class ChannelAttention(Interaction):
    """Channels attend to channels, over all pixels."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__(features)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same."""
        batch, height, width, features = x.shape
        heads = self.temperature.shape[0]
        qkv = self.qkv(x).reshape(batch, height * width, 3, heads, features // heads).permute(2, 0, 3, 4, 1)
        q, k, v = qkv.unbind(0)
        q, k = unit_vectors(q), unit_vectors(k)
        weights = torch.softmax(((q @ k.transpose(-1, -2)) * self.temperature).float(), -1).to(v.dtype)
        y = (weights @ v).permute(0, 3, 1, 2).reshape(batch, height, width, features)
        near = self.dwconv(v.reshape(batch, features, height, width))
        channel = self.channel_interaction(y.permute(0, 3, 1, 2))
        spatial = self.spatial_interaction(near).permute(0, 2, 3, 1)
        joined = y * torch.sigmoid(spatial) + (near * torch.sigmoid(channel)).permute(0, 2, 3, 1)
        return self.proj(joined)


class SpatialGate(nn.Module):
    """Half of the channels, convolved, weighs the other half."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.conv = nn.Conv2d(features, features, 3, padding=1, groups=features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, 2C) to (N, H, W, C)."""
        first, second = x.chunk(2, -1)
        return first * self.conv(self.norm(second).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class FeedForward(nn.Module):
    """Linear, GELU, spatial gate, linear."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.sg = SpatialGate(hidden // 2)
        self.fc2 = nn.Linear(hidden // 2, features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same."""
        return self.fc2(self.sg(functional.gelu(self.fc1(x))))


class Block(nn.Module):
    """Norm, attention, residual; norm, feed-forward, residual."""

    def __init__(self, features: int, attention: nn.Module, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.attn = attention
        self.ffn = FeedForward(features, hidden)
        self.norm2 = nn.LayerNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Group(nn.Module):
    """Blocks, a convolution, plus the group's input."""

    def __init__(self, features: int, blocks: Sequence[Block], connection: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.conv = _connection(features, connection)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same."""
        y = x
        for block in self.blocks:
            y = block(y)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DAT(nn.Module):
    """The dual aggregation transformer.

    Args:
        features: channels of the body.
        depths: blocks of each group.
        heads: attention heads of each group.
        split: height and width of the windows of the first half of the heads (the second half: turned).
        expansion: hidden channels of the feed-forward part over `features`.
        scale: output size over input size.
        upsampler: ``pixelshuffledirect`` (one step) or ``pixelshuffle``.
        connection: ``1conv`` or ``3conv`` at the end of each group.
        tail_features: channels of the ``pixelshuffle`` tail.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        features: int = 180,
        depths: Sequence[int] = (6,) * 6,
        heads: Sequence[int] = (6,) * 6,
        split: Sequence[int] = (8, 16),
        expansion: float = 2.0,
        scale: int = 4,
        upsampler: Upsampler = "pixelshuffledirect",
        connection: str = "1conv",
        tail_features: int = 64,
    ) -> None:
        super().__init__()
        self.scale, self.upsampler, self.unit = scale, upsampler, max(split)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.before_RG = nn.ModuleDict({"1": nn.LayerNorm(features)})
        self.layers = nn.ModuleList()
        for group, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            blocks: list[Block] = []
            for number in range(depth):
                attention: nn.Module
                if number % 2 == 0:
                    attention = SpatialAttention(features, count, split, shifted=(number % 4 == 0) == (group % 2 == 1))
                else:
                    attention = ChannelAttention(features, count)
                blocks.append(Block(features, attention, int(features * expansion)))
            self.layers.append(Group(features, blocks, connection))
        self.norm = nn.LayerNorm(features)
        self.conv_after_body = _connection(features, connection)
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(nn.Conv2d(features, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
        else:
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(features, tail_features, 3, padding=1), nn.LeakyReLU())
            steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
            layers: list[nn.Module] = []
            for step in steps:
                layers += [nn.Conv2d(tail_features, step**2 * tail_features, 3, padding=1), nn.PixelShuffle(step)]
            self.upsample = nn.Sequential(*layers)
            self.conv_last = nn.Conv2d(tail_features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``; any size."""
        mean = self.mean.to(x.dtype)
        first = self.conv_first((x - mean).contiguous(memory_format=torch.channels_last))
        y = self.before_RG["1"](first.permute(0, 2, 3, 1))
        for group in self.layers:
            y = group(y)
        y = self.conv_after_body(self.norm(y).permute(0, 3, 1, 2)) + first
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(y) + mean
        return self.conv_last(self.upsample(self.conv_before_upsample(y))) + mean


def build(hyper: Hyper) -> DAT:
    """Build from hyper-parameters (keys of :data:`DEFAULTS`)."""
    values = {**DEFAULTS, **hyper}
    values["upsampler"] = cast(Upsampler, values["upsampler"])
    return DAT(**values)


def detect(state: Mapping[str, Tensor]) -> HyperDict | None:
    """Read the hyper-parameters.

    The split is in the stored offsets of official checkpoints; it is in no shape, so without them 8x16 is assumed.
    """
    if "before_RG.1.weight" not in state or "layers.0.blocks.0.attn.attns.0.pos.pos_proj.weight" not in state:
        return None
    numbers = [(int(m[1]), int(m[2])) for key in state if (m := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", key))]
    depths = [1 + max(b for g, b in numbers if g == group) for group in range(1 + max(g for g, _ in numbers))]
    heads = [2 * int(state[f"layers.{g}.blocks.0.attn.attns.0.pos.pos3.2.bias"].shape[0]) for g in range(len(depths))]
    features = int(state["conv_first.weight"].shape[0])
    split = [8, 16]
    offsets = state.get("layers.0.blocks.0.attn.attns.0.rpe_biases")
    if offsets is not None:
        split = [int(offsets[:, 0].max()) + 1, int(offsets[:, 1].max()) + 1]
    hyper: HyperDict = {
        "features": features,
        "depths": depths,
        "heads": heads,
        "split": split,
        "expansion": state["layers.0.blocks.0.ffn.fc1.weight"].shape[0] / features,
        "connection": "1conv" if "layers.0.conv.weight" in state else "3conv",
        "tail_features": 64,
    }
    if "conv_before_upsample.0.weight" not in state:
        scale = round((state["upsample.0.weight"].shape[0] / 3) ** 0.5)
        return {**hyper, "scale": scale, "upsampler": "pixelshuffledirect"}
    hyper["tail_features"] = int(state["conv_before_upsample.0.weight"].shape[0])
    steps = [key for key in state if re.fullmatch(r"upsample\.\d+\.weight", key)]
    triple = state["upsample.0.weight"].shape[0] == 9 * hyper["tail_features"]
    return {**hyper, "scale": 3 if triple else 2 ** len(steps), "upsampler": "pixelshuffle"}


def traits(hyper: Hyper) -> ModelTraits:
    """Windows start at the top left: tiles must begin at multiples of the longer side."""
    values = {**DEFAULTS, **hyper}
    unit = max(values["split"])
    return ModelTraits(scale=values["scale"], halo_px=-(-HALO_PX // unit) * unit, multiple_px=unit)


def flops_per_pixel(hyper: Hyper) -> float:
    """Two operations per multiply-add."""
    values = {**DEFAULTS, **hyper}
    c, scale, t = values["features"], values["scale"], values["tail_features"]
    tokens = values["split"][0] * values["split"][1]
    shared = 4 * c * c + 9 * c + c * (c // 16) + values["expansion"] * c * c * 1.5 + 9 * values["expansion"] * c / 2
    body = 0.0
    for depth, heads in zip(values["depths"], values["heads"], strict=True):
        spatial, channel = (depth + 1) // 2, depth // 2
        body += depth * shared + spatial * 2 * tokens * c + channel * 2 * c * c / heads
        body += 9 * c * c * (1 if values["connection"] == "1conv" else 0.6)
    tail = 9 * c * 3 * scale**2
    if values["upsampler"] == "pixelshuffle":
        tail = 9 * c * t + 9 * 4 * t * t * (1 if scale == 2 else 5) + 9 * t * 3 * scale**2
    return 2 * (9 * 3 * c + body + 9 * c * c + tail)


def _connection(features: int, kind: str) -> nn.Module:
    if kind == "1conv":
        return nn.Conv2d(features, features, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(features, features // 4, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(features // 4, features // 4, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(features // 4, features, 3, padding=1),
    )


def _offsets(rows: int, columns: int) -> Tensor:
    """All relative offsets ((2*rows-1)*(2*columns-1), 2) in pixels."""
    down = torch.arange(1 - rows, rows, dtype=torch.float32)
    across = torch.arange(1 - columns, columns, dtype=torch.float32)
    return torch.stack(torch.meshgrid(down, across, indexing="ij"), -1).flatten(0, 1)


def _shift_mask(height: int, width: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """(windows, tokens, tokens): -100 between pixels that the shift by half a window brought together."""
    down = torch.arange(height, device=device)
    across = torch.arange(width, device=device)
    vertical = (down >= height - rows).long() + (down >= height - rows // 2).long()
    horizontal = (across >= width - columns).long() + (across >= width - columns // 2).long()
    region = 3 * vertical[:, None] + horizontal[None, :]
    region = region.reshape(height // rows, rows, width // columns, columns).transpose(1, 2).reshape(-1, rows * columns)
    return (region[:, :, None] != region[:, None, :]).float() * -100.0


ARCHITECTURE = Architecture(
    name="dat",
    title="DAT (dual aggregation transformer)",
    kind="upscaler",
    arguments=tuple(DEFAULTS),
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
    derived=("rpe_biases", "relative_position_index", "attn_mask_"),
)
