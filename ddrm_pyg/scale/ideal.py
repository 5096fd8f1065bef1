"""Ideal items of a world's users and of whoever comes later."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph, mean_item
from ddrm_pyg.nn._noise import noise_rows
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.scale.world import World
from ddrm_pyg.transforms.core import SPLITS


class IdealItems:
    """A trained DDRM beside the world whose vectors it denoises.

    Args:
        folder: Of the world, with embeddings.
        weights: Folder of the DDRM, as ``save_pretrained`` writes it.
        seed: Of the start's noise, as in ``DDRMRecommender(seed=)``.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Files that do not belong together.
    """

    def __init__(self, folder: Path, weights: Path, seed: int) -> None:
        self.world = World.open(folder)
        self.seed = seed
        self.ddrm = DDRM.from_pretrained(weights)
        if self.ddrm.sampling_noise:
            raise ValueError(
                f"{weights}: a shard has no part of the noise of steps; the DDRM "
                "must have 'sampling_noise' False (got True)"
            )
        self.item_emb = self.world.item_emb()
        self.mean_item = mean_item(self.world.item_degree(), self.item_emb)

    @cached_property
    def mean_seen(self) -> Tensor:
        """The mean item over all interactions, held-out ones included, ``[D]``."""
        return mean_item(self.world.count_items(SPLITS), self.item_emb)

    def of_users(self, shard: int, user: Tensor | slice = slice(None)) -> Tensor:
        """Generate for users of a shard, with the bits of the whole table's.

        Args:
            shard: Which one.
            user: ``[B]`` users counted from the shard's first; all by default.

        Returns:
            ``[B, D]``.
        """
        start, stop = self.world.bounds(shard)
        train = InteractionGraph(
            self.world.edge_index(shard), stop - start, self.world.num_items
        )
        size = self.world.num_users, self.ddrm.embedding_dim
        return self.ddrm.generate(
            train.history_mean(self.item_emb, fallback=self.mean_item)[user],
            self.world.user_emb(shard)[user],
            noise=noise_rows(start, stop, *size, self.seed)[user],
        )

    def of_histories(
        self, history: InteractionGraph, item_emb: Tensor, fallback: Tensor
    ) -> Tensor:
        """Generate from histories alone, without noise.

        Args:
            history: A history per user, over the rows of ``item_emb``.
            item_emb: ``[num_items, D]``.
            fallback: ``[D]`` stands in for the mean of an empty history.

        Returns:
            ``[num_users, D]``.
        """
        mean = history.history_mean(item_emb, fallback=fallback)
        return self.ddrm.generate(mean, noise=torch.zeros_like(mean))
