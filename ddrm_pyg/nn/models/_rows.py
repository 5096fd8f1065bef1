"""What models share that read users' rows of items and score all items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddrm_pyg.checks import check_at_least
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import RowTable, UserRows, user_row_batches
from ddrm_pyg.nn._pretrained import Pretrained

RowWeight = Callable[[InteractionGraph], Tensor]
"""Gives every train interaction its entry in the user's row, ``[E]``."""


class RowRecommender(Pretrained, nn.Module):
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
        if row_weight is not None and not callable(row_weight):
            raise TypeError(
                f"'row_weight' must be a function of a graph (got {row_weight!r})"
            )
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
