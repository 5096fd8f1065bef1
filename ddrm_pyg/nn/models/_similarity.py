"""What item-item models share: co-occurrence counts, and rows times a matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph, csr_tensor, row_pointer


def cooccurrence(graph: InteractionGraph, start: int, stop: int) -> Tensor:
    """Count the users that every item shares with the items of a range.

    Args:
        graph: Train interactions.
        start: First item of the range.
        stop: One past the last.

    Returns:
        ``[num_items, stop - start]`` float32.
    """
    user, item = graph.edge_index
    within = (item >= start) & (item < stop)
    columns = torch.zeros(graph.num_users, stop - start, device=graph.device)
    columns[user[within], item[within] - start] = 1
    by_item = graph.adj_t()
    ones = csr_tensor(
        by_item.crow_indices(),
        by_item.col_indices(),
        torch.ones_like(by_item.values()),
        (graph.num_items, graph.num_users),
    )
    return ones @ columns


class SimilarityScorer(NamedTuple):
    """The user's 0/1 row of train items times an item-item matrix.

    Attributes:
        graph: Train interactions: the rows.
        matrix: ``[num_items, num_items]`` float, dense or sparse CSR.
    """

    graph: InteractionGraph
    matrix: Tensor

    def scores(self, user: Tensor) -> Tensor:
        """Sum the matrix rows of each user's items; ``[B, num_items]``."""
        row, item = self.graph.rows(user)
        rows = csr_tensor(
            row_pointer(torch.bincount(row, minlength=user.numel())),
            item,
            torch.ones(item.numel(), device=item.device),
            (user.numel(), self.graph.num_items),
        )
        return (rows @ self.matrix).to_dense()
