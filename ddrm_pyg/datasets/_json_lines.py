"""Read one JSON object per line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ddrm_pyg.datasets._columns import Columns, find_columns, hint_unused
from ddrm_pyg.datasets._header import DECODER, NUM_SAMPLED, Record, parse_records
from ddrm_pyg.datasets._table import Table, objects
from ddrm_pyg.datasets._text import BLOCK_SIZE, read_blocks


def read_json_lines(
    path: Path,
    columns: Columns,
    *,
    parse: Callable[[str], Any] = DECODER.decode,
    encoding: str | None = None,
    size: int = BLOCK_SIZE,
) -> Table:
    """Read records line by line; the first one tells the columns, all must have them.

    Args:
        path: A ``.json`` or ``.jsonl`` file, also ``.gz``.
        columns: What the caller calls each role.
        parse: Makes a record of a line. It may raise what :mod:`json` raises.
        encoding: What its bytes are; see
            :func:`~ddrm_pyg.datasets._text.read_blocks`.
        size: Bytes that are looked at together.
    """
    table = None
    for first_line, block in read_blocks(path, encoding=encoding, size=size):
        records = parse_records(path.name, first_line, block, parse)
        first = next(records, None)
        if first is None:
            continue  # nothing but blanks
        if table is None:
            table, head = _begin(path.name, first, records, columns)
        else:
            head = [first]
        lines, values = _pick(path.name, chain(head, records), table.column_of)
        where = partial(_place, path.name, lines)
        table.append(
            dict(zip(table.column_of, map(_array, values), strict=True)), where
        )
    if table is None:
        raise ValueError(f"{path.name}: no rows")
    return table


def _begin(
    file: str, first: Record, records: Iterator[Record], columns: Columns
) -> tuple[Table, list[Record]]:
    """Return a table for the columns of the first record, and what was looked at."""
    line, record = first
    column_of, inferred = find_columns(f"{file}:{line}", [*record], columns)
    head = [first, *islice(records, NUM_SAMPLED - 1)]
    samples = {name: [r[name] for _, r in head if name in r] for name in record}
    hints = hint_unused(samples, column_of, columns)
    return Table(file, column_of, inferred, hints=hints), head


def _pick(
    file: str, records: Iterator[Record], column_of: dict[str, str]
) -> tuple[list[int], Sequence[Sequence[Any]]]:
    """Return the lines, and the values of each role."""
    pick = itemgetter(*column_of.values())
    lines, rows = [], []
    for line, record in records:
        try:
            rows.append(pick(record))
        except KeyError as error:
            there = ", ".join(map(repr, [*record][:20]))
            raise ValueError(
                f"{file}:{line}: no column {error} (there are {there})"
            ) from None
        lines.append(line)
    return lines, list(zip(*rows, strict=True))


def _place(file: str, lines: list[int], row: int) -> str:
    return f"{file}:{lines[row]}"


def _array(values: Sequence[Any]) -> np.ndarray:
    """Return numbers as an array of numbers ``[n]``, anything else as objects."""
    types = set(map(type, values))
    try:
        if types == {int}:
            return np.array(values, dtype=np.int64)
        if types == {float}:
            return np.array(values, dtype=np.float64)
    except OverflowError:
        pass
    return objects(values)
