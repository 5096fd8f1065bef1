"""Rows of tables of any size, read into DuckDB as they stand."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddrm_pyg.extras import import_extra

MEMORY = "4GB"
"""What DuckDB may take by default before it spills."""

_DELIMITERS = ",\t;|"
_JSON = (".jsonl", ".ndjson", ".json")
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
            ``time`` and ``rating``.
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
                _read(database, path, columns)
            _check_one_kind_of_time(database)
            yield database
    except duckdb.Error as error:
        raise ValueError(f"'sources': {str(error).splitlines()[0]}") from error


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
    table = _relation(path)
    kinds = _kinds(database, table)
    for name in columns.values():
        if name not in kinds:
            there = ", ".join(map(repr, kinds))
            raise ValueError(f"{path.name}: no column {name!r} (there are {there})")
    if path.name.removesuffix(".gz").endswith(_JSON):
        # as they are written: a guessed type would make one of 5 and "5"
        kinds |= dict.fromkeys((columns["user"], columns["item"]), "JSON")
        if "time" in columns:  # and lose what is finer than a microsecond
            kinds[columns["time"]] = "VARCHAR"
        table = _json(path, {name: kinds[name] for name in columns.values()})
    values = {
        name: expression
        for role, column in columns.items()
        for name, expression in _values(path, role, column, kinds[column])
    }
    start = database.execute("SELECT count(*) FROM raw").fetchone()[0]
    database.execute(
        f"INSERT INTO raw (place, {', '.join(values)}) SELECT {start} + row_number() "
        f"OVER (), {', '.join(values.values())} FROM ({table})"
    )
    _check(database, path, columns, start)


def _values(path: Path, role: str, column: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield columns of ``raw`` and what fills them."""
    value = '"' + column.replace('"', '""') + '"'
    if role == "time":
        yield from zip(("time", "fraction", "dated"), _moment(value, kind), strict=True)
    elif role == "rating":
        number = f"TRY_CAST({_stripped(value)} AS DOUBLE)"
        yield role, f"CASE WHEN isfinite({number}) THEN TRY_CAST({number} AS FLOAT) END"
    else:
        names = (role, f"{role}_number")
        yield from zip(names, _id(path, value, column, kind), strict=True)


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


def _kinds(database: Any, table: str) -> dict[str, str]:
    """Types of a table's columns by name."""
    query = f"SELECT column_name, column_type FROM (DESCRIBE {table})"
    return dict(database.execute(query).fetchall())


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
        return text, "false" if path.suffix == ".parquet" else "NULL"
    raise ValueError(
        f"{path.name}: column {name!r} must hold ids, integers or texts (got {kind})"
    )


def _relation(path: Path) -> str:
    """What DuckDB reads a file by: text tables as they stand, ids not guessed at."""
    name, kind = quoted(str(path)), path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        return f"SELECT * FROM read_parquet({name})"
    if path.name.removesuffix(".gz").endswith(_JSON):
        return _json(path)
    if kind not in ("csv", "tsv"):
        raise ValueError(f"{path}: must be .csv, .tsv, .parquet or .jsonl, or .gz")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        header = file.readline()
    delimiter = max(_DELIMITERS, key=header.count)
    return (
        f"SELECT * FROM read_csv({name}, all_varchar = true, header = true, "
        f"delim = {quoted(delimiter)}, quote = '\"', escape = '\"', "
        "auto_detect = false, "
        f"columns = {_names(header, delimiter)})"
    )


def _names(header: str, delimiter: str) -> str:
    (names,) = csv.reader([header], delimiter=delimiter)
    return _typed(dict.fromkeys((name.strip() for name in names), "VARCHAR"))


def _json(path: Path, kinds: Mapping[str, str] | None = None) -> str:
    columns = f", columns = {_typed(kinds)}" if kinds else ""
    source = f"{quoted(str(path))}, format = 'newline_delimited'{columns}"
    return f"SELECT * FROM read_json({source})"


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
