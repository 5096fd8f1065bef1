"""Item-based nearest neighbours by cosine."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph, csr_tensor
from ddrm_pyg.nn.models._similarity import (
    SimilarityScorer,
    of_neighbours,
    shared_users,
)

_TINY = float(np.finfo(np.float32).tiny)
"""What any positive cosine reaches."""

_BELOW = 0.05
"""Share of rows whose k-th largest entry may be below the floor."""

_Kept = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Items, how many neighbours each has, and these with their cosines."""


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
    floor = _TINY  # what most items of some block before had k entries of

    def keep(item: np.ndarray, counts: np.ndarray | csr_array) -> list[_Kept]:
        nonlocal floor
        groups: Iterable[tuple[np.ndarray, _Rows]]
        if isinstance(counts, np.ndarray):
            groups = [(item, _cosine_rows(counts, item, scale))]
        else:
            groups = _cosine_groups(counts, item, scale, k, floor)
        parts, reached = [], []
        for items, rows in groups:
            least = _kth_largest(rows.cosine, k)
            parts.append((items, *_largest(rows, least, k)))
            reached.append(least)
        floor = float(np.quantile(np.concatenate(reached), _BELOW))
        return parts

    parts = itertools.chain.from_iterable(of_neighbours(graph, keep))
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


class _Rows(NamedTuple):
    """Rows of C, as long as the longest.

    Attributes:
        cosine: ``[n, L]``, 0 where there is no entry.
        column: Items that the entries stand for, one row after the other.
        start: ``[n]`` where the items of each row begin.
    """

    cosine: np.ndarray
    column: np.ndarray
    start: np.ndarray


def _cosine_rows(counts: np.ndarray, item: np.ndarray, scale: np.ndarray) -> _Rows:
    """Scale dense rows, in place."""
    counts *= scale[item, np.newaxis]
    counts *= scale
    counts[np.arange(item.size), item] = 0
    return _Rows(counts, np.arange(scale.size), np.zeros_like(item))


def _cosine_groups(
    counts: csr_array, item: np.ndarray, scale: np.ndarray, k: int, floor: float
) -> Iterator[tuple[np.ndarray, _Rows]]:
    """Scale sparse rows, in place, and fill them up.

    In rows that have k entries of ``floor`` or more, these are all that is looked at
    again: most items share one user, and are far.

    Yields:
        Items, and their rows.
    """
    counts.data *= np.repeat(scale[item], np.diff(counts.indptr))
    counts.data *= scale.take(counts.indices)
    near = _at_least(counts, item, floor)
    enough = np.diff(near.indptr) >= k
    yield item[enough], _fill_up(near[enough])
    rest = _at_least(counts[~enough], item[~enough], _TINY)
    yield item[~enough], _fill_up(rest)


def _at_least(rows: csr_array, item: np.ndarray, floor: float) -> csr_array:
    """Keep the entries from ``floor`` on, but those of an item with itself."""
    place = np.flatnonzero(rows.data >= np.float32(floor))
    length = np.diff(place.searchsorted(rows.indptr))
    place = place[rows.indices[place] != np.repeat(item, length)]
    pointer = place.searchsorted(rows.indptr)
    return csr_array((rows.data[place], rows.indices[place], pointer), shape=rows.shape)


def _fill_up(rows: csr_array) -> _Rows:
    length = np.diff(rows.indptr)
    is_entry = np.arange(length.max(initial=0)) < length[:, np.newaxis]
    cosine = np.zeros(is_entry.shape, dtype=np.float32)
    cosine[is_entry] = rows.data
    return _Rows(cosine, rows.indices, rows.indptr[:-1])


def _kth_largest(cosine: np.ndarray, k: int) -> np.ndarray:
    """Return the k-th largest entry of each row, or what any positive one reaches."""
    least = np.full(len(cosine), _TINY, dtype=np.float32)
    if cosine.shape[1] > k:
        # NumPy leaves many zeros behind quickly where they are the largest
        negative = -cosine
        negative.partition(k - 1)
        np.maximum(least, -negative[:, k - 1], out=least)
    return least


def _largest(
    rows: _Rows, least: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the k largest positive entries of every row, of equal ones the first items.

    Returns:
        ``[n]`` the number of entries of each row, and their items and values.
    """
    cosine = rows.cosine
    place = np.flatnonzero(cosine >= least[:, np.newaxis])
    row, within = np.divmod(place, max(cosine.shape[1], 1))
    item, value = rows.column[rows.start[row] + within], cosine.ravel()[place]
    length = np.bincount(row, minlength=len(cosine))
    tied = np.flatnonzero((value == least[row]) & (length > k)[row])
    tied = tied[np.lexsort((item[tied], row[tied]))]
    end = np.bincount(row[tied], minlength=len(cosine)).cumsum()
    too_many = end[row[tied]] - np.arange(tied.size) <= (length - k)[row[tied]]
    kept = np.ones(row.size, dtype=bool)
    kept[tied[too_many]] = False
    return length.clip(max=k), item[kept], value[kept]
