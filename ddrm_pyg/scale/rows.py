"""Rows of tables of any size, read into DuckDB as they stand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddrm_pyg.datasets._columns import find_columns, in_words
from ddrm_pyg.datasets._header import is_parquet, read_header
from ddrm_pyg.datasets._text import is_packed, read_start
from ddrm_pyg.extras import import_extra

logger = logging.getLogger("ddrm_pyg")

MEMORY = "4GB"
"""What DuckDB may take by default before it spills."""

_JSON = (".jsonl", ".ndjson", ".json")
_TABLES = (".csv", ".tsv", ".parquet", *_JSON)
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_SPACE = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace())
"""What Python strips from a text; DuckDB strips blanks alone by itself."""

_DATE = (
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d*))?)?)?"
    r"(?: ?(Z|[+-]\d\d(?::?\d\d)?))?)?"
)
"""ISO 8601, UTC where it names no zone, as ``load_interactions`` reads it."""

_MACROS = f"""
CREATE TEMP MACRO hours(h, m, s) AS
    CASE WHEN h < 24 AND m < 60 AND s < 60 THEN h * 3600 + m * 60 + s END;
CREATE TEMP MACRO number(digits) AS CAST('0' || digits AS BIGINT);
CREATE TEMP MACRO part(text, n) AS regexp_extract(text, '^{_DATE}$', n);
CREATE TEMP MACRO zone_seconds(zone) AS
    CASE WHEN zone IN ('', 'Z') THEN 0 ELSE (CASE WHEN zone[1] = '-' THEN -1 ELSE 1 END)
    * hours(number(zone[2:3]), number(replace(zone[4:], ':', '')), 0) END;
CREATE TEMP MACRO date_seconds(text) AS
    CAST(epoch(TRY_CAST(part(text, 1) AS DATE)) AS BIGINT)
    + hours(number(part(text, 2)), number(part(text, 3)), number(part(text, 4)))
    - zone_seconds(part(text, 6));
CREATE TEMP MACRO date_fraction(text) AS
    CAST(rpad(part(text, 5)[:9], 9, '0') AS BIGINT) / 1e9;
"""
"""Whole seconds of a date written out, NULL where it is none, and their fraction."""

_BLANK = "coalesce(trim({}, '" + _SPACE + "'), '') = ''"
_BAD = {
    "user": (_BLANK.format("user"), "an id"),
    "item": (_BLANK.format("item"), "an id"),
    "time": ("time IS NULL", "a time"),
    "rating": ("rating IS NULL", "a number"),
}
"""By role: when a value is none, and what it should be."""


@contextmanager
def read_tables(
    sources: Sequence[Path], columns: Mapping[str, str], spill: Path, memory: str
) -> Iterator[Any]:
    """Read tables, in their order, into the table ``raw`` of a database on disk.

    Its columns are ``place`` (numbers the rows from 1), ``user`` and ``item`` (texts),
    ``user_number`` and ``item_number`` (whether the source has a number there; NULL
    where it does not tell), ``time`` (what is whole of it), ``fraction`` (what is not)
    and ``dated`` (whether it is a date, then in seconds), and ``rating``.

    Args:
        sources: ``.csv``, ``.tsv`` (also ``.gz``), ``.parquet`` and ``.jsonl`` files.
        columns: What the files call ``user``, ``item`` and, where they are to be read,
            ``time`` and ``rating``; GroupLens' and RecBole's names stand in for those.
        spill: Folder of the database; made here.
        memory: What DuckDB may take before it spills, such as ``"500MB"``.

    Yields:
        The database, closed at the end.

    Raises:
        FileNotFoundError: A source is not there.
        ValueError: No source, another kind of file, a missing column, a value that is
            no id, time or number, dates beside numbers, or whatever DuckDB refuses
            inside the block.
        ImportError: DuckDB is not installed.
    """
    duckdb = import_extra("duckdb", "reading tables needs duckdb", "duckdb")
    if not sources:
        raise ValueError("'sources' must not be empty")
    for path in sources:
        _check_file(path)
    spill.mkdir()
    try:
        with _database(duckdb, spill, memory) as database:
            database.execute(
                "CREATE TABLE raw (place BIGINT, user VARCHAR, user_number BOOLEAN, "
                "item VARCHAR, item_number BOOLEAN, time BIGINT, fraction DOUBLE, "
                "dated BOOLEAN, rating FLOAT)"
            )
            database.execute(_MACROS)
            for path in sources:
                try:
                    _read(database, path, columns)
                except duckdb.Error as error:
                    raise ValueError(f"{path.name}: {_reason(error)}") from error
            _check_one_kind_of_time(database)
            yield database
    except duckdb.Error as error:
        raise ValueError(f"'sources': {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Say in a line what DuckDB refuses; of a CSV the reason is below its rows."""
    first, *more = str(error).partition("\nPossible ")[0].strip().splitlines()
    is_csv = any(line.startswith("Original Line") for line in more)
    return f"{first}: {more[-1]}" if is_csv else first


def _database(duckdb: Any, spill: Path, memory: str) -> Any:
    """Open a database that spills to a folder."""
    config = {"memory_limit": memory, "temp_directory": str(spill)}
    try:
        return duckdb.connect(str(spill / "rows.duckdb"), config=config)
    except duckdb.ParserException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"'memory' must be a size such as '4GB' (got {memory!r}: {reason})"
        ) from None


def _check_file(path: Path) -> None:
    """Refuse what is no table."""
    if path.is_dir():
        raise ValueError(
            f"{path}: must be a table, not a folder (one with a split of its own is "
            "read by 'run --data')"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")


def _read(database: Any, path: Path, columns: Mapping[str, str]) -> None:
    """Append a file's rows to the table ``raw``, numbered in their order."""
    table, column_of, kinds = _relation(database, path, columns)
    values = {
        name: expression
        for role, column in column_of.items()
        for name, expression in _values(path, role, column, kinds[role])
    }
    start = database.execute("SELECT count(*) FROM raw").fetchone()[0]
    database.execute(
        f"INSERT INTO raw (place, {', '.join(values)}) SELECT {start} + row_number() "
        f"OVER (), {', '.join(values.values())} FROM ({table})"
    )
    _check(database, path, column_of, start)


def _values(path: Path, role: str, column: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield columns of ``raw`` and what fills them."""
    if role == "time":
        yield from zip(("time", "fraction", "dated"), _moment(role, kind), strict=True)
    elif role == "rating":
        number = f"TRY_CAST({_stripped(role)} AS DOUBLE)"
        yield role, f"CASE WHEN isfinite({number}) THEN TRY_CAST({number} AS FLOAT) END"
    else:
        names = (role, f"{role}_number")
        yield from zip(names, _id(path, role, column, kind), strict=True)


def _check(database: Any, path: Path, columns: Mapping[str, str], start: int) -> None:
    """Refuse a file with values that are none."""
    counts = (f"count(*) FILTER ({_BAD[role][0]})" for role in columns)
    bad = database.execute(
        f"SELECT {', '.join(counts)} FROM raw WHERE place > {start}"
    ).fetchone()
    for (role, name), count in zip(columns.items(), bad, strict=True):
        if count:
            raise ValueError(
                f"{path.name}: column {name!r} must hold {_BAD[role][1]} in every row "
                f"({count} do not)"
            )


def _id(path: Path, column: str, name: str, kind: str) -> tuple[str, str]:
    """An id as a text, and whether it is a number: NULL where a text may be one.

    Raises:
        ValueError: A column of neither integers nor texts.
    """
    text = f"CAST({column} AS VARCHAR)"
    if kind == "JSON":
        is_text = f"json_type({column}) = 'VARCHAR'"
        return (
            f"CASE WHEN {is_text} THEN {column} ->> '$' "
            f"WHEN regexp_full_match({text}, '-?[0-9]+') THEN {text} END",
            f"NOT ({is_text})",
        )
    if kind.removeprefix("U") in _INTEGERS:
        return text, "true"
    if kind == "VARCHAR":
        return text, "false" if is_parquet(path) else "NULL"
    raise ValueError(
        f"{path.name}: column {name!r} must hold ids, integers or texts (got {kind})"
    )


def _relation(
    database: Any, path: Path, columns: Mapping[str, str]
) -> tuple[str, dict[str, str], dict[str, str]]:
    """What DuckDB reads a file by: a column for each role, ids as they stand.

    Returns:
        The table in SQL, and by role the name of the column there and its type.
    """
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(_TABLES):
        raise ValueError(f"{path}: must be .csv, .tsv, .parquet or .jsonl, or .gz")
    if is_parquet(path):
        source = f"read_parquet({quoted(str(path))})"
        kinds = _kinds(database, source)
        column_of = _find(path, [*kinds], columns)
    elif name.endswith(_JSON) or read_start(path).lstrip().startswith(b"{"):
        source = _json(path)
        kinds = _kinds(database, source)
        column_of = _find(path, [*kinds], columns)
        # as they are written: a guessed type would make one of 5 and "5", and of a time
        # lose what is finer than a microsecond
        as_written = {"user": "JSON", "item": "JSON", "time": "VARCHAR"}
        kinds = {n: as_written.get(r, kinds[n]) for r, n in column_of.items()}
        source = _json(path, kinds)
    else:
        return _text(path, columns)
    picked = (f"{_identifier(name)} AS {role}" for role, name in column_of.items())
    table = f"SELECT {', '.join(picked)} FROM {source}"
    return table, column_of, {role: kinds[name] for role, name in column_of.items()}


def _text(
    path: Path, columns: Mapping[str, str]
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Read a text by its own separator and quotes, as ``load_interactions`` does.

    Columns have numbers here: to DuckDB, User and user would be one name.
    """
    try:
        header = read_header(path)
    except ValueError as error:  # whose advice are options that are not there here
        raise ValueError(str(error).partition("; --")[0]) from None
    column_of = _find(path, header.names, columns)
    picked = (
        f"c{header.names.index(name)} AS {role}" for role, name in column_of.items()
    )
    numbered = {f"c{place}": "VARCHAR" for place in range(len(header.names))}
    quote = quoted('"' if header.dialect.quoted else "")
    table = (
        f"SELECT {', '.join(picked)} FROM read_csv({quoted(str(path))}, "
        f"auto_detect = false, header = false, skip = {header.line}, "
        f"delim = {quoted(header.separator)}, quote = {quote}, escape = {quote}, "
        f"compression = {_packing(path)}, columns = {_typed(numbered)})"
    )
    return table, column_of, dict.fromkeys(column_of, "VARCHAR")


def _find(
    path: Path, names: Sequence[str], columns: Mapping[str, str]
) -> dict[str, str]:
    column_of, inferred = find_columns(path.name, names, columns)
    if inferred:
        logger.warning("%s: assumed %s", path.name, in_words(inferred))
    return column_of


def _kinds(database: Any, source: str) -> dict[str, str]:
    """Types of a table's columns by name."""
    query = f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {source})"
    return dict(database.execute(query).fetchall())


def _json(path: Path, kinds: Mapping[str, str] | None = None) -> str:
    columns = f", columns = {_typed(kinds)}" if kinds else ""
    return (
        f"read_json({quoted(str(path))}, format = 'newline_delimited', "
        f"compression = {_packing(path)}{columns})"
    )


def _packing(path: Path) -> str:
    return quoted("gzip" if is_packed(path) else "none")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _typed(kinds: Mapping[str, str]) -> str:
    """Columns with their types, as DuckDB's readers take them."""
    pairs = (f"{quoted(name)}: {quoted(kind)}" for name, kind in kinds.items())
    return "{" + ", ".join(pairs) + "}"


def _stripped(value: str) -> str:
    return f"trim(CAST({value} AS VARCHAR))"


def _moment(value: str, kind: str) -> tuple[str, str, str]:
    """What is whole of a time, what is not, and whether it is a date."""
    if kind.startswith(("TIMESTAMP", "DATE")):
        unit, count = ("ns", "1e9") if kind.endswith("_NS") else ("us", "1e6")
        whole = f"CAST(floor(epoch({value})) AS BIGINT)"
        fraction = f"(epoch_{unit}({value}) - {whole} * {count}::BIGINT) / {count}"
        return whole, fraction, "true"
    written = f"CAST({value} AS VARCHAR)"
    text = _stripped(value)
    is_whole = f"regexp_full_match({text}, '[+-]?[0-9]+')"
    number = f"TRY_CAST({text} AS DOUBLE)"
    floor = f"TRY_CAST(floor({number}) AS BIGINT)"
    dated = f"{number} IS NULL"
    # a cast of 1.5 would round; in a date, a blank before it or behind it is refused
    return (
        f"CASE WHEN {is_whole} THEN TRY_CAST({text} AS BIGINT) "
        f"WHEN {dated} THEN date_seconds({written}) ELSE {floor} END",
        f"CASE WHEN {is_whole} THEN 0 "
        f"WHEN {dated} THEN date_fraction({written}) ELSE {number} - {floor} END",
        dated,
    )


def _check_one_kind_of_time(database: Any) -> None:
    """Refuse dates beside numbers, whose unit nobody names."""
    dated, numbers = database.execute(
        "SELECT bool_or(dated), bool_or(NOT dated) FROM raw"
    ).fetchone()
    if dated and numbers:
        raise ValueError("'sources': times must be all dates or all numbers (got both)")


def quoted(text: str) -> str:
    """Write a text as SQL does."""
    return "'" + text.replace("'", "''") + "'"
