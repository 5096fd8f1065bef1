"""Tables of any size to a world, by DuckDB, which spills to disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ddrm_pyg.files import atomic_folder
from ddrm_pyg.nn._pretrained import save_tensors
from ddrm_pyg.scale.rows import MEMORY, quoted, read_tables
from ddrm_pyg.scale.world import BLOCK, ROWS_PER_SHARD, World
from ddrm_pyg.transforms.core import SPLITS
from ddrm_pyg.transforms.split import TemporalSplit

logger = logging.getLogger("ddrm_pyg")


def shard(
    sources: Sequence[Path],
    out: Path,
    *,
    user: str = "user",
    item: str = "item",
    time: str = "time",
    ratios: Sequence[float] = (0.7, 0.1, 0.2),
    memory: str = MEMORY,
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
    with atomic_folder(out) as folder:
        columns = {"user": user, "item": item, "time": time}
        _build(folder, sources, columns, split, memory, rows_per_shard)
    return World.open(out)


def _build(
    folder: Path,
    sources: Sequence[Path],
    columns: Mapping[str, str],
    split: TemporalSplit,
    memory: str,
    rows_per_shard: int,
) -> None:
    spill = folder / "spill"
    with read_tables(sources, columns, spill, memory) as database:
        sizes = _number(database, folder)
        world = World(folder, *sizes, rows_per_shard, dict.fromkeys(SPLITS, 0))
        _cut(database, world, split)
    shutil.rmtree(spill)
    world.save()


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
    path = quoted(str(folder / "ids" / f"{kind}s.parquet"))
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
    database.execute(f"COPY part TO {quoted(str(path))} (FORMAT parquet)")
    database.unregister("part")


def _count(frame: pd.DataFrame, num_items: int) -> Tensor:
    item = torch.from_numpy(frame["item"].to_numpy(copy=True))
    return torch.bincount(item, minlength=num_items)
