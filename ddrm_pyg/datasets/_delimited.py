"""Read rows of fields: CSV and TSV, RecBole's .inter, GroupLens' ratings.dat."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ddrm_pyg.datasets._dialect import Dialect, Record
from ddrm_pyg.datasets._table import (
    Columns,
    Table,
    find_columns,
    is_canonical_integer,
)
from ddrm_pyg.datasets._text import BLOCK_SIZE, read_blocks, read_start

_SEPARATORS = ("::", ",", "\t", ";", "|")
_NUM_SAMPLED = 20  # rows that tell the separator
_HEAD = 1 << 16  # bytes that hold a header
_EXCEL = re.compile(rb'"?sep=(.)"?\n')
"""A first line by which Excel names the separator."""
_TYPED = re.compile(r"(.+):(?:token|float)(?:_seq)?")
"""A field of RecBole's header."""
_NUMBER = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]*)?\s*")
_GROUPLENS = ("user", "item", "rating", "time")


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
    if separator is not None:
        separator = _check_separator(separator)
    separator, dialect, first, (line, block), rest = _open(
        path, encoding, separator, size
    )
    if _has_no_header(path, separator, first.fields):
        names, inferred = [*_GROUPLENS[: len(first.fields)]], False
        column_of = _find_by_place(f"{path.name}:{first.line}", first.fields, columns)
    else:
        where = f"{path.name}:{first.line}"
        names = _names(where, first.fields, must_be_typed=".inter" in path.suffixes)
        column_of, inferred = _find_by_name(where, names, columns)
        line += block.count(b"\n", 0, first.end)
        block = block[first.end :]
    body = chain([(line, block)] if block else [], rest)
    return _read(_Layout(path.name, dialect, names, column_of), inferred, body)


@dataclass(frozen=True)
class Header:
    """How a text with named columns begins.

    Attributes:
        separator: What stands between two fields.
        quoted: Whether a quote at the beginning of a field opens a quoted one.
        names: Names of the columns.
        line: The line that they begin in, counted from 1.
    """

    separator: str
    quoted: bool
    names: list[str]
    line: int


def read_header(path: Path) -> Header:
    """Read how a text begins, for what reads its rows by other means.

    Args:
        path: A file in UTF-8, packed by gzip or not.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no rows, or its first ones are refused.
    """
    text = _open(path, None, None, _HEAD)
    where = f"{path.name}:{text.first.line}"
    names = _names(where, text.first.fields, must_be_typed=False)
    return Header(text.separator, text.dialect.quoted, names, text.first.line)


class _Text(NamedTuple):
    """A text whose first row has been cut.

    Attributes:
        separator: What stands between two fields.
        dialect: How rows are cut once it is one byte.
        first: The first row that is not blank.
        head: The first block, with the line that it begins in.
        rest: The blocks after it, likewise.
    """

    separator: str
    dialect: Dialect
    first: Record
    head: tuple[int, bytes]
    rest: Iterator[tuple[int, bytes]]


def _open(path: Path, encoding: str | None, separator: str | None, size: int) -> _Text:
    """Recognise a text and cut its first row, or refuse one without rows."""
    separator, dialect = _recognise(path, encoding, separator)
    blocks = _table_blocks(path, encoding, separator, dialect, size)
    line, block = next(blocks, (1, b""))
    first = next(dialect.records(block, line), None)
    if first is None:
        raise ValueError(f"{path.name}: no rows")
    return _Text(separator, dialect, first, (line, block), blocks)


def read_bare_csv(path: Path, names: list[str], *, size: int = BLOCK_SIZE) -> Table:
    """Read a comma-separated table that has no header.

    Args:
        path: A ``.csv`` file, also ``.gz``.
        names: What each field is: user, item, rating and time in any order.
        size: Bytes that are looked at together.
    """
    dialect = Dialect(",", quoted=True)
    layout = _Layout(path.name, dialect, names, {name: name for name in names})
    return _read(layout, False, read_blocks(path, dialect=dialect, size=size))


def _check_separator(separator: str) -> str:
    separator = "\t" if separator == "\\t" else separator
    is_mark = len(separator) == 1 and separator.isascii() and not separator.isalnum()
    if separator != "::" and (not is_mark or separator in '"\r\n\0'):
        raise ValueError(
            "'separator' must be '::' or one ASCII character that is no letter, digit, "
            f"quote or line end (got {separator!r})"
        )
    return separator


def _recognise(
    path: Path, encoding: str | None, separator: str | None
) -> tuple[str, Dialect]:
    """Return what separates fields, and how rows are cut once it is one byte."""
    sample = read_start(path, encoding)
    excel = _EXCEL.match(sample)
    if excel:
        sample = sample[excel.end() :]
        separator = separator or excel[1].decode()
    if separator is None:
        agreeing, _, separator = max(
            ((*_agreement(sample, mark), mark) for mark in _SEPARATORS),
            key=lambda scored: scored[:2],
        )
        if not agreeing and sample.strip():
            header = sample.lstrip(b"\n").partition(b"\n")[0].decode()
            raise ValueError(
                f"{path.name}:1: no comma, tab, semicolon or bar in the header "
                f"{header[:80]!r}; --separator, in Python separator=, names another"
            )
    return separator, _dialect(sample, separator)


def _agreement(sample: bytes, separator: str) -> tuple[int, int]:
    """Return how many of the first rows have equally many fields, and the first's.

    A row of one field agrees with none.
    """
    dialect = _dialect(sample, separator)
    if separator == "::":
        sample = sample.replace(b"\t", b" ").replace(b"::", b"\t")
    records = islice(dialect.records(sample), _NUM_SAMPLED)
    counts = [len(record.fields) for record in records]
    several = Counter(count for count in counts if count > 1)
    return max(several.values(), default=0), counts[0] if counts else 0


def _dialect(sample: bytes, separator: str) -> Dialect:
    has_quoted_header = sample.lstrip(b"\n").startswith(b'"')
    quoted = separator not in ("\t", "::") or has_quoted_header
    return Dialect("\t" if separator == "::" else separator, quoted=quoted)


def _table_blocks(
    path: Path, encoding: str | None, separator: str, dialect: Dialect, size: int
) -> Iterator[tuple[int, bytes]]:
    """Yield blocks with one byte between two fields, Excel's first line left out."""
    for line, block in read_blocks(path, encoding=encoding, dialect=dialect, size=size):
        if separator == "::":
            if b"\t" in block:
                line += block.count(b"\n", 0, block.index(b"\t"))
                raise ValueError(
                    f"{path.name}:{line}: a tab, expected '::' between two fields"
                )
            block = block.replace(b"::", b"\t")
        if line == 1 and (excel := _EXCEL.match(block)):
            line, block = 2, block[excel.end() :]
        if block:
            yield line, block


def _has_no_header(path: Path, separator: str, first: list[str]) -> bool:
    is_grouplens = separator == "::" or not {".dat", ".data"}.isdisjoint(path.suffixes)
    return is_grouplens and any(map(_NUMBER.fullmatch, first))


def _find_by_place(where: str, first: list[str], columns: Columns) -> dict[str, str]:
    for role, name in columns.items():
        if name not in (None, False, role):
            raise ValueError(f"{where}: no column names to choose {name!r} from")
    if not 2 <= len(first) <= len(_GROUPLENS):
        raise ValueError(
            f"{where}: {len(first)} fields and no header, expected user, item, rating "
            "and time"
        )
    names = _GROUPLENS[: len(first)]
    return {name: name for name in names if columns.get(name) is not False}


def _names(where: str, header: list[str], *, must_be_typed: bool) -> list[str]:
    """Return the names of a header, without RecBole's types."""
    names = [name.strip() for name in header]
    typed = [_TYPED.fullmatch(name) for name in names]
    if all(typed):
        return [match[1] for match in typed if match]
    if must_be_typed:
        raise ValueError(
            f"{where}: header field {names[typed.index(None)][:40]!r} must be "
            "name:token or name:float, as RecBole writes it; without types it is a .tsv"
        )
    return names


def _find_by_name(
    where: str, names: list[str], columns: Columns
) -> tuple[dict[str, str], bool]:
    try:
        return find_columns(where, names, columns)
    except ValueError:
        if not any(map(_NUMBER.fullmatch, names)):
            raise
        raise ValueError(
            f"{where}: no header: the first row must name the columns (got "
            f"{', '.join(names)[:80]!r})"
        ) from None


def _read(
    layout: _Layout, inferred: bool, blocks: Iterable[tuple[int, bytes]]
) -> Table:
    """Check the shape of the rows, then let pandas read the columns in use."""
    table = Table(layout.file, layout.column_of, inferred, typed=False)
    for first_line, body in blocks:
        num_rows = _count_rows(layout, body, first_line)
        frame = _read_frame(layout, body, first_line)
        if len(frame) != num_rows:
            raise ValueError(
                f"{layout.file}:{first_line}: {num_rows} rows from here on read as "
                f"{len(frame)}: bad quoting"
            )
        where = partial(_place, layout, body, first_line)
        table.append({role: _values(frame[role]) for role in layout.column_of}, where)
    return table


def _place(layout: _Layout, body: bytes, first_line: int, row: int) -> str:
    """Find the line of a row of a block, which blank lines and quotes may shift."""
    record = next(islice(layout.dialect.records(body, first_line), row, None))
    return f"{layout.file}:{record.line}"


def _values(column: pd.Series) -> np.ndarray:
    dtype = None if column.dtype.kind in "biuf" else object
    return column.to_numpy(dtype)


def _read_frame(layout: _Layout, body: bytes, first_line: int) -> pd.DataFrame:
    """Read ids as int64 where all are written as such, else as they are written."""
    position = {
        layout.names.index(name): role for role, name in layout.column_of.items()
    }
    order = sorted(position)

    def read(id_type: type | None, num_rows: int | None = None) -> pd.DataFrame:
        with warnings.catch_warnings():  # columns of mixed types are looked at later
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            return pd.read_csv(
                io.BytesIO(body),
                sep=layout.dialect.delimiter,
                quoting=csv.QUOTE_MINIMAL if layout.dialect.quoted else csv.QUOTE_NONE,
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
            _has_padded_integer(body, layout.dialect.delimiter)
            or _has_odd_integer(body, layout.dialect.delimiter)
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
