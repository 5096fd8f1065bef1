"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

import logging

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ddrm_pyg.checks import check_positive, check_size
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import (
    FactoredScorer,
    SimilarityScorer,
    inverse_gram,
    top_items,
)

logger = logging.getLogger("ddrm_pyg")

EXACT = 20_000
"""Items up to which the weights are exact where nobody asks for factors."""

FACTORS = 1024
"""Factors beyond that."""


def factors_for(num_items: int, num_factors: int | None) -> int | None:
    """Tell how many factors stand for the weights; None where they are exact.

    Args:
        num_items: Size of the catalogue.
        num_factors: What is asked for; None leaves it to the size.
    """
    return FACTORS if num_factors is None and num_items > EXACT else num_factors


class EASE:
    r"""Linear item-item weights by ridge regression with a zero diagonal.

    `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_ (WWW 2019), Eq. 8:

    .. math:: P = (X^\top X + \lambda I)^{-1}, \quad
              B_{ij} = -P_{ij} / P_{jj}, \; B_{ii} = 0, \quad s_u = x_u B

    Solved in float64; time grows with the cube and memory with the square of the
    number of items (12 bytes an entry while it solves).

    For large catalogues P is taken from the largest ``num_factors`` singular values of
    :math:`X \approx U S V^\top` instead, the closed form of low-rank linear models
    (`"Towards a Better Understanding of Linear Models for Recommendation"
    <https://arxiv.org/abs/2105.12937>`_, KDD 2021) with EASE's diagonal:

    .. math:: A = V S (S^2 + \lambda)^{-1/2}, \quad
              B_{ij} = \frac{(A A^\top)_{ij}}{1 - (A A^\top)_{jj}} \; (i \ne j)

    At full rank this is EASE. Memory grows with items times factors. A user's scores
    are then divided by the history's weight, which leaves their order alone, and
    items of the history have scores that take themselves for a neighbour.

    Args:
        l2: :math:`\lambda`, in interactions.
        num_factors: Singular values to take; all of them, the exact weights, for up to
            20,000 items and 1,024 beyond if None, which is logged.

    Raises:
        ValueError: ``l2`` <= 0, or ``num_factors`` < 1.
    """

    def __init__(self, l2: float = 1000.0, num_factors: int | None = None) -> None:
        check_positive(l2=l2)
        if num_factors is not None:
            check_size(1, num_factors=num_factors)
        self.l2 = l2
        self.num_factors = num_factors

    def scorer(
        self, graph: InteractionGraph, *, history_weight: Tensor | None = None
    ) -> SimilarityScorer | FactoredScorer:
        """Solve for the weights.

        Args:
            graph: Train interactions.
            history_weight: ``[E]`` weight of each interaction in its user's row when
                items are scored, see :mod:`ddrm_pyg.graph.history_weight`; equal if
                None. The regression's rows weigh all alike.

        Raises:
            ValueError: ``history_weight`` does not have one value >= 0 per
                interaction.
        """
        factors = factors_for(graph.num_items, self.num_factors)
        if factors != self.num_factors:
            logger.warning(
                "EASE: %d factors in place of exact weights, for %d items are more "
                "than %d",
                *(factors, graph.num_items, EXACT),
            )
        pairs = graph.without_repeats()  # rows are 0/1
        if factors is not None:
            return FactoredScorer(graph, *self._factors(pairs, factors), history_weight)
        precision = inverse_gram(pairs, self.l2)
        precision /= -precision.diagonal().clone()
        weight = precision.float()
        weight.fill_diagonal_(0)
        return SimilarityScorer(graph, weight, history_weight)

    def _factors(self, pairs: InteractionGraph, number: int) -> tuple[Tensor, Tensor]:
        """Return :math:`A`, and its rows over what is left of P's diagonal."""
        user, item = pairs.edge_index.cpu().numpy()
        shape = (pairs.num_users, pairs.num_items)
        number = min(number, *shape)
        matrix = csr_array((np.ones(user.size), (user, item)), shape=shape)
        square, table = top_items(matrix, number, seed=0)
        left = table / np.sqrt(square + self.l2)
        right = left / (1 - (left**2).sum(1, keepdims=True))
        first, second = (
            torch.from_numpy(side).to(pairs.device, torch.float32)
            for side in (left, right)
        )
        return first, second

    def __repr__(self) -> str:
        factors = f", num_factors={self.num_factors}" if self.num_factors else ""
        return f"{type(self).__name__}(l2={self.l2}{factors})"
