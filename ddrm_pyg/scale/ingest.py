"""Tables of any size to a world, by DuckDB, which spills to disk."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ddrm_pyg.files import atomic_folder
from ddrm_pyg.nn._pretrained import save_tensors
from ddrm_pyg.scale.rows import MEMORY, quoted, read_tables
from ddrm_pyg.scale.world import BLOCK, ROWS_PER_SHARD, World
from ddrm_pyg.transforms.core import SPLITS
from ddrm_pyg.transforms.split import Scope, TemporalSplit, count_ties, warn_of_ties

logger = logging.getLogger("ddrm_pyg")


def shard(
    sources: Sequence[Path],
    out: Path,
    *,
    user: str = "user",
    item: str = "item",
    time: str | Literal[False] = "time",
    rating: str = "rating",
    liked_from: float | None = None,
    ratios: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    split: Scope = "user",
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
        time: Column of times: numbers, or dates: timestamps, and texts in ISO 8601, UTC
            where they name no zone. Numbers are kept as they are, dates as whole
            seconds or, where one has a fraction, whole milli-, micro- or nanoseconds.
            False reads none: each user is then split at random, which takes 8 bytes of
            memory for each pair.
        rating: Column of ratings, read for ``liked_from`` alone.
        liked_from: The lowest rating that counts as liked. Lower ones are false
            positives: they are never in test. None takes all as liked.
        ratios: Shares of train, validation and test of each user, with
            ``split="global"`` of all interactions.
        seed: Seeds the random split.
        split: ``"user"`` cuts each user's own timeline, ``"global"`` everyone's at the
            same two moments, see :class:`~ddrm_pyg.transforms.TemporalSplit`.
        memory: What DuckDB may take before it spills, such as ``"500MB"``.
        rows_per_shard: Users of a shard, a multiple of 8192.

    Raises:
        FileNotFoundError: A source is not there.
        ValueError: ``out`` is not empty, or a value that is no id or no time.
        ImportError: DuckDB is not installed.
    """
    cut = TemporalSplit(ratios, seed=seed, scope=split)
    if rows_per_shard < BLOCK or rows_per_shard % BLOCK:
        raise ValueError(
            f"'rows_per_shard' must be a multiple of {BLOCK} (got {rows_per_shard})"
        )
    if split == "global" and not time:
        raise ValueError("split='global' needs a column of times (got time=False)")
    columns = {"user": user, "item": item}
    if time:
        columns["time"] = time
    if liked_from is not None:
        if not math.isfinite(liked_from):
            raise ValueError(f"'liked_from' must be a number (got {liked_from})")
        columns["rating"] = rating
    with atomic_folder(out) as folder:
        spill = folder / "spill"
        with read_tables(sources, columns, spill, memory) as database:
            moment = _moment(database) if time else None
            sizes = _number(database, folder, liked_from)
            if not time:
                _draw(database, seed)
            if split == "global":
                _assign_by_moment(database, cut)
            world = World(folder, *sizes, rows_per_shard, dict.fromkeys(SPLITS, 0))
            _cut(database, world, cut, moment)
        shutil.rmtree(spill)
        world.save()
    return World.open(out)


def _moment(database: Any) -> str:
    """How times are written: dates in the coarsest unit that is exact."""
    dated, *finer = database.execute(
        "SELECT bool_or(dated), bool_or(fraction <> 0), "
        "bool_or(round(fraction * 1e9) % 1e6 <> 0), "
        "bool_or(round(fraction * 1e9) % 1e3 <> 0) FROM raw"
    ).fetchone()
    if not dated:
        return "time + fraction" if finer[0] else "time"
    in_second = 1000 ** sum(map(bool, finer))
    return f"time * {in_second} + CAST(round(fraction * {in_second}) AS BIGINT)"


def _number(database: Any, folder: Path, liked_from: float | None) -> tuple[int, int]:
    """Number ids in their own order, keep earliest pairs, sort by user and time."""
    (folder / "ids").mkdir()
    for kind in ("user", "item"):
        _check_one_spelling(database, kind)
    sizes = [_number_ids(database, folder, kind) for kind in ("user", "item")]
    if not sizes[0]:
        raise ValueError("'sources': no rows")
    liked = "true"
    if liked_from is not None:  # ratings are 32 bits wide, and so is what parts them
        liked = f"rating >= CAST({float(np.float32(liked_from))!r} AS FLOAT)"
    database.execute(
        "CREATE TABLE pairs AS SELECT user, item, unnest(event) FROM ("
        "SELECT users.row AS user, items.row AS item, min({'time': time, "
        f"'fraction': fraction, 'place': place, 'liked': {liked}}}) AS event "
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


def _draw(database: Any, seed: int) -> None:
    """Put a random order in the place of time, that of ``TemporalSplit``."""
    ((count,),) = database.execute("SELECT count(*) FROM pairs").fetchall()
    draw = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    database.register("draws", pd.DataFrame({"draw": draw.numpy()}))
    database.execute(
        "CREATE TABLE drawn AS SELECT user, item, draw AS time, fraction, place, liked "
        "FROM (SELECT *, row_number() OVER (ORDER BY place) AS n FROM pairs) "
        "JOIN (SELECT draw, row_number() OVER () AS n FROM draws) USING (n)"
    )
    database.unregister("draws")
    database.execute("DROP TABLE pairs")
    database.execute("ALTER TABLE drawn RENAME TO pairs")


def _assign_by_moment(database: Any, cut: TemporalSplit) -> None:
    """Add the column ``block``: a position in the splits, NULL for those left out.

    Raises:
        ValueError: All times are equal.
    """
    count, times = database.execute(
        "SELECT count(*), count(DISTINCT (time, fraction)) FROM pairs"
    ).fetchone()
    if times < 2:
        raise ValueError("split='global' needs times that tell interactions apart")
    val, test = cut.moments(count)
    database.execute(
        f"CREATE TABLE ranked AS SELECT *, (rank > {val})::INT + (rank > {test})::INT "
        "AS block FROM (SELECT *, row_number() OVER "
        "(ORDER BY time, fraction, user, place) AS rank FROM pairs)"
    )
    database.execute("DROP TABLE pairs")
    train = "(SELECT {} FROM ranked WHERE block = 0)"
    reasons = {
        "of users that train does not have": f"user NOT IN {train.format('user')}",
        "of items that train does not have": f"item NOT IN {train.format('item')}",
        "that are noise in the test": "block = 2 AND NOT liked",
    }
    for reason, condition in reasons.items():
        (number,) = database.execute(
            f"SELECT count(*) FROM ranked WHERE block > 0 AND {condition}"
        ).fetchone()
        if number:
            logger.warning("%d held-out interactions %s: left out", number, reason)
    left_out = " OR ".join(f"({condition})" for condition in reasons.values())
    database.execute(
        "CREATE TABLE pairs AS SELECT user, item, time, fraction, place, liked, "
        f"CASE WHEN block = 0 OR NOT ({left_out}) THEN block END AS block FROM ranked"
    )
    database.execute("DROP TABLE ranked")


def _cut(database: Any, world: World, cut: TemporalSplit, moment: str | None) -> None:
    """Write each shard's pairs by split, and how often items are in train.

    Args:
        database: With the pairs.
        world: Where to.
        cut: How to split.
        moment: How times are written, in SQL; None leaves them out.
    """
    degree = torch.zeros(world.num_items, dtype=torch.int64)
    for name in SPLITS:
        (world.folder / name).mkdir()
    time = "" if moment is None else f", {moment} AS time"
    ties = follows = 0
    by_moment = cut.scope == "global"
    block = ", coalesce(block, -1) AS block" if by_moment else ""
    for shard in range(world.num_shards):
        start, stop = world.bounds(shard)
        frame = database.execute(
            f"SELECT user, item{time}, liked{block} FROM pairs WHERE user >= ? AND "
            "user < ? ORDER BY user, pairs.time, fraction, place",
            [start, stop],
        ).df()
        user, liked = (
            torch.tensor(frame[name].to_numpy()) for name in ("user", "liked")
        )
        split = (
            torch.tensor(frame["block"].to_numpy())
            if by_moment
            else cut.assign(user - start, liked, stop - start)
        )
        if moment:
            tied, following = count_ties(user, torch.tensor(frame["time"].to_numpy()))
            ties, follows = ties + tied, follows + following
        frame = frame[["user", "item", *(["time"] if moment else [])]]
        for number, name in enumerate(SPLITS):
            part = frame[(split == number).numpy()]
            _write(database, part, world.pairs_path(name, shard))
            world.num_edges[name] += len(part)
            if name == "train":
                degree += _count(part, world.num_items)
    warn_of_ties(ties, follows)
    if not world.num_edges["test"]:
        raise ValueError(f"the split leaves no test pairs: {cut.no_test_pairs}")
    save_tensors(world.folder / "item_degree.safetensors", {"item_degree": degree})


def _write(database: Any, frame: pd.DataFrame, path: Path) -> None:
    database.register("part", frame)
    database.execute(f"COPY part TO {quoted(str(path))} (FORMAT parquet)")
    database.unregister("part")


def _count(frame: pd.DataFrame, num_items: int) -> Tensor:
    item = torch.from_numpy(frame["item"].to_numpy(copy=True))
    return torch.bincount(item, minlength=num_items)
