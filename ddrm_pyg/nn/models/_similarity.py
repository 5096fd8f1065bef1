"""What item-item models share: counts, their inverse, factors, rows times a matrix."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn import functional as F

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph, csr_tensor, row_pointer
from ddrm_pyg.loader import RowTable, UserRows

logger = logging.getLogger("ddrm_pyg")

COLUMNS = 512
"""Columns of an item-item matrix that are held dense at once."""

_CELLS = 1 << 21
"""Entries of an item-item matrix that are looked at together: 8 MB."""

_CROWDED = 1 / 2
"""Users shared on average from which on dense rows are counted faster."""

_LONG = 5_000
"""Items from which on inverting takes seconds, in which Python heeds no interrupt."""

_FEW = 1 << 23
"""Pairs of items, as often as users share them, that one thread counts as fast."""

_DENSE = 1 / 64
"""Share of entries from which on a sparse matrix is faster as dense blocks."""


Kept = TypeVar("Kept")


def of_neighbours(
    graph: InteractionGraph,
    keep: Callable[[np.ndarray, np.ndarray | csr_array], Kept],
) -> Iterator[Kept]:
    """Count the users that items share, for items with about as many neighbours.

    Where there is much to count, as many blocks of items are looked at together as
    torch may use threads.

    Args:
        graph: Train interactions, without repeats.
        keep: Makes what is kept of ``[n]`` items and ``[n, num_items]`` float32
            counts: dense, or sparse where few share a user. Each item comes once.

    Yields:
        What it makes, block by block.
    """
    by_item, by_user = _ones(graph)

    def count(items: np.ndarray, rows: csr_array, dense: np.ndarray | None) -> Kept:
        return keep(items, rows @ by_user if dense is None else dense)

    pairs = by_item @ np.diff(by_user.indptr)
    blocks = _blocks(by_item, by_user, pairs)
    threads = torch.get_num_threads() if pairs.sum() >= _FEW else 1
    if threads == 1:
        yield from (count(*block) for block in blocks)
        return
    # SciPy's product and NumPy's passes let each other run
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Kept]] = deque()
        for block in blocks:
            pending.append(pool.submit(count, *block))
            if len(pending) > threads:
                yield pending.popleft().result()
        yield from (each.result() for each in pending)


def _blocks(
    by_item: csr_array, by_user: csr_array, pairs: np.ndarray
) -> Iterator[tuple[np.ndarray, csr_array, np.ndarray | None]]:
    """Yield items, their rows, and their counts where dense ones are faster.

    These are torch's to count, which has threads of its own.
    """
    order = pairs.argsort(kind="stable")
    by_item = by_item[order]
    width = pairs[order].clip(max=by_user.shape[1]).astype(np.int64)
    start = 0
    for size in _block_sizes(width.tolist()):
        rows = by_item[start : start + size]
        items = order[start : start + size]
        crowded = pairs[items].sum() >= _CROWDED * size * by_user.shape[1]
        yield items, rows, _dense_product(rows, by_user).numpy() if crowded else None
        start += size


def _block_sizes(width: list[int]) -> Iterator[int]:
    """Yield how many rows of ascending width are looked at together."""
    size = 0
    for each in width:
        if size and (size + 1) * each > _CELLS:
            yield size
            size = 0
        size += 1
    if size:
        yield size


def shared_users(
    graph: InteractionGraph, size: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Count the users that items share, some items with all others at a time.

    Args:
        graph: Train interactions, without repeats.
        size: Items at a time; as many as stay in the cache if None.

    Yields:
        The first item of a block, and ``[<= size, num_items]`` float32 on the CPU.
    """
    by_item, by_user = _ones(graph)
    size = size or max(_CELLS // max(graph.num_items, 1), 1)
    for start in range(0, graph.num_items, size):
        yield start, _dense_product(by_item[start : start + size], by_user)


def cooccurrence(graph: InteractionGraph) -> Iterator[tuple[int, Tensor]]:
    """Count the users that items share, a block of columns at a time.

    Args:
        graph: Train interactions, without repeats.

    Yields:
        The first item of a block, and ``[num_items, <= COLUMNS]`` float32.
    """
    for start, block in shared_users(graph, COLUMNS):
        yield start, block.T.contiguous().to(graph.device)


def _dense_product(left: csr_array, right: csr_array) -> Tensor:
    """Multiply two sparse matrices, in less time than their sparse product."""
    product = torch.empty(left.shape[0], right.shape[1])
    return torch.addmm(product, *map(_as_torch, (left, right)), beta=0, out=product)


def _ones(graph: InteractionGraph) -> tuple[csr_array, csr_array]:
    """Return the 0/1 matrices ``[num_items, num_users]`` and its transpose."""
    pointer, item = (part.cpu().numpy() for part in graph.user_items)
    one = np.ones(item.size, dtype=np.float32)
    shape = (graph.num_users, graph.num_items)
    by_user = csr_array((one, item, pointer), shape=shape)
    return by_user.T.tocsr(), by_user


def _as_torch(matrix: csr_array) -> Tensor:
    parts = (matrix.indptr, matrix.indices, matrix.data)
    pointer, column, value = map(torch.from_numpy, parts)
    return csr_tensor(pointer, column, value, matrix.shape)


def ridge_gram(graph: InteractionGraph, l2: float) -> np.ndarray:
    r"""Count :math:`X^\top X + \lambda I` of the users' 0/1 rows.

    Args:
        graph: Train interactions, without repeats.
        l2: :math:`\lambda`.

    Returns:
        ``[num_items, num_items]`` float64, in the order of memory that LAPACK has.
    """
    gram = np.empty((graph.num_items, graph.num_items), order="F")
    for start, block in shared_users(graph):
        gram.T[start : start + len(block)] = block.numpy()
    gram.flat[:: graph.num_items + 1] += l2
    return gram


def inverse_gram(graph: InteractionGraph, l2: float) -> Tensor:
    r"""Invert :math:`X^\top X + \lambda I` of the users' 0/1 rows.

    Args:
        graph: Train interactions, without repeats.
        l2: :math:`\lambda` > 0.

    Returns:
        ``[num_items, num_items]`` float64.

    Raises:
        ValueError: ``l2`` is so small that rounding leaves no inverse.
    """
    if graph.num_items >= _LONG:
        logger.info(
            "inverting the counts of %d items: Ctrl-C takes effect after this step",
            graph.num_items,
        )
    # in place, and one triangle: half of what a solver makes that returns new matrices
    factor, failed = dpotrf(ridge_gram(graph, l2), lower=1, overwrite_a=1)
    if failed:
        raise ValueError(f"'l2' must be large enough to invert the counts (got {l2})")
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    for start in range(0, graph.num_items, COLUMNS):
        stop = min(start + COLUMNS, graph.num_items)
        block = inverse[start:stop, start:stop]
        block[:] = np.tril(block) + np.tril(block, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    return torch.from_numpy(inverse.T).to(graph.device)  # symmetric, rows in a row


def top_items(matrix: csr_array, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Decompose :math:`X \approx U S V^\top`, the largest singular values first.

    By Lanczos iterations on the smaller of the two Gram matrices, which is only built
    where ``k`` is a quarter of its size or more.

    Args:
        matrix: ``[num_users, num_items]`` float64.
        k: How many.
        seed: Seed of the vectors that the iterations begin with.

    Returns:
        ``[k]`` of :math:`S^2`, and ``[num_items, k]`` of :math:`V S`.
    """
    items_are_fewer = matrix.shape[1] <= matrix.shape[0]
    narrow = matrix if items_are_fewer else matrix.T.tocsr()
    square, vector = _top_eigen(narrow, k, seed)
    return square, vector * np.sqrt(square) if items_are_fewer else narrow @ vector


def _top_eigen(matrix: csr_array, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k largest eigenvalues of ``matrix.T @ matrix``, largest first.

    Returns:
        ``[k]`` eigenvalues, and ``[matrix.shape[1], k]`` their vectors.
    """
    size = matrix.shape[1]
    transpose = matrix.T.tocsr()  # by rows, as fast as the matrix itself
    if 4 * k >= size:  # Lanczos would hold half as much and take longer
        gram = (transpose @ matrix).toarray()
        value, vector = eigh(gram, subset_by_index=[size - k, size - 1])
    else:
        gram = LinearOperator(
            (size, size), lambda x: transpose @ (matrix @ x), dtype=matrix.dtype
        )
        value, vector = eigsh(gram, k, rng=np.random.default_rng(seed))
    order = np.argsort(value)[::-1]
    return value[order].clip(min=0), vector[:, order]


class FactoredScorer:
    """The mean of a user's items in one table, beside the items of another.

    Args:
        graph: Train interactions; a pair that repeats counts as often.
        left: ``[num_items, D]`` float32, averaged over a user's history.
        right: ``[num_items, D]`` float32, ranked by inner product.
        history_weight: ``[E]`` weight of each interaction; equal if None.

    Raises:
        ValueError: ``history_weight`` does not have one value >= 0 per interaction.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        left: Tensor,
        right: Tensor,
        history_weight: Tensor | None = None,
    ) -> None:
        self.graph, self.left = graph, left
        user = graph.history_mean(left, weight=history_weight)
        self.embeddings = Embeddings(user, right)

    def weighted(self, history_weight: Tensor | None) -> FactoredScorer:
        """Return a scorer of the same tables and other weights of the histories."""
        right = self.embeddings.item
        return FactoredScorer(self.graph, self.left, right, history_weight)

    def scores(self, user: Tensor) -> Tensor:
        """Inner products of the users' means with all items; ``[B, num_items]``."""
        return self.embeddings.scores(user)


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
        self.graph = graph
        self.table = _row_table(graph, history_weight)
        self.matrix = matrix
        self._blocks: list[Tensor] = [matrix]
        if matrix.layout == torch.sparse_csr:
            share = matrix.values().numel() / max(matrix.shape.numel(), 1)
            self._blocks = _columns(matrix) if share > _DENSE else []
        self._rows = None if self._blocks or matrix.is_cuda else _as_scipy(matrix)

    def weighted(self, history_weight: Tensor | None) -> SimilarityScorer:
        """Return a scorer of the same matrix and other weights of the histories."""
        other = copy.copy(self)
        other.table = _row_table(self.graph, history_weight)
        return other

    def scores(self, user: Tensor) -> Tensor:
        """Sum the matrix rows of each user's items; ``[B, num_items]``."""
        rows = self.table.rows(user)
        pointer = row_pointer(torch.bincount(rows.row, minlength=user.numel()))
        if self._blocks:
            sums = [
                _sum_rows(block.to_dense(), rows, pointer) for block in self._blocks
            ]
            return sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)
        shape = (user.numel(), len(self.matrix))
        histories = csr_tensor(pointer, rows.item, rows.value, shape)
        if self._rows is None:
            return (histories @ self.matrix).to_dense()
        # MKL, below torch, would convert the whole matrix for every batch
        return torch.from_numpy((_as_scipy(histories) @ self._rows).toarray())


def _row_table(graph: InteractionGraph, weight: Tensor | None) -> RowTable:
    return RowTable(graph, None if weight is None else graph.check_weight(weight))


def _as_scipy(matrix: Tensor) -> csr_array:
    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    num_rows, num_columns = matrix.shape
    return csr_array(tuple(map(Tensor.numpy, parts)), shape=(num_rows, num_columns))


def _columns(matrix: Tensor) -> list[Tensor]:
    """Split a sparse CSR matrix into blocks of columns."""
    row = torch.repeat_interleave(matrix.crow_indices().diff())
    column, value = matrix.col_indices(), matrix.values()
    blocks = []
    for start in range(0, matrix.shape[1], COLUMNS):
        stop = min(start + COLUMNS, matrix.shape[1])
        within = (column >= start) & (column < stop)
        blocks.append(
            csr_tensor(
                row_pointer(torch.bincount(row[within], minlength=len(matrix))),
                column[within] - start,
                value[within],
                (len(matrix), stop - start),
            )
        )
    return blocks


def _sum_rows(matrix: Tensor, rows: UserRows, pointer: Tensor) -> Tensor:
    """Multiply users' rows with a dense matrix: bags of its rows."""
    return F.embedding_bag(
        rows.item, matrix, pointer[:-1], mode="sum", per_sample_weights=rows.value
    )
