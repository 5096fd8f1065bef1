"""What backends trained on BPR triplets share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import Triplets, UserDraw, triplet_batches
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.typing import PairLoss


class PairwiseBackend(nn.Module):
    r"""User and item tables trained on triplets by a pairwise loss.

    Subclasses say how tables become embeddings (``forward``). The penalty is

    .. math:: \tfrac{\lambda}{2} \left( \|e_u\|^2 + \|e_i\|^2 + \|e_j\|^2 \right)

    on the tables' rows of each triplet, as in the LightGCN authors' code.

    Args:
        num_users: Number of user rows.
        num_items: Number of item rows.
        embedding_dim: Width of the vectors.
        pair_loss: Loss of a positive against a negative score, ``[B]``.
        l2: :math:`\lambda`.
        init_std: Standard deviation of the initial tables.
        users: How triplets are drawn, see :func:`ddrm_pyg.loader.triplet_batches`.

    Raises:
        ValueError: A size < 1 or ``l2`` < 0.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int,
        *,
        pair_loss: PairLoss = bpr_loss,
        l2: float,
        init_std: float,
        users: UserDraw,
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_users", num_users),
            ("num_items", num_items),
            ("embedding_dim", embedding_dim),
        ):
            if value < 1:
                raise ValueError(f"'{name}' must be >= 1 (got {value})")
        if not l2 >= 0:
            raise ValueError(f"'l2' must be >= 0 (got {l2})")
        self.pair_loss = pair_loss
        self.l2 = l2
        self.init_std = init_std
        self.users = users
        self.user_table = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_table = nn.Parameter(torch.empty(num_items, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the tables anew from torch's global generator."""
        nn.init.normal_(self.user_table, std=self.init_std)
        nn.init.normal_(self.item_table, std=self.init_std)

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Embed all users and items."""
        raise NotImplementedError

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterator[Triplets]:
        """Yield one epoch of triplets."""
        return triplet_batches(
            graph, batch_size=batch_size, generator=generator, users=self.users
        )

    def losses(
        self, batch: Triplets, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the pairwise loss plus the penalty of each triplet, ``[B]``."""
        emb = self(graph)
        user = F.embedding(batch.user, emb.user)
        pos_score = (user * F.embedding(batch.pos_item, emb.item)).sum(-1)
        neg_score = (user * F.embedding(batch.neg_item, emb.item)).sum(-1)
        loss = self.pair_loss(pos_score, neg_score)
        yield loss + self.penalty(batch, emb, generator=generator)

    def penalty(
        self, batch: Triplets, emb: Embeddings, *, generator: torch.Generator
    ) -> Tensor:
        """Regularise the tables' rows of each triplet, ``[B]``."""
        rows = (
            F.embedding(batch.user, self.user_table),
            F.embedding(batch.pos_item, self.item_table),
            F.embedding(batch.neg_item, self.item_table),
        )
        squares = torch.stack([row.square().sum(-1) for row in rows])
        return self.l2 / 2 * squares.sum(0)

    @torch.no_grad()
    def scorer(self, graph: InteractionGraph) -> Embeddings:
        """Embed once; the result scores any users."""
        return self(graph)

    def __repr__(self) -> str:
        users, dim = self.user_table.shape
        items = self.item_table.size(0)
        return f"{type(self).__name__}({users}, {items}, embedding_dim={dim})"
