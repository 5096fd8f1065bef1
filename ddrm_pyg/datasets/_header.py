"""How a table begins: what it is, and what its columns are called.

Nothing heavy is imported here, so that a column that is not there can be refused
before torch is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from ddrm_pyg.datasets._columns import NUMBER, Columns, find_columns
from ddrm_pyg.datasets._dialect import Dialect
from ddrm_pyg.datasets._text import read_blocks, read_start
from ddrm_pyg.extras import import_extra

_DELIMITED = (".csv", ".tsv", ".inter", ".dat", ".data")
_JSON_LINES = (".json", ".jsonl")
_TABLES = (*_DELIMITED, *_JSON_LINES, ".parquet")
"""Suffixes of files that hold one interaction a row; what is in them tells the rest."""

NUM_SAMPLED = 20
"""Rows that are looked at, to tell what they are."""

_SEPARATORS = ("::", ",", "\t", ";", "|")
_HEAD = 1 << 16  # bytes that hold a header
_EXCEL = re.compile(rb'"?sep=(.)"?\n')
"""A first line by which Excel names the separator."""
_TYPED = re.compile(r"(.+):(?:token|float)(?:_seq)?")
"""A field of RecBole's header."""
_GROUPLENS = ("user", "item", "rating", "time")


Record = tuple[int, dict[str, Any]]
"""A record of JSON lines, with its line."""

Blocks = Iterator[tuple[int, bytes]]
"""Rows of a text, with the line that they begin in."""


def kind_of(path: Path, encoding: str | None) -> Literal["text", "json", "parquet"]:
    """Tell what a table is, by what is in it.

    Args:
        path: The file.
        encoding: What its bytes are, if it is a text.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is called as no table is.
    """
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in _TABLES or name.endswith(".parquet.gz"):
        raise ValueError(
            f"{path}: no reader for {suffix!r} (known: {', '.join(_TABLES)}, text also "
            "as .gz)"
        )
    if suffix == ".parquet" or is_parquet(path):
        return "parquet"
    if suffix in _JSON_LINES or read_start(path, encoding).lstrip().startswith(b"{"):
        return "json"
    return "text"


def check_columns(
    path: Path,
    columns: Columns,
    *,
    encoding: str | None = None,
    separator: str | None = None,
) -> None:
    """Refuse columns that a table does not have, by how it begins.

    Args:
        path: The file.
        columns: What the caller calls each role.
        encoding: As for :func:`open_text`.
        separator: Likewise.

    Raises:
        ImportError: It is parquet, and the extra ``[parquet]`` is not there.
        ValueError: A column is not there, or the beginning of the file is refused.
    """
    kind = kind_of(path, encoding)
    if kind == "parquet":
        file, schema = open_parquet(path)
        with file:
            find_columns(path.name, schema.names, columns)
    elif kind == "json":
        line, record = _first_record(path, encoding)
        find_columns(f"{path.name}:{line}", [*record], columns)
    else:
        header, _ = open_text(path, encoding, separator, _HEAD)
        header.find(columns)


@dataclass(frozen=True)
class Header:
    """How a text of rows begins.

    Attributes:
        where: The place of the names, for messages.
        separator: What stands between two fields.
        dialect: How rows are cut once that is one byte.
        names: Names of the columns.
        line: The line that they begin in, counted from 1.
        is_written: False where GroupLens' columns are known by their places.
        rows: The fields of the first rows.
    """

    where: str
    separator: str
    dialect: Dialect
    names: list[str]
    line: int
    is_written: bool
    rows: list[list[str]]

    @property
    def samples(self) -> dict[str, list[str]]:
        """The first values of each column, as far as rows go."""
        rows = (row for row in self.rows if len(row) == len(self.names))
        return dict(zip(self.names, map(list, zip(*rows, strict=True)), strict=False))

    def find(self, columns: Columns) -> tuple[dict[str, str], list[str]]:
        """Find the columns, see :func:`~ddrm_pyg.datasets._columns.find_columns`."""
        if not self.is_written:
            return _find_by_place(self.where, self.names, columns), []
        try:
            return find_columns(self.where, self.names, columns)
        except ValueError:
            if not any(map(NUMBER.fullmatch, self.names)):
                raise
            raise ValueError(
                f"{self.where}: no header: the first row must name the columns (got "
                f"{', '.join(self.names)[:80]!r})"
            ) from None


def read_header(path: Path) -> Header:
    """Read how a text begins, for what reads its rows by other means.

    Args:
        path: A file in UTF-8, packed by gzip or not.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no rows, or its first ones are refused.
    """
    return open_text(path, None, None, _HEAD)[0]


def open_text(
    path: Path, encoding: str | None, separator: str | None, size: int
) -> tuple[Header, Blocks]:
    """Recognise a text by its first rows.

    Args:
        path: The file, packed by gzip or not.
        encoding: What its bytes are; see
            :func:`~ddrm_pyg.datasets._text.read_blocks`.
        separator: One ASCII character or ``::``; ``None`` takes the one that most of
            the first rows agree on.
        size: Bytes that are looked at together.

    Returns:
        Its header, and the rows that follow.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no rows, or its first ones are refused.
    """
    if separator is not None:
        separator = _check_separator(separator)
    separator, dialect = _recognise(path, encoding, separator)
    blocks = _table_blocks(path, encoding, separator, dialect, size)
    line, block = next(blocks, (1, b""))
    first = next(dialect.records(block, line), None)
    if first is None:
        raise ValueError(f"{path.name}: no rows")
    where = f"{path.name}:{first.line}"
    is_written = not _has_no_header(path, separator, first.fields)
    if is_written:
        names = _names(where, first.fields, must_be_typed=".inter" in path.suffixes)
        line += block.count(b"\n", 0, first.end)
        block = block[first.end :]
    else:
        names = _places(where, first.fields)
    records = islice(dialect.records(block, line), NUM_SAMPLED)
    rows = [record.fields for record in records]
    header = Header(where, separator, dialect, names, first.line, is_written, rows)
    return header, chain([(line, block)] if block else [], blocks)


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
    records = islice(dialect.records(sample), NUM_SAMPLED)
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
    return is_grouplens and any(map(NUMBER.fullmatch, first))


def _places(where: str, first: list[str]) -> list[str]:
    """Return the names of columns that are known by their places."""
    if not 2 <= len(first) <= len(_GROUPLENS):
        raise ValueError(
            f"{where}: {len(first)} fields and no header, expected user, item, rating "
            "and time"
        )
    return [*_GROUPLENS[: len(first)]]


def _find_by_place(where: str, names: list[str], columns: Columns) -> dict[str, str]:
    for role, name in columns.items():
        if name not in (None, False, role):
            raise ValueError(f"{where}: no column names to choose {name!r} from")
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


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_no_number)
"""Takes neither NaN nor Infinity, which JSON does not have."""


def parse_records(
    file: str, first_line: int, block: bytes, parse: Callable[[str], Any]
) -> Iterator[Record]:
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


def _first_record(path: Path, encoding: str | None) -> Record:
    blocks = read_blocks(path, encoding=encoding, size=_HEAD)
    records = (
        record
        for first_line, block in blocks
        for record in parse_records(path.name, first_line, block, DECODER.decode)
    )
    return next(records)  # where there is none, the blocks have refused the file


def import_pyarrow(
    part: str = "pyarrow", *, what: str = "parquet files need pyarrow"
) -> Any:
    """Return pyarrow or a module of it.

    Args:
        part: The module's full name.
        what: What it is needed for, for the message.

    Raises:
        ImportError: It is not installed; the message names the extra.
    """
    return import_extra(part, what, "parquet")


def is_parquet(path: Path) -> bool:
    """Tell whether a file begins as parquet does, whatever it is called.

    Args:
        path: Any file.
    """
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def open_parquet(path: Path) -> tuple[Any, Any]:
    """Open a ``.parquet`` file.

    Args:
        path: The file.

    Returns:
        pyarrow's ``ParquetFile``, which is to be closed, and its schema.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: The file is damaged.
    """
    parquet = import_pyarrow("pyarrow.parquet")
    with whole_parquet(path):
        file = parquet.ParquetFile(path)
        return file, file.schema_arrow


@contextmanager
def whole_parquet(path: Path) -> Iterator[None]:
    """Refuse a file that cannot be read, in one line that names it."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # a broken file can raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path.name}: not a whole parquet file ({reason})") from error
