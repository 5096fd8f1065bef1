"""Read one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ddrm_pyg.datasets._table import Columns, Table, find_columns, objects
from ddrm_pyg.datasets._text import BLOCK_SIZE, read_blocks


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)
"""Takes neither NaN nor Infinity, which JSON does not have."""


def read_json_lines(
    path: Path,
    columns: Columns,
    *,
    parse: Callable[[str], Any] = _DECODER.decode,
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
        records = _parse(path.name, first_line, block, parse)
        first = next(records, None)
        if first is None:
            continue  # nothing but blanks
        if table is None:
            line, record = first
            column_of, inferred = find_columns(
                f"{path.name}:{line}", [*record], columns
            )
            table = Table(path.name, column_of, inferred)
        lines, values = _pick(path.name, chain([first], records), table.column_of)
        where = partial(_place, path.name, lines)
        table.append(
            dict(zip(table.column_of, map(_array, values), strict=True)), where
        )
    if table is None:
        raise ValueError(f"{path.name}: no rows")
    return table


def _parse(
    file: str, first_line: int, block: bytes, parse: Callable[[str], Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and record of each line that is not blank."""
    for line, text in enumerate(block.decode().split("\n"), first_line):
        if not text or text.isspace():
            continue
        try:
            record = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(
                f"{file}:{line}: does not parse, expected one JSON object per line "
                f"({str(error).splitlines()[0]})"
            ) from error
        if type(record) is not dict:
            raise ValueError(
                f"{file}:{line}: expected a JSON object (got {text.strip()[:40]!r})"
            )
        yield line, record


def _pick(
    file: str, records: Iterator[tuple[int, dict[str, Any]]], column_of: dict[str, str]
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
