"""Truncated SVD of the item-normalised interactions: wide embeddings, no training."""

from __future__ import annotations

import logging

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ddrm_pyg.checks import check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import top_items

logger = logging.getLogger("ddrm_pyg")

_NUMERICAL_RANK = 1e-6
"""Singular values below this share of the largest are rounding."""


class SVD:
    r"""Item vectors whose inner products are the items' cosines, at a given width.

    `"EigenRec: Generalizing PureSVD for Effective and Efficient Top-N
    Recommendations" <https://arxiv.org/abs/1511.06033>`_ (KAIS 2019), after PureSVD
    (`RecSys 2010 <https://doi.org/10.1145/1864708.1864721>`_). With the users' 0/1
    rows X (repeats removed) and the items' degrees D:

    .. math:: X D^{-1/2} \approx U S V^\top, \quad e_i = (V S)_i / c, \quad
              \bar e_u = \tfrac{1}{|I_u|} \sum_{i \in I_u} e_i

    :math:`V S^2 V^\top` is the best approximation of the cosine similarities at its
    rank, so a history mean ranks by low-rank item cosine; at full rank it is item
    cosine. c is the mean length of the rows of :math:`V S`, so that vectors have
    length 1 on average at any width. The published models score by :math:`V V^\top`.

    Solved in float64 by Lanczos iterations on the smaller of the two Gram matrices.
    That matrix is only built where ``embedding_dim`` is a quarter of its size or more.
    In each column of the item table the largest entry is positive.

    Args:
        embedding_dim: Width of the vectors; the rank of X where that is less, which is
            logged: more singular vectors than that there are not.
        seed: Seed of the vectors that Lanczos iterations begin with, which moves the
            last bits.

    Raises:
        ValueError: ``embedding_dim`` < 1.
    """

    def __init__(self, embedding_dim: int = 256, *, seed: int = 0) -> None:
        check_size(1, embedding_dim=embedding_dim)
        self.embedding_dim = embedding_dim
        self.seed = seed

    def scorer(
        self, graph: InteractionGraph, *, history_weight: Tensor | None = None
    ) -> Embeddings:
        """Solve for the item vectors and average them over every user's history.

        Args:
            graph: Train interactions.
            history_weight: ``[E]`` weight of each interaction in its user's mean, see
                :mod:`ddrm_pyg.graph.history_weight`; equal if None. The decomposition
                weighs all alike.

        Returns:
            float32 embeddings. A user without train items has the mean item over all
            train interactions; an item without users is zero.

        Raises:
            ValueError: There are no interactions, or ``history_weight`` does not have
                one value >= 0 per interaction.
        """
        table = self._item_table(_normalised(graph.without_repeats()))
        item = torch.from_numpy(table).to(graph.device, torch.float32)
        return Embeddings(graph.history_mean(item, weight=history_weight), item)

    def _item_table(self, matrix: csr_array) -> np.ndarray:
        """Return :math:`V S / c` of a matrix ``[num_users, num_items]``."""
        width = min(np.unique(axis).size for axis in matrix.nonzero())
        if width == 0:
            raise ValueError("'graph' must have train interactions to decompose")
        width = min(width, self.embedding_dim)
        square, table = top_items(matrix, width, self.seed)
        rank = int((square > _NUMERICAL_RANK**2 * square[0]).sum())
        if rank < self.embedding_dim:
            logger.warning(
                "SVD: %d wide, the rank of the train interactions (%d were asked for)",
                *(rank, self.embedding_dim),
            )
            table = table[:, :rank]
        table *= np.sign(np.take_along_axis(table, abs(table).argmax(0)[None], 0))
        return table / np.linalg.norm(table, axis=1).mean()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(embedding_dim={self.embedding_dim})"


def _normalised(graph: InteractionGraph) -> csr_array:
    """Build :math:`X D^{-1/2}`, float64."""
    user, item = graph.edge_index.cpu().numpy()
    value = 1 / np.sqrt(graph.degree("item").cpu().numpy()[item])
    return csr_array((value, (user, item)), shape=(graph.num_users, graph.num_items))
