"""GRL: the network of the paper, windows and anchored stripes of attention between convolutions, written to be fast.

Li et al., "Efficient and Explicit Modelling of Image Hierarchies for Image Restoration", CVPR 2023 (arXiv 2303.00748),
in the sizes that APISR uses (paper section 4.1: the tiny one with nearest + convolution, 1.03 M parameters). State-dict
names are those of the released checkpoints; stored tables, indices and masks are ignored and computed here.

Where the time goes, and what is done about it:

- Tokens are kept in window order (all pixels of a window together) from the first block of a stage to the last. Linear
  layers, norms and the anchored stripe attention are then local to runs of rows; shifted windows are one gather.
- At inference the blocks run over bundles of windows that fit in the cache (:data:`BUNDLE`): no intermediate of the
  whole picture is made, and the linear layers do not wait for freshly allocated memory.
- There, in float32, queries, keys and scores are kept with the tokens along memory (channels, tokens): every sum and
  product of the cosine similarity and of the softmax then runs over whole vector registers, not over 16 channels. The
  scores are bounded, so that the softmax needs no maximum (:data:`PLAIN_SCALE`).
- Position biases depend on parameters only and are computed once; index lists once per size.
- Queries and keys are normalised in float32 and the softmax is fused (scaled_dot_product_attention), so that float16
  and bfloat16 hold: the largest score is 116.
- Nearest x2 before a 3x3 convolution equals four 2x2 convolutions on the small grid: 4 multiplications in place of 9.
- At inference on the CPU the tail runs as a stream of rows: each convolution keeps the two rows that it needs from the
  band before, nothing is computed twice, and bands are small enough to stay in the cache and in memory already mapped.

    >>> import torch
    >>> net = GRL(features=16, depths=(2,), upsampler="pixelshuffledirect").eval()
    >>> with torch.inference_mode():
    ...     net(torch.rand(1, 3, 16, 24)).shape
    torch.Size([1, 3, 64, 96])
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.registry import Architecture, Hyper
from apisr.networks.traits import ModelTraits

Upsampler = Literal["nearest+conv", "pixelshuffle", "pixelshuffledirect"]

#: The paper's network ("tiny2" of the reference).
DEFAULTS: dict[str, Any] = {
    "features": 64,
    "depths": [4, 4, 4, 4],
    "heads_window": 2,
    "heads_stripe": 2,
    "window": 8,
    "anchor_factor": 2,
    "mlp_ratio": 2.0,
    "scale": 4,
    "upsampler": "nearest+conv",
    "tail_features": 64,
}

MEAN = (0.4488, 0.4371, 0.4040)
#: Largest cosine scale: exp(min(logit_scale, ln 100)).
MAX_LOGIT_SCALE = math.log(100.0)
#: Windows that go through a block together at inference on the CPU (64 of 64 tokens: scores of 2 MB).
BUNDLE = 64
#: Bytes of a band of the tail's largest map, on the CPU.
BAND_BYTES = 8 << 20
#: Largest cosine scale up to which exponentials of the scores, bias (0 to 16) included, stay far inside float32.
PLAIN_SCALE = 60.0
#: Halo in input pixels at which a cut tile and the whole picture agree (measured, see docs/networks.md).
HALO_PX = 32

_MASKED = -100.0


class CosineBias(nn.Module):
    """Scale of the cosine similarity and the position bias of one attention (parameters only).

    Args:
        heads: attention heads.
        side: side of the queries' window.
        key_side: side of the keys' window.
    """

    table: Tensor
    index: Tensor

    def __init__(self, heads: int, side: int, key_side: int) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512, bias=True), nn.ReLU(inplace=True), nn.Linear(512, heads, bias=False)
        )
        self.register_buffer("table", _offset_table(max(side, key_side), min(side, key_side)), persistent=False)
        self.register_buffer("index", _pair_index(side, key_side), persistent=False)
        self._cached: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    def scale_and_bias(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return exp(logit scale) (heads, 1, 1) and the bias (1, heads, queries, keys).

        Without gradients both are kept until a parameter changes.
        """
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
            return self._compute(dtype)
        if torch.compiler.is_compiling():
            return self._compute(dtype)
        key = (dtype, *((p.data_ptr(), p._version if not p.is_inference() else 0, p.device) for p in self.parameters()))
        if self._cached is None or self._cached[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                self._cached = (key, *self._compute(dtype))
        return self._cached[1], self._cached[2]

    def exponents(self) -> tuple[Tensor, Tensor] | None:
        """Return scale and bias (heads, keys, queries) for a softmax without its maximum, None if that could overflow.

        The middle of the bias' range is subtracted, which a softmax does not notice.
        """
        scale, bias = self.scale_and_bias(torch.float32)
        if float(scale.max()) > PLAIN_SCALE:
            return None
        return scale, (bias[0].transpose(1, 2) - 8).contiguous()

    def _compute(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        first, last = cast(nn.Linear, self.cpb_mlp[0]), cast(nn.Linear, self.cpb_mlp[2])
        hidden = functional.relu(functional.linear(self.table.float(), first.weight.float(), first.bias.float()))
        values = 16 * torch.sigmoid(functional.linear(hidden, last.weight.float()))
        bias = values[self.index].permute(2, 0, 1).unsqueeze(0)
        scale = self.logit_scale.float().clamp(max=MAX_LOGIT_SCALE).exp()
        return scale.to(dtype), bias.to(dtype).contiguous()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "_cached": None}


class _Holder(nn.Module):
    """A name in the state dict: ``_Holder(a=module)`` has the child ``a``."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


@dataclass(frozen=True)
class Exponents:
    """Scale and bias of the three attentions of a block, as :meth:`CosineBias.exponents` gives them.

    Attributes:
        window: pixels to pixels of a window.
        gather: anchors to pixels of a stripe.
        spread: pixels of a stripe to anchors.
    """

    window: tuple[Tensor, Tensor]
    gather: tuple[Tensor, Tensor]
    spread: tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Half of the channels attend in windows, half in stripes through anchors, both `window` x `window` pixels."""

    def __init__(self, features: int, heads_window: int, heads_stripe: int, window: int, anchor_factor: int) -> None:
        super().__init__()
        self.heads_window, self.heads_stripe = heads_window, heads_stripe
        self.window, self.anchor_factor = window, anchor_factor
        anchors = window // anchor_factor
        self.qkv = _Holder(body=nn.Linear(features, 3 * features))
        self.anchor = _Holder(body=nn.ModuleList([_Holder(reduction=nn.Linear(features, features // 2))]))
        self.window_attn = _Holder(attn_transform=CosineBias(heads_window, window, window))
        self.stripe_attn = _Holder(
            attn_transform1=CosineBias(heads_stripe, anchors, window),
            attn_transform2=CosineBias(heads_stripe, window, anchors),
        )
        self.proj = nn.Linear(features, features)

    def in_windows(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of the first half: (windows, tokens, C) -> (windows, tokens, C/2); `mask` adds to the scores."""
        half = x.shape[-1] // 2
        linear = cast(nn.Linear, self.qkv.body)
        qkv = functional.linear(x, linear.weight[: 3 * half], linear.bias[: 3 * half])
        scale, bias = cast(CosineBias, self.window_attn.attn_transform).scale_and_bias(qkv.dtype)
        q, k, v = _unit_heads(qkv, self.heads_window, scale)
        return _attend(q, k, v, bias if mask is None else bias + mask)

    def in_stripes(self, x: Tensor) -> Tensor:
        """Anchored attention of the second half: (windows, tokens, C) -> (windows, tokens, C/2)."""
        half = x.shape[-1] // 2
        linear = cast(nn.Linear, self.qkv.body)
        qkv = functional.linear(x, linear.weight[3 * half :], linear.bias[3 * half :])
        scale_in, bias_in = cast(CosineBias, self.stripe_attn.attn_transform1).scale_and_bias(qkv.dtype)
        scale_out, bias_out = cast(CosineBias, self.stripe_attn.attn_transform2).scale_and_bias(qkv.dtype)
        q, k, v = _unit_heads(qkv, self.heads_stripe, scale_out)
        reduction = cast(nn.Linear, cast(nn.ModuleList, self.anchor.body)[0].reduction)
        side, factor = self.window, self.anchor_factor
        cells = x.view(-1, side // factor, factor, side // factor, factor, 2 * half)
        # Slices added up: many times faster on the CPU than a mean over two inner dimensions.
        pooled = sum((cells[:, :, i, :, j] for i in range(factor) for j in range(factor)), x.new_zeros(())) / factor**2
        pooled = pooled.view(-1, (side // factor) ** 2, 2 * half)
        anchors = _unit(reduction(pooled).unflatten(-1, (self.heads_stripe, -1)))
        anchors = anchors.transpose(1, 2)
        gathered = _attend(anchors * scale_in, k, v, bias_in)
        return _attend(q, anchors, gathered.unflatten(-1, (self.heads_stripe, -1)).transpose(1, 2), bias_out)

    def exponents(self, x: Tensor) -> Exponents | None:
        """What :meth:`windows_in_columns` and :meth:`stripes_in_columns` need, None if they would not be exact."""
        if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return None
        window = cast(CosineBias, self.window_attn.attn_transform).exponents()
        gather = cast(CosineBias, self.stripe_attn.attn_transform1).exponents()
        spread = cast(CosineBias, self.stripe_attn.attn_transform2).exponents()
        return None if window is None or gather is None or spread is None else Exponents(window, gather, spread)

    def windows_in_columns(self, x: Tensor, exponents: Exponents) -> Tensor:
        """Like :meth:`in_windows` without a mask: (windows, tokens, C) -> (windows, C/2, tokens)."""
        scale, bias = exponents.window
        q, k, v = self._columns(x, slice(0, 3 * x.shape[-1] // 2), self.heads_window, scale)
        return _attend_columns(q, k, v, bias).view(x.shape[0], -1, x.shape[1])

    def stripes_in_columns(self, x: Tensor, exponents: Exponents) -> Tensor:
        """Like :meth:`in_stripes`: (windows, tokens, C) -> (windows, C/2, tokens)."""
        count, tokens, features = x.shape
        scale, bias = exponents.spread
        q, k, v = self._columns(x, slice(3 * features // 2, None), self.heads_stripe, scale)
        planes = x.view(count, self.window, self.window, features).permute(0, 3, 1, 2)
        pooled = functional.avg_pool2d(planes, self.anchor_factor).flatten(2)
        reduction = cast(nn.Linear, cast(nn.ModuleList, self.anchor.body)[0].reduction)
        anchors = _linear_columns(pooled, reduction.weight, reduction.bias)
        anchors = anchors.view(count * self.heads_stripe, -1, pooled.shape[-1])
        anchors = anchors * anchors.square().sum(1, keepdim=True).clamp_min_(1e-24).rsqrt_()
        scale_in, bias_in = exponents.gather
        scaled = anchors.unflatten(0, (count, -1)) * scale_in
        gathered = _attend_columns(scaled.flatten(0, 1), k, v, bias_in)
        return _attend_columns(q, anchors, gathered, bias).view(count, -1, tokens)

    def _columns(self, x: Tensor, rows: slice, heads: int, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled unit queries, unit keys and values of (windows, tokens, C), each (windows * heads, d, tokens)."""
        count, tokens, _ = x.shape
        linear = cast(nn.Linear, self.qkv.body)
        qkv = _linear_columns(x.transpose(1, 2), linear.weight[rows], linear.bias[rows])
        parts = qkv.view(count, 3, heads, -1, tokens)
        pair = parts[:, :2]
        factor = pair.square().sum(3, keepdim=True).clamp_min_(1e-24).rsqrt_()
        factor[:, 0].mul_(scale)
        unit = x.new_empty(2, count, *parts.shape[2:])
        torch.mul(pair.transpose(0, 1), factor.transpose(0, 1), out=unit)
        return unit[0].flatten(0, 1), unit[1].flatten(0, 1), parts[:, 2].flatten(0, 1)


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.fc2 = nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        hidden = functional.gelu(self.fc1(x))
        return self.fc2(hidden)


@dataclass(frozen=True)
class Grid:
    """The pictures' size in windows, and index lists for shifted windows.

    Attributes:
        batch: pictures.
        rows: windows in a column.
        columns: windows in a row.
        shift: for each kind of shifted window (inner, right, bottom, corner) the token numbers, window after window.
        back: for each token, where it went in the concatenation of `shift`.
        masks: for each kind, what is added to its scores: None or (1, 1, tokens, tokens).
    """

    batch: int
    rows: int
    columns: int
    shift: tuple[Tensor, ...]
    back: Tensor
    masks: tuple[Tensor | None, ...]


class Block(nn.Module):
    """``x + norm1(attention(x))``, then ``x + norm2(mlp(x))``."""

    def __init__(self, features: int, attention: Attention, hidden: int, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.attn = attention
        self.norm1 = nn.LayerNorm(features)
        self.mlp = Mlp(features, hidden)
        self.norm2 = nn.LayerNorm(features)
        self.shifted = shifted
        self.drop_path = drop_path

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Map (windows, tokens, C) to the same, everything at once (training, accelerators, export)."""
        if not self.shifted:
            windows = self.attn.in_windows(x, None)
        elif _is_tracing():
            windows = self._in_rolled_windows(x, grid)
        else:
            windows = self._in_shifted_windows(x, grid, bundle=None)
            windows = windows.index_select(0, grid.back).view(x.shape[0], x.shape[1], -1)
        return self._finish(x, torch.cat((windows, self.attn.in_stripes(x)), -1), grid.batch)

    def forward_in_bundles(self, x: Tensor, grid: Grid, out: Tensor) -> None:
        """Write the block's result into `out` (which may be `x`), a few windows at a time."""
        exponents = self.attn.exponents(x)
        if exponents is not None:
            self._forward_in_columns(x, grid, out, exponents)
            return
        shifted = None
        if self.shifted:
            shifted = self._in_shifted_windows(x, grid, bundle=BUNDLE)
            shifted = shifted.index_select(0, grid.back).view(x.shape[0], x.shape[1], -1)
        for start in range(0, x.shape[0], BUNDLE):
            part = x[start : start + BUNDLE]
            windows = self.attn.in_windows(part, None) if shifted is None else shifted[start : start + BUNDLE]
            out[start : start + BUNDLE] = self._finish(part, torch.cat((windows, self.attn.in_stripes(part)), -1), 1)

    def _forward_in_columns(self, x: Tensor, grid: Grid, out: Tensor, exponents: Exponents) -> None:
        tokens, half = x.shape[1], x.shape[2] // 2
        weight, bias = self.attn.proj.weight, self.attn.proj.bias
        first, second = weight[:, :half].t(), weight[:, half:].t()
        shifted = self._in_shifted_windows(x, grid, bundle=BUNDLE, exponents=exponents) if self.shifted else None
        for start in range(0, x.shape[0], BUNDLE):
            part = x[start : start + BUNDLE]
            count = part.shape[0]
            if shifted is None:
                windows = self.attn.windows_in_columns(part, exponents).transpose(1, 2)
            else:
                back = grid.back[start * tokens : (start + count) * tokens]
                windows = shifted.index_select(0, back).view(count, tokens, half)
            stripes = self.attn.stripes_in_columns(part, exponents).transpose(1, 2)
            y = torch.baddbmm(bias, windows, first.expand(count, -1, -1))
            y = self.norm1(y.baddbmm_(stripes, second.expand(count, -1, -1))).add_(part)
            torch.add(y, self.norm2(self.mlp(y)), out=out[start : start + count])

    def _in_shifted_windows(
        self, x: Tensor, grid: Grid, bundle: int | None, exponents: Exponents | None = None
    ) -> Tensor:
        """Attention of the first half over shifted windows, in their order: (all tokens, C/2)."""
        tokens = x.shape[1]
        flat = x.flatten(0, 1)
        parts: list[Tensor] = []
        for index, mask in zip(grid.shift, grid.masks, strict=True):
            step = index.shape[0] if bundle is None else bundle * tokens
            for start in range(0, index.shape[0], step):
                moved = flat.index_select(0, index[start : start + step]).unflatten(0, (-1, tokens))
                if exponents is not None and mask is None:
                    done = self.attn.windows_in_columns(moved, exponents).transpose(1, 2)
                else:
                    done = self.attn.in_windows(moved, None if mask is None else mask.to(x.dtype))
                parts.append(done.reshape(-1, done.shape[-1]))
        return torch.cat(parts)

    def _in_rolled_windows(self, x: Tensor, grid: Grid) -> Tensor:
        """The same for tracing: sizes stay symbols, so that the exported graph accepts any."""
        side = self.attn.window
        picture = torch.roll(_from_windows(x, grid, side), (-(side // 2), -(side // 2)), (2, 3))
        mask = _rolled_mask(grid, side).to(x.dtype)
        windows = self.attn.in_windows(_to_windows(picture, side), mask)
        back = torch.roll(_from_windows(windows, grid, side), (side // 2, side // 2), (2, 3))
        return _to_windows(back, side)

    def _finish(self, x: Tensor, attended: Tensor, batch: int) -> Tensor:
        projection = self.attn.proj
        x = x + self._dropped(self.norm1(projection(attended)), batch)
        return x + self._dropped(self.norm2(self.mlp(x)), batch)

    def _dropped(self, branch: Tensor, batch: int) -> Tensor:
        """Stochastic depth, while training: leave the branch out for some pictures, strengthen it for the others."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = (torch.rand(batch, 1, 1, 1, device=branch.device) >= self.drop_path).to(branch.dtype)
        return (branch.unflatten(0, (batch, -1)) * (kept / (1 - self.drop_path))).flatten(0, 1)


class Stage(nn.Module):
    """Blocks, a convolution, plus the stage's input."""

    def __init__(self, features: int, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.conv = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Map (windows, tokens, C) to the same."""
        blocks = cast(list[Block], list(self.blocks))
        side = blocks[0].attn.window
        y = x
        if _in_bundles(x):
            y = torch.empty_like(x)
            for number, block in enumerate(blocks):
                block.forward_in_bundles(x if number == 0 else y, grid, y)
            return _to_windows(self.conv(_from_windows(y, grid, side)), side).add_(x)
        for block in blocks:
            y = block(y, grid)
        return _to_windows(self.conv(_from_windows(y, grid, side)), side) + x


class GRL(nn.Module):
    """The paper's network.

    Args:
        features: channels of the body (C).
        depths: blocks of each stage.
        heads_window: heads of the window attention.
        heads_stripe: heads of the stripe attention.
        window: side of windows and stripes.
        anchor_factor: pixels per anchor, in each direction.
        mlp_ratio: hidden channels of the MLP over `features`.
        scale: 4, or 2 (or any for ``pixelshuffledirect``).
        upsampler: the tail.
        tail_features: channels of the tail.
        drop_path: probability of leaving out the last block while training; grows linearly from 0 over the blocks.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        features: int = 64,
        depths: Sequence[int] = (4, 4, 4, 4),
        heads_window: int = 2,
        heads_stripe: int = 2,
        window: int = 8,
        anchor_factor: int = 2,
        mlp_ratio: float = 2.0,
        scale: int = 4,
        upsampler: Upsampler = "nearest+conv",
        tail_features: int = 64,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.scale, self.window, self.upsampler = scale, window, upsampler
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self._grids: dict[tuple[object, ...], Grid] = {}
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.norm_start = nn.LayerNorm(features)
        rates = [drop_path * number / max(sum(depths) - 1, 1) for number in range(sum(depths))]
        self.layers = nn.ModuleList()
        for depth in depths:
            blocks = [
                Block(
                    features,
                    Attention(features, heads_window, heads_stripe, window, anchor_factor),
                    int(features * mlp_ratio),
                    shifted=number % 2 == 0,
                    drop_path=rates.pop(0),
                )
                for number in range(depth)
            ]
            self.layers.append(Stage(features, blocks))
        self.norm_end = nn.LayerNorm(features)
        self.conv_after_body = nn.Conv2d(features, features, 3, padding=1)
        if upsampler == "pixelshuffledirect":
            self.upsample = _Holder(
                up=nn.Sequential(nn.Conv2d(features, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
            )
        else:
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(features, tail_features, 3, padding=1), nn.LeakyReLU())
            steps = scale.bit_length() - 1
            if upsampler == "pixelshuffle":
                layers: list[nn.Module] = []
                for _ in range(steps):
                    layers += [nn.Conv2d(tail_features, 4 * tail_features, 3, padding=1), nn.PixelShuffle(2)]
                self.upsample = _Holder(up=nn.Sequential(*layers))
            else:
                self.conv_up1 = nn.Conv2d(tail_features, tail_features, 3, padding=1)
                if steps > 1:
                    self.conv_up2 = nn.Conv2d(tail_features, tail_features, 3, padding=1)
                self.conv_hr = nn.Conv2d(tail_features, tail_features, 3, padding=1)
            self.conv_last = nn.Conv2d(tail_features, 3, 3, padding=1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, scale*H, scale*W)``; any size (padded inside to whole windows)."""
        height, width = x.shape[-2:]
        x = _pad(x, self.window) - self.mean.to(x.dtype)
        grid = self._grid(x)
        first = self.conv_first(x.contiguous(memory_format=torch.channels_last))
        y = self.norm_start(_to_windows(first, self.window))
        for stage in self.layers:
            y = stage(y, grid)
        y = self.conv_after_body(_from_windows(self.norm_end(y), grid, self.window)) + first
        y = self._tail(y)
        return y[:, :, : height * self.scale, : width * self.scale] + self.mean.to(y.dtype)

    def _tail(self, x: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return cast(nn.Module, self.upsample.up)(x)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(cast(nn.Module, self.upsample.up)(self.conv_before_upsample(x)))
        if _in_bundles(x):
            return self._tail_in_rows(x)
        x = _leaky(_up_conv(self.conv_before_upsample(x), self.conv_up1))
        if self.scale > 2:
            x = _leaky(_up_conv(x, self.conv_up2))
        return self.conv_last(_leaky(self.conv_hr(x)))

    def _tail_in_rows(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        wide = width * self.scale
        first = cast(nn.Conv2d, self.conv_before_upsample[0])
        layers = [
            RowStream(_plain(first, cast(nn.LeakyReLU, self.conv_before_upsample[1]).negative_slope)),
            RowStream(_phases(self.conv_up1)),
        ]
        if self.scale > 2:
            layers.append(RowStream(_phases(self.conv_up2)))
        layers.append(RowStream(_plain(self.conv_hr, 0.2)))
        layers.append(RowStream(_to_planes(self.conv_last) if x.dtype == torch.float32 else _plain(self.conv_last, 1)))
        out = x.new_empty(batch, 3, height * self.scale, wide)
        row_bytes = batch * wide * self.scale * self.conv_hr.in_channels * x.element_size()
        step = max(4, BAND_BYTES // row_bytes)  # with fewer than four rows the first band could end empty
        done = 0
        for start in range(0, height, step):
            rows, ends = x[:, :, start : start + step], start + step >= height
            for layer in layers:
                rows = layer.push(rows, ends=ends)
            out[:, :, done : done + rows.shape[2]] = rows
            done += rows.shape[2]
        return out

    def _grid(self, x: Tensor) -> Grid:
        batch, rows, columns = x.shape[0], x.shape[2] // self.window, x.shape[3] // self.window
        if _is_tracing():
            return Grid(batch, rows, columns, (), x.new_empty(0), ())
        key = (batch, rows, columns, x.device)
        grid = self._grids.get(key)
        if grid is None:
            if len(self._grids) >= 16:
                self._grids.clear()
            with torch.inference_mode(False), torch.no_grad():
                grid = self._grids[key] = _make_grid(batch, rows, columns, self.window, x.device)
        return grid

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cached index lists out of copies and pickles."""
        return {**self.__dict__, "_grids": {}}


def build(hyper: Hyper) -> GRL:
    """Build from hyper-parameters (keys of :data:`DEFAULTS`, and ``drop_path``)."""
    values = {**DEFAULTS, **hyper}
    values["upsampler"] = cast(Upsampler, values["upsampler"])
    return GRL(**values)


def detect(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Read the hyper-parameters; window and anchors come from stored tables, or are 8 and 2 where these are absent."""
    first = "layers.0.blocks.0.attn.window_attn.attn_transform.logit_scale"
    if first not in state or "conv_first.weight" not in state:
        return None
    numbers = [(int(m[1]), int(m[2])) for key in state if (m := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", key))]
    depths = [1 + max(b for s, b in numbers if s == stage) for stage in range(1 + max(s for s, _ in numbers))]
    features = int(state["conv_first.weight"].shape[0])
    window = (int(state["table_w"].shape[-3]) + 1) // 2 if "table_w" in state else 8
    anchors = int(state["table_sh"].shape[-3]) + 1 - window if "table_sh" in state else window // 2
    if not 0 < anchors <= window or window % anchors:
        return None
    hyper: dict[str, Any] = {
        "features": features,
        "depths": depths,
        "heads_window": int(state[first].shape[0]),
        "heads_stripe": int(state["layers.0.blocks.0.attn.stripe_attn.attn_transform1.logit_scale"].shape[0]),
        "window": window,
        "anchor_factor": window // anchors,
        "mlp_ratio": state["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / features,
        "tail_features": 64,
    }
    if "conv_before_upsample.0.weight" not in state:
        if "upsample.up.0.weight" not in state:
            return None
        scale = round((state["upsample.up.0.weight"].shape[0] / 3) ** 0.5)
        return {**hyper, "scale": scale, "upsampler": "pixelshuffledirect"}
    hyper["tail_features"] = int(state["conv_before_upsample.0.weight"].shape[0])
    if "conv_up1.weight" in state:
        return {**hyper, "scale": 4 if "conv_up2.weight" in state else 2, "upsampler": "nearest+conv"}
    steps = sum(re.fullmatch(r"upsample\.up\.\d+\.weight", key) is not None for key in state)
    return {**hyper, "scale": 2**steps, "upsampler": "pixelshuffle"}


def traits(hyper: Hyper) -> ModelTraits:
    """Windows start at the top left: tiles must begin at multiples of the window."""
    values = {**DEFAULTS, **hyper}
    return ModelTraits(
        scale=values["scale"], halo_px=-(-HALO_PX // values["window"]) * values["window"], multiple_px=values["window"]
    )


def flops_per_pixel(hyper: Hyper) -> float:
    """Two operations per multiply-add of the operations as they are carried out here (phase kernels in the tail)."""
    values = {**DEFAULTS, **hyper}
    c, t, scale = values["features"], values["tail_features"], values["scale"]
    tokens = values["window"] ** 2
    anchors = (values["window"] // values["anchor_factor"]) ** 2
    half = c // 2
    attention = 2 * tokens * half + 4 * anchors * half
    linears = 3 * c * c + c * half * anchors / tokens + c * c + 2 * values["mlp_ratio"] * c * c
    body = sum(values["depths"]) * (attention + linears) + 9 * c * (3 + c * (len(values["depths"]) + 1))
    if values["upsampler"] == "pixelshuffledirect":
        tail = 9 * c * 3 * scale**2
    elif values["upsampler"] == "pixelshuffle":
        steps = [9 * t * 4 * t * 4**step for step in range(scale.bit_length() - 1)]
        tail = 9 * c * t + sum(steps) + 9 * t * 3 * scale**2
    else:
        steps = [16 * t * t * 4**step for step in range(scale.bit_length() - 1)]
        tail = 9 * c * t + sum(steps) + (9 * t * t + 9 * t * 3) * scale**2
    return 2 * (body + tail)


def _in_bundles(x: Tensor) -> bool:
    """Whether to save memory by parts: on the CPU, without gradients, and not while a graph is recorded."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not _is_tracing()
        and not torch.compiler.is_compiling()
    )


def _is_tracing() -> bool:
    """Whether a graph is being recorded for export."""
    return bool(torch.jit.is_tracing())  # pyright: ignore[reportPrivateImportUsage]


def _unit(x: Tensor) -> Tensor:
    """Vectors of the last dimension over their length, computed in float32 (lengths overflow float16)."""
    wide = x.float()
    return (wide * wide.square().sum(-1, keepdim=True).clamp_min(1e-24).rsqrt()).to(x.dtype)


def _unit_heads(qkv: Tensor, heads: int, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split (windows, tokens, 3*heads*d) into scaled unit queries, unit keys and values (windows, heads, tokens, d)."""
    parts = qkv.unflatten(-1, (3, heads, -1))
    pair = parts[:, :, :2]
    wide = pair.float()
    factor = wide.square().sum(-1, keepdim=True).clamp_min(1e-24).rsqrt()
    scales = torch.stack((scale.float(), torch.ones_like(scale, dtype=torch.float32))).view(2, heads, 1)
    unit = (wide * (factor * scales)).to(qkv.dtype)
    return unit[:, :, 0].transpose(1, 2), unit[:, :, 1].transpose(1, 2), parts[:, :, 2].transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """``softmax(q k^T + bias) v``, heads merged: (windows, queries, heads*d)."""
    trains_on_cpu = q.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    # The exporter would spread the (trivial) scale of the fused form over queries and keys; with gradients on the CPU
    # the fused form is a slower one that looks for rows without any key.
    if trains_on_cpu or _is_tracing():
        mixed = torch.softmax(q @ k.transpose(-1, -2) + bias, -1) @ v
    else:
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
    return mixed.transpose(1, 2).flatten(-2)


def _linear_columns(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer over columns: (N, in, tokens) -> (N, out, tokens)."""
    return torch.bmm(weight.expand(x.shape[0], -1, -1), x).add_(bias[:, None])


def _attend_columns(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Like :func:`_attend` for (N * heads, d, tokens) and a bias (heads, keys, queries), see :data:`PLAIN_SCALE`."""
    weights = torch.bmm(k.transpose(1, 2), q)
    weights.view(-1, *bias.shape).add_(bias).exp_()
    return torch.bmm(v, weights).div_(weights.sum(1, keepdim=True))


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2, inplace=not torch.is_grad_enabled())


def _up_conv(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Nearest x2 then a padded 3x3 convolution, as one transposed convolution (4x4, stride 2) on the small grid.

    An even output row sees rows (m-1, m, m) of the small grid, an odd one (m, m, m+1): the taps that meet the same row
    are added beforehand. Borders agree too: the row beyond the edge is zero in both forms.
    """
    kernel = _doubled(_doubled(convolution.weight, 2), 3)
    return functional.conv_transpose2d(x, kernel.transpose(0, 1), convolution.bias, stride=2, padding=1)


class RowStream:
    """A padded 3x3 convolution that is given its picture in bands of rows, from the top; it answers one row late.

    Args:
        valid: the convolution of n + 2 rows, for the n rows in between (or what is made of these).
    """

    def __init__(self, valid: Callable[[Tensor], Tensor]) -> None:
        self._valid = valid
        self._kept: Tensor | None = None

    def push(self, rows: Tensor, *, ends: bool) -> Tensor:
        """Take the next rows (N, C, n, W); the last ones when `ends`."""
        zero = rows.new_zeros(*rows.shape[:2], 1, rows.shape[3])
        parts = [zero if self._kept is None else self._kept, rows, *([zero] if ends else [])]
        stacked = torch.cat([part.contiguous(memory_format=torch.channels_last) for part in parts], 2)
        self._kept = stacked[:, :, -2:].clone()
        return self._valid(stacked)


def _plain(convolution: nn.Conv2d, slope: float) -> Callable[[Tensor], Tensor]:
    """The convolution and a leaky rectifier, padded in columns only."""
    weight = convolution.weight.contiguous(memory_format=torch.channels_last)

    def valid(x: Tensor) -> Tensor:
        return functional.leaky_relu_(functional.conv2d(x, weight, convolution.bias, padding=(0, 1)), slope)

    return valid


def _phases(convolution: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """Nearest x2, the convolution and a leaky rectifier: a 2x2 convolution for each of the four kinds of pixels.

    The sums of taps are those of :func:`_up_conv`.
    """
    taps = _doubled(_doubled(convolution.weight, 2), 3)
    kernels = {
        # Flipped: a transposed convolution runs its taps backwards.
        (i, j): taps[:, :, 1 - i :: 2, 1 - j :: 2].flip(2, 3).contiguous(memory_format=torch.channels_last)
        for i in range(2)
        for j in range(2)
    }

    def valid(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        rows = height - 2
        out = x.new_empty(batch, 2 * rows, 2 * width, convolution.out_channels).permute(0, 3, 1, 2)
        for (i, j), kernel in kernels.items():
            phase = functional.conv2d(x[:, :, i : i + rows + 1], kernel, convolution.bias, padding=(0, 1))
            out[:, :, i::2, j::2] = phase[:, :, :, j : j + width]
        return functional.leaky_relu_(out, 0.2)

    return valid


def _to_planes(convolution: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """A convolution to few channels as one matrix product (a plane for each tap) and a sum of shifted planes."""
    outputs, inputs = convolution.weight.shape[:2]
    matrix = convolution.weight.permute(2, 3, 0, 1).reshape(-1, inputs)
    bias = cast(Tensor, convolution.bias)

    def valid(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(-1, inputs)
        planes = torch.mm(matrix, pixels.t()).view(3, 3, outputs, batch, height, width)
        total = planes[0, 1, :, :, : height - 2].clone()
        for i in range(3):
            rows = planes[i, :, :, :, i : i + height - 2]
            if i > 0:
                total += rows[1]
            total[..., 1:] += rows[0, ..., :-1]
            total[..., :-1] += rows[2, ..., 1:]
        return (total + bias[:, None, None, None]).transpose(0, 1)

    return valid


def _doubled(kernel: Tensor, dim: int) -> Tensor:
    """Taps of the transposed convolution along one dimension: (w2, w1 + w2, w0 + w1, w0)."""
    first, second, third = kernel.unbind(dim)
    return torch.stack((third, second + third, first + second, first), dim)


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Fill up to whole windows at the right and bottom: mirrored, or zeros where the picture is too small for that."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if _is_tracing():  # exported networks are given whole windows
        return x
    if not bottom and not right:
        return x
    mirrored = bottom < height and right < width
    return functional.pad(x, (0, right, 0, bottom), "reflect" if mirrored else "constant")


def _to_windows(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> (N * windows, side * side, C)."""
    batch, features, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, height // side, side, width // side, side, features)
    return x.transpose(2, 3).reshape(-1, side * side, features)


def _from_windows(x: Tensor, grid: Grid, side: int) -> Tensor:
    """(N * windows, side * side, C) -> (N, C, H, W), channels last in memory."""
    features = x.shape[-1]
    x = x.reshape(grid.batch, grid.rows, grid.columns, side, side, features).transpose(2, 3)
    return x.reshape(grid.batch, grid.rows * side, grid.columns * side, features).permute(0, 3, 1, 2)


def _make_grid(batch: int, rows: int, columns: int, side: int, device: torch.device) -> Grid:
    shift = side // 2
    height, width = rows * side, columns * side
    numbers = torch.arange(batch * height * width, device=device).view(-1, side * side, 1)
    picture = _from_windows(numbers, Grid(batch, rows, columns, (), numbers, ()), side)
    rolled = torch.roll(picture, (-shift, -shift), (2, 3))
    windows = _to_windows(rolled, side).view(batch, rows, columns, side * side)
    # Windows of the last row or column hold pixels from opposite edges, which must not see each other.
    kinds = (
        (windows[:, :-1, :-1], False, False),
        (windows[:, :-1, -1:], False, True),
        (windows[:, -1:, :-1], True, False),
        (windows[:, -1:, -1:], True, True),
    )
    used = [(tokens.flatten(), vertical, horizontal) for tokens, vertical, horizontal in kinds if tokens.numel()]
    order = torch.cat([tokens for tokens, _, _ in used])
    masks = tuple(_edge_mask(side, vertical, horizontal, device) for _, vertical, horizontal in used)
    return Grid(batch, rows, columns, tuple(tokens for tokens, _, _ in used), torch.argsort(order), masks)


def _edge_mask(side: int, vertical: bool, horizontal: bool, device: torch.device) -> Tensor | None:
    """(1, 1, tokens, tokens): -100 between pixels on different sides of the wrapped edge."""
    if not vertical and not horizontal:
        return None
    half = (torch.arange(side, device=device) >= side - side // 2).long()
    region = (2 * half[:, None] * int(vertical) + half[None, :] * int(horizontal)).flatten()
    return ((region[:, None] != region[None, :]).float() * _MASKED)[None, None]


def _rolled_mask(grid: Grid, side: int) -> Tensor:
    """(N * windows, 1, tokens, tokens) for tracing: sizes may be symbols."""
    device = torch.device("cpu")
    none = torch.zeros(1, 1, side * side, side * side)
    kinds = [none if (mask := _edge_mask(side, bool(k & 2), bool(k & 1), device)) is None else mask for k in range(4)]
    table = torch.cat(kinds)
    last_row = torch.arange(grid.rows) == grid.rows - 1
    last_column = torch.arange(grid.columns) == grid.columns - 1
    kind = 2 * last_row.long()[:, None] + last_column.long()[None, :]
    return table[kind.flatten().repeat(grid.batch)]


def _offset_table(window: int, anchors: int) -> Tensor:
    """Relative offsets of all pairs (side*side, 2), on the network's logarithmic scale."""
    shift = (window - anchors) // 2
    offsets = torch.arange(-(anchors - 1) - shift, window - shift, dtype=torch.float32)
    offsets = offsets / offsets.max() * 8
    offsets = offsets.sign() * (offsets.abs() + 1).log2() / 3
    return torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1).flatten(0, 1)


def _pair_index(side: int, key_side: int) -> Tensor:
    """Row of the offset table for each pair (queries, keys), both counted from 0 in their own window."""
    query, key = torch.arange(side), torch.arange(key_side)
    difference = query[:, None] - key[None, :] + key_side - 1
    index = difference[:, None, :, None] * (side + key_side - 1) + difference[None, :, None, :]
    return index.reshape(side * side, key_side * key_side)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison] - an option of nn.Linear
            module.bias.zero_()


ARCHITECTURE = Architecture(
    name="grl",
    title="GRL (the paper's network)",
    kind="upscaler",
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
    derived=("table_", "index_", "mask_"),
)
