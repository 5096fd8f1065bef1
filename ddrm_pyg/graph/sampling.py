"""Draw users, positives and negatives from an interaction graph."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph

NegativeDraw = Literal["uniform", "popularity"]
"""How negatives are drawn, see :func:`draw_negatives`."""

_ROUNDS = 16
"""Rejection rounds before the remaining negatives are drawn from the complement."""


def draw_positives(
    graph: InteractionGraph, user: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Draw one item of each user, uniformly over the user's items.

    Args:
        graph: Train interactions.
        user: ``[B]`` users with at least one item.
        generator: Source of all randomness.

    Returns:
        ``[B]`` int64 items.
    """
    pointer, items = graph.user_items
    start = pointer[user]
    count = pointer[user + 1] - start
    share = torch.rand(
        user.numel(), generator=generator, device=generator.device, dtype=torch.float64
    ).to(user.device)
    return items[start + (share * count).long()]


def draw_negatives(
    graph: InteractionGraph,
    user: Tensor,
    *,
    generator: torch.Generator,
    negatives: NegativeDraw = "uniform",
) -> Tensor:
    r"""Draw one item for each user that the user has no interaction with.

    ``"uniform"`` draws uniformly over the user's non-interacted items. ``"popularity"``
    is WBPR (`"Personalized Ranking for Non-Uniformly Sampled Items"
    <https://proceedings.mlr.press/v18/gantner12a.html>`_, KDD Cup 2011): a popular item
    that a user passed over is likelier to be disliked, so with :math:`d_j` the train
    interactions of item j

    .. math:: P(j \mid u) = d_j \,/ \sum_{k \notin I_u} d_k, \quad j \notin I_u

    and items without train interactions are never drawn. The one exception is a user
    who owns every item that has any: such a user gets the others uniformly, which is
    the limit of the law for :math:`d_j + \varepsilon`.

    Items are drawn from all (as the item of a uniformly drawn interaction, for
    popularity) and redrawn on collision. The number of rounds is bounded; what still
    collides then (a user who owns nearly all that is drawn) is drawn from the
    complement itself, by the same law. The authors' code redraws without bound.

    Args:
        graph: Train interactions; held-out pairs are unknown here and may be drawn.
        user: ``[B]`` users with at least one item they do not own.
        generator: Source of all randomness.
        negatives: ``"uniform"`` or ``"popularity"``.

    Returns:
        ``[B]`` int64 items.

    Raises:
        ValueError: A user owns every item, or ``negatives`` is unknown.
    """
    all_items = torch.arange(graph.num_items, device=user.device)
    if negatives == "uniform":
        pool = all_items
    elif negatives == "popularity":
        pool = graph.edge_index[1] if graph.num_edges > 0 else all_items
    else:
        raise ValueError(
            f"'negatives' must be 'uniform' or 'popularity' (got '{negatives}')"
        )
    item = _pick(pool, user, generator)
    pending = graph.contains(user, item).nonzero().flatten()
    for _ in range(_ROUNDS):
        if pending.numel() == 0:
            return item
        redrawn = _pick(pool, user[pending], generator)
        item[pending] = redrawn
        pending = pending[graph.contains(user[pending], redrawn)]
    for owner in user[pending].unique():
        own = pending[user[pending] == owner]
        free = torch.ones_like(all_items, dtype=torch.bool)
        free[graph.rows(owner.view(1))[1]] = False
        if not bool(free.any()):
            raise ValueError(
                f"'user' must have an item left to draw (user {int(owner)} owns all "
                f"{graph.num_items})"
            )
        left = pool[free[pool]]
        item[own] = _pick(left if left.numel() > 0 else all_items[free], own, generator)
    return item


def draw_candidates(
    graph: InteractionGraph, count: int, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    r"""Draw items to stand for all in a softmax, by popularity.

    .. math:: P(j) = (d_j + 1) \,/ \sum_k (d_k + 1)

    with :math:`d_j` the train interactions of item j: popular items have most of a
    softmax, and those without any must not be forgotten.

    Args:
        graph: Train interactions.
        count: Number of draws, with replacement.
        generator: Source of all randomness.

    Returns:
        ``[count]`` int64 items, and ``[count]`` float32 logarithms of P.
    """
    weight = (graph.degree("item") + 1).double()
    share = torch.rand(
        count, generator=generator, device=generator.device, dtype=torch.float64
    )
    total = weight.cumsum(0)
    item = torch.searchsorted(total, share.to(total.device) * total[-1], right=True)
    item = item.clamp(max=graph.num_items - 1)  # a product may round up to the end
    return item, (weight[item] / total[-1]).log().float()


def _pick(pool: Tensor, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from a pool with replacement, in the shape of a tensor."""
    drawn = torch.randint(
        pool.numel(), like.shape, generator=generator, device=generator.device
    )
    return pool[drawn.to(pool.device)]
