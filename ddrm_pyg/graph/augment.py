"""Draw perturbed copies of an interaction graph: views for contrastive learning."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph

Augmentation = Literal["ED", "ND", "RW"]
"""How a view is drawn, see :func:`draw_view`."""

View = tuple[InteractionGraph, ...]
"""One graph for every layer of propagation."""


def check_augmentation(augmentation: str, drop_rate: float) -> None:
    """Refuse what :func:`draw_view` cannot draw.

    Raises:
        ValueError: An unknown augmentation, or a rate outside [0, 1).
    """
    if augmentation not in get_args(Augmentation):
        raise ValueError(
            f"'augmentation' must be 'ED', 'ND' or 'RW' (got {augmentation!r})"
        )
    _check_drop_rate(drop_rate)


def draw_view(
    graph: InteractionGraph,
    augmentation: Augmentation,
    drop_rate: float,
    num_layers: int,
    *,
    generator: torch.Generator,
) -> View:
    """Draw one view of a graph.

    `"Self-supervised Graph Learning for Recommendation"
    <https://arxiv.org/abs/2010.10783>`_ (SIGIR 2021), Eqs. 5-7.

    Args:
        graph: Train interactions.
        augmentation: ``"ED"`` drops edges and ``"ND"`` nodes, alike for all layers;
            ``"RW"`` (the paper's random walk) drops other edges in every layer.
        drop_rate: Share of edges (of nodes for ``"ND"``) that is dropped.
        num_layers: Layers of propagation.
        generator: Source of all randomness.

    Returns:
        ``num_layers`` graphs over all nodes, degrees counted anew.

    Raises:
        ValueError: An unknown augmentation, or a rate outside [0, 1).
    """
    check_augmentation(augmentation, drop_rate)
    if augmentation == "RW":
        return tuple(
            drop_edges(graph, drop_rate, generator=generator) for _ in range(num_layers)
        )
    drop = drop_edges if augmentation == "ED" else drop_nodes
    return (drop(graph, drop_rate, generator=generator),) * num_layers


def drop_edges(
    graph: InteractionGraph, drop_rate: float, *, generator: torch.Generator
) -> InteractionGraph:
    r"""Keep :math:`\lfloor E (1 - \rho) \rfloor` interactions, without replacement.

    Args:
        graph: Train interactions.
        drop_rate: :math:`\rho`.
        generator: Source of all randomness.

    Raises:
        ValueError: A rate outside [0, 1).
    """
    _check_drop_rate(drop_rate)
    size = graph.num_edges
    keep = _choose(int(size * (1 - drop_rate)), size, generator)
    return graph.subgraph(keep.to(graph.device))


def drop_nodes(
    graph: InteractionGraph, drop_rate: float, *, generator: torch.Generator
) -> InteractionGraph:
    r"""Drop all interactions of some users and of some items.

    The :math:`\lfloor \rho n \rfloor` users, and likewise items, stay in the graph
    without neighbours, so that propagation leaves them with their own table rows.

    Args:
        graph: Train interactions.
        drop_rate: :math:`\rho`.
        generator: Source of all randomness.

    Raises:
        ValueError: A rate outside [0, 1).
    """
    _check_drop_rate(drop_rate)
    lost_user, lost_item = (
        _choose(int(drop_rate * size), size, generator).to(graph.device)
        for size in (graph.num_users, graph.num_items)
    )
    user, item = graph.edge_index
    return graph.subgraph(~(lost_user[user] | lost_item[item]))


def _choose(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Mark ``count`` of ``size`` positions, on the generator's device."""
    device = generator.device
    chosen = torch.zeros(size, dtype=torch.bool, device=device)
    chosen[torch.randperm(size, generator=generator, device=device)[:count]] = True
    return chosen


def _check_drop_rate(drop_rate: float) -> None:
    if not 0 <= drop_rate < 1:
        raise ValueError(f"'drop_rate' must lie in [0, 1) (got {drop_rate})")
