"""SGL: LightGCN that also tells its nodes apart in two perturbed graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ddrm_pyg.checks import check_at_least, check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.augment import Augmentation, View, check_augmentation, draw_view
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import NegativeDraw
from ddrm_pyg.loader import Triplets, UserDraw
from ddrm_pyg.losses.contrastive import check_temperature, info_nce_loss
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.nn.conv import light_propagate, propagate_through
from ddrm_pyg.nn.models._pairwise import PairwiseBackend
from ddrm_pyg.typing import PairLoss, PointLoss


class SGL(PairwiseBackend):
    r"""LightGCN with a self-supervised task on two views of the graph.

    `"Self-supervised Graph Learning for Recommendation"
    <https://arxiv.org/abs/2010.10783>`_ (SIGIR 2021). Every triplet's loss is

    .. math:: \ell_{uij} = \mathrm{pair\_loss}
        + \tfrac{\lambda}{2} (\|e_u\|^2 + \|e_i\|^2 + \|e_j\|^2)
        + \mathrm{ssl\_weight} \cdot (\mathrm{InfoNCE}_u + \mathrm{InfoNCE}_i)

    with InfoNCE over all users and all items
    (:func:`~ddrm_pyg.losses.contrastive.info_nce_loss`). The authors' code sums all
    three terms over the batch, training here averages all three: their ratio, and so
    the meaning of ``l2`` and ``ssl_weight``, is the same. The views are drawn with the
    epoch's generator when ``batches`` is called and stay for the epoch; they are no
    part of the state dict. Embeddings come from the full graph only.

    The defaults are the paper's, but for normal instead of Xavier initial tables. The
    SGL backend of the DDRM authors is
    ``combine="normalized-sum"``, with 5 layers on ML-1M.

    Args:
        num_users: Number of user rows.
        num_items: Number of item rows.
        embedding_dim: Width of the vectors.
        num_layers: L; 0 is matrix factorisation.
        augmentation: ``"ED"`` drops edges, ``"ND"`` nodes, ``"RW"`` other edges in
            every layer, see :func:`~ddrm_pyg.graph.augment.draw_view`.
        drop_rate: Share of edges or nodes that a view loses.
        ssl_weight: Weight of the self-supervised task; 0 is LightGCN.
        temperature: Of InfoNCE; lower is harder on near candidates.
        combine: How layers become embeddings: their ``"mean"`` or the
            ``"normalized-sum"``, see :func:`~ddrm_pyg.nn.conv.light_propagate`.
        pair_loss: A PairLoss of a positive against a negative score, or a PointLoss of
            scores against labels, told apart by the name of the second parameter
            (``neg_score`` or ``label``).
        l2: :math:`\lambda`.
        init_std: Standard deviation of the initial tables.
        users: How the users of triplets are drawn, see
            :func:`ddrm_pyg.loader.triplet_batches`.
        negatives: How their negatives are: ``"uniform"``, or by ``"popularity"``
            (WBPR), see :func:`ddrm_pyg.graph.sampling.draw_negatives`.

    Raises:
        TypeError: ``pair_loss`` is neither pairwise nor pointwise.
        ValueError: A number out of its range, or an unknown ``augmentation`` or
            ``combine``.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        *,
        num_layers: int = 3,
        augmentation: Augmentation = "ED",
        drop_rate: float = 0.1,
        ssl_weight: float = 0.1,
        temperature: float = 0.2,
        combine: Literal["mean", "normalized-sum"] = "mean",
        pair_loss: PairLoss | PointLoss = bpr_loss,
        l2: float = 1e-4,
        init_std: float = 0.1,
        users: UserDraw = "interactions",
        negatives: NegativeDraw = "uniform",
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            embedding_dim,
            pair_loss=pair_loss,
            l2=l2,
            init_std=init_std,
            users=users,
            negatives=negatives,
        )
        check_augmentation(augmentation, drop_rate)
        check_temperature(temperature)
        check_size(0, num_layers=num_layers)
        check_at_least(0, ssl_weight=ssl_weight)
        if combine not in ("mean", "normalized-sum"):
            raise ValueError(
                f"'combine' must be 'mean' or 'normalized-sum' (got '{combine}')"
            )
        self.num_layers = num_layers
        self.augmentation = augmentation
        self.drop_rate = drop_rate
        self.ssl_weight = ssl_weight
        self.temperature = temperature
        self.combine = combine
        self._views: tuple[View, View] | None = None

    def forward(self, graph: InteractionGraph | Tensor | Any) -> Embeddings:
        """Propagate on the full graph.

        Args:
            graph: Train interactions: an :class:`InteractionGraph` (its blocks are
                cached), an ``edge_index`` ``[2, E]`` or a ``SparseTensor``
                ``[num_items, num_users]``.
        """
        return light_propagate(self._tables(), graph, self.num_layers, self.combine)

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterator[Triplets]:
        """Draw two views for the epoch, then yield its triplets."""
        if self.ssl_weight > 0:
            self._views = (
                self._draw_view(graph, generator),
                self._draw_view(graph, generator),
            )
        return super().batches(graph, batch_size=batch_size, generator=generator)

    def penalty(
        self, batch: Triplets, emb: Embeddings, *, generator: torch.Generator
    ) -> Tensor:
        """Regularise the tables' rows and contrast the views, ``[B]``.

        Raises:
            RuntimeError: No views, because the batch is not from ``batches``.
        """
        penalty = super().penalty(batch, emb, generator=generator)
        if self.ssl_weight == 0:
            return penalty
        if self._views is None:
            raise RuntimeError(
                "SGL has no views yet: take batches from its method 'batches', "
                "which draws them"
            )
        first, second = (
            propagate_through(self._tables(), view, self.combine)
            for view in self._views
        )
        contrast = info_nce_loss(
            first.user, second.user, batch.user, temperature=self.temperature
        ) + info_nce_loss(
            first.item, second.item, batch.pos_item, temperature=self.temperature
        )
        return penalty + self.ssl_weight * contrast

    def _tables(self) -> Embeddings:
        return Embeddings(self.user_table, self.item_table)

    def _draw_view(self, graph: InteractionGraph, generator: torch.Generator) -> View:
        return draw_view(
            graph,
            self.augmentation,
            self.drop_rate,
            self.num_layers,
            generator=generator,
        )
