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
from ddrm_pyg.files import atomic_path, hash_file, read_json, write_json
from ddrm_pyg.graph.interaction_graph import InteractionGraph, mean_item
from ddrm_pyg.nn._noise import noise_rows
from ddrm_pyg.nn._pretrained import CONFIG, WEIGHTS
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.ranking import recommend
from ddrm_pyg.scale.world import WORLD, World, connect
from ddrm_pyg.transforms.core import SPLITS

LISTS = "lists.json"
"""Says what the lists of a folder were made of."""


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
    """

    world: Path
    weights: Path
    out: Path
    k: int = 20
    seed: int = 0
    num_probes: int | None = None

    def path(self, shard: int) -> Path:
        """File of a shard's lists."""
        return self.out / f"user-{shard:05d}.parquet"

    def pending(self, shards: Sequence[int]) -> list[int]:
        """Those whose lists are not there yet."""
        return [shard for shard in shards if not self.path(shard).exists()]

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder of the lists against other jobs and other processes.

        Raises:
            ValueError: It holds other lists or files, or another process writes there.
        """
        config = self._config()
        path = self.out / LISTS
        if path.is_file():
            if read_json(path) != config:
                raise ValueError(
                    f"'out' must be new or hold these lists (got {self.out})"
                )
        elif self.out.exists() and any(self.out.iterdir()):
            raise ValueError(
                f"'out' must be a new folder or an empty one (got {self.out})"
            )
        else:
            write_json(path, config)
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(
                    f"'out' must have one writer (another process works in {self.out})"
                ) from None
            yield

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
        }


class ShardWorker:
    """Opens a job once and makes the lists of any of its shards.

    Lists have the bits of the whole tables': history means, noise and blocks of rows
    are the same.

    Args:
        job: What to open.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Files that do not belong together.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.world = World.open(job.world)
        self.ddrm = DDRM.from_pretrained(job.weights)
        if self.ddrm.sampling_noise:
            raise ValueError(
                f"{job.weights}: a shard has no part of the noise of steps; the DDRM "
                "must have 'sampling_noise' False (got True)"
            )
        self.item_emb = self.world.item_emb()
        self.mean_item = mean_item(self.world.item_degree(), self.item_emb)
        self.recommend: Callable[..., tuple[Tensor, Tensor]] = recommend
        if job.num_probes is not None:
            index = ApproximateIndex(self.item_emb)
            self.recommend = partial(index.recommend, num_probes=job.num_probes)
        self.item_ids = self.world.ids("item", 0, self.world.num_items)

    def __call__(self, shard: int) -> int:
        """Write a shard's lists, whole or not at all.

        Returns:
            Number of users.
        """
        start, stop = self.world.bounds(shard)
        size = stop - start
        train, seen = (
            InteractionGraph(
                self.world.edge_index(shard, splits), size, self.world.num_items
            )
            for splits in (("train",), SPLITS)
        )
        ideal = self.ddrm.generate(
            train.history_mean(self.item_emb, fallback=self.mean_item),
            self.world.user_emb(shard),
            noise=noise_rows(
                start,
                stop,
                self.world.num_users,
                self.ddrm.embedding_dim,
                self.job.seed,
            ),
        )
        score, item = self.recommend(
            Embeddings(ideal, self.item_emb),
            torch.arange(size),
            k=self.job.k,
            exclude=seen,
        )
        self._write(shard, self.world.ids("user", start, stop), score, item)
        return size

    def _write(self, shard: int, user_ids: Any, score: Any, item: Any) -> None:
        real = item < self.world.num_items
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
