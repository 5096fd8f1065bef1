"""Item-based nearest neighbours by cosine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csc_array
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph, csr_tensor
from ddrm_pyg.nn.models._similarity import SimilarityScorer, shared_users


class ItemKNN:
    r"""Score items by their cosine similarity to the user's items.

    `"Item-based Top-N Recommendation Algorithms"
    <https://doi.org/10.1145/963770.963776>`_ (TOIS 2004).

    .. math:: s_u = a_u C, \quad
              C_{ij} = \frac{|U_i \cap U_j|}{\sqrt{|U_i| |U_j|}}, \; C_{ii} = 0

    where :math:`a_u` is the user's 0/1 row, and every column of C keeps its k largest
    entries.

    Args:
        k: Neighbours kept for every item; all of them if None, which stores a dense
            ``num_items`` x ``num_items`` matrix.

    Raises:
        ValueError: ``k`` < 1.
    """

    def __init__(self, k: int | None = None) -> None:
        if k is not None and k < 1:
            raise ValueError(f"'k' must be >= 1 (got {k})")
        self.k = k

    def scorer(
        self, graph: InteractionGraph, *, history_weight: Tensor | None = None
    ) -> SimilarityScorer:
        """Compute the similarities, those of some items at a time.

        Args:
            graph: Train interactions.
            history_weight: ``[E]`` weight of each interaction in its user's row when
                items are scored, see :mod:`ddrm_pyg.graph.history_weight`; equal if
                None. The similarities weigh all alike.

        Raises:
            ValueError: ``history_weight`` does not have one value >= 0 per
                interaction.
        """
        pairs = graph.without_repeats()  # counts are of users
        matrix = _all(pairs) if self.k is None else _nearest(pairs, self.k)
        return SimilarityScorer(graph, matrix, history_weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={self.k})"


def _all(graph: InteractionGraph) -> Tensor:
    """Compute C, dense."""
    matrix = torch.empty(graph.num_items, graph.num_items, device=graph.device)
    for start, block in _cosines(graph):
        matrix[start : start + len(block)] = block.to_dense()
    return matrix


def _nearest(graph: InteractionGraph, k: int) -> Tensor:
    """Keep the k largest entries of every column of C; sparse CSR."""
    parts = [_largest(block, k) for _, block in _cosines(graph)]
    count, row, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    size = (graph.num_items, graph.num_items)
    by_column = csc_array((value, row, np.append(0, count.cumsum())), shape=size)
    matrix = by_column.tocsr()
    return csr_tensor(
        torch.from_numpy(matrix.indptr).long(),
        torch.from_numpy(matrix.indices).long(),
        torch.from_numpy(matrix.data),
        size,
    ).to(graph.device)


def _largest(block: Tensor, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the k largest positive entries of every row of a sparse CSR block.

    Returns:
        The number of entries of each row, and their columns and values.
    """
    pointer, column, value = (
        part.cpu().numpy()
        for part in (block.crow_indices(), block.col_indices(), block.values())
    )
    kept = []
    for start, stop in itertools.pairwise(pointer.tolist()):
        row = value[start:stop]
        # the only zero is the item itself, never among the k largest of more than k
        few = len(row) <= k
        kept.append(start + (row.nonzero()[0] if few else row.argpartition(-k)[-k:]))
    place = np.concatenate(kept)
    return np.array([*map(len, kept)]), column[place], value[place]


def _cosines(graph: InteractionGraph) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of rows of C, which are its columns; sparse CSR."""
    scale = graph.degree("item").clamp(min=1).to(torch.float32).rsqrt()
    for start, block in shared_users(graph):
        pointer, column = block.crow_indices(), block.col_indices()
        length = pointer.diff()
        own = scale[start : start + len(block)]
        value = block.values() * own.repeat_interleave(length)
        value *= scale[column]
        row = torch.arange(start, start + len(block), device=graph.device)
        value[row.repeat_interleave(length) == column] = 0
        yield start, csr_tensor(pointer, column, value, block.shape)
