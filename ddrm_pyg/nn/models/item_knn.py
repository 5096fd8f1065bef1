"""Item-based nearest neighbours by cosine."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph, csr_tensor
from ddrm_pyg.nn.models._similarity import (
    SimilarityScorer,
    neighbours,
    shared_users,
)


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
    scale = _scale(graph)
    for start, block in shared_users(graph):
        block *= scale[start : start + len(block), None]
        matrix[start : start + len(block)] = block * scale
    return matrix.fill_diagonal_(0)


def _nearest(graph: InteractionGraph, k: int) -> Tensor:
    """Keep the k largest entries of every column of C; sparse CSR."""
    scale = _scale(graph).numpy()
    parts = []
    for items, counts in neighbours(graph):
        item = items.numpy()
        dense = counts.layout == torch.strided
        cosine = (_cosine_rows if dense else _filled_cosine_rows)(counts, item, scale)
        parts.append((item, *_largest(*cosine, k)))
    item, length, other, value = (np.concatenate(p) for p in zip(*parts, strict=True))
    size = (graph.num_items, graph.num_items)
    by_item = csr_array((value, other, np.append(0, length.cumsum())), shape=size)
    matrix = by_item[item.argsort()].T.tocsr()
    return csr_tensor(
        torch.from_numpy(matrix.indptr).long(),
        torch.from_numpy(matrix.indices).long(),
        torch.from_numpy(matrix.data),
        size,
    ).to(graph.device)


def _scale(graph: InteractionGraph) -> Tensor:
    """Return what the norm of each item's column divides by, ``[num_items]``."""
    return graph.degree("item").cpu().clamp(min=1).to(torch.float32).rsqrt()


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Values ``[n, L]``, columns one row after the other, where those of a row begin."""


def _cosine_rows(counts: Tensor, item: np.ndarray, scale: np.ndarray) -> _Rows:
    """Scale dense rows, in place."""
    cosine = counts.numpy()
    cosine *= scale[item, np.newaxis]
    cosine *= scale
    cosine[np.arange(item.size), item] = 0
    return cosine, np.arange(scale.size), np.zeros_like(item)


def _filled_cosine_rows(counts: Tensor, item: np.ndarray, scale: np.ndarray) -> _Rows:
    """Scale sparse rows, in place, and fill them up with 0 to equal length."""
    parts = (counts.crow_indices(), counts.col_indices(), counts.values())
    pointer, column, value = map(Tensor.numpy, parts)
    length = np.diff(pointer)
    value *= np.repeat(scale[item], length)
    value *= scale[column]
    value[column == np.repeat(item, length)] = 0
    is_entry = np.arange(length.max()) < length[:, np.newaxis]
    cosine = np.zeros(is_entry.shape, dtype=np.float32)
    cosine[is_entry] = value
    return cosine, column, pointer[:-1]


def _largest(
    cosine: np.ndarray, column: np.ndarray, start: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the k largest positive entries of every row, of equal ones the first items.

    Args:
        cosine: ``[n, L]``.
        column: Items that the entries stand for, one row after the other.
        start: ``[n]`` where the items of each row begin.
        k: Entries to keep.

    Returns:
        ``[n]`` the number of entries of each row, and their items and values.
    """
    least = np.full(len(cosine), np.finfo(np.float32).tiny, dtype=np.float32)
    if cosine.shape[1] > k:
        # NumPy leaves many zeros behind quickly where they are the largest
        negative = -cosine
        negative.partition(k - 1)
        np.maximum(least, -negative[:, k - 1], out=least)
    place = np.flatnonzero(cosine >= least[:, np.newaxis])
    row, within = np.divmod(place, max(cosine.shape[1], 1))
    item, value = column[start[row] + within], cosine.ravel()[place]
    length = np.bincount(row, minlength=len(cosine))
    tied = np.flatnonzero((value == least[row]) & (length > k)[row])
    tied = tied[np.lexsort((item[tied], row[tied]))]
    end = np.bincount(row[tied], minlength=len(cosine)).cumsum()
    too_many = end[row[tied]] - np.arange(tied.size) <= (length - k)[row[tied]]
    kept = np.ones(row.size, dtype=bool)
    kept[tied[too_many]] = False
    return length.clip(max=k), item[kept], value[kept]
