"""What models share that read users' rows of items and score all items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import RowTable, UserRows, user_row_batches
from ddrm_pyg.nn.denoiser import ACTIVATIONS

RowWeight = Callable[[InteractionGraph], Tensor]
"""Gives every train interaction its entry in the user's row, ``[E]``."""


class RowRecommender(nn.Module):
    """A network from a user's row to scores of all items.

    Rows are taken from a sparse table and written out batch by batch. Subclasses say
    what a batch costs (``losses``) and how rows score (``score_rows``), the latter
    without randomness whatever the mode.

    Args:
        num_items: Number of items.
        row_weight: Entries of the rows, from a graph; 1 for every interaction if None.

    Raises:
        ValueError: ``num_items`` < 1.
    """

    def __init__(self, num_items: int, row_weight: RowWeight | None = None) -> None:
        super().__init__()
        check_at_least(1, num_items=num_items)
        self.num_items = num_items
        self.row_weight = row_weight

    def table(self, graph: InteractionGraph) -> RowTable:
        """Return the rows of all users of a graph.

        Raises:
            ValueError: The graph has another number of items.
        """
        if graph.num_items != self.num_items:
            raise ValueError(
                f"'graph' must have {self.num_items} items (got {graph.num_items})"
            )
        return RowTable(graph, self.row_weight and self.row_weight(graph))

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterator[UserRows]:
        """Yield one epoch of user rows; users without train items have none."""
        return user_row_batches(
            self.table(graph), batch_size=batch_size, generator=generator
        )

    def losses(
        self, batch: UserRows, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss ``[B]`` of a batch of rows."""
        raise NotImplementedError

    def score_rows(self, rows: UserRows) -> Tensor:
        """Score all items for rows, ``[B, num_items]``."""
        raise NotImplementedError

    def scorer(self, graph: InteractionGraph) -> RowScorer:
        """Return what encodes users of the graph when they are asked for.

        Its scores are those of the model's weights at the time of asking.
        """
        return RowScorer(self, self.table(graph))


class RowScorer(NamedTuple):
    """Encodes and decodes the rows of the users it is asked for.

    Attributes:
        model: The network.
        table: Rows of train items.
    """

    model: RowRecommender
    table: RowTable

    @torch.no_grad()
    def scores(self, user: Tensor) -> Tensor:
        """Score all items for ``[B]`` users; ``[B, num_items]``.

        A user without train items is scored from an empty row.
        """
        return self.model.score_rows(self.table.rows(user))


def mlp(widths: Sequence[int], activation: str = "tanh") -> nn.Sequential:
    """Stack linear layers with an activation after each but the last.

    Args:
        widths: Of the input, the hidden layers and the output.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"``.

    Raises:
        ValueError: A width < 1 or an unknown activation.
    """
    if min(widths) < 1:
        raise ValueError(f"all widths must be >= 1 (got {tuple(widths)})")
    check_among(ACTIVATIONS, activation=activation)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def reset_linear(model: nn.Module) -> None:
    """Draw linear weights from N(0, 2 / (fan_in + fan_out)), biases N(0, 0.001^2)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.normal_(module.bias, std=1e-3)


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zero entries at a rate and scale the others up, so that the mean is kept."""
    if rate == 0:
        return x
    kept = draw(torch.rand, x, generator) >= rate
    return x * kept / max(1 - rate, 1e-12)


def draw(distribution: Any, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw in the shape of a tensor, on the generator's device."""
    device = like.device if generator is None else generator.device
    return distribution(like.shape, generator=generator, device=device).to(like.device)


def check_at_least(low: float, **values: float) -> None:
    """Refuse numbers below a bound (or NaN), by name."""
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"'{name}' must be >= {low} (got {value})")


def check_share(**values: float) -> None:
    """Refuse numbers outside [0, 1], by name."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"'{name}' must lie in [0, 1] (got {value})")


def check_among(known: Any, **values: str) -> None:
    """Refuse unknown words, by name."""
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"'{name}' must be one of {sorted(known)} (got '{value}')")
