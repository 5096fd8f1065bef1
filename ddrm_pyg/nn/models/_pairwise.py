"""What backends trained on triplets share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.checks import check_among, check_at_least, check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import NegativeDraw
from ddrm_pyg.loader import Triplets, UserDraw, triplet_batches
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.losses.pointwise import is_pointwise
from ddrm_pyg.nn._pretrained import Pretrained
from ddrm_pyg.typing import PairLoss, PointLoss


def triplet_scores(emb: Embeddings, batch: Triplets) -> tuple[Tensor, Tensor]:
    """Score the positives and the negatives of a batch.

    Args:
        emb: Embeddings of all users and items.
        batch: B triplets.

    Returns:
        Two ``[B]`` inner products, of the positive and of the negative items.
    """
    user = F.embedding(batch.user, emb.user)
    pos_score = (user * F.embedding(batch.pos_item, emb.item)).sum(-1)
    neg_score = (user * F.embedding(batch.neg_item, emb.item)).sum(-1)
    return pos_score, neg_score


class PairwiseBackend(Pretrained, nn.Module):
    r"""User and item tables trained on triplets by a pairwise or pointwise loss.

    Subclasses say how tables become embeddings (``forward``). The penalty is

    .. math:: \tfrac{\lambda}{2} \left( \|e_u\|^2 + \|e_i\|^2 + \|e_j\|^2 \right)

    on the tables' rows of each triplet, as in the LightGCN authors' code. It is added
    to what ``pair_loss`` returns: a wrapper that truncates or reweighs never sees it.

    A pointwise loss gets the batch's positives with label 1 and its negatives with
    label 0 in one call; a triplet's loss is the mean of its two rows, so that the mean
    over triplets is the mean over rows.

    Args:
        num_users: Number of user rows.
        num_items: Number of item rows.
        embedding_dim: Width of the vectors.
        pair_loss: A PairLoss of a positive against a negative score, or a PointLoss of
            scores against labels, told apart by the name of the second parameter
            (``neg_score`` or ``label``). A module is registered, with its counters.
        l2: :math:`\lambda`.
        init_std: Standard deviation of the initial tables.
        users: How the users of triplets are drawn, see
            :func:`ddrm_pyg.loader.triplet_batches`.
        negatives: How their negatives are: ``"uniform"``, or by ``"popularity"``
            (WBPR), see :func:`ddrm_pyg.graph.sampling.draw_negatives`.

    Raises:
        TypeError: ``pair_loss`` is neither pairwise nor pointwise.
        ValueError: A size < 1, ``l2`` or ``init_std`` < 0, or an unknown way to draw.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        *,
        pair_loss: PairLoss | PointLoss = bpr_loss,
        l2: float = 1e-4,
        init_std: float = 0.1,
        users: UserDraw = "interactions",
        negatives: NegativeDraw = "uniform",
    ) -> None:
        super().__init__()
        check_at_least(1, num_users=num_users, num_items=num_items)
        check_size(1, embedding_dim=embedding_dim)
        check_at_least(0, l2=l2, init_std=init_std)
        check_among(get_args(UserDraw), users=users)
        check_among(get_args(NegativeDraw), negatives=negatives)
        self.num_users = num_users
        self.num_items = num_items
        self.pair_loss = pair_loss
        self.pointwise = is_pointwise(pair_loss)
        self.l2 = l2
        self.init_std = init_std
        self.users = users
        self.negatives = negatives
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
            graph,
            batch_size=batch_size,
            generator=generator,
            users=self.users,
            negatives=self.negatives,
        )

    def losses(
        self, batch: Triplets, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss plus the penalty of each triplet, ``[B]``."""
        emb = self(graph)
        pos_score, neg_score = triplet_scores(emb, batch)
        if self.pointwise:
            score = torch.cat([pos_score, neg_score])
            label = torch.cat([torch.ones_like(pos_score), torch.zeros_like(neg_score)])
            loss = self.pair_loss(score, label).view(2, -1).mean(0)
        else:
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
