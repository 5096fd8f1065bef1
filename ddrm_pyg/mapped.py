"""Tables that stay in their file: rows are read where they are asked for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_DTYPES = {
    "F64": ("<f8", torch.float64),
    "F32": ("<f4", torch.float32),
    "F16": ("<f2", torch.float16),
    "BF16": ("<i2", torch.bfloat16),  # which NumPy does not have: its bits
    "I64": ("<i8", torch.int64),
}
"""What the file calls a type, NumPy's name for its bytes, and torch's."""

_HEADER_BYTES = 100_000_000
"""Longest header of a ``.safetensors`` file, by its specification."""

_ROWS = 65_536
"""Rows looked at together."""


class MappedTable:
    """A table in a ``.safetensors`` file that may be larger than memory.

    Opening reads nothing of it; what :meth:`rows` and :meth:`take` return are copies.

    Args:
        path: The file.
        name: What the table is called there.
        dtype: Type of its values.
        shape: ``(num_rows,)`` or ``(num_rows, width)``.
        offset: Byte at which the values begin.
    """

    def __init__(
        self, path: Path, name: str, dtype: str, shape: tuple[int, ...], offset: int
    ) -> None:
        kind, self.dtype = _DTYPES[dtype]
        self.path, self.name, self.shape = path, name, shape
        # NumPy maps read-only: the system promises no memory for what is never written
        self._values: Any = (
            np.memmap(path, kind, "r", offset, shape)
            if math.prod(shape)
            else np.empty(shape, kind)
        )

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def rows(self, start: int, stop: int) -> Tensor:
        """Read the rows ``start ... stop - 1``.

        Raises:
            ValueError: The table does not have them.
        """
        if not 0 <= start <= stop <= self.num_rows:
            raise ValueError(
                f"{self.path}: '{self.name}' has rows 0 to {self.num_rows} "
                f"(got {start} to {stop})"
            )
        return self._tensor(self._values[start:stop])

    def take(self, index: Tensor) -> Tensor:
        """Read some rows; ascending ones are read fastest.

        Args:
            index: ``[B]`` int64 rows.
        """
        return self._tensor(self._values[index.numpy()])

    def blocks(self) -> Iterator[Tensor]:
        """Read the table from first to last row, in bounded memory."""
        for start in range(0, self.num_rows, _ROWS):
            yield self.rows(start, min(start + _ROWS, self.num_rows))

    def _tensor(self, values: Any) -> Tensor:
        return torch.from_numpy(np.array(values)).view(self.dtype)


class MappedEmbeddings(NamedTuple):
    """Both tables of a ``.safetensors`` file, as :class:`~ddrm_pyg.Embeddings` has.

    Attributes:
        user: ``[num_users, D]``.
        item: ``[num_items, D]``.
    """

    user: MappedTable
    item: MappedTable


def open_tables(path: str | os.PathLike[str]) -> dict[str, MappedTable]:
    """Open all tables of a ``.safetensors`` file without reading them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Not such a file, or a table of other than floats or int64.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        header, begin = _read_header(path)
        entries = {k: v for k, v in header.items() if k != "__metadata__"}
        _check_spans([entry["data_offsets"] for entry in entries.values()], path, begin)
        return {name: _table(path, name, e, begin) for name, e in entries.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a readable .safetensors file ({error})") from (
            error
        )


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Read what a file says of its tables, and where their bytes begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_BYTES:
            raise ValueError("no header")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header, 8 + length


def _check_spans(spans: list[list[int]], path: Path, begin: int) -> None:
    """Refuse a file that is shorter or longer than its tables, or has gaps."""
    ordered = sorted(spans)
    ends = [0, *(stop for _, stop in ordered)]
    starts = [*(start for start, _ in ordered), path.stat().st_size - begin]
    if starts != ends or any(low > high for low, high in pairwise(ends)):
        raise ValueError("its size is not that of its tables")


def _table(path: Path, name: str, entry: dict[str, Any], begin: int) -> MappedTable:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if dtype not in _DTYPES:
        raise ValueError(f"'{name}' must be of {', '.join(_DTYPES)} (got {dtype})")
    start, stop = entry["data_offsets"]
    if math.prod(shape) * np.dtype(_DTYPES[dtype][0]).itemsize != stop - start:
        raise ValueError(f"'{name}' has not the size of {dtype} {list(shape)}")
    return MappedTable(path, name, dtype, shape, begin + start)
