"""Auto-encoders of rows with a multinomial likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ddrm_pyg.checks import check_at_least, check_share, check_size
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import UserRows, processes
from ddrm_pyg.losses.multinomial import gaussian_kl, multinomial_nll
from ddrm_pyg.nn._parts import draw, drop, mlp
from ddrm_pyg.nn.models._rows import RowRecommender


class _MultinomialAutoEncoder(RowRecommender):
    """What MultiDAE and MultiVAE share: normalised, thinned-out input rows."""

    def __init__(
        self, num_items: int, hidden_dims: Sequence[int], dropout: float
    ) -> None:
        super().__init__(num_items)
        if len(hidden_dims) == 0:
            raise ValueError("'hidden_dims' must not be empty")
        for width in hidden_dims:
            check_size(1, hidden_dims=width)
        check_share(dropout=dropout)
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator.

        Xavier-uniform weights, biases from N(0, 0.001^2) cut at two deviations.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.trunc_normal_(module.bias, std=1e-3, a=-2e-3, b=2e-3)

    def _input(
        self, rows: UserRows, generator: torch.Generator | None = None
    ) -> Tensor:
        """Rows of unit length; with a generator, in training, entries are dropped."""
        square = rows.value.new_zeros(rows.user.numel())
        square = square.index_add(0, rows.row, rows.value.square())
        value = rows.value * square.clamp(min=1e-12).rsqrt()[rows.row]
        if self.training and generator is not None:
            value = drop(value, self.dropout, generator)
        return rows.dense(self.num_items, value)


class MultiDAE(_MultinomialAutoEncoder):
    r"""Denoising auto-encoder with a multinomial likelihood (Mult-DAE).

    `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_ (WWW 2018), Section 2.2.

    .. math:: s_u = g(\operatorname{dropout}(x_u / \|x_u\|)), \quad
              \ell_u = -\sum_i x_{ui} \log \operatorname{softmax}(s_u)_i

    with a tanh after every layer but the last. The paper's regularisation of the
    weights, :math:`0.01 / 500 \cdot \|W\|^2` in its code, is ``weight_decay=4e-5`` of
    :func:`ddrm_pyg.fit` (which decays biases, too).

    Args:
        num_items: Number of items.
        hidden_dims: Widths from the first hidden layer to the bottleneck; the decoder
            mirrors them.
        dropout: Probability of dropping an interaction from the input in training.

    Raises:
        ValueError: A width < 1, or ``dropout`` outside [0, 1].
    """

    def __init__(
        self,
        num_items: int,
        hidden_dims: Sequence[int] = (200,),
        *,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(num_items, hidden_dims, dropout)
        inner = tuple(hidden_dims)
        self.network = mlp([num_items, *inner, *inner[-2::-1], num_items])
        self.reset_parameters()

    def losses(
        self, batch: UserRows, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the negative log-likelihood ``[B]`` of the clean rows."""
        logits = self.network(self._input(batch, generator))
        yield multinomial_nll(logits, batch.dense(self.num_items))

    def score_rows(self, rows: UserRows) -> Tensor:
        """Decode the rows; the logits ``[B, num_items]`` rank."""
        return self.network(self._input(rows))


class MultiVAE(_MultinomialAutoEncoder):
    r"""Variational auto-encoder with a multinomial likelihood (Mult-VAE).

    `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_ (WWW 2018), Eqs. 2-7.

    .. math:: \ell_u = -\sum_i x_{ui} \log \operatorname{softmax}(g(z_u))_i
              + \beta\, KL(\mathcal N(\mu_u, \sigma_u^2) \,\|\, \mathcal N(0, 1)),
              \quad z_u = \mu_u + \epsilon \sigma_u

    The likelihood is of the clean row, the encoder reads the row at unit length with
    entries dropped. Ranking decodes :math:`z_u = \mu_u`.

    The authors anneal :math:`\beta` by 1 / 200,000 per *update* up to 0.2. On their
    ML-20M (234 updates an epoch) that is reached after 171 of 200 epochs; on a small
    data set of 24 updates an epoch it would take 1,667. Annealing therefore counts
    epochs here, in users seen, so that it depends on neither data nor batch size; the
    default reaches the cap within the epochs that small data need. The number of users
    seen is a buffer.

    Args:
        num_items: Number of items.
        hidden_dims: Widths from the first hidden layer to the latent vector; the
            decoder mirrors them.
        dropout: Probability of dropping an interaction from the input in training.
        beta: Weight of the divergence at the end of annealing.
        anneal_epochs: Epochs over which :math:`\beta` rises from 0 to ``beta``;
            0 has the full weight at once. 171 is the published pace.

    Raises:
        ValueError: A width < 1, ``dropout`` outside [0, 1], or a negative number.
    """

    users_seen: Tensor

    def __init__(
        self,
        num_items: int,
        hidden_dims: Sequence[int] = (600, 200),
        *,
        dropout: float = 0.5,
        beta: float = 0.2,
        anneal_epochs: float = 50.0,
    ) -> None:
        super().__init__(num_items, hidden_dims, dropout)
        check_at_least(0, beta=beta, anneal_epochs=anneal_epochs)
        *inner, latent = hidden_dims
        self.beta = beta
        self.anneal_epochs = anneal_epochs
        self.encoder = mlp([num_items, *inner, 2 * latent])
        self.decoder = mlp([latent, *inner[::-1], num_items])
        self.register_buffer("users_seen", torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    def losses(
        self, batch: UserRows, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the negative evidence bound ``[B]`` at the present beta."""
        encoded = self.encoder(self._input(batch, generator))
        mean, log_variance = encoded.chunk(2, dim=-1)
        z = mean
        if self.training:
            z = z + draw(torch.randn, z, generator) * (log_variance / 2).exp()
        beta = self.present_beta(graph)
        self.users_seen += batch.user.numel() * processes()[1]
        yield (
            multinomial_nll(self.decoder(z), batch.dense(self.num_items))
            + beta * gaussian_kl(mean, log_variance)
        )

    def present_beta(self, graph: InteractionGraph) -> float:
        """Return beta after the users seen so far."""
        whole = self.anneal_epochs * int((graph.degree("user") > 0).sum())
        seen = int(self.users_seen)
        return self.beta * (seen / whole if seen < whole else 1.0)

    def score_rows(self, rows: UserRows) -> Tensor:
        """Decode the mean; the logits ``[B, num_items]`` rank."""
        return self.decoder(self.encoder(self._input(rows)).chunk(2, dim=-1)[0])
