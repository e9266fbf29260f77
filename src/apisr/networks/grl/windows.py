"""Windows of a picture: cutting it into them, shifting them by half, and the masks that this needs.

Tokens are kept in window order (all pixels of a window together) from the first block of a stage to the last. Linear
layers, norms and the anchored stripe attention are then local to runs of rows; shifted windows are one gather.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: What is added to the score of two pixels that must not see each other.
_MASKED = -100.0


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


def to_windows(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> (N * windows, side * side, C)."""
    batch, features, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, height // side, side, width // side, side, features)
    return x.transpose(2, 3).reshape(-1, side * side, features)


def from_windows(x: Tensor, grid: Grid, side: int) -> Tensor:
    """(N * windows, side * side, C) -> (N, C, H, W), channels last in memory."""
    features = x.shape[-1]
    x = x.reshape(grid.batch, grid.rows, grid.columns, side, side, features).transpose(2, 3)
    return x.reshape(grid.batch, grid.rows * side, grid.columns * side, features).permute(0, 3, 1, 2)


def make_grid(batch: int, rows: int, columns: int, side: int, device: torch.device) -> Grid:
    """Make the grid of pictures of so many windows, with the index lists of the shifted ones."""
    shift = side // 2
    height, width = rows * side, columns * side
    numbers = torch.arange(batch * height * width, device=device).view(-1, side * side, 1)
    picture = from_windows(numbers, Grid(batch, rows, columns, (), numbers, ()), side)
    rolled = torch.roll(picture, (-shift, -shift), (2, 3))
    windows = to_windows(rolled, side).view(batch, rows, columns, side * side)
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


def rolled_mask(grid: Grid, side: int) -> Tensor:
    """(N * windows, 1, tokens, tokens) for tracing: sizes may be symbols."""
    device = torch.device("cpu")
    none = torch.zeros(1, 1, side * side, side * side)
    kinds = [none if (mask := _edge_mask(side, bool(k & 2), bool(k & 1), device)) is None else mask for k in range(4)]
    table = torch.cat(kinds)
    last_row = torch.arange(grid.rows) == grid.rows - 1
    last_column = torch.arange(grid.columns) == grid.columns - 1
    kind = 2 * last_row.long()[:, None] + last_column.long()[None, :]
    return table[kind.flatten().repeat(grid.batch)]


def _edge_mask(side: int, vertical: bool, horizontal: bool, device: torch.device) -> Tensor | None:
    """(1, 1, tokens, tokens): -100 between pixels on different sides of the wrapped edge."""
    if not vertical and not horizontal:
        return None
    half = (torch.arange(side, device=device) >= side - side // 2).long()
    region = (2 * half[:, None] * int(vertical) + half[None, :] * int(horizontal)).flatten()
    return ((region[:, None] != region[None, :]).float() * _MASKED)[None, None]
