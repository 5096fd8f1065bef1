"""Tables of any size to a world, by DuckDB, which spills to disk."""

from __future__ import annotations

import csv
import gzip
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ddrm_pyg.extras import import_extra
from ddrm_pyg.files import atomic_folder
from ddrm_pyg.nn._pretrained import save_tensors
from ddrm_pyg.scale.world import BLOCK, ROWS_PER_SHARD, World
from ddrm_pyg.transforms.core import SPLITS
from ddrm_pyg.transforms.split import TemporalSplit

logger = logging.getLogger("ddrm_pyg")

_DELIMITERS = ",\t;|"
_JSON = (".jsonl", ".ndjson", ".json")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_SPACE = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace())
"""What Python strips from a text; DuckDB strips blanks alone by itself."""


def shard(
    sources: Sequence[Path],
    out: Path,
    *,
    user: str = "user",
    item: str = "item",
    time: str = "time",
    ratios: Sequence[float] = (0.7, 0.1, 0.2),
    memory: str = "4GB",
    rows_per_shard: int = ROWS_PER_SHARD,
) -> World:
    """Write a world of tables: ids to rows, repeated pairs once, each user by time.

    Rows, pairs, times and splits are those of
    :func:`ddrm_pyg.load_interactions` on the same rows, in bounded memory.

    Args:
        sources: ``.csv``, ``.tsv`` (also ``.gz``), ``.parquet`` and ``.jsonl`` files,
            read in this order: of a repeated pair the earliest is kept, of equal times
            the first.
        out: Folder to write; must be new or empty.
        user: Column of users.
        item: Column of items.
        time: Column of times: numbers, or timestamps. They are kept as whole seconds
            (numbers: as they are), as floats where one has a fraction.
        ratios: Shares of train, validation and test of each user.
        memory: What DuckDB may take before it spills, such as ``"500MB"``.
        rows_per_shard: Users of a shard, a multiple of 8192.

    Raises:
        FileNotFoundError: A source is not there.
        ValueError: ``out`` is not empty, or a value that is no id or no time.
        ImportError: DuckDB is not installed.
    """
    split = TemporalSplit(ratios)
    if rows_per_shard < BLOCK or rows_per_shard % BLOCK:
        raise ValueError(
            f"'rows_per_shard' must be a multiple of {BLOCK} (got {rows_per_shard})"
        )
    if not sources:
        raise ValueError("'sources' must not be empty")
    for path in sources:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    with atomic_folder(out) as folder:
        columns = (user, item, time)
        _build(folder, sources, columns, split, memory, rows_per_shard)
    return World.open(out)


def _build(
    folder: Path,
    sources: Sequence[Path],
    columns: tuple[str, str, str],
    split: TemporalSplit,
    memory: str,
    rows_per_shard: int,
) -> None:
    duckdb = import_extra("duckdb", "'shard' needs duckdb", "duckdb")
    spill = folder / "spill"
    spill.mkdir()
    config = {"memory_limit": memory, "temp_directory": str(spill)}
    try:
        with duckdb.connect(str(spill / "rows.duckdb"), config=config) as database:
            for path in sources:
                _read(database, path, columns)
            sizes = _number(database, folder)
            world = World(folder, *sizes, rows_per_shard, dict.fromkeys(SPLITS, 0))
            _cut(database, world, split)
    except duckdb.Error as error:
        raise ValueError(f"'shard': {str(error).splitlines()[0]}") from error
    shutil.rmtree(spill)
    world.save()


def _read(database: Any, path: Path, columns: tuple[str, str, str]) -> None:
    """Append a file's rows to the table ``raw``, numbered in their order."""
    database.execute(
        "CREATE TABLE IF NOT EXISTS raw "
        "(place BIGINT, user VARCHAR, user_number BOOLEAN, item VARCHAR, "
        "item_number BOOLEAN, time BIGINT, fraction DOUBLE)"
    )
    table = _relation(path)
    kinds = _kinds(database, table)
    for name in columns:
        if name not in kinds:
            there = ", ".join(map(repr, kinds))
            raise ValueError(f"{path.name}: no column {name!r} (there are {there})")
    if path.name.removesuffix(".gz").endswith(_JSON):
        # as they are written: a guessed type would make one of 5 and "5"
        kinds |= dict.fromkeys(columns[:2], "JSON")
        table = _json(path, {name: kinds[name] for name in columns})
    user, item, time = (f'"{name.replace(chr(34), chr(34) * 2)}"' for name in columns)
    ids = [
        expression
        for column, name in zip((user, item), columns[:2], strict=True)
        for expression in _id(path, column, name, kinds[name])
    ]
    whole, fraction = _moment(time, kinds[columns[2]])
    start = database.execute("SELECT count(*) FROM raw").fetchone()[0]
    database.execute(
        f"INSERT INTO raw SELECT {start} + row_number() OVER (), {', '.join(ids)}, "
        f"{whole} AS whole, {fraction.format(whole='whole')} FROM ({table})"
    )
    blank = "coalesce(trim({}, " + _quoted(_SPACE) + "), '') = ''"
    bad = database.execute(
        f"SELECT count(*) FILTER ({blank.format('user')}), "
        f"count(*) FILTER ({blank.format('item')}), "
        f"count(*) FILTER (time IS NULL) FROM raw WHERE place > {start}"
    ).fetchone()
    for name, count, expected in zip(
        columns, bad, ("an id", "an id", "a time"), strict=True
    ):
        if count:
            raise ValueError(
                f"{path.name}: column {name!r} must hold {expected} in every row "
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
    name, kind = _quoted(str(path)), path.name.removesuffix(".gz").rpartition(".")[2]
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
        f"delim = {_quoted(delimiter)}, quote = '\"', escape = '\"', "
        "auto_detect = false, "
        f"columns = {_names(header, delimiter)})"
    )


def _names(header: str, delimiter: str) -> str:
    (names,) = csv.reader([header], delimiter=delimiter)
    return _typed(dict.fromkeys((name.strip() for name in names), "VARCHAR"))


def _json(path: Path, kinds: Mapping[str, str] | None = None) -> str:
    columns = f", columns = {_typed(kinds)}" if kinds else ""
    source = f"{_quoted(str(path))}, format = 'newline_delimited'{columns}"
    return f"SELECT * FROM read_json({source})"


def _typed(kinds: Mapping[str, str]) -> str:
    """Columns with their types, as DuckDB's readers take them."""
    pairs = (f"{_quoted(name)}: {_quoted(kind)}" for name, kind in kinds.items())
    return "{" + ", ".join(pairs) + "}"


def _moment(column: str, kind: str) -> tuple[str, str]:
    """What is whole of a time, and, given that, what is not."""
    if kind.startswith(("TIMESTAMP", "DATE")):
        unit, count = ("ns", "1e9") if kind == "TIMESTAMP_NS" else ("us", "1e6")
        return (
            f"CAST(floor(epoch({column})) AS BIGINT)",
            f"(epoch_{unit}({column}) - {{whole}} * {count}::BIGINT) / {count}",
        )
    text = f"trim(CAST({column} AS VARCHAR))"
    is_whole = f"regexp_full_match({text}, '[+-]?[0-9]+')"
    number = f"TRY_CAST({text} AS DOUBLE)"
    # a cast of 1.5 would round
    return (
        f"CASE WHEN {is_whole} THEN TRY_CAST({text} AS BIGINT) "
        f"ELSE TRY_CAST(floor({number}) AS BIGINT) END",
        f"CASE WHEN {is_whole} THEN 0 ELSE {number} - {{whole}} END",
    )


def _number(database: Any, folder: Path) -> tuple[int, int]:
    """Number ids in their own order, keep earliest pairs, sort by user and time."""
    (folder / "ids").mkdir()
    for kind in ("user", "item"):
        _check_one_spelling(database, kind)
    sizes = [_number_ids(database, folder, kind) for kind in ("user", "item")]
    if not sizes[0]:
        raise ValueError("'sources': no rows")
    database.execute(
        "CREATE TABLE pairs AS SELECT user, item, unnest(event) FROM ("
        "SELECT users.row AS user, items.row AS item, "
        "min({'time': time, 'fraction': fraction, 'place': place}) AS event "
        "FROM raw JOIN users ON raw.user = users.text "
        "JOIN items ON raw.item = items.text "
        "GROUP BY users.row, items.row) ORDER BY user, event"
    )
    rows, kept = (
        database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        for name in ("raw", "pairs")
    )
    if kept < rows:
        logger.warning("%d duplicate pairs (each kept once, the earliest)", rows - kept)
    database.execute("DROP TABLE raw")
    return sizes[0], sizes[1]


def _check_one_spelling(database: Any, kind: str) -> None:
    """Refuse an id that is a number in one row and a text in another."""
    both = database.execute(
        f"SELECT {kind} FROM raw WHERE {kind}_number IS NOT NULL GROUP BY {kind} "
        f"HAVING bool_or({kind}_number) AND NOT bool_and({kind}_number) LIMIT 1"
    ).fetchone()
    if both:
        raise ValueError(
            f"'sources': the {kind}s have the number {both[0]} and the text "
            f"'{both[0]}'; write one id in one way"
        )


def _number_ids(database: Any, folder: Path, kind: str) -> int:
    """Number users or items; integers where all are written as integers are."""
    database.execute(f"CREATE TEMP TABLE names AS SELECT DISTINCT {kind} id FROM raw")
    integers = database.execute(
        "SELECT bool_and(regexp_full_match(id, '0|-?[1-9][0-9]*') "
        "AND TRY_CAST(id AS BIGINT) IS NOT NULL) FROM names"
    ).fetchone()[0]
    key = "CAST(id AS BIGINT)" if integers else "id"
    database.execute(
        f"CREATE TABLE {kind}s AS SELECT row_number() OVER (ORDER BY {key}) - 1 "
        f"AS row, id AS text, {key} AS id FROM names"
    )
    database.execute("DROP TABLE names")
    path = _quoted(str(folder / "ids" / f"{kind}s.parquet"))
    rows = f"SELECT row, id FROM {kind}s ORDER BY row"
    database.execute(f"COPY ({rows}) TO {path} (FORMAT parquet)")
    return database.execute(f"SELECT count(*) FROM {kind}s").fetchone()[0]


def _cut(database: Any, world: World, split: TemporalSplit) -> None:
    """Write each shard's pairs by split, and how often items are in train."""
    degree = torch.zeros(world.num_items, dtype=torch.int64)
    for name in SPLITS:
        (world.folder / name).mkdir()
    fractions = database.execute("SELECT bool_or(fraction <> 0) FROM pairs").fetchone()
    time = "time + fraction AS time" if fractions[0] else "time"
    for shard in range(world.num_shards):
        start, stop = world.bounds(shard)
        frame = database.execute(
            f"SELECT user, item, {time} FROM pairs WHERE user >= ? AND user < ? "
            "ORDER BY user, pairs.time, fraction, place",
            [start, stop],
        ).df()
        user = torch.from_numpy(frame["user"].to_numpy(copy=True)) - start
        liked = torch.ones(len(user), dtype=torch.bool)
        block = split.assign(user, liked, stop - start)
        for number, name in enumerate(SPLITS):
            part = frame[(block == number).numpy()]
            _write(database, part, world.pairs_path(name, shard))
            world.num_edges[name] += len(part)
            if name == "train":
                degree += _count(part, world.num_items)
    if not world.num_edges["test"]:
        raise ValueError("no user has enough interactions for a test pair")
    save_tensors(world.folder / "item_degree.safetensors", {"item_degree": degree})


def _write(database: Any, frame: pd.DataFrame, path: Path) -> None:
    database.register("part", frame)
    database.execute(f"COPY part TO {_quoted(str(path))} (FORMAT parquet)")
    database.unregister("part")


def _count(frame: pd.DataFrame, num_items: int) -> Tensor:
    item = torch.from_numpy(frame["item"].to_numpy(copy=True))
    return torch.bincount(item, minlength=num_items)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
