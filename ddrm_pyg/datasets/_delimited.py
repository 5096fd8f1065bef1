"""Read rows of fields: CSV and TSV, RecBole's .inter, GroupLens' ratings.dat."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from ddrm_pyg.datasets._table import (
    Columns,
    Table,
    find_columns,
    is_canonical_integer,
)
from ddrm_pyg.datasets._text import BLOCK_SIZE, read_blocks

_DELIMITERS = (",", "\t", ";", "|")
_RATINGS_DAT = ("user", "item", "rating", "time")


@dataclass(frozen=True)
class _Layout:
    """What every row of a file has in common.

    Attributes:
        file: File name for messages.
        delimiter: What stands between two fields.
        names: A name for each field.
        found: Which name has which role.
    """

    file: str
    delimiter: str
    names: list[str]
    found: dict[str, str]


def read_delimited(path: Path, columns: Columns, *, size: int = BLOCK_SIZE) -> Table:
    """Read a table with a header; the header tells the delimiter.

    Args:
        path: A ``.csv`` or ``.tsv`` file, also ``.gz``.
        columns: What the caller calls each role.
        size: Bytes that are looked at together.
    """
    header, body = _split_header(path, size)
    delimiter = max(_DELIMITERS, key=header.count)
    if delimiter not in header:
        raise ValueError(
            f"{path.name}:1: no comma, tab, semicolon or bar in the header "
            f"{header[:80]!r}"
        )
    names = _fields_of(path.name, header, delimiter)
    found, inferred = find_columns(f"{path.name}:1", names, columns)
    return _read(_Layout(path.name, delimiter, names, found), inferred, body)


def read_inter(path: Path, columns: Columns, *, size: int = BLOCK_SIZE) -> Table:
    """Read RecBole's atomic file, whose header says ``name:type`` for each field.

    Args:
        path: An ``.inter`` file.
        columns: What the caller calls each role, without the type.
        size: Bytes that are looked at together.
    """
    header, body = _split_header(path, size)
    names = []
    for field in _fields_of(path.name, header, "\t"):
        name, _, kind = field.rpartition(":")
        if not name or kind not in ("token", "float", "token_seq", "float_seq"):
            raise ValueError(
                f"{path.name}:1: header field {field[:40]!r} must be name:token or "
                "name:float, after each but the last a tab"
            )
        names.append(name)
    found, inferred = find_columns(f"{path.name}:1", names, columns)
    return _read(_Layout(path.name, "\t", names, found), inferred, body)


def read_ratings_dat(path: Path, columns: Columns, *, size: int = BLOCK_SIZE) -> Table:
    """Read GroupLens' ``user::item::rating::seconds``, which has no header.

    Args:
        path: The ``.dat`` file.
        columns: What the caller calls each role; there are no names to choose from.
        size: Bytes that are looked at together.
    """
    for role, name in columns.items():
        if name not in (None, role):
            raise ValueError(f"{path.name}: no column names to choose {name!r} from")
    body = _with_tabs(path.name, read_blocks(path, encoding="latin-1", size=size))
    names = list(_RATINGS_DAT)
    found = dict(zip(names, names, strict=True))
    return _read(_Layout(path.name, "\t", names, found), False, body)


def _with_tabs(
    file: str, blocks: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, bytes]]:
    """Yield blocks with one byte between two fields instead of GroupLens' two."""
    for line, block in blocks:
        if b"\t" in block:
            line += block.count(b"\n", 0, block.index(b"\t"))
            raise ValueError(f"{file}:{line}: a tab, expected '::' between two fields")
        yield line, block.replace(b"::", b"\t")


def read_bare_csv(path: Path, names: list[str], *, size: int = BLOCK_SIZE) -> Table:
    """Read a comma-separated table that has no header.

    Args:
        path: A ``.csv`` file, also ``.gz``.
        names: What each field is: user, item, rating and time in any order.
        size: Bytes that are looked at together.
    """
    found = {name: name for name in names}
    blocks = read_blocks(path, quoted=True, size=size)
    return _read(_Layout(path.name, ",", names, found), False, blocks)


def _split_header(path: Path, size: int) -> tuple[str, Iterator[tuple[int, bytes]]]:
    """Return the first line, and the blocks of the others."""
    blocks = read_blocks(path, quoted=True, size=size)
    _, first = next(blocks)
    header, _, body = first.partition(b"\n")
    return header.decode(), chain([(2, body)] if body else [], blocks)


def _fields_of(file: str, header: str, delimiter: str) -> list[str]:
    records = _records(file, header.encode(), delimiter, first_line=1)
    _, fields = next(records, (1, [""]))
    return [name.strip() for name in fields]


def _read(
    layout: _Layout, inferred: bool, blocks: Iterable[tuple[int, bytes]]
) -> Table:
    """Check the shape of the rows, then let pandas read the columns in use."""
    table = Table(layout.file, layout.found, inferred, typed=False)
    for first_line, body in blocks:
        num_rows = _count_rows(layout, body, first_line)
        frame = _read_frame(layout, body, first_line)
        if len(frame) != num_rows:
            raise ValueError(
                f"{layout.file}:{first_line}: {num_rows} rows from here on read as "
                f"{len(frame)}: bad quoting"
            )
        where = partial(_place, layout, body, first_line)
        table.append({role: _values(frame[role]) for role in layout.found}, where)
    return table


def _place(layout: _Layout, body: bytes, first_line: int, row: int) -> str:
    """Find the line of a row of a block, which blank lines and quotes may shift."""
    records = _records(layout.file, body, layout.delimiter, first_line)
    line = next(line for i, (line, _) in enumerate(records) if i == row)
    return f"{layout.file}:{line}"


def _values(column: pd.Series) -> np.ndarray:
    dtype = None if column.dtype.kind in "biuf" else object
    return column.to_numpy(dtype)


def _read_frame(layout: _Layout, body: bytes, first_line: int) -> pd.DataFrame:
    """Read ids as int64 where all are written as such, else as they are written."""
    position = {layout.names.index(name): role for role, name in layout.found.items()}
    order = sorted(position)

    def read(id_type: type | None, num_rows: int | None = None) -> pd.DataFrame:
        with warnings.catch_warnings():  # columns of mixed types are looked at later
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            return pd.read_csv(
                io.BytesIO(body),
                sep=layout.delimiter,
                header=None,
                # to choose all takes longer than not to choose
                usecols=order if len(order) < len(layout.names) else None,
                names=[position[i] for i in order],
                dtype=id_type and {"user": id_type, "item": id_type},
                na_filter=False,
                nrows=num_rows,
            )

    try:
        if not (
            _has_padded_integer(body, layout.delimiter)
            or _has_odd_integer(body, layout.delimiter)
        ):
            first = read(object, num_rows=1)[["user", "item"]].iloc[0]
            if all(map(is_canonical_integer, first)):
                # Asked for int64, pandas would take 2.0 and 1e3 as well.
                frame = read(None)
                if all(frame[role].dtype.kind == "i" for role in ("user", "item")):
                    return frame
        return read(object)
    except Exception as error:  # pandas fails in many ways on bad quoting
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{layout.file}:{first_line}: cannot be parsed from here on ({reason})"
        ) from error


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
    blank = b" \t\v\f".replace(delimiter.encode(), b"")
    if not any(bytes([mark]) in body for mark in b'+"' + blank) and b"-0" not in body:
        return False
    edge = re.escape(delimiter.encode())
    leading = rb'[\n"%b](?:[+%b]|-0(?!\.))|"\n' % (edge, blank)
    trailing = rb'[%b][\n"%b]|\n"[\n%b]' % (blank, edge, edge)
    return re.search(leading + b"|" + trailing, b"\n" + body) is not None


def _count_rows(layout: _Layout, body: bytes, first_line: int) -> int:
    """Return the number of rows once each has as many fields as there are names.

    pandas pads short rows and, reading some columns only, cuts long ones. Deleting all
    bytes but delimiters and line ends leaves a pattern that one comparison checks.
    """
    d, num_fields = layout.delimiter.encode(), len(layout.names)
    bare = body
    if b'"' in body:
        edge = re.escape(d) + rb"\n"
        quoted = rb'(?<![^%b])"(?:[^"]++|"")*+"(?=[%b])' % (edge, edge)
        bare = re.sub(quoted, b"", body)
    marks = bare.translate(None, bytes(set(range(256)) - {d[0], 10}))
    pattern = d * (num_fields - 1) + b"\n"
    num_rows = len(marks) // len(pattern)
    if b'"' not in bare and marks == pattern * num_rows:
        return num_rows
    num_rows = 0
    for line, fields in _records(layout.file, body, layout.delimiter, first_line):
        if len(fields) != num_fields:
            raise ValueError(
                f"{layout.file}:{line}: {len(fields)} fields, expected {num_fields}"
            )
        num_rows += 1
    return num_rows


def _records(
    file: str, body: bytes, delimiter: str, first_line: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and fields of each row, slowly and exactly."""
    lines = io.StringIO(body.decode(), newline="\n")
    reader = csv.reader(lines, delimiter=delimiter)
    line = first_line
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{file}:{line}: {error}") from error
        if fields:
            yield line, fields
        line = first_line + reader.line_num
