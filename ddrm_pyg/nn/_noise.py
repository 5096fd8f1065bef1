"""The noise of a table, some rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

_VECTOR = 16
"""On a CPU ``torch.randn`` turns so many numbers of its stream into as many normal
ones; where a draw does not end with such a group, its last so many are drawn again."""

_SKIPPED = 1 << 20
"""Numbers skipped at a time."""


def noise_rows(start: int, stop: int, num_rows: int, width: int, seed: int) -> Tensor:
    """Draw rows of the noise that one draw gives a whole table.

    The same bits as ``torch.randn(num_rows, width, generator=g)[start:stop]`` with a
    CPU generator ``g`` of that seed, in the memory of the rows asked for. The rows
    before them are drawn and dropped: about 4 ns for each number.

    Args:
        start: First row.
        stop: Row after the last one.
        num_rows: Rows of the whole table.
        width: Columns.
        seed: Of the whole table's noise.

    Returns:
        ``[stop - start, width]`` float32.

    Raises:
        ValueError: Rows that the table does not have.
    """
    if not 0 <= start <= stop <= num_rows:
        raise ValueError(
            f"rows must lie within 0 ... {num_rows} (got {start} to {stop})"
        )
    generator = torch.Generator().manual_seed(seed)
    total, first, last = num_rows * width, start * width, stop * width
    if total < _VECTOR:
        return torch.randn(total, generator=generator)[first:last].view(-1, width)
    whole = total // _VECTOR * _VECTOR
    skipped = min(first // _VECTOR * _VECTOR, whole - _VECTOR)
    for begin in range(0, skipped, _SKIPPED):
        torch.randn(min(_SKIPPED, skipped - begin), generator=generator)
    end = min(-(-last // _VECTOR) * _VECTOR, whole)
    drawn = torch.randn(max(end - skipped, 0), generator=generator)
    if whole < total and last > total - _VECTOR:
        torch.rand(total - whole, generator=generator)
        again = torch.randn(_VECTOR, generator=generator)
        drawn = torch.cat([drawn[: total - _VECTOR - skipped], again])
    return drawn[first - skipped : last - skipped].view(-1, width)
