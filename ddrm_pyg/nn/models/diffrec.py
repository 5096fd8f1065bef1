"""Diffusion on rows of items, in latent space, and over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ddrm_pyg.checks import check_among, check_at_least, check_share, check_size
from ddrm_pyg.diffusion import (
    GaussianDiffusion,
    ImportanceSampler,
    LinearVariance,
    posterior_sample,
    timestep_embedding,
)
from ddrm_pyg.extras import import_extra
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import UserRows, processes
from ddrm_pyg.losses.multinomial import gaussian_kl, multinomial_nll
from ddrm_pyg.nn._parts import draw, drop, mlp, reset_linear
from ddrm_pyg.nn.models._rows import RowRecommender, RowWeight

Prediction = Literal["x_start", "noise"]
"""What the network predicts: the clean row or the noise in it."""

LEAST_DIFFUSION_WEIGHT = 0.005
r"""Where :math:`\lambda` of :class:`LDiffRec` ends, as in the authors' code."""


class DiffRec(RowRecommender):
    r"""Diffusion recommender model: noise a user's row a little, learn to restore it.

    `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_ (SIGIR 2023).

    .. math:: \ell_u = \frac{w_t}{p_t T} \cdot \frac1{|I|}
              \| f_\theta(x_t, t) - x_0 \|^2, \quad w_t = SNR_{t-1} - SNR_t, \; w_1 = 1

    with x_0 the row of the user's train items and steps drawn by the size of their
    losses. Ranking starts from the row itself (or from a little noise on it) and
    follows the posterior means back through all T steps. With ``noise_scale=0``, which
    is in the authors' own grid, there is no diffusion: the network learns to restore
    rows from themselves, all steps weigh alike, and ranking applies it T times.

    The defaults are the published settings for MovieLens-1M with natural noise; those
    in the authors' ``main.py`` are untuned. Departures of their code from the paper,
    kept: the squared error is averaged over the items and lacks the bound's factor
    1/2; the first beta is fixed (``fix_first_beta``); the weight of a predicted noise
    is not the bound's (:class:`ddrm_pyg.diffusion.GaussianDiffusion`).

    Args:
        num_items: Number of items.
        hidden_dims: Widths of the network's hidden layers, in order (the authors'
            ``[200, 600]`` is ``(600, 200, 600)`` here).
        num_train_timesteps: T, steps of both processes.
        num_start_steps: T', forward steps before a row is denoised for ranking.
        noise_scale: s, the scale of the noise; 0 for none.
        noise_min: Variance of the first step before scaling.
        noise_max: Variance of the last step before scaling.
        prediction: ``"x_start"`` or ``"noise"``.
        reweight: Weigh the steps by their signal-to-noise ratios; all alike if False.
        history_length: Losses per step that importance sampling remembers; 0 draws
            steps uniformly.
        time_dim: Width of the step embedding.
        dropout: Probability of dropping an entry of a noisy row in training.
        fix_first_beta: Overwrite the first beta with 1e-5, as the authors' code does.
        sampling_noise: Draw each step back but the last from its posterior, a flag of
            the authors' code that is off by default.
        row_weight: Entries of the rows, from a graph, for instance
            :class:`OrderWeight`; 1 for every interaction if None.
        seed: Seed of each user's noise at ranking, where there is any.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        num_items: int,
        hidden_dims: Sequence[int] = (600, 200, 600),
        *,
        num_train_timesteps: int = 5,
        num_start_steps: int = 0,
        noise_scale: float = 0.5,
        noise_min: float = 1e-3,
        noise_max: float = 1e-2,
        prediction: Prediction = "x_start",
        reweight: bool = True,
        history_length: int = 10,
        time_dim: int = 10,
        dropout: float = 0.5,
        fix_first_beta: bool = True,
        sampling_noise: bool = False,
        row_weight: RowWeight | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(num_items, row_weight)
        self.diffuser = _Diffuser(
            num_items,
            hidden_dims,
            schedule=LinearVariance(
                num_train_timesteps,
                noise_scale=noise_scale,
                noise_min=noise_min,
                noise_max=noise_max,
                fix_first_beta=fix_first_beta,
            ),
            num_start_steps=num_start_steps,
            prediction=prediction,
            reweight=reweight,
            history_length=history_length,
            time_dim=time_dim,
            dropout=dropout,
            sampling_noise=sampling_noise,
            seed=seed,
        )

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        self.diffuser.reset_parameters()

    def losses(
        self, batch: UserRows, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss ``[B]`` of rows at steps drawn for each."""
        loss, _ = self.diffuser.loss(batch.dense(self.num_items), generator)
        yield loss

    def score_rows(self, rows: UserRows) -> Tensor:
        """Restore the rows; what comes back ``[B, num_items]`` ranks."""
        return self.diffuser.restore(rows.dense(self.num_items), rows.user)


class TDiffRec(DiffRec):
    """DiffRec on rows whose recent interactions weigh more (T-DiffRec).

    `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_ (SIGIR 2023).
    Rows hold the weights of :class:`OrderWeight`, as input and as target.

    Args:
        num_items: Number of items.
        hidden_dims: Widths of the network's hidden layers, in order.
        w_min: Weight of a user's first interaction.
        w_max: Weight of the last.
        edge_time: ``[E]`` time of every train interaction; their order in the graph
            if None, as published.
        **options: Further arguments of :class:`DiffRec`.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        num_items: int,
        hidden_dims: Sequence[int] = (600, 200, 600),
        *,
        w_min: float = 0.1,
        w_max: float = 1.0,
        edge_time: Tensor | None = None,
        **options: Any,
    ) -> None:
        weight = OrderWeight(w_min, w_max, edge_time=edge_time)
        super().__init__(num_items, hidden_dims, row_weight=weight, **options)


class LDiffRec(RowRecommender):
    r"""Diffusion in a latent space, with an encoder per group of items (L-DiffRec).

    `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_ (SIGIR 2023).
    The row of each group of items is encoded by itself; the latent vectors, joined,
    are diffused as DiffRec diffuses rows, and decoded: all items at once, or the items
    of each group from its own part.

    .. math:: \ell_u = \lambda\, \ell_{diff}(z_u)
              - \sum_i x_{ui} \log \operatorname{softmax}(g(\hat z_u))_i
              + \gamma\, KL(\mathcal N(\mu_u, \sigma_u^2) \,\|\, \mathcal N(0, 1))

    Both weights are annealed as published: :math:`\lambda` falls from
    ``diffusion_weight`` by 1/500 of it in every *epoch* down to 0.005, :math:`\gamma`
    rises by 1/200 in every *batch* up to ``kl_weight``; both counters are buffers.
    Columns stay in item order. Over time it is :class:`LTDiffRec`.

    Departures of the authors' code from the paper, kept: the mean and log-variance
    pass a tanh; the row to be reconstructed is the one whose entries were dropped
    (``corrupt_target``); one linear decoder serves all groups unless
    ``decoder_dims`` are given. Unlike there, an item group may have one item.

    The two learning rates come from :meth:`parameter_groups`: the ``lr`` of
    :func:`ddrm_pyg.fit` is not used.

    Args:
        item_group: ``[num_items]`` int64 group of every item, from 0, none empty; see
            :func:`group_items`. Kept as a buffer.
        latent_dim: Width of the joint latent vector; every group has its share.
        hidden_dims: Widths of the denoising network's hidden layers.
        encoder_dims: Widths of the encoders' hidden layers, in order, all groups
            together; every group has its share, as of ``latent_dim``.
        decoder_dims: The same of decoders by group, each from its group's part of the
            latent vector; empty for linear ones, None for one joint linear decoder.
        num_train_timesteps: T.
        num_start_steps: T', forward steps before a latent vector is denoised.
        noise_scale: s, the scale of the noise; 0 for none.
        noise_min: Variance of the first step before scaling.
        noise_max: Variance of the last step before scaling.
        prediction: ``"x_start"`` or ``"noise"``.
        reweight: Weigh the steps by their signal-to-noise ratios.
        history_length: Losses per step that importance sampling remembers.
        time_dim: Width of the step embedding.
        dropout: Probability of dropping an interaction from the input in training.
        latent_dropout: The same for an entry of a noisy latent vector.
        fix_first_beta: Overwrite the first beta; off here as published.
        sampling_noise: Draw each step back but the last from its posterior.
        diffusion_weight: :math:`\lambda` in the first epoch, at least
            :data:`LEAST_DIFFUSION_WEIGHT`.
        kl_weight: :math:`\gamma` at the end of annealing.
        corrupt_target: Reconstruct the row after dropout, as the authors' code does,
            instead of the clean one.
        autoencoder_lr: Learning rate of encoders and decoder.
        diffusion_lr: Learning rate of the denoising network.
        row_weight: Entries of the rows, from a graph; 1 if None.
        seed: Seed of each user's noise at ranking, where there is any.

    Raises:
        ValueError: An argument out of its range, or a group too small for a share of
            ``latent_dim``.
    """

    item_group: Tensor
    batches_seen: Tensor
    users_seen: Tensor

    def __init__(
        self,
        item_group: Tensor,
        latent_dim: int = 300,
        hidden_dims: Sequence[int] = (300,),
        *,
        encoder_dims: Sequence[int] = (),
        decoder_dims: Sequence[int] | None = None,
        num_train_timesteps: int = 100,
        num_start_steps: int = 0,
        noise_scale: float = 5e-3,
        noise_min: float = 5e-3,
        noise_max: float = 2e-2,
        prediction: Prediction = "x_start",
        reweight: bool = True,
        history_length: int = 10,
        time_dim: int = 10,
        dropout: float = 0.1,
        latent_dropout: float = 0.5,
        fix_first_beta: bool = False,
        sampling_noise: bool = False,
        diffusion_weight: float = 0.03,
        kl_weight: float = 0.3,
        corrupt_target: bool = True,
        autoencoder_lr: float = 1e-3,
        diffusion_lr: float = 5e-4,
        row_weight: RowWeight | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(item_group.numel(), row_weight)
        check_share(dropout=dropout)
        check_size(1, latent_dim=latent_dim)
        check_at_least(LEAST_DIFFUSION_WEIGHT, diffusion_weight=diffusion_weight)
        check_at_least(
            0,
            kl_weight=kl_weight,
            autoencoder_lr=autoencoder_lr,
            diffusion_lr=diffusion_lr,
        )
        self.dropout = dropout
        self.diffusion_weight = diffusion_weight
        self.kl_weight = kl_weight
        self.corrupt_target = corrupt_target
        self.autoencoder_lr = autoencoder_lr
        self.diffusion_lr = diffusion_lr
        self._sizes = _group_sizes(item_group)
        self._parts = _shares(self._sizes, "latent_dim", latent_dim)
        self.encoders = _by_group(
            self._sizes, "encoder_dims", encoder_dims, [2 * d for d in self._parts]
        )
        self.decoder: nn.Module = nn.Linear(latent_dim, self.num_items)
        if decoder_dims is not None:
            self.decoder = _by_group(
                self._sizes, "decoder_dims", decoder_dims, self._sizes, self._parts
            )
        self.diffuser = _Diffuser(
            latent_dim,
            hidden_dims,
            schedule=LinearVariance(
                num_train_timesteps,
                noise_scale=noise_scale,
                noise_min=noise_min,
                noise_max=noise_max,
                fix_first_beta=fix_first_beta,
            ),
            num_start_steps=num_start_steps,
            prediction=prediction,
            reweight=reweight,
            history_length=history_length,
            time_dim=time_dim,
            dropout=latent_dropout,
            sampling_noise=sampling_noise,
            seed=seed,
        )
        self.register_buffer("item_group", item_group.clone())
        for counter in ("batches_seen", "users_seen"):
            self.register_buffer(counter, torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        reset_linear(self)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the auto-encoder and the denoising network with a rate for each."""
        autoencoder = [*self.encoders.parameters(), *self.decoder.parameters()]
        return [
            {"params": autoencoder, "lr": self.autoencoder_lr},
            {"params": list(self.diffuser.parameters()), "lr": self.diffusion_lr},
        ]

    def losses(
        self, batch: UserRows, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the annealed loss ``[B]`` of rows."""
        value = drop(batch.value, self.dropout if self.training else 0, generator)
        rows = batch.dense(self.num_items, value)
        mean, log_variance = self._encode(rows)
        z = mean
        if self.training:
            z = z + draw(torch.randn, z, generator) * (log_variance / 2).exp()
        diffusion, restored = self.diffuser.loss(z, generator)
        target = rows if self.corrupt_target else batch.dense(self.num_items)
        weight, kl_weight = self.present_weights(graph)
        self.batches_seen += 1
        self.users_seen += batch.user.numel() * processes()[1]
        yield (
            weight * diffusion
            + multinomial_nll(self._decode(restored), target)
            + kl_weight * gaussian_kl(mean, log_variance)
        )

    def present_weights(self, graph: InteractionGraph) -> tuple[float, float]:
        r"""Return :math:`\lambda` and :math:`\gamma` after what was seen so far."""
        epoch = int(self.users_seen) // int((graph.degree("user") > 0).sum())
        return (
            max((1 - epoch / 500) * self.diffusion_weight, LEAST_DIFFUSION_WEIGHT),
            min(int(self.batches_seen) / 200, self.kl_weight),
        )

    def score_rows(self, rows: UserRows) -> Tensor:
        """Encode, restore and decode; the logits ``[B, num_items]`` rank."""
        mean, _ = self._encode(rows.dense(self.num_items))
        return self._decode(self.diffuser.restore(mean, rows.user))

    def _encode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``[B, latent_dim]``, group after group."""
        columns = rows[:, self.item_group.argsort(stable=True)]
        parts = columns.split(self._sizes, dim=1)
        halves = [
            encoder(part).tanh().chunk(2, dim=-1)
            for encoder, part in zip(self.encoders, parts, strict=True)
        ]
        mean, log_variance = zip(*halves, strict=True)
        return torch.cat(mean, dim=-1), torch.cat(log_variance, dim=-1)

    def _decode(self, z: Tensor) -> Tensor:
        """Logits ``[B, num_items]``, in item order."""
        if not isinstance(self.decoder, nn.ModuleList):
            return self.decoder(z)
        parts = zip(self.decoder, z.split(self._parts, dim=1), strict=True)
        columns = torch.cat([decode(part) for decode, part in parts], dim=1)
        return columns[:, self.item_group.argsort(stable=True).argsort()]


class LTDiffRec(LDiffRec):
    """L-DiffRec on rows whose recent interactions weigh more (LT-DiffRec).

    `"Diffusion Recommender Model" <https://arxiv.org/abs/2304.04971>`_ (SIGIR 2023).
    Rows hold the weights of :class:`OrderWeight`, as input and as target.

    Args:
        item_group: ``[num_items]`` int64 group of every item, from 0, none empty.
        latent_dim: Width of the joint latent vector.
        hidden_dims: Widths of the denoising network's hidden layers.
        w_min: Weight of a user's first interaction.
        w_max: Weight of the last.
        edge_time: ``[E]`` time of every train interaction; their order in the graph
            if None, as published.
        **options: Further arguments of :class:`LDiffRec`.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        item_group: Tensor,
        latent_dim: int = 300,
        hidden_dims: Sequence[int] = (300,),
        *,
        w_min: float = 0.1,
        w_max: float = 1.0,
        edge_time: Tensor | None = None,
        **options: Any,
    ) -> None:
        weight = OrderWeight(w_min, w_max, edge_time=edge_time)
        super().__init__(
            item_group, latent_dim, hidden_dims, row_weight=weight, **options
        )


class OrderWeight(nn.Module):
    r"""Weights that grow with the order of a user's interactions (T-DiffRec).

    .. math:: w_m = w_{\min} + \tfrac{m - 1}{M - 1} (w_{\max} - w_{\min}),
              \quad m = 1 \ldots M

    over the M interactions of a user; a single one has :math:`w_{\min}`. Interactions
    of equal time keep the order of the graph.

    Args:
        w_min: Weight of the first interaction.
        w_max: Weight of the last.
        edge_time: ``[E]`` time of every interaction of the graph to come; the graph's
            own order if None.

    Raises:
        ValueError: A weight < 0.
    """

    edge_time: Tensor | None

    def __init__(
        self, w_min: float = 0.1, w_max: float = 1.0, *, edge_time: Tensor | None = None
    ) -> None:
        super().__init__()
        check_at_least(0, w_min=w_min, w_max=w_max)
        self.w_min = w_min
        self.w_max = w_max
        # data, not state: the caller knows it
        self.register_buffer("edge_time", edge_time, persistent=False)

    def forward(self, graph: InteractionGraph) -> Tensor:
        """Weigh the interactions of a graph.

        Returns:
            ``[E]`` float32, in the order of ``edge_index``.

        Raises:
            ValueError: ``edge_time`` does not have one value per interaction.
        """
        user = graph.edge_index[0]
        order = torch.arange(graph.num_edges, device=user.device)
        if self.edge_time is not None:
            time = graph.check_time(self.edge_time)
            order = time.to(user.device).argsort(stable=True)
        last = graph.degree("user")[user] - 1
        share = graph.place(order).float() / last.clamp(min=1)
        return self.w_min + share * (self.w_max - self.w_min)


def group_items(item_emb: Tensor, num_groups: int = 2, *, seed: int = 0) -> Tensor:
    """Group items by k-means on their vectors, as L-DiffRec does.

    Args:
        item_emb: ``[num_items, D]`` from anywhere; the authors take LightGCN's.
        num_groups: k.
        seed: Seed of the first centres.

    Returns:
        ``[num_items]`` int64 groups, from 0.

    Raises:
        ValueError: ``num_groups`` not in [1, num_items].
        ImportError: scikit-learn is missing.
    """
    if not 1 <= num_groups <= item_emb.size(0):
        raise ValueError(
            f"'num_groups' must lie in [1, {item_emb.size(0)}] (got {num_groups})"
        )
    need = "group_items needs scikit-learn"
    cluster = import_extra("sklearn.cluster", need, "diffrec")
    k_means = cluster.KMeans(num_groups, n_init=10, random_state=seed)
    labels = k_means.fit_predict(item_emb.detach().cpu().double().numpy())
    return torch.from_numpy(labels).long()


class _Diffuser(nn.Module):
    """The diffusion of vectors: its network, its loss and the way back."""

    def __init__(
        self,
        width: int,
        hidden_dims: Sequence[int],
        *,
        schedule: LinearVariance,
        num_start_steps: int,
        prediction: Prediction,
        reweight: bool,
        history_length: int,
        time_dim: int,
        dropout: float,
        sampling_noise: bool,
        seed: int,
    ) -> None:
        super().__init__()
        check_among(("x_start", "noise"), prediction=prediction)
        check_share(dropout=dropout)
        check_size(1, time_dim=time_dim)
        betas = schedule.betas()
        if not 0 <= num_start_steps <= betas.numel():
            raise ValueError(
                f"'num_start_steps' must lie in [0, {betas.numel()}] "
                f"(got {num_start_steps})"
            )
        if prediction == "noise" and not bool(betas.any()):
            raise ValueError(
                "'prediction' must be 'x_start' where 'noise_scale' is 0 (got 'noise')"
            )
        self.num_start_steps = num_start_steps
        self.prediction = prediction
        self.reweight = reweight
        self.dropout = dropout
        self.sampling_noise = sampling_noise
        self.seed = seed
        self.diffusion = GaussianDiffusion(betas)
        self.steps = ImportanceSampler(betas.numel(), history_length)
        self.time = nn.Linear(time_dim, time_dim)
        self.layers = mlp([width + time_dim, *hidden_dims, width])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        reset_linear(self)

    def loss(
        self, x_start: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Noise rows, restore them at once and compare.

        Args:
            x_start: ``[B, D]``.
            generator: Source of steps, noise and dropout.

        Returns:
            Loss ``[B]``, unbiased over the steps, and restored rows ``[B, D]``.
        """
        t, density = self.steps.sample(x_start.size(0), generator=generator)
        noise = draw(torch.randn, x_start, generator)
        x_t = self.diffusion.q_sample(x_start, t, noise)
        thinned = drop(x_t, self.dropout if self.training else 0, generator)
        output = self._network(thinned, t)
        if self.prediction == "x_start":
            restored = output
            error = (restored - x_start).square()
            weight = self.diffusion.x_start_weight
        else:
            restored = self.diffusion.predict_x_start(x_t, t, output)
            first = (restored - x_start).square() / 2
            error = torch.where(t[:, None] == 0, first, (output - noise).square())
            weight = self.diffusion.noise_weight
        loss = error.mean(-1)
        if self.reweight:
            loss = weight[t] * loss
        self.steps.update(t, loss.detach())
        return loss / density, restored

    def restore(self, x_start: Tensor, user: Tensor) -> Tensor:
        """Walk back along the posterior, from slightly noised rows.

        Args:
            x_start: ``[B, D]``.
            user: ``[B]`` users; the noise of each is always the same.

        Returns:
            ``[B, D]``.
        """
        x_t, noise = x_start, None
        if self.num_start_steps > 0 or self.sampling_noise:
            noise = self._noise(user)
        if noise is not None and self.num_start_steps > 0:
            last = torch.tensor([self.num_start_steps - 1], device=x_start.device)
            x_t = self.diffusion.q_sample(x_start, last, noise(x_start))

        def predict(x_t: Tensor, step: int) -> Tensor:
            t = torch.tensor([step], device=x_t.device)
            output = self._network(x_t, t)
            if self.prediction == "x_start":
                return output
            return self.diffusion.predict_x_start(x_t, t, output)

        return posterior_sample(
            self.diffusion,
            predict,
            x_t,
            self.diffusion.num_steps,
            noise=noise if self.sampling_noise else None,
        )

    def _noise(self, user: Tensor) -> Callable[[Tensor], Tensor]:
        """Noise that depends on nobody else in the batch, on the CPU for any device."""
        generators = [
            torch.Generator().manual_seed(self.seed + 1009 * name)
            for name in user.tolist()
        ]

        def draw_next(like: Tensor) -> Tensor:
            noise = torch.empty(like.shape)
            for row, generator in zip(noise, generators, strict=True):
                row.normal_(generator=generator)
            return noise.to(like)

        return draw_next

    def _network(self, x_t: Tensor, t: Tensor) -> Tensor:
        time = self.time(timestep_embedding(t, self.time.in_features))
        return self.layers(torch.cat([x_t, time.expand(x_t.size(0), -1)], dim=-1))


def _group_sizes(item_group: Tensor) -> list[int]:
    if item_group.dim() != 1 or item_group.dtype != torch.int64:
        raise ValueError(
            "'item_group' must be int64 of shape [num_items] "
            f"(got {item_group.dtype} of shape {list(item_group.shape)})"
        )
    if item_group.numel() == 0 or int(item_group.min()) < 0:
        raise ValueError("'item_group' must hold groups >= 0")
    sizes = torch.bincount(item_group).tolist()
    if min(sizes) == 0:
        raise ValueError(f"'item_group' must leave no group empty (got sizes {sizes})")
    return sizes


def _shares(sizes: Sequence[int], name: str, width: int) -> list[int]:
    """Split a width by group size; the last group has the remainder."""
    shares = [size * width // sum(sizes) for size in sizes[:-1]]
    shares.append(width - sum(shares))
    if min(shares) < 1:
        raise ValueError(
            f"'{name}' must give every group a share (got {width} for groups of "
            f"{list(sizes)} items)"
        )
    return shares


def _by_group(
    sizes: Sequence[int],
    name: str,
    hidden_dims: Sequence[int],
    outputs: Sequence[int],
    inputs: Sequence[int] | None = None,
) -> nn.ModuleList:
    """A network per group of items, whose hidden layers share the widths."""
    hidden = [_shares(sizes, name, width) for width in hidden_dims]
    layers = zip(sizes if inputs is None else inputs, *hidden, outputs, strict=True)
    return nn.ModuleList(mlp(widths) for widths in layers)
