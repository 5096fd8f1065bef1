"""Denoising auto-encoder with a vector per user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.checks import check_among, check_at_least, check_share, check_size
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import draw_negatives
from ddrm_pyg.loader import RowTable, UserRows
from ddrm_pyg.nn._parts import ACTIVATIONS, drop
from ddrm_pyg.nn.models._rows import RowRecommender


class CDAE(RowRecommender):
    r"""Collaborative denoising auto-encoder.

    `"Collaborative Denoising Auto-Encoders for Top-N Recommender Systems"
    <https://doi.org/10.1145/2835776.2835837>`_ (WSDM 2016).

    .. math:: z_u = h(W^\top \tilde y_u + V_u + b), \quad s_u = W' z_u + b', \quad
              \ell_u = \sum_i \operatorname{BCE}(\sigma(s_{ui}), y_{ui})

    :math:`\tilde y_u` is the user's row with every interaction dropped at the rate q
    and the others scaled by 1 / (1 - q); ranking reads the whole row. The sum runs over
    all items, or over the user's items and negatives drawn for each.

    The defaults follow RecBole (full rows, width 64, ReLU, q = 0.5, untied weights,
    Xavier-normal). ``loss="sampled"`` with ``activation="sigmoid"`` follows the
    authors' C++, which draws 5 uniform negatives for each positive; a sum over fewer
    terms wants a higher learning rate. Both regularise: the paper with the squared
    norm of all parameters, which is ``weight_decay`` of :func:`ddrm_pyg.fit`; RecBole
    with unsquared norms, which is left out. The authors' AdaGrad is replaced by
    ``fit``'s Adam.

    Users have vectors of their own, so that only users of the train graph are scored.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Width of the hidden layer.
        loss: ``"full"`` or ``"sampled"``.
        num_negatives: Negatives drawn for each positive by the sampled loss.
        corruption: q; 1 leaves the user's vector alone.
        activation: h: ``"relu"``, ``"sigmoid"`` or ``"tanh"``.

    Raises:
        ValueError: A size < 1, ``corruption`` outside [0, 1], or an unknown word.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        *,
        loss: Literal["full", "sampled"] = "full",
        num_negatives: int = 5,
        corruption: float = 0.5,
        activation: str = "relu",
    ) -> None:
        super().__init__(num_items)
        check_at_least(1, num_users=num_users)
        check_size(1, embedding_dim=embedding_dim, num_negatives=num_negatives)
        check_share(corruption=corruption)
        check_among(("full", "sampled"), loss=loss)
        check_among(ACTIVATIONS, activation=activation)
        self.num_users = num_users
        self.loss = loss
        self.num_negatives = num_negatives
        self.corruption = corruption
        self.user_table = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.encoder = nn.Linear(num_items, embedding_dim)
        self.activation = ACTIVATIONS[activation]()
        self.decoder = nn.Linear(embedding_dim, num_items)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator; biases are 0."""
        for weight in (self.user_table, self.encoder.weight, self.decoder.weight):
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.encoder.bias)
        nn.init.zeros_(self.decoder.bias)

    def table(self, graph: InteractionGraph) -> RowTable:
        """Return the rows of all users of a graph.

        Raises:
            ValueError: The graph has other numbers of users or items.
        """
        if graph.num_users != self.num_users:
            raise ValueError(
                f"'graph' must have {self.num_users} users (got {graph.num_users})"
            )
        return super().table(graph)

    def losses(
        self, batch: UserRows, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the cross-entropy ``[B]`` of rows, summed over their items."""
        corruption = self.corruption if self.training else 0
        hidden = self._encode(batch, drop(batch.value, corruption, generator))
        if self.loss == "full":
            target = batch.dense(self.num_items)
            losses = F.binary_cross_entropy_with_logits(
                self.decoder(hidden), target, reduction="none"
            )
            yield losses.sum(-1)
        else:
            yield self._sampled(hidden, batch, graph, generator)

    def score_rows(self, rows: UserRows) -> Tensor:
        """Decode whole rows; the logits ``[B, num_items]`` rank."""
        return self.decoder(self._encode(rows, rows.value))

    def _encode(self, rows: UserRows, value: Tensor) -> Tensor:
        own = F.embedding(rows.user, self.user_table)
        return self.activation(self.encoder(rows.dense(self.num_items, value)) + own)

    def _sampled(
        self,
        hidden: Tensor,
        batch: UserRows,
        graph: InteractionGraph,
        generator: torch.Generator,
    ) -> Tensor:
        # a user who owns every item has positives only
        own = torch.bincount(batch.row, minlength=batch.user.numel())
        row = batch.row[own[batch.row] < self.num_items]
        row = row.repeat_interleave(self.num_negatives)
        negative = draw_negatives(graph, batch.user[row], generator=generator)
        loss = hidden.new_zeros(batch.user.numel())
        for rows, items, sign in ((batch.row, batch.item, -1), (row, negative, 1)):
            score = (hidden[rows] * F.embedding(items, self.decoder.weight)).sum(-1)
            score = score + self.decoder.bias[items]
            loss = loss.index_add(0, rows, F.softplus(sign * score))
        return loss
