"""Batches of one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import draw_negatives, draw_positives

UserDraw = Literal["interactions", "uniform"]
"""How the users of triplets are drawn, see :func:`triplet_batches`."""

_DRAW = 1 << 16
"""Triplets drawn at a time: enough to amortise a call, few enough for any memory."""


class Triplets(NamedTuple):
    """A batch of BPR triplets.

    Attributes:
        user: ``[B]`` int64.
        pos_item: ``[B]`` int64, items the user interacted with.
        neg_item: ``[B]`` int64, items the user did not.
    """

    user: Tensor
    pos_item: Tensor
    neg_item: Tensor


def triplet_batches(
    graph: InteractionGraph,
    *,
    batch_size: int,
    generator: torch.Generator,
    users: UserDraw = "interactions",
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Triplets]:
    """Yield one epoch of triplets: as many draws as there are train interactions.

    Args:
        graph: Train interactions.
        batch_size: Triplets per batch; the last one may be smaller.
        generator: Source of all randomness; equal states give equal epochs.
        users: ``"interactions"`` visits every interaction once, in random order;
            ``"uniform"`` draws users uniformly with replacement and then one of their
            items, which gives light users the weight of heavy ones.
        rank: With several processes, the share of each batch that this one takes.
        world_size: Number of processes. All of them draw the same epoch.

    Raises:
        ValueError: No interaction can form a triplet, ``users`` is unknown,
            ``batch_size`` < 1 or ``rank`` not below ``world_size``.
    """
    if batch_size < 1:
        raise ValueError(f"'batch_size' must be >= 1 (got {batch_size})")
    if not 0 <= rank < world_size:
        raise ValueError(f"'rank' must lie in [0, {world_size}) (got {rank})")
    # a user who owns every item has no negative
    eligible = graph.without_repeats().degree("user") < graph.num_items
    edges = eligible[graph.edge_index[0]].nonzero().flatten()
    if edges.numel() == 0:
        raise ValueError("'graph' must have a user who owns some items but not all")
    if users == "interactions":
        order = torch.randperm(
            edges.numel(), generator=generator, device=generator.device
        )
        edges = edges[order.to(edges.device)]
    elif users == "uniform":
        eligible = (eligible & (graph.degree("user") > 0)).nonzero().flatten()
    else:
        raise ValueError(f"'users' must be 'interactions' or 'uniform' (got '{users}')")
    block = max(_DRAW // batch_size, 1) * batch_size
    for start in range(0, edges.numel(), block):
        chosen = edges[start : start + block]
        if users == "interactions":
            user, pos_item = graph.edge_index[:, chosen]
        else:
            drawn = torch.randint(
                eligible.numel(),
                chosen.shape,
                generator=generator,
                device=generator.device,
            )
            user = eligible[drawn.to(eligible.device)]
            pos_item = draw_positives(graph, user, generator=generator)
        neg_item = draw_negatives(graph, user, generator=generator)
        for first in range(0, user.numel(), batch_size):
            part = slice(first + rank, first + batch_size, world_size)
            yield Triplets(user[part], pos_item[part], neg_item[part])
