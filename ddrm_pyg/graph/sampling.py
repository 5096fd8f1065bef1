"""Draw users, positives and negatives from an interaction graph."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph

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
    pointer, items = graph._user_rows
    start = pointer[user]
    count = pointer[user + 1] - start
    share = torch.rand(
        user.numel(), generator=generator, device=generator.device, dtype=torch.float64
    ).to(user.device)
    return items[start + (share * count).long()]


def draw_negatives(
    graph: InteractionGraph, user: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Draw one item for each user that the user has no interaction with.

    Uniform over the user's non-interacted items: drawn from all items, redrawn on
    collision. The number of rounds is bounded; what still collides then (a user who
    owns nearly everything) is drawn from the complement itself.

    Args:
        graph: Train interactions; held-out pairs are unknown here and may be drawn.
        user: ``[B]`` users with at least one item they do not own.
        generator: Source of all randomness.

    Returns:
        ``[B]`` int64 items.

    Raises:
        ValueError: A user owns every item.
    """
    item = _uniform(graph.num_items, user, generator)
    pending = graph.contains(user, item).nonzero().flatten()
    for _ in range(_ROUNDS):
        if pending.numel() == 0:
            return item
        redrawn = _uniform(graph.num_items, user[pending], generator)
        item[pending] = redrawn
        pending = pending[graph.contains(user[pending], redrawn)]
    for position in pending.tolist():
        item[position] = _from_complement(graph, user[position], generator)
    return item


def _uniform(high: int, like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(
        high, like.shape, generator=generator, device=generator.device
    )
    return drawn.to(like.device)


def _from_complement(
    graph: InteractionGraph, user: Tensor, generator: torch.Generator
) -> Tensor:
    free = torch.ones(graph.num_items, dtype=torch.bool, device=user.device)
    free[graph.rows(user.view(1))[1]] = False
    candidates = free.nonzero().flatten()
    if candidates.numel() == 0:
        raise ValueError(
            f"'user' must have an item left to draw (user {int(user)} owns all "
            f"{graph.num_items})"
        )
    return candidates[_uniform(candidates.numel(), user.view(1), generator)[0]]
