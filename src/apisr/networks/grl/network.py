"""GRL: the network of the paper, windows and anchored stripes of attention between convolutions, written to be fast.

Li et al., "Efficient and Explicit Modelling of Image Hierarchies for Image Restoration", CVPR 2023 (arXiv 2303.00748),
in the sizes that APISR uses (paper section 4.1: the tiny one with nearest + convolution, 1.03 M parameters). State-dict
names are those of the released checkpoints; stored tables, indices and masks are ignored and computed here.

Where the time goes, and what is done about it: windows stay in order (:mod:`apisr.networks.grl.windows`), attention
runs over whole registers (:mod:`apisr.networks.grl.attention`), the tail is a stream of rows
(:mod:`apisr.networks.grl.streaming`). At inference the blocks run over bundles of windows that fit in the cache
(:data:`BUNDLE`): no intermediate of the whole picture is made, and the linear layers do not wait for freshly allocated
memory. Position biases depend on parameters only and are computed once; index lists once per size.

    >>> import torch
    >>> net = GRL(features=16, depths=(2,), upsampler="pixelshuffledirect").eval()
    >>> with torch.inference_mode():
    ...     net(torch.rand(1, 3, 16, 24)).shape
    torch.Size([1, 3, 64, 96])
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from apisr.networks.functional import is_tracing, up_conv
from apisr.networks.grl.attention import Attention, Exponents, Named
from apisr.networks.grl.streaming import RowStream, leaky, phases, plain, to_planes
from apisr.networks.grl.windows import Grid, from_windows, make_grid, rolled_mask, to_windows
from apisr.networks.registry import Architecture, Hyper, HyperDict
from apisr.networks.traits import ModelTraits

Upsampler = Literal["nearest+conv", "pixelshuffle", "pixelshuffledirect"]

#: The paper's network ("tiny2" of the reference).
DEFAULTS: HyperDict = {
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
#: Windows that go through a block together at inference on the CPU (64 of 64 tokens: scores of 2 MB).
BUNDLE = 64
#: Bytes of a band of the tail's largest map, on the CPU.
BAND_BYTES = 8 << 20
#: Halo in input pixels at which a cut tile and the whole picture agree (measured, see docs/networks.md).
HALO_PX = 32


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
        elif is_tracing():
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
        picture = torch.roll(from_windows(x, grid, side), (-(side // 2), -(side // 2)), (2, 3))
        mask = rolled_mask(grid, side).to(x.dtype)
        windows = self.attn.in_windows(to_windows(picture, side), mask)
        back = torch.roll(from_windows(windows, grid, side), (side // 2, side // 2), (2, 3))
        return to_windows(back, side)

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
            return to_windows(self.conv(from_windows(y, grid, side)), side).add_(x)
        for block in blocks:
            y = block(y, grid)
        return to_windows(self.conv(from_windows(y, grid, side)), side) + x


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
            self.upsample = Named(
                up=nn.Sequential(nn.Conv2d(features, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
            )
        else:
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(features, tail_features, 3, padding=1), nn.LeakyReLU())
            steps = scale.bit_length() - 1
            if upsampler == "pixelshuffle":
                layers: list[nn.Module] = []
                for _ in range(steps):
                    layers += [nn.Conv2d(tail_features, 4 * tail_features, 3, padding=1), nn.PixelShuffle(2)]
                self.upsample = Named(up=nn.Sequential(*layers))
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
        y = self.norm_start(to_windows(first, self.window))
        for stage in self.layers:
            y = stage(y, grid)
        y = self.conv_after_body(from_windows(self.norm_end(y), grid, self.window)) + first
        y = self._tail(y)
        return y[:, :, : height * self.scale, : width * self.scale] + self.mean.to(y.dtype)

    def _tail(self, x: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return cast(nn.Module, self.upsample.up)(x)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(cast(nn.Module, self.upsample.up)(self.conv_before_upsample(x)))
        if _in_bundles(x):
            return self._tail_in_rows(x)
        x = leaky(up_conv(self.conv_before_upsample(x), self.conv_up1))
        if self.scale > 2:
            x = leaky(up_conv(x, self.conv_up2))
        return self.conv_last(leaky(self.conv_hr(x)))

    def _tail_in_rows(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        wide = width * self.scale
        first = cast(nn.Conv2d, self.conv_before_upsample[0])
        layers = [
            RowStream(plain(first, cast(nn.LeakyReLU, self.conv_before_upsample[1]).negative_slope)),
            RowStream(phases(self.conv_up1)),
        ]
        if self.scale > 2:
            layers.append(RowStream(phases(self.conv_up2)))
        layers.append(RowStream(plain(self.conv_hr, 0.2)))
        layers.append(RowStream(to_planes(self.conv_last) if x.dtype == torch.float32 else plain(self.conv_last, 1)))
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
        if is_tracing():
            return Grid(batch, rows, columns, (), x.new_empty(0), ())
        key = (batch, rows, columns, x.device)
        grid = self._grids.get(key)
        if grid is None:
            if len(self._grids) >= 16:
                self._grids.clear()
            with torch.inference_mode(False), torch.no_grad():
                grid = self._grids[key] = make_grid(batch, rows, columns, self.window, x.device)
        return grid

    def __getstate__(self) -> dict[str, object]:
        """Leave the cached index lists out of copies and pickles."""
        return {**self.__dict__, "_grids": {}}


def build(hyper: Hyper) -> GRL:
    """Build from hyper-parameters (keys of :data:`DEFAULTS`, and ``drop_path``)."""
    values = {**DEFAULTS, **hyper}
    values["upsampler"] = cast(Upsampler, values["upsampler"])
    return GRL(**values)


def detect(state: Mapping[str, Tensor]) -> HyperDict | None:
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
    hyper: HyperDict = {
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
        and not is_tracing()
        and not torch.compiler.is_compiling()
    )


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Fill up to whole windows at the right and bottom: mirrored, or zeros where the picture is too small for that."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if is_tracing():  # exported networks are given whole windows
        return x
    if not bottom and not right:
        return x
    mirrored = bottom < height and right < width
    return functional.pad(x, (0, right, 0, bottom), "reflect" if mirrored else "constant")


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
    arguments=(*DEFAULTS, "drop_path"),
    build=build,
    detect=detect,
    traits=traits,
    flops_per_pixel=flops_per_pixel,
    derived=("table_", "index_", "mask_"),
)
