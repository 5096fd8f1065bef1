"""What happened since a world was made: new interactions, users and items."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ddrm_pyg.files import hash_file, undamaged
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ids import align, read_ids
from ddrm_pyg.mapped import open_tables
from ddrm_pyg.scale.ideal import IdealItems
from ddrm_pyg.scale.rows import MEMORY, quoted, read_tables
from ddrm_pyg.scale.world import World, connect
from ddrm_pyg.transforms.core import SPLITS

ITEMS = "item.safetensors"
"""Vectors of the new items; written last."""


_DAMAGED = ("a damaged history", "make the lists anew")


@dataclass(frozen=True)
class History:
    """Tables of interactions that came after a world.

    Attributes:
        sources: ``.csv``, ``.tsv`` (also ``.gz``), ``.parquet`` and ``.jsonl`` files.
        user: Column of users, of the world or new.
        item: Column of items, likewise.
        item_emb: Table of vectors of new items by ``id``, as
            :meth:`~ddrm_pyg.Embeddings.from_ids` reads them, in place of those that
            :func:`append` makes.
        memory: What DuckDB may take before it spills.
    """

    sources: tuple[Path, ...]
    user: str = "user"
    item: str = "item"
    item_emb: Path | None = None
    memory: str = MEMORY

    def config(self) -> dict[str, Any]:
        """Tell what makes it another history."""
        return {
            "sources": [hash_file(path) for path in self.sources],
            "columns": [self.user, self.item],
            "item_emb": self.item_emb and hash_file(self.item_emb),
        }


class GrownWorld:
    """A world and what came after it, users and items behind those of the world.

    New users have shards of their own behind the world's.

    Args:
        world: As it was made.
        folder: What :func:`append` wrote; None if nothing came.

    Raises:
        ValueError: The folder is damaged.
    """

    def __init__(self, world: World, folder: Path | None) -> None:
        self.world, self.folder = world, folder
        self.num_users, self.num_items = world.num_users, world.num_items
        if folder is not None:
            self.num_users += len(self._new_ids("user"))
            self.num_items += len(self._new_ids("item"))

    @property
    def num_shards(self) -> int:
        """Number of shards, those of new users included."""
        new = self.num_users - self.world.num_users
        return self.world.num_shards - (-new // self.world.rows_per_shard)

    def bounds(self, shard: int) -> tuple[int, int]:
        """First user of a shard, and the one after its last.

        Raises:
            ValueError: There is no such shard.
        """
        world = self.world
        if shard < world.num_shards:
            return world.bounds(shard)
        start = world.num_users + (shard - world.num_shards) * world.rows_per_shard
        if start >= self.num_users:
            raise ValueError(
                f"'shard' must lie in 0 ... {self.num_shards - 1} (got {shard})"
            )
        return start, min(start + world.rows_per_shard, self.num_users)

    def since(self, shard: int) -> Tensor:
        """Read a shard's new interactions.

        Returns:
            ``[2, E]`` int64: users counted from the shard's first, and items.
        """
        path = self.folder and _pairs_path(self.folder, shard)
        if not path or not path.is_file():
            return torch.empty(2, 0, dtype=torch.int64)
        columns = _fetch(path, "SELECT user, item FROM read_parquet(?)")
        user, item = (torch.from_numpy(columns[name].copy()) for name in columns)
        return torch.stack([user - self.bounds(shard)[0], item])

    def seen(self, shard: int) -> InteractionGraph:
        """Read all interactions of a shard's users, in the world and since."""
        start, stop = self.bounds(shard)
        pairs = [self.since(shard)]
        if shard < self.world.num_shards:
            pairs.insert(0, self.world.edge_index(shard, SPLITS))
        graph = InteractionGraph(torch.cat(pairs, 1), stop - start, self.num_items)
        return graph.without_repeats()

    def user_ids(self, shard: int) -> Any:
        """Read the ids of a shard's users."""
        start, stop = self.bounds(shard)
        if shard < self.world.num_shards:
            return self.world.ids("user", start, stop)
        first = self.world.num_users
        return self._new_ids("user")[start - first : stop - first]

    def item_ids(self) -> Any:
        """Read the ids of all items."""
        ids = self.world.ids("item", 0, self.world.num_items)
        new = [] if self.folder is None else [self._new_ids("item")]
        return np.concatenate([ids, *new])

    def item_emb(self, old: Tensor) -> Tensor:
        """Put the vectors of new items behind the world's, ``[num_items, D]``."""
        if self.folder is None:
            return old
        with undamaged(self.folder / ITEMS, *_DAMAGED):
            table = open_tables(self.folder / ITEMS)["item"]
            return torch.cat([old, table.rows(0, self.num_items - len(old))])

    def _new_ids(self, kind: str) -> Any:
        assert self.folder is not None
        query = "SELECT id FROM read_parquet(?) ORDER BY row"
        return _fetch(_ids_path(self.folder, kind), query)["id"]


def append(ideal: IdealItems, history: History, folder: Path) -> None:
    """Write what came after a world, for :class:`GrownWorld`.

    Ids that the world does not have get rows behind its own, as they come. A new item
    gets the mean direction of its users' ideal items, and the mean length of the old
    items, as in :meth:`ddrm_pyg.pipeline.Pipeline.append`.

    Args:
        ideal: The world, and the DDRM that ranks for its users.
        history: What came.
        folder: New folder to write.

    Raises:
        FileNotFoundError: A source is not there.
        ValueError: A value that is no id, a new id that is a text where the world has
            integers, or a given vector that is not of a new item or does not fit.
    """
    folder.mkdir()
    spill = folder / "spill"
    columns = {"user": history.user, "item": history.item}
    with read_tables(history.sources, columns, spill, history.memory) as database:
        for kind in columns:
            _number(database, ideal.world, kind, folder)
        _cut(database, ideal.world, folder)
    shutil.rmtree(spill)
    grown = GrownWorld(ideal.world, folder)
    item_emb = _mean_of_takers(grown, ideal)
    if history.item_emb is not None:
        new = grown.item_ids()[ideal.world.num_items :]
        _replace(item_emb, new.tolist(), history.item_emb)
    save_file({"item": item_emb}, folder / ITEMS)


def _number(database: Any, world: World, kind: str, folder: Path) -> None:
    """Make the table of the rows of all ids, and write those of new ones."""
    path = quoted(str(world.folder / "ids" / f"{kind}s.parquet"))
    size = world.num_users if kind == "user" else world.num_items
    # new items come user by user, as in histories
    database.execute(
        f"CREATE TABLE {kind}s AS SELECT text, coalesce(row, {size} - 1 + row_number() "
        "OVER (PARTITION BY row IS NULL ORDER BY first)) AS row FROM "
        f"(SELECT {kind} AS text, min({{'begin': begin, 'place': place}}) AS first "
        "FROM (SELECT *, min(place) OVER (PARTITION BY user) AS begin FROM raw) "
        f"GROUP BY {kind}) LEFT JOIN read_parquet({path}) AS ids "
        "ON text = CAST(ids.id AS VARCHAR)"
    )
    (column,) = database.execute(
        f"SELECT column_type FROM (DESCRIBE SELECT id FROM read_parquet({path}))"
    ).fetchone()
    new = f"SELECT row, text FROM {kind}s WHERE row >= {size}"
    other = database.execute(
        f"SELECT text FROM ({new}) WHERE text IS DISTINCT FROM "
        f"CAST(TRY_CAST(text AS {column}) AS VARCHAR) ORDER BY row LIMIT 1"
    ).fetchone()
    if other:
        raise ValueError(
            f"'history': new {kind}s must be integers, as the world's are "
            f"(got {other[0]!r})"
        )
    database.execute(
        f"COPY (SELECT row, CAST(text AS {column}) AS id FROM ({new}) ORDER BY row) "
        f"TO {quoted(str(_ids_path(folder, kind)))} (FORMAT parquet)"
    )


def _cut(database: Any, world: World, folder: Path) -> None:
    """Write the new pairs of each shard that has some."""
    last, size, count = world.num_users, world.rows_per_shard, world.num_shards
    shard = f"if(user < {last}, user // {size}, {count} + (user - {last}) // {size})"
    database.execute(
        "CREATE TABLE pairs AS SELECT DISTINCT users.row AS user, items.row AS item "
        "FROM raw JOIN users ON raw.user = users.text "
        "JOIN items ON raw.item = items.text"
    )
    shards = database.execute(f"SELECT DISTINCT {shard} FROM pairs").fetchall()
    for (number,) in shards:
        database.execute(
            f"COPY (SELECT user, item FROM pairs WHERE {shard} = {number} "
            "ORDER BY user, item) TO "
            f"{quoted(str(_pairs_path(folder, number)))} (FORMAT parquet)"
        )


def _mean_of_takers(grown: GrownWorld, ideal: IdealItems) -> Tensor:
    """Vectors of new items by the ideal items of who took them, ``[num_new, D]``."""
    old = grown.world.num_items
    total = torch.zeros(grown.num_items - old, ideal.item_emb.size(1))
    for shard in range(grown.num_shards):
        pairs = grown.since(shard)
        user, item = pairs[:, pairs[1] >= old]
        if len(item):
            takers, row = user.unique(return_inverse=True)
            vectors = _before(grown, ideal, shard, takers)
            total.index_add_(0, item - old, vectors[row])
    return ideal.item_emb.norm(dim=1).mean() * F.normalize(total)


def _before(grown: GrownWorld, ideal: IdealItems, shard: int, user: Tensor) -> Tensor:
    """Ideal items of users as they were, or would have been, before the new items."""
    if shard < grown.world.num_shards:
        return ideal.of_users(shard, user)
    pairs = grown.since(shard)
    old = pairs[:, pairs[1] < grown.world.num_items]
    start, stop = grown.bounds(shard)
    graph = InteractionGraph(old, stop - start, grown.world.num_items)
    return ideal.of_histories(graph, ideal.item_emb, ideal.mean_seen)[user]


def _replace(item_emb: Tensor, names: list[Any], path: Path) -> None:
    """Put given vectors of new items in the place of made ones."""
    row_of = {str(name): row for row, name in enumerate(names)}
    chosen = read_ids(path)
    old = [name for name in chosen if name not in row_of]
    if old:
        raise ValueError(
            f"{path}: must have vectors of new items of the history alone "
            f"(got {old[0]!r})"
        )
    table = align(path, chosen, str(path)).float()
    if table.size(1) != item_emb.size(1) or not bool(table.isfinite().all()):
        raise ValueError(
            f"{path}: vectors must be finite and {item_emb.size(1)} wide "
            f"(got {table.size(1)})"
        )
    item_emb[[row_of[name] for name in chosen]] = table


def _fetch(path: Path, query: str) -> Any:
    with undamaged(path, *_DAMAGED):
        return connect().execute(query, [str(path)]).fetchnumpy()


def _ids_path(folder: Path, kind: str) -> Path:
    return folder / f"{kind}s.parquet"


def _pairs_path(folder: Path, shard: int) -> Path:
    return folder / f"user-{shard:05d}.parquet"
