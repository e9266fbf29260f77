"""Tables of the position biases: they hold what their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apisr.networks.position_tables import logarithmic_offsets, pair_index


@pytest.mark.parametrize(("query_sides", "key_sides"), [((8, 8), (8, 8)), ((4, 4), (8, 8)), ((2, 6), (3, 5))])
def test_pairs_of_equal_offset_share_a_row_of_the_table(
    query_sides: tuple[int, int], key_sides: tuple[int, int]
) -> None:
    index = pair_index(query_sides, key_sides)
    rows, columns = (query + key - 1 for query, key in zip(query_sides, key_sides, strict=True))
    offsets = list(np.ndindex(rows, columns))
    for query, (down, across) in enumerate(np.ndindex(*query_sides)):
        for key, (key_down, key_across) in enumerate(np.ndindex(*key_sides)):
            expected = (down - key_down + key_sides[0] - 1, across - key_across + key_sides[1] - 1)
            assert offsets[index[query, key]] == expected


@pytest.mark.parametrize(("window", "anchors"), [(8, 8), (8, 4), (16, 2)])
def test_offsets_are_on_the_logarithmic_scale_of_the_paper(window: int, anchors: int) -> None:
    table = logarithmic_offsets(window, anchors).reshape(window + anchors - 1, -1, 2)
    largest = window - 1 - (window - anchors) // 2
    for row in range(table.shape[0]):
        offset = (row + largest + 1 - table.shape[0]) / largest * 8
        expected = math.copysign(math.log2(abs(offset) + 1) / 3, offset)
        np.testing.assert_allclose(table[row, :, 0], expected, atol=1e-6)
        np.testing.assert_allclose(table[:, row, 1], expected, atol=1e-6)
