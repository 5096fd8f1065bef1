"""Denoise and rank the users of one shard: what every engine runs."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ddrm_pyg.ann import ApproximateIndex
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.files import atomic_folder, atomic_path, hash_file, read_json, write_json
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn._pretrained import CONFIG, WEIGHTS
from ddrm_pyg.ranking import recommend
from ddrm_pyg.scale.append import GrownWorld, History, append
from ddrm_pyg.scale.ideal import IdealItems
from ddrm_pyg.scale.world import WORLD, World, connect

LISTS = "lists.json"
"""Says what the lists of a folder were made of."""

SINCE = "since"
"""Folder inside: what came after the world."""


@dataclass(frozen=True)
class Job:
    """What lists are made of; travels to workers, which open it themselves.

    Attributes:
        world: Folder of the world.
        weights: Folder of a trained DDRM, as ``save_pretrained`` writes it.
        out: Folder of the lists.
        k: List length.
        seed: Of the start's noise, as in ``DDRMRecommender(seed=)``.
        num_probes: Groups of items looked at by approximate lists, see
            :class:`~ddrm_pyg.ann.ApproximateIndex`; None lists exactly.
        history: What happened since the world was made, if anything did.
    """

    world: Path
    weights: Path
    out: Path
    k: int = 20
    seed: int = 0
    num_probes: int | None = None
    history: History | None = None

    def path(self, shard: int) -> Path:
        """File of a shard's lists."""
        return self.out / f"user-{shard:05d}.parquet"

    def ideal(self) -> IdealItems:
        """Open what ranks for the users of the world."""
        return IdealItems(self.world, self.weights, self.seed)

    def grown(self, out: Path | None = None) -> GrownWorld:
        """Open the world and what came after it.

        Args:
            out: A claimed folder, or one that is being made; the job's own if None.
        """
        folder = (out or self.out) / SINCE if self.history else None
        return GrownWorld(World.open(self.world), folder)

    def pending(self, shards: Sequence[int]) -> list[int]:
        """Those whose lists are not there yet."""
        return [shard for shard in shards if not self.path(shard).exists()]

    @contextmanager
    def claimed(self, shards: Sequence[int] | None = None) -> Iterator[list[int]]:
        """Hold the folder of the lists against other jobs and other processes.

        A new one is made where everything fits, with what came after the world.

        Args:
            shards: Which ones to make; all if None.

        Yields:
            Those whose lists are not there yet.

        Raises:
            FileNotFoundError: A file is not there.
            ValueError: It holds other lists or files, another process writes there,
                files do not belong together, or there is no such shard.
        """
        config = self._config()
        path = self.out / LISTS
        if not path.is_file():
            self._begin(config, shards)
        elif {"history": None, **read_json(path)} != config:  # None was not written
            raise ValueError(f"'out' must be new or hold these lists (got {self.out})")
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(
                    f"'out' must have one writer (another process works in {self.out})"
                ) from None
            yield self.pending(_chosen(shards, self.grown().num_shards))

    def _begin(self, config: dict[str, Any], shards: Sequence[int] | None) -> None:
        """Make the folder, whole or not at all."""
        with atomic_folder(self.out) as folder:
            ideal = self.ideal()
            if self.history:
                append(ideal, self.history, folder / SINCE)
            _chosen(shards, self.grown(folder).num_shards)
            write_json(folder / LISTS, config)

    def _config(self) -> dict[str, Any]:
        files = {
            "world": self.world / WORLD,
            "item_emb": World.open(self.world).emb_path("item"),
            "config": self.weights / CONFIG,
            "weights": self.weights / WEIGHTS,
        }
        return {
            **{name: hash_file(path) for name, path in files.items()},
            "k": self.k,
            "seed": self.seed,
            "num_probes": self.num_probes,
            "history": self.history and self.history.config(),
        }


def _chosen(shards: Sequence[int] | None, count: int) -> Sequence[int]:
    """Refuse shards that are not there; all of them if None."""
    chosen = range(count) if shards is None else shards
    for shard in chosen:
        if not 0 <= shard < count:
            raise ValueError(f"'shards' must lie in 0 ... {count - 1} (got {shard})")
    return chosen


class ShardWorker:
    """Opens a job once and makes the lists of any of its shards.

    Lists have the bits of the whole tables': history means, noise and blocks of rows
    are the same. Whoever has interactions since gets the ideal item of the whole
    history, without noise.

    Args:
        job: What to open; its folder is claimed where it has a history.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Files that do not belong together.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ideal = job.ideal()
        self.grown = job.grown()
        self.item_emb = self.grown.item_emb(self.ideal.item_emb)
        self.recommend: Callable[..., tuple[Tensor, Tensor]] = recommend
        if job.num_probes is not None:
            index = ApproximateIndex(self.item_emb)
            self.recommend = partial(index.recommend, num_probes=job.num_probes)
        self.item_ids = self.grown.item_ids()

    def __call__(self, shard: int) -> int:
        """Write a shard's lists, whole or not at all.

        Returns:
            Number of users.
        """
        seen = self.grown.seen(shard)
        ideal = self._ideal(shard, seen)
        score, item = self.recommend(
            Embeddings(ideal, self.item_emb),
            torch.arange(seen.num_users),
            k=self.job.k,
            exclude=seen,
        )
        self._write(shard, self.grown.user_ids(shard), score, item)
        return seen.num_users

    def _ideal(self, shard: int, seen: InteractionGraph) -> Tensor:
        """Ideal items of a shard's users, new ones of whom something is new."""
        active = self.grown.since(shard)[0].unique()
        if shard < self.grown.world.num_shards:
            ideal = self.ideal.of_users(shard)
        else:
            ideal = torch.empty(seen.num_users, self.item_emb.size(1))
        if len(active):
            pairs = torch.stack(seen.rows(active))
            history = InteractionGraph(pairs, len(active), seen.num_items)
            ideal[active] = self.ideal.of_histories(
                history, self.item_emb, self.ideal.mean_item
            )
        return ideal

    def _write(self, shard: int, user_ids: Any, score: Any, item: Any) -> None:
        real = item < self.grown.num_items
        row = torch.arange(len(item)).unsqueeze(1).expand_as(item)[real]
        rank = torch.arange(1, item.size(1) + 1).expand_as(item)[real]
        frame = pd.DataFrame(
            {
                "user": user_ids[row.numpy()],
                "item": self.item_ids[item[real].numpy()],
                "rank": rank.numpy(),
                "score": score[real].numpy(),
            }
        )
        import duckdb  # there, as the world was read by it

        with atomic_path(self.job.path(shard)) as temporary, connect() as database:
            database.register("lists", frame)
            name = str(temporary).replace("'", "''")
            try:
                database.execute(f"COPY lists TO '{name}' (FORMAT parquet)")
            except duckdb.Error as error:
                raise OSError(*error.args) from error
