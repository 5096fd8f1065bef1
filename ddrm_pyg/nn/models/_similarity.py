"""What item-item models share: co-occurrence counts, and rows times a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph, csr_tensor, row_pointer
from ddrm_pyg.loader import RowTable


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


class SimilarityScorer:
    """The users' rows of train items times an item-item matrix.

    Args:
        graph: Train interactions; a pair that repeats is one entry of its row.
        matrix: ``[num_items, num_items]`` float, dense or sparse CSR.
        history_weight: ``[E]`` entry of each interaction in its user's row, in the
            order of ``edge_index``; 1 if None.

    Raises:
        ValueError: ``history_weight`` does not have one value >= 0 per interaction.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        matrix: Tensor,
        history_weight: Tensor | None = None,
    ) -> None:
        if history_weight is not None:
            graph.check_weight(history_weight)
        self.table = RowTable(graph, history_weight)
        self.matrix = matrix

    def scores(self, user: Tensor) -> Tensor:
        """Sum the matrix rows of each user's items; ``[B, num_items]``."""
        rows = self.table.rows(user)
        block = csr_tensor(
            row_pointer(torch.bincount(rows.row, minlength=user.numel())),
            rows.item,
            rows.value,
            (user.numel(), self.table.graph.num_items),
        )
        return (block @ self.matrix).to_dense()
