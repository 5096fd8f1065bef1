"""Read rows of fields: CSV and TSV, RecBole's .inter, GroupLens' ratings.dat."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddrm_pyg.datasets._columns import Columns, hint_unused
from ddrm_pyg.datasets._dialect import Dialect
from ddrm_pyg.datasets._header import open_text
from ddrm_pyg.datasets._table import Coded, Table
from ddrm_pyg.datasets._text import BLOCK_SIZE, read_blocks


@dataclass(frozen=True)
class _Layout:
    """What every row of a file has in common.

    Attributes:
        file: File name for messages.
        dialect: How a row is cut into fields.
        names: A name for each field.
        column_of: Which name has which role.
    """

    file: str
    dialect: Dialect
    names: list[str]
    column_of: dict[str, str]


def read_delimited(
    path: Path,
    columns: Columns,
    *,
    encoding: str | None = None,
    separator: str | None = None,
    size: int = BLOCK_SIZE,
) -> Table:
    """Read a table whose first rows tell the separator and whose header the columns.

    Accepted are fields between commas, semicolons, bars, tabs or ``::``, and a first
    line ``sep=;`` as Excel writes it. Quotes are those of RFC 4180, but literal between
    tabs and ``::``, unless the header itself is quoted. The header may be RecBole's,
    ``name:type`` for each field. GroupLens' files (``.dat``, ``.data``, or with ``::``)
    may have none: their columns are user, item, rating and time.

    Args:
        path: The file, packed by gzip or not.
        columns: What the caller calls each role.
        encoding: What its bytes are; see
            :func:`~ddrm_pyg.datasets._text.read_blocks`.
        separator: One ASCII character or ``::``; ``None`` takes the one that most of
            the first rows agree on.
        size: Bytes that are looked at together.

    Raises:
        ValueError: An option or the content is refused.
    """
    header, body = open_text(path, encoding, separator, size)
    column_of, inferred = header.find(columns)
    layout = _Layout(path.name, header.dialect, header.names, column_of)
    return _read(
        layout, inferred, body, hint_unused(header.samples, column_of, columns)
    )


def read_bare_csv(path: Path, names: list[str], *, size: int = BLOCK_SIZE) -> Table:
    """Read a comma-separated table that has no header.

    Args:
        path: A ``.csv`` file, also ``.gz``.
        names: What each field is: user, item, rating and time in any order.
        size: Bytes that are looked at together.
    """
    dialect = Dialect(",", quoted=True)
    layout = _Layout(path.name, dialect, names, {name: name for name in names})
    return _read(layout, [], read_blocks(path, dialect=dialect, size=size))


def _read(
    layout: _Layout,
    inferred: Sequence[str],
    blocks: Iterable[tuple[int, bytes]],
    hints: Sequence[str] = (),
) -> Table:
    """Let pandas read the columns in use, block by block."""
    table = Table(layout.file, layout.column_of, inferred, typed=False, hints=hints)
    for first_line, body in blocks:
        values = _read_values(layout, body, first_line)
        table.append(values, partial(_place, layout, body, first_line))
    return table


def _place(layout: _Layout, body: bytes, first_line: int, row: int) -> str:
    """Find the line of a row of a block, which blank lines and quotes may shift."""
    record = next(islice(layout.dialect.records(body, first_line), row, None))
    return f"{layout.file}:{record.line}"


def _read_values(layout: _Layout, body: bytes, first_line: int) -> dict[str, Any]:
    """Read ids as int64 where all are written as such, else as they are written."""
    try:
        values = _parse(layout, body, first_line)
    except ValueError:
        _count_rows(layout, body, first_line)  # says it better, where a row is odd
        raise
    if _is_plain(layout, values, body):
        return values
    num_rows = _count_rows(layout, body, first_line)
    numbers = [r for r in ("user", "item") if not isinstance(values[r], Coded)]
    if numbers and not (
        len(numbers) == 2
        and all(values[role].dtype.kind == "i" for role in numbers)
        and not _has_padded_integer(body, layout.dialect.delimiter)
        and not _has_odd_integer(body, layout.dialect.delimiter)
    ):
        values = _parse(layout, body, first_line, texts=numbers)
    if len(values["user"]) != num_rows:
        raise ValueError(
            f"{layout.file}:{first_line}: {num_rows} rows from here on read as "
            f"{len(values['user'])}: bad quoting"
        )
    return values


def _parse(
    layout: _Layout, body: bytes, first_line: int, *, texts: Sequence[str] = ()
) -> dict[str, Any]:
    """Read the columns in use: all of a column are numbers, or all are texts.

    Args:
        layout: How rows are cut.
        body: Rows.
        first_line: The number of the first one, for messages.
        texts: Roles whose numbers are texts, too: 007 and 1e3 stay as they are.
    """
    position = {
        layout.names.index(name): role for role, name in layout.column_of.items()
    }
    order = sorted(position)
    try:
        frame = pd.read_csv(
            io.BytesIO(body),
            sep=layout.dialect.delimiter,
            quoting=csv.QUOTE_MINIMAL if layout.dialect.quoted else csv.QUOTE_NONE,
            header=None,
            # to choose all takes longer than not to choose
            usecols=order if len(order) < len(layout.names) else None,
            names=[position[i] for i in order],
            # what pandas finds to be texts comes in a fifth of the time
            dtype=dict.fromkeys(texts, str) if texts else None,
            na_filter=False,
            low_memory=False,  # which looks at some rows of a column only
        )
    except Exception as error:  # pandas fails in many ways on bad quoting
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{layout.file}:{first_line}: cannot be parsed from here on ({reason})"
        ) from error
    return {str(role): _values(column) for role, column in frame.items()}


def _values(column: pd.Series) -> np.ndarray | Coded:
    """Return numbers as such, texts that are ids by their codes, others as objects."""
    if column.dtype.kind in "biuf":
        return column.to_numpy()
    if column.name in ("user", "item"):
        code, texts = pd.factorize(column)  # Arrow's own where pandas has it
        return Coded(code, texts.tolist())
    return column.to_numpy(object)


def _is_plain(layout: _Layout, values: dict[str, Any], body: bytes) -> bool:
    """Tell whether all fields are integers in their shortest form.

    Then the text is as long as these and a mark after each: a row with fewer or more
    fields, a blank line, a quote or a padded number makes it longer.
    """
    columns = [*values.values()]
    if len(columns) < len(layout.names):
        return False
    if any(isinstance(c, Coded) or c.dtype.kind != "i" for c in columns):
        return False
    num_marks = len(columns) * len(columns[0])
    return num_marks + sum(map(_num_characters, columns)) == len(body)


def _num_characters(values: np.ndarray) -> int:
    """Count the characters of integers ``[n]`` in their shortest form."""
    low, high = int(values.min()), int(values.max())
    count = len(values) + (int(np.count_nonzero(values < 0)) if low < 0 else 0)
    power = 10
    while power <= max(high, -low):
        if low >= power:
            count += len(values)
        elif high >= power:
            count += int(np.count_nonzero(values >= power))
        if low <= -power:
            count += int(np.count_nonzero(values <= -power))
        power *= 10
    return count


def _has_padded_integer(body: bytes, delimiter: str) -> bool:
    """Tell whether a field starts like 007, which as an integer would become 7."""
    byte = np.frombuffer(b"\n" + body, dtype=np.uint8)
    opening = np.frombuffer(b'\n"' + delimiter.encode(), dtype=np.uint8)
    step = 1 << 18  # small enough for the comparisons to stay in the cache
    for start in range(0, len(byte), step):
        part = byte[start : start + step + 2]
        digit = part - np.uint8(48)
        is_digit = digit < 10
        suspect = ((digit == 0)[1:-1] & is_digit[2:]) > is_digit[:-2]
        if suspect.any() and np.isin(part[:-2][suspect], opening).any():
            return True
    return False


def _has_odd_integer(body: bytes, delimiter: str) -> bool:
    """Tell whether a field is like +7, -0 or 7 among blanks, which would become 7."""
    blank = b" \t\v\f\r".replace(delimiter.encode(), b"")
    marked = any(bytes([mark]) in body for mark in b'+"' + blank)
    if not marked and not (b"-" in body and b"-0" in body):
        return False
    edge = re.escape(delimiter.encode())
    leading = rb'[\n"%b](?:[+%b]|-0(?!\.))|"\n' % (edge, blank)
    trailing = rb'[%b][\n"%b]|\n"[\n%b]' % (blank, edge, edge)
    return re.search(leading + b"|" + trailing, b"\n" + body) is not None


def _count_rows(layout: _Layout, body: bytes, first_line: int) -> int:
    """Return the number of rows once each has as many fields as there are names.

    pandas pads short rows and, reading some columns only, cuts long ones.
    """
    num_fields = len(layout.names)
    num_rows = layout.dialect.count_rows(body, num_fields)
    if num_rows is not None:
        return num_rows
    for record in layout.dialect.records(body, first_line):
        if len(record.fields) != num_fields:
            raise ValueError(
                f"{layout.file}:{record.line}: {len(record.fields)} fields, expected "
                f"{num_fields}"
            )
    raise AssertionError("rows that are counted and read tell the same")
