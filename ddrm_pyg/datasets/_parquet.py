"""Read parquet, batch by batch. Needs the extra ``[parquet]``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ddrm_pyg.datasets._columns import Columns, find_columns, hint_unused
from ddrm_pyg.datasets._header import import_pyarrow, open_parquet, whole_parquet
from ddrm_pyg.datasets._table import Coded, Table, objects

BATCH_SIZE = 1 << 18  # rows that are looked at together
LARGEST_CHUNK = 1 << 30  # bytes of a column in a row group, unpacked


def read_parquet(path: Path, columns: Columns, *, size: int = BATCH_SIZE) -> Table:
    """Read the columns in use and no others.

    Args:
        path: A ``.parquet`` file.
        columns: What the caller calls each role.
        size: Rows that are looked at together.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: The file is damaged, or a value is refused.
    """
    table = _read(path, columns, size)
    # after the reader is gone: the pool keeps what anything refers to
    import_pyarrow().default_memory_pool().release_unused()
    return table


def _read(path: Path, columns: Columns, size: int) -> Table:
    file, schema = open_parquet(path)
    with file:
        column_of, inferred = find_columns(path.name, schema.names, columns)
        names = [*column_of.values()]
        _check_chunks(path, file.metadata, names)
        hints = hint_unused(_samples(schema), column_of, columns)
        table = Table(path.name, column_of, inferred, hints=hints)
        batches = _batches(file, names, size)
        start = 0
        while True:
            with whole_parquet(path):
                batch = next(batches, None)
                if batch is None:
                    break
                values = {
                    role: _values(role, batch.column(name))
                    for role, name in column_of.items()
                }
            table.append(values, partial(_place, path.name, start))
            start += batch.num_rows
    return table


def _batches(file: Any, names: list[str], size: int) -> Iterator[Any]:
    """Yield rows; asked for all row groups at once, pyarrow holds the whole file."""
    for group in range(file.num_row_groups):
        # not by threads: what these free, Arrow's pool keeps for them
        yield from file.iter_batches(
            size, row_groups=[group], columns=names, use_threads=False
        )


def _samples(schema: Any) -> dict[str, list[date]]:
    """Stand in for the first values of columns of moments; none of them is read."""
    return {field.name: [date.min] for field in schema if _is_moment(field.type)}


def _is_moment(kind: Any) -> bool:
    kinds = import_pyarrow().types
    return kinds.is_timestamp(kind) or kinds.is_date(kind)


def _values(role: str, column: Any) -> np.ndarray | Coded:
    """Return a column; texts that are ids by Arrow's own dictionary."""
    kinds = import_pyarrow().types
    is_text = kinds.is_string(column.type) or kinds.is_large_string(column.type)
    if role not in ("user", "item") or not is_text or column.null_count:
        return arrow_values(column)
    coded = column.dictionary_encode()
    return Coded(coded.indices.to_numpy(), coded.dictionary.to_pylist())


def _check_chunks(path: Path, metadata: Any, names: list[str]) -> None:
    """Refuse a column chunk of gigabytes, which a few packed bytes can stand for."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.total_byte_size <= LARGEST_CHUNK:
            continue  # pyarrow may abort the process at a damaged chunk looked at here
        for chunk in map(group.column, range(group.num_columns)):
            size = chunk.total_uncompressed_size
            if chunk.path_in_schema in names and size > LARGEST_CHUNK:
                raise ValueError(
                    f"{path.name}: column {chunk.path_in_schema!r} has {size} bytes in "
                    f"one row group, more than {LARGEST_CHUNK}; write smaller ones"
                )


def _place(file: str, start: int, row: int) -> str:
    return f"{file}: row {start + row}"


def arrow_values(column: Any) -> np.ndarray:
    """Return numbers and moments ``[n]`` as such, anything else as objects.

    Args:
        column: A column of Arrow's, in one piece or several.
    """
    kinds = import_pyarrow().types
    if _is_moment(column.type):
        return column.to_numpy(zero_copy_only=False)
    is_number = kinds.is_signed_integer(column.type) or kinds.is_floating(column.type)
    if is_number and not column.null_count:
        return column.to_numpy(zero_copy_only=False)
    return objects(column.to_pylist())
