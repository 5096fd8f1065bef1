"""LightGCN: linear propagation on the interaction graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ddrm_pyg.checks import check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import NegativeDraw
from ddrm_pyg.loader import UserDraw
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.nn.models._pairwise import PairwiseBackend
from ddrm_pyg.typing import PairLoss, PointLoss


class LightGCN(PairwiseBackend):
    r"""Tables smoothed by several layers of light graph convolution.

    `"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ (SIGIR 2020): the embedding is the mean of
    layers 0 ... L. Equal to ``torch_geometric.nn.LightGCN`` on the same weights,
    without offset item indices.

    Args:
        num_users: Number of user rows.
        num_items: Number of item rows.
        embedding_dim: Width of the vectors.
        num_layers: L; 0 is matrix factorisation.
        pair_loss: A PairLoss of a positive against a negative score, or a PointLoss of
            scores against labels, told apart by the name of the second parameter
            (``neg_score`` or ``label``).
        l2: Weight of half the squared norm of a triplet's layer-0 rows.
        init_std: Standard deviation of the initial tables.
        users: How the users of triplets are drawn, see
            :func:`ddrm_pyg.loader.triplet_batches`.
        negatives: How their negatives are: ``"uniform"``, or by ``"popularity"``
            (WBPR), see :func:`ddrm_pyg.graph.sampling.draw_negatives`.

    Raises:
        TypeError: ``pair_loss`` is neither pairwise nor pointwise.
        ValueError: A size < 1, ``num_layers`` < 0 or ``l2`` < 0.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        *,
        num_layers: int = 3,
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
        check_size(0, num_layers=num_layers)
        self.num_layers = num_layers

    def forward(self, graph: InteractionGraph | Tensor | Any) -> Embeddings:
        """Propagate.

        Args:
            graph: Train interactions: an :class:`InteractionGraph` (its blocks are
                cached), an ``edge_index`` ``[2, E]`` or a ``SparseTensor``
                ``[num_items, num_users]``.
        """
        tables = Embeddings(self.user_table, self.item_table)
        return light_propagate(tables, graph, self.num_layers)
