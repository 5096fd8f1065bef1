"""What item-item models share: counts, their inverse, and rows times a matrix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph, csr_tensor, row_pointer
from ddrm_pyg.loader import RowTable

COLUMNS = 512
"""Items of which the users' columns are held dense at once."""


def cooccurrence(graph: InteractionGraph) -> Iterator[tuple[int, Tensor]]:
    """Count the users that items share, a block of columns at a time.

    Args:
        graph: Train interactions, without repeats.

    Yields:
        The first item of a block, and ``[num_items, <= COLUMNS]`` float32.
    """
    user, item = graph.edge_index
    by_item = graph.adj_t()
    ones = csr_tensor(
        by_item.crow_indices(),
        by_item.col_indices(),
        torch.ones_like(by_item.values()),
        (graph.num_items, graph.num_users),
    )
    for start in range(0, graph.num_items, COLUMNS):
        stop = min(start + COLUMNS, graph.num_items)
        within = (item >= start) & (item < stop)
        columns = torch.zeros(graph.num_users, stop - start, device=graph.device)
        columns[user[within], item[within] - start] = 1
        block = ones @ columns
        del columns  # or those of two blocks are held
        yield start, block


def inverse_gram(graph: InteractionGraph, l2: float) -> Tensor:
    r"""Invert :math:`X^\top X + \lambda I` of the users' 0/1 rows.

    Args:
        graph: Train interactions, without repeats.
        l2: :math:`\lambda` > 0.

    Returns:
        ``[num_items, num_items]`` float64.
    """
    size = (graph.num_items, graph.num_items)
    gram = torch.empty(size, dtype=torch.float64, device=graph.device)
    for start, block in cooccurrence(graph):
        gram[:, start : start + block.shape[1]] = block
    gram.diagonal().add_(l2)
    return torch.cholesky_inverse(torch.linalg.cholesky(gram))


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
