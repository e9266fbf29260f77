"""Attention of GRL: in windows, and in stripes through anchors.

At inference on the CPU, in float32, queries, keys and scores are kept with the tokens along memory (channels, tokens):
every sum and product of the cosine similarity and of the softmax then runs over whole vector registers, not over 16
channels. The scores are bounded, so that the softmax needs no maximum (:data:`PLAIN_SCALE`). Elsewhere queries and keys
are normalised in float32 and the softmax is fused (scaled_dot_product_attention), so that float16 and bfloat16 are
accurate: the largest score is 116.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.functional import is_tracing, unit_vectors
from apisr.networks.position_tables import logarithmic_offsets, pair_index

#: Largest cosine scale: exp(min(logit_scale, ln 100)).
MAX_LOGIT_SCALE = math.log(100.0)
#: Largest cosine scale up to which exponentials of the scores, bias (0 to 16) included, stay far inside float32.
PLAIN_SCALE = 60.0


class Named(nn.Module):
    """A name in the state dict: ``Named(a=module)`` has the child ``a``."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


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
        table = logarithmic_offsets(max(side, key_side), min(side, key_side))
        index = pair_index((side, side), (key_side, key_side))
        self.register_buffer("table", torch.from_numpy(table), persistent=False)
        self.register_buffer("index", torch.from_numpy(index), persistent=False)
        self._cached: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    def scale_and_bias(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return exp(logit scale) (heads, 1, 1) and the bias (1, heads, queries, keys).

        Without gradients both are kept until a parameter changes. Exports compute them in the graph, so that files hold
        the parameters.
        """
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
            return self._compute(dtype)
        if torch.compiler.is_compiling() or is_tracing():
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

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "_cached": None}


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
        self.qkv = Named(body=nn.Linear(features, 3 * features))
        self.anchor = Named(body=nn.ModuleList([Named(reduction=nn.Linear(features, features // 2))]))
        self.window_attn = Named(attn_transform=CosineBias(heads_window, window, window))
        self.stripe_attn = Named(
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
        anchors = unit_vectors(reduction(pooled).unflatten(-1, (self.heads_stripe, -1)))
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
    if trains_on_cpu or is_tracing():
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
