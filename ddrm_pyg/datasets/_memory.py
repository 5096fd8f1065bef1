"""Take interactions that are in memory already: columns, rows or a sparse matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.data import BaseData

from ddrm_pyg.datasets._columns import Columns, find_columns, hint_unused
from ddrm_pyg.datasets._graph import build_graph
from ddrm_pyg.datasets._header import NUM_SAMPLED, import_pyarrow
from ddrm_pyg.datasets._parquet import arrow_values
from ddrm_pyg.datasets._table import Table, objects

_BY_PLACE = {2: ("user", "item"), 4: ("user", "item", "rating", "time")}
"""What rows without names hold, by their length; three could end in either."""


class ArrowStream(Protocol):
    """A table of Arrow's columns: pyarrow's, polars', DuckDB's and others'."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


InMemory: TypeAlias = (
    pd.DataFrame | ArrowStream | Mapping[str, Any] | np.ndarray | Sequence[Any]
)
"""What holds columns by name, or rows."""


class _Named(NamedTuple):
    """Columns that are looked up by name.

    Attributes:
        names: All of them.
        column: Returns one.
        by_place: Whether the names were taken from the places.
    """

    names: Sequence[str]
    column: Callable[[str], Any]
    by_place: bool = False


def read_columns(source: InMemory, columns: Columns) -> Table:
    """Read the columns of a table, or of rows. The source is not changed.

    Args:
        source: One interaction per row.
        columns: What the caller calls each role.

    Raises:
        ImportError: An Arrow table without the extra ``[parquet]``.
        TypeError: Nothing that holds columns or rows.
        ValueError: A column or a value is refused.
    """
    name = type(source).__name__
    named = _named(name, source)
    column_of, inferred = find_columns(name, named.names, columns)
    samples = {key: _first(named.column(key)) for key in named.names}
    hints = hint_unused(samples, column_of, columns)
    if named.by_place:
        inferred = [*column_of.values()]
    table = Table(name, column_of, inferred, hints=hints)
    values = {role: _values(named.column(column_of[role])) for role in column_of}
    sizes = {column_of[role]: len(column) for role, column in values.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{name}: columns must be equally long (got {sizes})")
    if len(values["user"]):
        table.append(values, lambda row: f"{name}: row {row}")
    return table


def _named(name: str, source: Any) -> _Named:
    if isinstance(source, pd.DataFrame | Mapping):
        return _Named([*source], source.__getitem__)
    if hasattr(source, "__arrow_c_stream__"):
        table = import_pyarrow(what="Arrow tables need pyarrow").table(source)
        return _Named(table.column_names, table.column)
    if isinstance(source, np.ndarray) and source.dtype.names:
        return _Named(source.dtype.names, source.__getitem__)
    if isinstance(source, np.ndarray):
        if source.ndim != 2:
            raise ValueError(f"{name}: must be rows [n, 2] (got {list(source.shape)})")
        return _numbered(name, source.shape[1], list(source.T))
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return _of_rows(name, source)
    raise _no_source(name)


def _no_source(name: str) -> TypeError:
    return TypeError(
        "'source' must be a path, a DataFrame, an Arrow table, a dict of columns, rows "
        f"or a sparse matrix (got {name}; from_hetero takes PyG data)"
    )


def _numbered(name: str, num_columns: int, values: Sequence[Any]) -> _Named:
    """Name columns by their place."""
    if num_columns not in _BY_PLACE:
        raise ValueError(
            f"{name}: rows must be (user, item) or (user, item, rating, time) "
            f"(got {num_columns} values; a dict or DataFrame names others)"
        )
    names = _BY_PLACE[num_columns]
    return _Named(names, dict(zip(names, values, strict=True)).__getitem__, True)


def _of_rows(name: str, rows: Sequence[Any]) -> _Named:
    """Take rows that are dicts or tuples, all like the first."""
    if not len(rows):
        raise ValueError(f"{name}: no rows")
    first = rows[0]
    if isinstance(first, BaseData):  # as RandomLinkSplit returns them
        raise _no_source(f"{name} of {type(first).__name__}")
    by_name = isinstance(first, Mapping)
    if not by_name and (isinstance(first, str) or not isinstance(first, Sequence)):
        raise ValueError(f"{name}: row 0 must be a dict or a tuple (got {first!r})")
    keys = [*first] if by_name else [*range(len(first))]
    for number, row in enumerate(rows):
        if len(row) != len(keys) or (by_name and not all(key in row for key in keys)):
            raise ValueError(f"{name}: row {number} is not like row 0 (got {row!r})")
    if by_name:
        return _Named(keys, lambda key: [row[key] for row in rows])
    return _numbered(name, len(keys), [[row[key] for row in rows] for key in keys])


def _first(column: Any) -> Sequence[Any]:
    """Return the first values of a column; none of what has no first ones."""
    column = column.iloc if isinstance(column, pd.Series) else column
    try:
        return [*_values(column[:NUM_SAMPLED])]
    except (TypeError, KeyError):
        return []


def _values(column: Any) -> np.ndarray:
    """Return numbers and moments ``[n]`` as such, anything else as objects."""
    if isinstance(column, pd.Series | pd.Index):
        return _of_pandas(pd.Series(column))
    if hasattr(column, "__arrow_c_stream__") or hasattr(column, "__arrow_c_array__"):
        arrow = import_pyarrow(what="Arrow columns need pyarrow")
        return arrow_values(arrow.chunked_array(column))
    if isinstance(column, Tensor):
        column = column.numpy(force=True)
    if isinstance(column, np.ndarray) and column.dtype.kind in "biufM":
        return column
    return _plain(objects(column))


def _of_pandas(column: pd.Series) -> np.ndarray:
    dtype = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return arrow_values(import_pyarrow().array(column.array))
    if isinstance(dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if isinstance(dtype, np.dtype) and dtype.kind in "biufM":
        return column.to_numpy()
    return _plain(column.to_numpy(object))


def _plain(values: np.ndarray) -> np.ndarray:
    """Return objects ``[n]`` with NumPy's numbers and texts as Python's."""
    scalars = np.bool | np.number | np.str_
    if not any(issubclass(kind, scalars) for kind in set(map(type, values))):
        return values
    return objects([v.item() if isinstance(v, scalars) else v for v in values])


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
