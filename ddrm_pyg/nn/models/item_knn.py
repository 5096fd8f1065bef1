"""Item-based nearest neighbours by cosine."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import SimilarityScorer, cooccurrence


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
        """Compute the similarities, a block of columns at a time.

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
        if self.k is None:
            matrix = torch.cat(list(_cosine_columns(pairs)), dim=1)
        else:
            matrix = _nearest(pairs, min(self.k, graph.num_items))
        return SimilarityScorer(graph, matrix, history_weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={self.k})"


def _cosine_columns(graph: InteractionGraph) -> Iterator[Tensor]:
    """Yield blocks ``[num_items, <= COLUMNS]`` of C, left to right."""
    scale = graph.degree("item").clamp(min=1).to(torch.float32).rsqrt()
    for start, block in cooccurrence(graph):
        column = torch.arange(start, start + block.shape[1], device=graph.device)
        block *= scale.unsqueeze(1)
        block *= scale[column]
        block[column, column - start] = 0
        yield block


def _nearest(graph: InteractionGraph, k: int) -> Tensor:
    """Keep the k largest entries of every column of C; sparse CSR."""
    best = [block.topk(k, dim=0) for block in _cosine_columns(graph)]
    value = torch.cat([top.values for top in best], dim=1)
    row = torch.cat([top.indices for top in best], dim=1)
    column = torch.arange(graph.num_items, device=graph.device).expand_as(row)
    size = (graph.num_items, graph.num_items)
    index = torch.stack([row.flatten(), column.flatten()])
    coo = torch.sparse_coo_tensor(index, value.flatten(), size, check_invariants=False)
    return coo.to_sparse_csr()
