"""A world: interactions and embeddings on disk, in shards of users."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.extras import import_extra
from ddrm_pyg.files import atomic_path, read_json, undamaged, write_json
from ddrm_pyg.mapped import MappedTable, open_tables
from ddrm_pyg.transforms.core import SPLITS

FORMAT = 1
"""Of the folder; raised where an older reader would misread a newer world."""

WORLD = "world.json"
"""Written last: a folder that has it is whole."""

ROWS_PER_SHARD = 1_048_576
"""Users of a shard by default: 268 MB of vectors that are 64 wide."""

BLOCK = 8192
"""Rows that DDRM denoises together: shards of whole blocks have the whole's bits."""


@dataclass(frozen=True)
class World:
    """What a folder of shards holds; its files are read when they are asked for.

    ``ids/`` has the id of each row, ``train/``, ``val/`` and ``test/`` the pairs of
    each shard, ``embeddings/`` tables that :func:`cut_embeddings` has put there.

    Attributes:
        folder: Where it is.
        num_users: Users of all shards.
        num_items: Items.
        rows_per_shard: Users of each shard but the last.
        num_edges: Pairs by split.
    """

    folder: Path
    num_users: int
    num_items: int
    rows_per_shard: int
    num_edges: dict[str, int]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a world that is whole.

        Raises:
            FileNotFoundError: There is none, or it is half written.
            ValueError: It is damaged, or of another version of this package.
        """
        path = Path(folder) / WORLD
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: not a world (no {WORLD})")
        with undamaged(path, "not what 'shard' writes", "shard again"):
            record = read_json(path)
            version = record.pop("format")
            if version == FORMAT:
                _check_numbers(record)
                return cls(Path(folder), **record)
        raise ValueError(
            f"{path}: the format must be {FORMAT} (got {version!r}); shard again"
        )

    def save(self) -> None:
        """Declare the folder whole."""
        record = {k: v for k, v in asdict(self).items() if k != "folder"}
        write_json(self.folder / WORLD, {"format": FORMAT, **record})

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.num_users // self.rows_per_shard)

    def bounds(self, shard: int) -> tuple[int, int]:
        """First user of a shard, and the one after its last.

        Raises:
            ValueError: There is no such shard.
        """
        if not 0 <= shard < self.num_shards:
            raise ValueError(
                f"'shard' must lie in 0 ... {self.num_shards - 1} (got {shard})"
            )
        start = shard * self.rows_per_shard
        return start, min(start + self.rows_per_shard, self.num_users)

    def pairs_path(self, split: str, shard: int) -> Path:
        """File of a shard's pairs."""
        return self.folder / split / f"user-{shard:05d}.parquet"

    def edge_index(self, shard: int, splits: tuple[str, ...] = ("train",)) -> Tensor:
        """Read a shard's pairs.

        Returns:
            ``[2, E]`` int64: users counted from the shard's first, and items.
        """
        start, _ = self.bounds(shard)
        paths = [self.pairs_path(split, shard) for split in splits]
        columns = self._read("SELECT user, item FROM read_parquet(?)", paths)
        user, item = (torch.from_numpy(columns[name].copy()) for name in columns)
        return torch.stack([user - start, item])

    def ids(self, kind: str, start: int, stop: int) -> Any:
        """Read the ids of the rows ``start ... stop - 1`` of users or items.

        Returns:
            A NumPy array of integers, or of texts.
        """
        query = "SELECT id FROM read_parquet(?) WHERE row >= ? AND row < ? ORDER BY row"
        path = self.folder / "ids" / f"{kind}s.parquet"
        return self._read(query, [path], start, stop)["id"]

    def _read(self, query: str, paths: list[Path], *more: int) -> Any:
        with undamaged(self.folder, "a damaged world", "shard again"):
            names = [str(path) for path in paths]
            return connect().execute(query, [names, *more]).fetchnumpy()

    def item_degree(self) -> Tensor:
        """Read how many train interactions each item has, ``[num_items]`` int64."""
        path = self.folder / "item_degree.safetensors"
        with undamaged(path, "not of this world", "shard again"):
            return open_tables(path)["item_degree"].rows(0, self.num_items)

    def count_items(self, splits: tuple[str, ...]) -> Tensor:
        """Count how many interactions of some splits each item has, ``[num_items]``.

        Reads the items of all shards.
        """
        paths = [self.pairs_path(n, i) for n in splits for i in range(self.num_shards)]
        query = "SELECT item, count(*) AS n FROM read_parquet(?) GROUP BY item"
        columns = self._read(query, paths)
        degree = torch.zeros(self.num_items, dtype=torch.int64)
        degree[torch.from_numpy(columns["item"])] = torch.from_numpy(columns["n"])
        return degree

    def user_emb(self, shard: int) -> Tensor:
        """Read a shard's user vectors, ``[rows, D]`` float32."""
        start, stop = self.bounds(shard)
        table = self._table("user", stop - start, shard)
        return table.rows(0, table.num_rows).float()

    def item_emb(self) -> Tensor:
        """Read the item vectors, ``[num_items, D]`` float32."""
        table = self._table("item", self.num_items)
        return table.rows(0, table.num_rows).float()

    def save_emb(self, kind: str, table: Tensor, shard: int | None = None) -> None:
        """Write vectors: of all items, or of a shard's users.

        Args:
            kind: ``"item"`` or ``"user"``.
            table: ``[rows, D]``.
            shard: Which users they are of.
        """
        with atomic_path(self.emb_path(kind, shard)) as temporary:
            save_file({kind: table.contiguous()}, temporary)

    def emb_path(self, kind: str, shard: int | None = None) -> Path:
        """File of vectors: of all items, or of a shard's users."""
        stem = kind if shard is None else f"{kind}-{shard:05d}"
        return self.folder / "embeddings" / f"{stem}.safetensors"

    def _table(self, name: str, num_rows: int, shard: int | None = None) -> MappedTable:
        path = self.emb_path(name, shard)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no vectors here; 'shard --embeddings' puts them into a world"
            )
        with undamaged(path, "not of this world", "'shard --embeddings' again"):
            table = open_tables(path)[name]
            if table.num_rows != num_rows:
                raise ValueError(f"must have {num_rows} rows (got {table.num_rows})")
            return table


def _check_numbers(record: dict[str, Any]) -> None:
    """Refuse a record whose numbers are none."""
    edges = dict(record["num_edges"])
    sizes = [record[n] for n in ("num_users", "num_items", "rows_per_shard")]
    numbers = [*sizes, *edges.values()]
    whole = all(type(number) is int and number >= 0 for number in numbers)
    if not whole or 0 in sizes or edges.keys() != set(SPLITS):
        raise ValueError("its numbers are not those of a world")


def cut_embeddings(world: World, path: Path) -> None:
    """Put embeddings into a world, cut as its users are, in bounded memory.

    Args:
        world: Where to.
        path: A ``.safetensors`` file of any size, rows in the order of the world's ids.

    Raises:
        ValueError: Other numbers of rows than the world's, or a value that is not
            finite; nothing is written then.
    """
    tables = Embeddings.open(path)
    sizes = (world.num_users, world.num_items)
    for name, table, size in zip(tables._fields, tables, sizes, strict=True):
        if table.num_rows != size:
            raise ValueError(
                f"{path}: '{name}' must have the world's {size} rows "
                f"(got {table.num_rows})"
            )
        for number, block in enumerate(table.blocks()):
            if not bool(torch.isfinite(block).all()):
                raise ValueError(f"{path}: '{name}' must be finite (block {number})")
    world.save_emb("item", tables.item.rows(0, world.num_items))
    for shard in range(world.num_shards):
        world.save_emb("user", tables.user.rows(*world.bounds(shard)), shard)


def connect(**config: Any) -> Any:
    """Open an own DuckDB in memory.

    Raises:
        ImportError: It is not installed.
    """
    duckdb = import_extra("duckdb", "worlds need duckdb", "duckdb")
    return duckdb.connect(config=config)
