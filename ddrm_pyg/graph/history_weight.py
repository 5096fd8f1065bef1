"""Weights of the interactions in a user's history: how much each counts in its mean.

Each function returns one weight per train interaction, in the order of the graph's
``edge_index``, for :meth:`InteractionGraph.history_mean` and whatever starts from it.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph, row_pointer

logger = logging.getLogger("ddrm_pyg")

_CHUNK = 1 << 12
"""Interactions compared at a time: few enough to stay in a cache."""


@torch.no_grad()
def history_agreement(graph: InteractionGraph, item_emb: Tensor) -> Tensor:
    r"""Compare every train item with the rest of its user's history.

    .. math:: a_{ui} = \cos\Big(e_i,\; \sum_{j \in I_u} e_j - e_i\Big)

    The sums are taken in float64, so that leaving one item out of a long history loses
    nothing.

    Args:
        graph: Train interactions; a pair that occurs twice is its own company.
        item_emb: ``[num_items, D]``.

    Returns:
        ``[E]`` in [-1, 1], of ``item_emb``'s type; 0 for a user's only item.

    Raises:
        ValueError: ``item_emb`` does not match the graph.
    """
    exact = item_emb.double()
    total = graph.history_mean(exact) * graph.degree("user").unsqueeze(1)
    parts = [
        F.cosine_similarity(exact[item], total[user] - exact[item])
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
    all of them where the data have no times (which is logged), stand in the order of
    ``edge_index``.

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
    if "edge_time" in data[EDGE]:
        order = data[EDGE].edge_time.argsort(stable=True)
    else:
        logger.warning("no 'edge_time': the order of 'edge_index' stands in for it")
        order = torch.arange(graph.num_edges, device=user.device)
    order = order[user[order].argsort(stable=True)]
    end = row_pointer(graph.degree("user"))[1:]
    later = torch.empty_like(order)
    later[order] = end[user[order]] - 1 - torch.arange(len(order), device=user.device)
    return torch.exp(-later / tau)
