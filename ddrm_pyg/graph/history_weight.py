"""Weights of the interactions in a user's history, and histories without one of them.

Each ``*_weight`` function returns one weight per train interaction, in the order of the
graph's ``edge_index``, for :meth:`InteractionGraph.history_mean` and whatever starts
from it.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import edge_order, tells_order

logger = logging.getLogger("ddrm_pyg")

_CHUNK = 1 << 12
"""Interactions compared at a time: few enough to stay in a cache."""

_NOTHING = 1e-9
"""Share of a history's weight below which what is left of it is only rounding."""


class HistorySums:
    """What every user's history adds up to, so that one item is left out at no cost.

    Sums are kept in float64, so that leaving one item out of a long history loses
    nothing.

    Args:
        graph: Train interactions.
        item_emb: ``[num_items, D]``.
        weight: ``[E]`` non-negative weight of every interaction; equal if None.

    Raises:
        ValueError: ``item_emb`` or ``weight`` does not match the graph.
    """

    @torch.no_grad()
    def __init__(
        self, graph: InteractionGraph, item_emb: Tensor, weight: Tensor | None = None
    ) -> None:
        self.graph = graph
        self.item_emb = item_emb
        self.weight = None if weight is None else weight.to(graph.device).double()
        exact = item_emb.double()
        nothing = exact.new_zeros(exact.size(1))  # what nothing adds up to
        mean = graph.history_mean(exact, weight=self.weight, fallback=nothing)
        user, item = graph.edge_index
        weights = exact.new_ones(len(user)) if self.weight is None else self.weight
        none = exact.new_zeros(graph.num_users)
        self._size = none.index_add(0, user, weights)
        self._has_vector = exact.any(dim=1).double()
        self._heard = none.index_add(0, user, weights * self._has_vector[item])
        self._total = mean * self._size.unsqueeze(1)
        self._mean_item = graph.mean_item(exact)

    @torch.no_grad()
    def rest(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Add up histories without one of their items.

        Args:
            user: ``[B]`` int64.
            item: ``[B]`` int64, an item of each; of a pair that repeats, the first
                occurrence is left out.

        Returns:
            The weighted sum of the other items, ``[B, D]``, and of their weights,
            ``[B]``, both float64.
        """
        left_out = self.item_emb[item].double()
        if self.weight is None:
            return self._total[user] - left_out, self._size[user] - 1
        own = self.weight[self.graph.find(user, item)]
        left_out *= own.unsqueeze(1)
        return self._total[user] - left_out, self._size[user] - own

    @torch.no_grad()
    def mean_without(self, user: Tensor, item: Tensor) -> Tensor:
        """Average histories without one of their items.

        Args:
            user: ``[B]`` int64.
            item: ``[B]`` int64, as for :meth:`rest`.

        Returns:
            ``[B, D]`` of ``item_emb``'s type. Where nothing that has a vector is left
            it is the mean item over all interactions, as
            :meth:`InteractionGraph.history_mean` has it for such a user.
        """
        total, size = self.rest(user, item)
        own = (self._size[user] - size) * self._has_vector[item]
        heard = self._heard[user] - own
        has_others = (heard > _NOTHING * self._heard[user]).unsqueeze(1)
        mean = total / size.unsqueeze(1)
        return torch.where(has_others, mean, self._mean_item).to(self.item_emb.dtype)


@torch.no_grad()
def history_agreement(graph: InteractionGraph, item_emb: Tensor) -> Tensor:
    r"""Compare every train item with the rest of its user's history.

    .. math:: a_{ui} = \cos\left(e_i,\; \sum_{j \in I_u} e_j - e_i\right)

    Args:
        graph: Train interactions; a pair that occurs twice is its own company.
        item_emb: ``[num_items, D]``.

    Returns:
        ``[E]`` in [-1, 1], of ``item_emb``'s type; 0 for a user's only item.

    Raises:
        ValueError: ``item_emb`` does not match the graph.
    """
    sums = HistorySums(graph, item_emb)
    parts = [
        F.cosine_similarity(item_emb[item].double(), sums.rest(user, item)[0])
        for user, item in graph.edge_index.split(_CHUNK, dim=1)
    ]
    return torch.cat(parts).to(item_emb.dtype)


def agreement_weight(
    graph: InteractionGraph,
    item_emb: Tensor,
    *,
    slope: float = 10.0,
    offset: float = 5.0,
) -> Tensor:
    r"""Weigh every train item by its agreement with the rest of its user's history.

    .. math:: w_{ui} = \sigma(\text{slope} \cdot a_{ui} - \text{offset})

    with a of :func:`history_agreement`. The order of a history plays no part.

    Args:
        graph: Train interactions.
        item_emb: ``[num_items, D]``.
        slope: How sharply the weights tell items apart; 0 weighs them equally.
        offset: An agreement of offset / slope gets the weight 1/2.

    Returns:
        ``[E]`` in (0, 1).

    Raises:
        ValueError: ``item_emb`` does not match the graph.
    """
    return (slope * history_agreement(graph, item_emb) - offset).sigmoid()


def recency_weight(data: HeteroData, tau: float) -> Tensor:
    r"""Weigh every train item by how much of its user's history came later.

    .. math:: w_{ui} = e^{-r_{ui} / \tau}

    with r the number of train interactions of the same user that came later. They are
    ordered by ``edge_time``, unknown ones (-1) first; interactions of equal time, and
    all of them where the data are ``in_order`` or have no times at all (which is
    logged), stand in the order of ``edge_index``.

    Args:
        data: The loaded data set; only its train interactions are read.
        tau: E-folding of the weights, in interactions; infinity weighs them equally.

    Returns:
        ``[E]`` float32 in [0, 1]; 1 for everyone's last interaction.

    Raises:
        ValueError: ``tau`` <= 0.
    """
    if not tau > 0:
        raise ValueError(f"'tau' must be > 0 (got {tau})")
    graph = InteractionGraph.from_data(data)
    user = graph.edge_index[0]
    if "edge_time" in data[EDGE] or tells_order(data):
        order = graph.check_time(edge_order(data)).argsort(stable=True)
    else:
        logger.warning("no 'edge_time': the order of 'edge_index' stands in for it")
        order = torch.arange(graph.num_edges, device=user.device)
    later = graph.degree("user")[user] - 1 - graph.place(order)
    return torch.exp(-later / tau)
