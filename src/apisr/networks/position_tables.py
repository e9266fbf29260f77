"""Tables of the position biases of window attention, in NumPy: for networks in torch and for graphs that do without it.

>>> pair_index((1, 2), (1, 2))
array([[1, 0],
       [2, 1]])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pair_index(query_sides: tuple[int, int], key_sides: tuple[int, int]) -> NDArray[np.int64]:
    """Return the row of the table of offsets for each pair of a query and a key.

    Args:
        query_sides: rows and columns of the queries' window.
        key_sides: rows and columns of the keys' window.

    Returns:
        ``(queries, keys)``, row by row, both counted from 0 in their own window. The table has
        ``query + key - 1`` offsets along each side.
    """
    down, across = (
        np.arange(queries)[:, None] - np.arange(keys)[None, :] + keys - 1
        for queries, keys in zip(query_sides, key_sides, strict=True)
    )
    index = down[:, None, :, None] * (query_sides[1] + key_sides[1] - 1) + across[None, :, None, :]
    return index.reshape(query_sides[0] * query_sides[1], key_sides[0] * key_sides[1]).astype(np.int64)


def logarithmic_offsets(window: int, anchors: int) -> NDArray[np.float32]:
    """Return the offsets of all pairs of a pixel and an anchor on GRL's logarithmic scale.

    Offsets are scaled so that the largest is 8; of these the scale is ``sign(x) * log2(|x| + 1) / 3`` (log-spaced
    coordinates of Swin Transformer V2, Liu et al., CVPR 2022, in the constants of their code).

    Args:
        window: side of the larger window.
        anchors: side of the smaller one, the same where there are no anchors.

    Returns:
        ``((window + anchors - 1)**2, 2)``: down and across.
    """
    shift = (window - anchors) // 2
    offsets = np.arange(-(anchors - 1) - shift, window - shift, dtype=np.float32)
    offsets = offsets / offsets.max() * np.float32(8)
    # The logarithm is rounded once, from float64: logarithms in float32 differ between libraries in the last bit.
    logarithms = np.log2((np.abs(offsets) + np.float32(1)).astype(np.float64)).astype(np.float32)
    offsets = np.sign(offsets) * logarithms / np.float32(3)
    return np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)
