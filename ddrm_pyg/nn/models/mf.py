"""Matrix factorisation."""

from __future__ import annotations

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._pairwise import PairwiseBackend


class MF(PairwiseBackend):
    r"""Matrix factorisation with BPR (MFBPR): a vector per user and per item.

    `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_ (UAI 2009).

    Args:
        num_users: Number of user rows.
        num_items: Number of item rows.
        embedding_dim: Width of the vectors.
        pair_loss: A PairLoss of a positive against a negative score, or a PointLoss of
            scores against labels, told apart by the name of the second parameter
            (``neg_score`` or ``label``).
        l2: Weight of half the squared norm of a triplet's rows.
        init_std: Standard deviation of the initial tables.
        users: How the users of triplets are drawn, see
            :func:`ddrm_pyg.loader.triplet_batches`.
        negatives: How their negatives are: ``"uniform"``, or by ``"popularity"``
            (WBPR), see :func:`ddrm_pyg.graph.sampling.draw_negatives`.

    Raises:
        TypeError: ``pair_loss`` is neither pairwise nor pointwise.
        ValueError: A size < 1 or ``l2`` < 0.
    """

    def forward(self, graph: InteractionGraph | None = None) -> Embeddings:
        """Return the tables; the graph is not used."""
        return Embeddings(self.user_table, self.item_table)
