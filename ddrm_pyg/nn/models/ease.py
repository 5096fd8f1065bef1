"""EASE: a linear item-item model in closed form."""

from __future__ import annotations

from torch import Tensor

from ddrm_pyg.checks import check_positive
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import SimilarityScorer, inverse_gram


class EASE:
    r"""Linear item-item weights by ridge regression with a zero diagonal.

    `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_ (WWW 2019), Eq. 8:

    .. math:: P = (X^\top X + \lambda I)^{-1}, \quad
              B_{ij} = -P_{ij} / P_{jj}, \; B_{ii} = 0, \quad s_u = x_u B

    Solved in float64; time grows with the cube and memory with the square of the
    number of items (28 bytes an entry while it solves).

    Args:
        l2: :math:`\lambda`, in interactions.

    Raises:
        ValueError: ``l2`` <= 0.
    """

    def __init__(self, l2: float = 1000.0) -> None:
        check_positive(l2=l2)
        self.l2 = l2

    def scorer(
        self, graph: InteractionGraph, *, history_weight: Tensor | None = None
    ) -> SimilarityScorer:
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
        pairs = graph.without_repeats()  # rows are 0/1
        precision = inverse_gram(pairs, self.l2)
        weight = precision / -precision.diagonal()
        weight.fill_diagonal_(0)
        return SimilarityScorer(graph, weight.float(), history_weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(l2={self.l2})"
