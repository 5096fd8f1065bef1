"""Take interactions that are in memory already: a DataFrame or a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets._graph import build_graph
from ddrm_pyg.datasets._table import Columns, Table, find_columns, objects


def read_frame(frame: pd.DataFrame, columns: Columns) -> Table:
    """Read the columns of a DataFrame.

    Args:
        frame: One interaction per row.
        columns: What the caller calls each role.
    """
    found, inferred = find_columns("DataFrame", [*frame.columns], columns)
    table = Table("DataFrame", found, inferred)
    if len(frame):
        values = {role: _values(frame[name]) for role, name in found.items()}
        table.append(values, "DataFrame: row {}".format)
    return table


def _values(column: pd.Series) -> np.ndarray:
    """Return numbers and moments ``[n]`` as such, anything else as objects."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufM":
        return column.to_numpy()
    return objects([_plain(value) for value in column])


def _plain(value: Any) -> Any:
    """Return a number of NumPy as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.bool | np.number | np.str_) else value


def read_matrix(matrix: Any) -> HeteroData:
    """Read a users x items matrix: each stored entry is an interaction.

    Rows and columns keep their numbers, those without an entry included. The values
    are ratings, unless all are 1.

    Args:
        matrix: In any of scipy's sparse formats.

    Raises:
        ValueError: It has no entries, or a stored value is 0, complex or not finite.
    """
    entries = matrix.tocoo()  # not by way of CSR, which adds repeated pairs up
    if not len(entries.data):
        raise ValueError("sparse matrix: no rows")
    order = np.lexsort((entries.col, entries.row))
    value = entries.data[order]
    row, column = (
        np.asarray(at, dtype=np.int64)[order] for at in (entries.row, entries.col)
    )
    if value.dtype.kind not in "biuf":
        raise ValueError(f"sparse matrix: values must be numbers (got {value.dtype})")
    rating = value.astype(np.float32)
    bad = ~np.isfinite(rating) | (value == 0)
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(
            f"sparse matrix: the value at [{row[at]}, {column[at]}] is {value[at]}, "
            "expected a number other than 0"
        )
    block = {"index": torch.from_numpy(np.stack([row, column]))}
    if not (value == 1).all():
        block["rating"] = torch.from_numpy(rating)
    user_raw, item_raw = map(torch.arange, entries.shape)
    return build_graph("sparse matrix", {"train": block}, user_raw, item_raw)
