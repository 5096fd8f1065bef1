"""A shard's noise is that of the whole table, to the bit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.nn import _noise
from ddrm_pyg.nn._noise import noise_rows


def whole_table(num_rows, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, width, generator=generator)


@given(st.integers(0, 60), st.integers(1, 40), st.integers(0, 2**32), st.data())
def test_rows_are_those_of_one_draw(num_rows, width, seed, data):
    start = data.draw(st.integers(0, num_rows))
    stop = data.draw(st.integers(start, num_rows))
    rows = noise_rows(start, stop, num_rows, width, seed)
    assert torch.equal(rows, whole_table(num_rows, width, seed)[start:stop])


@pytest.mark.parametrize("num_rows", [8191, 8192, 8193])
@pytest.mark.parametrize("width", [10, 64])
def test_blocks_add_up(num_rows, width, monkeypatch):
    monkeypatch.setattr(_noise, "_SKIPPED", 4096)
    bounds = [0, 1, 4096, 8190, num_rows]
    blocks = [
        noise_rows(low, high, num_rows, width, 5) for low, high in pairwise(bounds)
    ]
    assert torch.equal(torch.cat(blocks), whole_table(num_rows, width, 5))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4)])
def test_rows_that_are_not_there_are_refused(start, stop):
    with pytest.raises(ValueError, match=r"rows must lie within 0 ... 3"):
        noise_rows(start, stop, 3, 2, 0)
