"""The caller's own ids: of which row, and the rows in their order."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.files import undamaged

if TYPE_CHECKING:
    from pandas import DataFrame

logger = logging.getLogger("ddrm_pyg")

ID = "id"
"""Column of ids in a table of vectors; every other column is a dimension."""

_UNNAMED = re.compile(r"\s*|Unnamed: \d+")
"""What pandas calls a column without a name, such as an index that it wrote."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a text starts that a spreadsheet would run, or one made from it."""


class Vectors(NamedTuple):
    """Vectors with ids, as a caller has them.

    Attributes:
        ids: ``[N]``.
        table: ``[N, D]``.
        columns: The name of each dimension; none where they have no names.
    """

    ids: list[Any]
    table: Tensor
    columns: Sequence[str] = ()


def raw_ids(data: HeteroData, kind: str) -> list[Any]:
    """List the caller's own ids of users or items, by row.

    Args:
        data: As :func:`ddrm_pyg.load_interactions` returns it; where it has no
            ``raw_id``, rows are their own ids.
        kind: ``"user"`` or ``"item"``.
    """
    ids = data[kind].get("raw_id")
    if ids is None:
        return list(range(data[kind].num_nodes))
    return ids.tolist() if isinstance(ids, Tensor) else list(ids)


def spreadsheet_safe(ids: Sequence[Any]) -> list[Any]:
    """Put a ``'`` before the ids that a spreadsheet would run as a formula.

    They are the texts that start with ``=``, ``+``, ``-``, ``@``, a tab or a carriage
    return. What starts like that after quotes gets one more, so that no two ids become
    one. Integers are numbers to a spreadsheet, and stay.

    Args:
        ids: The caller's own.
    """
    return [
        f"'{name}" if isinstance(name, str) and _FORMULA.match(name) else name
        for name in ids
    ]


def rows_of(ids: Sequence[Any], catalogue: Sequence[Any], where: str) -> Tensor:
    """Find the row of every id; ids are compared as texts.

    Args:
        ids: ``[B]`` to look up.
        catalogue: The id of each row, each once.
        where: What the message names.

    Returns:
        ``[B]`` int64 rows of ``catalogue``.

    Raises:
        ValueError: An id that is not known, or one that is in ``catalogue`` twice.
    """
    row_of = {str(name): row for row, name in enumerate(catalogue)}
    if len(row_of) < len(catalogue):
        raise ValueError(
            f"{where}: every id must be there once ({_repeated(catalogue)})"
        )
    missing = [name for name in ids if str(name) not in row_of]
    if missing:
        raise ValueError(
            f"{where}: {len(missing)} of {len(ids)} ids are unknown "
            f"(the first is {missing[0]!r})"
        )
    return torch.tensor([row_of[str(name)] for name in ids], dtype=torch.int64)


def align(source: Any, wanted: Sequence[Any], where: str) -> Tensor:
    """Put vectors with ids into the order of other ids.

    Args:
        source: A pair ``(ids, table)``; a mapping from id to vector; a DataFrame, or a
            ``.parquet``, ``.csv`` or ``.tsv`` file, with a column ``id`` and either a
            number per column or one column of vectors.
        wanted: ``[N]`` the id of each row that is returned.
        where: What messages name.

    Returns:
        ``[N, D]``. Vectors of other ids are left out, which is said in one line.

    Raises:
        ValueError: An id without a vector, an id that is there twice, or a table that
            has not one row per id.
    """
    ids, table, _ = read_vectors(source, where)
    if table.dim() != 2 or len(ids) != len(table):
        raise ValueError(
            f"{where}: must have one vector per id "
            f"(got {len(ids)} ids and a table of shape {list(table.shape)})"
        )
    rows = rows_of(wanted, ids, where)
    if len(ids) > len(rows):
        logger.warning(
            "%s: %d of %d vectors are of ids that the data do not have; left out",
            where,
            len(ids) - len(rows),
            len(ids),
        )
    return table[rows]


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """Read the id of every row of a table.

    Args:
        path: A ``.txt`` file with an id on each line, or a ``.parquet``, ``.csv`` or
            ``.tsv`` file with a column ``id``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another suffix, or no such column.
    """
    path = Path(path)
    if path.suffix == ".txt" and path.is_file():
        with path.open(encoding="utf-8", newline="\n") as file:
            return [line.removesuffix("\n").removesuffix("\r") for line in file]
    frame = _read_frame(path)
    if ID not in frame.columns:
        raise ValueError(f"{path}: must have a column '{ID}' (got {[*frame.columns]})")
    return [str(name) for name in frame[ID]]


def read_vectors(source: Any, where: str) -> Vectors:
    """Read vectors with ids, in the order that they have.

    Args:
        source: As for :func:`align`.
        where: What messages name.

    Raises:
        ValueError: What :func:`align` refuses of a table by itself.
    """
    if isinstance(source, (str, os.PathLike)):
        source = _read_numbers(Path(source))
    if isinstance(source, Mapping):
        return Vectors(list(source), _stack(list(source.values()), where))
    if hasattr(source, "columns"):
        return _split(source, where)
    if isinstance(source, tuple) and len(source) == 2:
        ids, table = source
        ids = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        return Vectors(ids, torch.as_tensor(table).detach())
    raise TypeError(
        f"{where}: must be (ids, table), a mapping, a DataFrame or a file "
        f"(got {type(source).__name__})"
    )


def check_columns_alike(user: Vectors, item: Vectors) -> None:
    """Refuse columns of the same names that stand in another order.

    Inner products go by place: they would be of other dimensions.

    Args:
        user: Vectors of users.
        item: Vectors of items.

    Raises:
        ValueError: They do.
    """
    one, other = user.columns, item.columns
    if one != other and sorted(one) == sorted(other):
        first = next(n for n, m in zip(one, other, strict=True) if n != m)
        raise ValueError(
            "'user' and 'item': columns of the same names must stand in one order "
            f"(got {first!r} as column {one.index(first) + 1} of users and "
            f"{other.index(first) + 1} of items)"
        )


def _read_numbers(path: Path) -> DataFrame:
    frame = _read_frame(path)
    if path.suffix == ".parquet":
        return frame
    numbers = [name for name in frame.columns if name != ID]
    try:
        return frame.astype(dict.fromkeys(numbers, "float32"))
    except ValueError as error:
        raise ValueError(f"{path}: columns must be numbers ({error})") from None


def _read_frame(path: Path) -> DataFrame:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix not in (".parquet", ".csv", ".tsv"):
        raise ValueError(
            f"{path}: the suffix must be one of .parquet, .csv, .tsv (ids: also .txt)"
        )
    with undamaged(path, f"not a readable {path.suffix} file"):
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        separator = "," if path.suffix == ".csv" else "\t"
        return pd.read_csv(path, sep=separator, dtype={ID: str}, keep_default_na=False)


def _split(frame: Any, where: str) -> Vectors:
    """Take a DataFrame's ids from its vectors."""
    if ID not in frame.columns or len(frame.columns) < 2:
        raise ValueError(
            f"{where}: must have a column '{ID}' and columns of numbers "
            f"(got {[*frame.columns]})"
        )
    unnamed = [name for name in frame.columns if _UNNAMED.fullmatch(str(name))]
    if unnamed:
        raise ValueError(
            f"{where}: every column must have a name (got {unnamed[0]!r}: if it is "
            "pandas' index, write the table with index=False)"
        )
    ids, vectors = frame[ID].tolist(), frame.drop(columns=ID)
    if vectors.shape[1] == 1 and vectors.dtypes.iloc[0].kind == "O":
        return Vectors(ids, _stack(vectors.iloc[:, 0].tolist(), where))
    table = torch.from_numpy(vectors.to_numpy(copy=True))
    return Vectors(ids, table, [str(name) for name in vectors.columns])


def _stack(vectors: list[Any], where: str) -> Tensor:
    try:
        return torch.from_numpy(np.stack([np.asarray(vector) for vector in vectors]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: vectors must be equally long ({error})") from None


def _repeated(ids: Sequence[Any]) -> str:
    seen: set[str] = set()
    for name in ids:
        if str(name) in seen:
            return f"{name!r} is there twice"
        seen.add(str(name))
    return "no repeats"
