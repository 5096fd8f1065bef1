"""DDRM: denoise the embeddings of any recommender by diffusion."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.typing import SparseTensor

from ddrm_pyg.checks import check_among, check_at_least, check_share, check_size
from ddrm_pyg.diffusion import (
    GaussianDiffusion,
    LinearVariance,
    posterior_sample,
    spread_steps,
)
from ddrm_pyg.embeddings import Embeddings, as_embeddings
from ddrm_pyg.graph.history_weight import HistorySums
from ddrm_pyg.graph.interaction_graph import InteractionGraph, as_graph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.loader import Cuts, Triplets, UserDraw, triplet_batches
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.losses.reweighted import belief_weight
from ddrm_pyg.nn._parts import draw, drop
from ddrm_pyg.nn._pretrained import Pretrained
from ddrm_pyg.nn.denoiser import GateDenoiser, MLPDenoiser, TransformerDenoiser
from ddrm_pyg.nn.future import SCALES, FutureLoss, FutureTraining, HistoryMeans, Past

Sampler = Literal["posterior", "skip"]
"""Which steps the reverse process visits, see :class:`DDRM`."""

Start = Literal["history", "noise"]
"""What generation starts from, see :class:`DDRM`."""

Denoiser = Literal["mlp", "transformer"]
"""Which networks restore vectors, see :class:`DDRM`."""

Attention = Literal["multi-head", "gate", "learned-gate"]
"""Which reading of the transformer, see :class:`DDRM`."""

TrainStart = Literal["item", "history", "past"]
"""What the item network learns to denoise, see :class:`DDRMRecommender`."""

_PASSES, _SHARE = 6, 5
"""Passes of the sampler that skips steps, by default; fewer where that is more than
this part of the steps."""

logger = logging.getLogger("ddrm_pyg")

_CHUNK = 8192
"""Rows denoised at a time; bounds the hidden activations, never the noise."""


class DDRM(Pretrained, nn.Module):
    r"""Denoising Diffusion Recommender Model, a plug-in: vectors in, vectors out.

    `"Denoising Diffusion Recommender Model" <https://arxiv.org/abs/2401.06982>`_
    (SIGIR 2024). Users and items are noised in small Gaussian steps (Eqs. 6-8); two
    networks learn to remove the noise, each guided by the other side's vector
    (Eqs. 15-22); an ideal item is generated for each user from the mean of the user's
    history (Eq. 23, Algorithm 2) and compared with all items by inner product
    (Eq. 24). The model that made the vectors is never touched.

    Departures of the authors' code from the paper, kept as the defaults: the squared
    error is averaged, not summed, over the D dimensions; the first beta is fixed
    (``fix_first_beta``); the balance of the losses is stated as the weight of the
    *reconstruction*, because Eq. 20 and the paper's prose disagree; reverse walks
    longer than the schedule repeat its last coefficients. The sampler alone departs
    from both by default: six passes in place of T', which tie with all others on
    validation of ML-1M (``benchmarks/passes.py``); ``sampler="posterior"`` is the
    published one.

    The variants of the paper's Table 3 are ``denoiser="transformer"``,
    ``start="noise"`` and ``dynamic_scale=True``, that of its Figure 5
    ``denoise_user=False``.

    Args:
        embedding_dim: Width D of the vectors.
        hidden_dims: Hidden widths of both networks.
        num_train_timesteps: T, steps of the forward process.
        num_inference_steps: T', passes of the reverse process (default: T with
            ``sampler="posterior"``; with ``"skip"`` 6, or a fifth of the steps where
            that is fewer).
        num_start_steps: Forward steps applied to the history before it is denoised
            (default: T, as published; 0 leaves it as it is).
        sampler: ``"skip"`` undoes the forward steps of the start in T' jumps of equal
            length, whose posteriors follow from the steps jumped over: at most
            ``num_start_steps`` (T for ``start="noise"``), the published walk if all
            of them, and one pass at the first step for a start without noise.
            ``"posterior"``, as published, counts T' steps down to the first, wherever
            the start is.
        sampling_noise: Draw each step back but the last from its posterior (Eq. 13),
            a flag of the authors' code that is off by default. Algorithm 2 has no such
            noise: it follows the posterior means.
        noise_scale: s of Eq. 8; 0 for no noise at all.
        noise_min: :math:`\alpha_{\min}` of Eq. 8.
        noise_max: :math:`\alpha_{\max}` of Eq. 8.
        reconstruction_weight: Weight of the reconstruction loss, :math:`1 - \lambda`
            of Eq. 20, in [0, 1].
        gamma: Exponent of the weights of Eq. 21; 0 weighs all triplets equally.
        time_dim: Width of the step embedding.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"``.
        dropout: Probability of dropping an entry of a noisy vector in training
            (default: 0.5; 0 with ``attention="gate"``, which takes no other).
        fix_first_beta: Overwrite the first beta with 1e-5, as the authors' code does.
        denoiser: ``"mlp"``, or ``"transformer"`` (Table 3); or a network of one's own:
            a module, of which the user network is a copy, or a function of
            ``embedding_dim`` that makes one. It maps noisy rows and conditions
            ``[B, D]`` and steps ``[B]`` or ``[1]`` to ``[B, D]``.
        attention: Of the transformer: ``"multi-head"`` as the paper words it, see
            :class:`~ddrm_pyg.nn.denoiser.TransformerDenoiser`, or the ``"gate"`` of the
            authors' code, see :class:`~ddrm_pyg.nn.denoiser.GateDenoiser`, which drops
            nothing and where ``activation`` is ``"tanh"``, which has to be given, too.
            ``"learned-gate"`` (ours) maps the step embedding first, and drops.
        start: What generation starts from: the noised ``"history"``, or pure
            ``"noise"``, N(0, I) (Table 3). Training is the same.
        dynamic_scale: In training each triplet draws its own s, uniform in
            (0, 2 ``noise_scale``), and at inference s is ``noise_scale`` (our reading
            of Table 3's dynamic scale, of which no code is published).
        denoise_user: False removes the user network (Figure 5): in the losses the
            user's own vector takes the place of its reconstruction.
        residual: Networks predict what is to be added to the noisy vector, in place of
            the clean one (ours).
        hidden_dropout: Probability of dropping an entry of a hidden layer in training
            (ours; of ``denoiser="mlp"`` only).

    Raises:
        ValueError: An argument out of its range.

    Example:
        >>> ddrm = DDRM(embedding_dim=8, hidden_dims=(16,), num_train_timesteps=5)
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> denoised = ddrm(torch.randn(2, 8), torch.randn(3, 8), edge_index)
        >>> denoised.user.shape, denoised.item.shape
        (torch.Size([2, 8]), torch.Size([3, 8]))
    """

    def __init__(
        self,
        embedding_dim: int = 64,
        hidden_dims: Sequence[int] = (1000, 300, 1000),
        *,
        num_train_timesteps: int = 50,
        num_inference_steps: int | None = None,
        num_start_steps: int | None = None,
        sampler: Sampler = "skip",
        sampling_noise: bool = False,
        noise_scale: float = 1e-2,
        noise_min: float = 1e-4,
        noise_max: float = 1e-3,
        reconstruction_weight: float = 0.1,
        gamma: float = 0.0,
        time_dim: int = 10,
        activation: str = "relu",
        dropout: float | None = None,
        fix_first_beta: bool = True,
        denoiser: Denoiser | nn.Module | Callable[[int], nn.Module] = "mlp",
        attention: Attention = "multi-head",
        start: Start = "history",
        dynamic_scale: bool = False,
        denoise_user: bool = True,
        residual: bool = False,
        hidden_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_among(get_args(Sampler), sampler=sampler)
        if isinstance(denoiser, str):
            check_among(get_args(Denoiser), denoiser=denoiser)
        check_among(get_args(Attention), attention=attention)
        check_among(get_args(Start), start=start)
        check_share(reconstruction_weight=reconstruction_weight)
        check_at_least(0, gamma=gamma)
        check_share(hidden_dropout=hidden_dropout)
        if hidden_dropout > 0 and denoiser != "mlp":
            raise ValueError(
                "'hidden_dropout' must be 0 but for denoiser='mlp' "
                f"(got {hidden_dropout})"
            )
        self.embedding_dim = embedding_dim
        if num_start_steps is None:
            num_start_steps = num_train_timesteps
        check_size(1, num_train_timesteps=num_train_timesteps)
        check_size(0, num_start_steps=num_start_steps)
        self.num_start_steps = num_start_steps
        if self.num_start_steps > num_train_timesteps:
            raise ValueError(
                f"'num_start_steps' must be <= 'num_train_timesteps', "
                f"{num_train_timesteps} (got {num_start_steps})"
            )
        self.sampler = sampler
        self.sampling_noise = sampling_noise
        self.reconstruction_weight = reconstruction_weight
        self.gamma = gamma
        self.dropout = _dropout(dropout, denoiser, attention)
        self.start = start
        self.dynamic_scale = dynamic_scale
        self.residual = residual
        self.hidden_dropout = hidden_dropout
        self.schedule = LinearVariance(
            num_train_timesteps,
            noise_scale=noise_scale,
            noise_min=noise_min,
            noise_max=noise_max,
            fix_first_beta=fix_first_beta,
        )
        self.diffusion = GaussianDiffusion(self.schedule.betas())
        if dynamic_scale and not 0 < 2 * noise_scale * noise_max < 1:
            raise ValueError(
                "'noise_scale' times 'noise_max' must be > 0 and < 0.5 with "
                "'dynamic_scale' "
                f"(got {noise_scale * noise_max:g})"
            )
        self._plan_walk(num_inference_steps)
        network = partial(
            _network,
            denoiser,
            attention,
            embedding_dim,
            hidden_dims,
            time_dim,
            activation,
        )
        self.user_denoiser = network() if denoise_user else None
        self.item_denoiser = network()
        self._warn_untrained = True
        self.register_load_state_dict_post_hook(_count_as_trained)

    @property
    def num_train_timesteps(self) -> int:
        """T."""
        return self.schedule.num_steps

    def _plan_walk(self, num_inference_steps: int | None) -> None:
        """Decide which steps the reverse process visits, on which schedule."""
        skip, num_steps = self.sampler == "skip", max(self.num_start_steps, 1)
        if self.start == "noise":  # as if all steps had led there
            num_steps = self.num_train_timesteps
        count = num_inference_steps
        if count is None and skip:
            count = max(1, min(_PASSES, num_steps // _SHARE))
        elif count is None:
            count = self.num_train_timesteps
        check_size(1, num_inference_steps=count)
        if skip and count > num_steps:
            raise ValueError(
                f"'num_inference_steps' must be <= {num_steps}, the steps that "
                f"sampler='skip' can choose from (got {count})"
            )
        self.num_inference_steps = count
        self._steps, self._walk = list(range(count)), self.diffusion
        if skip:
            self._steps = spread_steps(count, num_steps)
            self._walk = self.diffusion.respaced(self._steps)

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        for denoiser in (self.user_denoiser, self.item_denoiser):
            if isinstance(denoiser, (MLPDenoiser, TransformerDenoiser, GateDenoiser)):
                denoiser.reset_parameters()
        self._warn_untrained = True

    def loss(
        self,
        user_emb: Tensor,
        item_emb: Tensor,
        neg_item_emb: Tensor,
        *,
        history_emb: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Loss of each triplet (Algorithm 1; Eqs. 18-22).

        .. math:: w \left[ (1 - a)\, \mathcal{L}_{bpr} + a\, \mathcal{L}_{re} \right],
                  \quad w = \sigma(\tilde e^u_0 \cdot \tilde e^i_0)^\gamma

        with a the ``reconstruction_weight``. One step t is drawn per row and shared by
        its user and its item, whose noises are independent. No gradient flows through
        w, nor into the inputs' model if they are detached.

        Args:
            user_emb: ``[B, D]`` vectors of users.
            item_emb: ``[B, D]`` vectors of items they interacted with.
            neg_item_emb: ``[B, D]`` vectors of items they did not.
            history_emb: ``[B, D]`` what the item network is given to denoise, for
                instance the mean of the user's other items; the item itself, as
                published, if None. What it must reconstruct stays the item.
            generator: Source of steps, noise and dropout; torch's global one if None.

        Returns:
            ``[B]``.

        Raises:
            ValueError: Vectors that are not D wide, or not as many of each.
        """
        self._warn_untrained = False
        start = item_emb if history_emb is None else history_emb
        self._check_rows(
            user_emb=user_emb,
            item_emb=item_emb,
            neg_item_emb=neg_item_emb,
            history_emb=start,
        )
        t, scale = self._draw_steps(user_emb, generator)
        user_hat = user_emb
        if self.user_denoiser is not None:
            user_hat = self._reconstruct(
                self.user_denoiser, user_emb, item_emb, t, generator, scale
            )
        item_hat = self._reconstruct(
            self.item_denoiser, start, user_emb, t, generator, scale
        )
        positive = (user_hat * item_hat).sum(-1)
        negative = (user_hat * neg_item_emb).sum(-1)
        recommendation = bpr_loss(positive, negative)
        reconstruction = (
            (user_hat - user_emb).square().mean(-1)
            + (item_hat - item_emb).square().mean(-1)
        ) / 2
        share = self.reconstruction_weight
        weight = belief_weight(positive, self.gamma)
        return weight * ((1 - share) * recommendation + share * reconstruction)

    def restore(
        self,
        start_emb: Tensor,
        cond: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Noise vectors to random steps and predict what they should have been.

        What the item network does in training, as a step of a loss of one's own;
        entries are dropped in training mode only.

        Args:
            start_emb: ``[B, D]`` what is noised.
            cond: ``[B, D]`` collaborative information.
            generator: Source of steps, noise and dropout; torch's global one if None.

        Returns:
            ``[B, D]``, with a gradient.

        Raises:
            ValueError: Vectors that are not D wide, or not as many of each.
        """
        self._warn_untrained = False
        self._check_rows(start_emb=start_emb, cond=cond)
        t, scale = self._draw_steps(start_emb, generator)
        return self._reconstruct(
            self.item_denoiser, start_emb, cond, t, generator, scale
        )

    def _draw_steps(
        self, like: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """A step per row, and its noise scale where that is drawn, too."""
        step = partial(torch.randint, self.num_train_timesteps)
        t = draw(step, like[:, 0], generator)
        if not self.dynamic_scale:
            return t, None
        scale = self.schedule.noise_scale
        return t, 2 * scale * draw(torch.rand, like[:, 0], generator)

    def _reconstruct(
        self,
        denoiser: nn.Module,
        x_start: Tensor,
        cond: Tensor,
        t: Tensor,
        generator: torch.Generator | None,
        scale: Tensor | None = None,
    ) -> Tensor:
        noise = draw(torch.randn, x_start, generator)
        if scale is None:
            x_t = self.diffusion.q_sample(x_start, t, noise)
        else:
            variance = self.schedule.noise(t, scale).unsqueeze(-1)
            kept, added = (1 - variance).sqrt(), variance.sqrt()
            x_t = kept.to(x_start) * x_start + added.to(noise) * noise
        seen = drop(x_t, self.dropout, generator) if self.training else x_t
        options = {}
        if self.training and self.hidden_dropout > 0:
            rate = self.hidden_dropout
            options["after"] = partial(drop, rate=rate, generator=generator)
        # what is compared is compared in full precision, under autocast, too
        x_hat = denoiser(seen, cond, t, **options).to(x_start.dtype)
        return x_t + x_hat if self.residual else x_hat

    def forward(
        self,
        user_emb: Tensor | Embeddings | Any,
        item_emb: Tensor | Any,
        graph: InteractionGraph | Tensor | Any = None,
        *,
        history_weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Embeddings:
        """Generate each user's ideal item (Algorithm 2, Eqs. 23-24).

        Inference whatever the mode: no gradient, no dropout, inputs detached. The
        result does not depend on how many rows are denoised at a time. Both
        ``ddrm(user_emb, item_emb, graph)`` and ``ddrm(embeddings, graph)`` are calls.

        Args:
            user_emb: ``[num_users, D]``, a tensor, an array or ``torch.nn.Embedding``;
                or :class:`Embeddings`, which leave the graph as the second argument.
            item_emb: ``[num_items, D]``.
            graph: Train interactions: an :class:`InteractionGraph`, an ``edge_index``
                ``[2, E]`` or a ``SparseTensor`` ``[num_items, num_users]``.
            history_weight: ``[E]`` weight of each interaction in the history mean;
                equal, as published, if None.
            generator: Source of the noise of the start and, with ``sampling_noise``, of
                the steps; torch's global one if None.

        Returns:
            Embeddings whose user rows are the ideal items and whose item rows are the
            candidates, ``item_emb``: their inner product ranks. A user without train
            items starts from the mean item over all train interactions.

        Raises:
            ValueError: Vectors and graph do not match.
        """
        emb, graph = self._take(user_emb, item_emb, graph)
        if history_weight is not None and isinstance(graph, SparseTensor):
            raise ValueError(
                "'history_weight' follows the order of an edge_index, which a "
                "SparseTensor does not keep: give an InteractionGraph or an edge_index"
            )
        graph = as_graph(graph, emb.num_users, emb.num_items)
        history = graph.history_mean(emb.item, weight=history_weight)
        # drawn even where it is not used: what follows has the same noise
        noise = draw(torch.randn, history, generator)
        start = self._start(history, noise)
        step_noise = self._step_noise(generator)
        return Embeddings(
            self._reverse(self.item_denoiser, start, emb.user, step_noise), emb.item
        )

    def denoise(
        self,
        user_emb: Tensor | Embeddings | Any,
        item_emb: Tensor | Any,
        graph: InteractionGraph | Tensor | Any = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Embeddings:
        """Pass both node types through their own reverse process (Eqs. 9-14).

        Features for a model downstream: user vectors are denoised under the mean of
        their items, item vectors under the mean of their users. Inference whatever the
        mode, like :meth:`forward`.

        Args:
            user_emb: ``[num_users, D]``, or :class:`Embeddings`, as for
                :meth:`forward`.
            item_emb: ``[num_items, D]``.
            graph: Train interactions, as for :meth:`forward`.
            generator: Source of all noise, as for :meth:`forward`.

        Returns:
            Denoised embeddings of the same shapes; without a user network the user
            vectors as they are.

        Raises:
            ValueError: Vectors and graph do not match.
        """
        emb, graph = self._take(user_emb, item_emb, graph)
        graph = as_graph(graph, emb.num_users, emb.num_items)
        seen_from_items = InteractionGraph(
            graph.edge_index.flip(0), graph.num_items, graph.num_users
        )
        mean_item = graph.history_mean(emb.item)
        mean_user = seen_from_items.history_mean(emb.user)
        step_noise = self._step_noise(generator)
        user = emb.user
        if self.user_denoiser is not None:
            start = self._noised(user, draw(torch.randn, user, generator))
            user = self._reverse(self.user_denoiser, start, mean_item, step_noise)
        start = self._noised(emb.item, draw(torch.randn, emb.item, generator))
        item = self._reverse(self.item_denoiser, start, mean_user, step_noise)
        return Embeddings(user, item)

    def generate(
        self,
        history_emb: Tensor,
        user_emb: Tensor | None = None,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Generate ideal items from histories, also of users never trained on.

        Args:
            history_emb: ``[B, D]`` mean item vector of each history.
            user_emb: ``[B, D]`` the users' own vectors, the condition; the history
                stands in where there is none.
            noise: ``[B, D]`` noise of the start, standard normal; zeros start
                without. Drawn from ``generator`` if None. Not used where the start
                has no noise (``num_start_steps=0``): nothing is drawn there. A given
                noise is all there is: ``sampling_noise`` adds none to the steps.
            generator: Source of the noise of the start and, with ``sampling_noise``, of
                the steps; torch's global one if None.

        Returns:
            ``[B, D]`` to be compared with item vectors by inner product. With a given
            ``noise`` a row depends on its own inputs alone, and
            :func:`torch.export.export` takes any number of rows.

        Raises:
            ValueError: Vectors that are not D wide, or both ``noise`` and
                ``generator``.
        """
        if noise is not None and generator is not None:
            raise ValueError("'noise' and 'generator' exclude each other (got both)")
        cond = history_emb if user_emb is None else user_emb
        rows = {"history_emb": history_emb, "user_emb": cond}
        self._check_rows(**rows if noise is None else {**rows, "noise": noise})
        history_emb, cond = history_emb.detach(), cond.detach()
        step_noise = self._step_noise(generator) if noise is None else None
        start = history_emb
        if self.start == "noise" or self.num_start_steps > 0:
            if noise is None:
                noise = draw(torch.randn, history_emb, generator)
            start = self._start(history_emb, noise)
        return self._reverse(self.item_denoiser, start, cond, step_noise)

    def _start(self, history_emb: Tensor, noise: Tensor) -> Tensor:
        """What generation starts from, given its noise."""
        return noise if self.start == "noise" else self._noised(history_emb, noise)

    def _step_noise(
        self, generator: torch.Generator | None
    ) -> Callable[[Tensor], Tensor] | None:
        """What draws the noise of each step back, if there is any."""
        if not self.sampling_noise:
            return None
        return partial(draw, torch.randn, generator=generator)

    def _noised(self, x_start: Tensor, noise: Tensor) -> Tensor:
        """Noise vectors to where the reverse process begins."""
        if self.num_start_steps == 0:
            return x_start
        last = torch.tensor([self.num_start_steps - 1], device=x_start.device)
        return self.diffusion.q_sample(x_start, last, noise)

    def _check_rows(self, **tables: Tensor) -> None:
        """Refuse tables of other than D columns, or of different numbers of rows."""
        first = next(iter(tables))
        for name, table in tables.items():
            if table.dim() != 2 or table.size(1) != self.embedding_dim:
                raise ValueError(
                    f"'{name}' must be [B, {self.embedding_dim}] "
                    f"(got {list(table.shape)})"
                )
            if table.size(0) != tables[first].size(0):
                raise ValueError(
                    f"'{name}' must have one row per '{first}', "
                    f"{tables[first].size(0)} (got {table.size(0)})"
                )

    def _take(self, user_emb: Any, item_emb: Any, graph: Any) -> tuple[Embeddings, Any]:
        """Tell ``(user_emb, item_emb, graph)`` from ``(embeddings, graph)``."""
        tables = (user_emb, item_emb)
        if graph is None:
            tables, graph = user_emb, item_emb
        return self._fitting(as_embeddings(tables)), graph

    def _fitting(self, emb: Embeddings) -> Embeddings:
        """Take tables of any float type to the networks' own; refuse other widths."""
        if emb.user.size(1) != self.embedding_dim:
            raise ValueError(
                f"'embeddings' must be {self.embedding_dim} wide, as 'ddrm' is "
                f"(got {emb.user.size(1)})"
            )
        return self._cast(emb)

    def _cast(self, emb: Embeddings) -> Embeddings:
        parameter = next(self.item_denoiser.parameters(), torch.empty(0))
        dtype = parameter.dtype
        if {emb.user.dtype, emb.item.dtype} != {dtype}:
            emb = emb.to(dtype)
            emb.check()  # what was finite in float64 need not be in float32
        return emb

    @torch.no_grad()
    def _reverse(
        self,
        denoiser: nn.Module,
        start: Tensor,
        cond: Tensor,
        step_noise: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        if torch.compiler.is_compiling():  # a chunk's size would be the program's limit
            return self._walk_back(denoiser, start, cond)
        if self._warn_untrained:
            self._warn_untrained = False  # once
            logger.warning(
                "DDRM generates before it was trained, from random networks: "
                "fit(DDRMRecommender(ddrm, embeddings), data) first"
            )
        if step_noise is not None:
            # all rows step by step, so that the noise does not know the chunks
            def restore(x_t: Tensor, cond: Tensor, step: Tensor) -> Tensor:
                return _in_chunks(lambda x, c: denoiser(x, c, step), x_t, cond)

            return self._walk_back(restore, start, cond, step_noise)
        return _in_chunks(partial(self._walk_back, denoiser), start, cond)

    def _walk_back(
        self,
        denoiser: Callable[[Tensor, Tensor, Tensor], Tensor],
        x_t: Tensor,
        cond: Tensor,
        step_noise: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        def predict(x_t: Tensor, k: int) -> Tensor:
            step = torch.tensor([self._steps[k]], device=x_t.device)
            x_hat = denoiser(x_t, cond, step)
            return x_t + x_hat if self.residual else x_hat

        count = len(self._steps)
        return posterior_sample(self._walk, predict, x_t, count, noise=step_noise)


class DDRMRecommender(nn.Module):
    """DDRM on given embeddings, ready for :func:`ddrm_pyg.fit`.

    The embeddings are frozen: training changes only the two networks of ``ddrm``.

    Args:
        ddrm: The plug-in.
        embeddings: From anywhere: :class:`Embeddings`, a ``.safetensors``, ``.npz`` or
            ``.pt`` file, or a pair ``(user, item)`` of tensors, arrays or
            ``torch.nn.Embedding``, in any float type: the plug-in works in its own.
            For a graph model, the *propagated* embeddings.
        history_weight: ``[E]`` weight of each train interaction where generation
            starts; equal if None. See :mod:`ddrm_pyg.graph.history_weight`.
        train_start: ``"item"`` trains to restore the noised item itself, as
            published. ``"history"`` (ours) starts where inference starts: the item is
            to be restored from the noised weighted mean of the user's other items.
            ``"past"`` (ours) generates what came next from what came before, see
            :class:`~ddrm_pyg.nn.future.FutureTraining`.
        users: How triplets are drawn, see :func:`ddrm_pyg.loader.triplet_batches`;
            uniformly over users, as published.
        seed: Seed of the noise at inference, so that a model has one ranking.
        edge_time: ``[E]`` when each train interaction happened, for
            ``train_start="past"``: ``data["user", "interacts", "item"].edge_time``, or
            ``torch.arange(E)`` where interactions stand in the order of the events.
        scales: E-foldings of the history means that a past starts from, in
            interactions; infinity weighs all alike.
        beside: More start sources of a past, whose widths add to those of the item
            vectors: :class:`~ddrm_pyg.nn.future.HistoryMeans` of another item table,
            :class:`~ddrm_pyg.nn.future.HistoryStates` of a sequential model.
        window: Items after a cut that are targets.
        cuts: Cuts per user and epoch at most.
        loss: Of a past: ``"softmax"`` over all items, or ``"bpr"``.
        num_sampled: Items of a sampled softmax; see
            :class:`~ddrm_pyg.nn.future.FutureTraining`.

    Raises:
        ValueError: The vectors' width is not the plug-in's, an unknown
            ``train_start`` or ``users``, or ``train_start="past"`` without times.
    """

    user_emb: Tensor
    item_emb: Tensor
    history_weight: Tensor | None

    def __init__(
        self,
        ddrm: DDRM,
        embeddings: Any,
        *,
        history_weight: Tensor | None = None,
        train_start: TrainStart = "item",
        users: UserDraw = "uniform",
        seed: int = 0,
        edge_time: Tensor | None = None,
        scales: Sequence[float] = SCALES,
        beside: Sequence[nn.Module] = (),
        window: int = 10,
        cuts: int = 4,
        loss: FutureLoss = "softmax",
        num_sampled: int | None = None,
    ) -> None:
        super().__init__()
        check_among(get_args(TrainStart), train_start=train_start)
        check_among(get_args(UserDraw), users=users)
        emb = as_embeddings(embeddings)
        self.future: FutureTraining | None = None
        if train_start == "past":
            emb = ddrm._cast(emb)
            if edge_time is None:
                raise ValueError(
                    "'edge_time' must be given with train_start='past': the data's "
                    "edge_time, or torch.arange(E) where the interactions stand in "
                    "the order of the events"
                )
            sources = [HistoryMeans(emb.item, scales), *beside]
            self.future = FutureTraining(
                Past(sources, ddrm.embedding_dim),
                edge_time,
                window=window,
                cuts=cuts,
                loss=loss,
                num_sampled=num_sampled,
            )
        else:
            emb = ddrm._fitting(emb)
        self.ddrm = ddrm
        self.train_start = train_start
        self.users = users
        self.seed = seed
        # frozen and known to the caller: not part of the state dict
        self.register_buffer("user_emb", emb.user, persistent=False)
        self.register_buffer("item_emb", emb.item, persistent=False)
        self.register_buffer("history_weight", history_weight, persistent=False)
        self._sums: HistorySums | None = None  # of the graph that was last trained on

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.ddrm!r}, {self.embeddings!r})"

    @property
    def embeddings(self) -> Embeddings:
        """The frozen vectors."""
        return Embeddings(self.user_emb, self.item_emb)

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterator[Triplets] | Iterator[Cuts]:
        """Yield one epoch of triplets, or of cuts."""
        self.embeddings.check_matches(graph.num_users, graph.num_items)
        if self.future is not None:
            return self.future.batches(
                graph, batch_size=batch_size, generator=generator
            )
        if self.history_weight is not None:
            graph.check_per_edge(self.history_weight, "history_weight")
        return triplet_batches(
            graph, batch_size=batch_size, generator=generator, users=self.users
        )

    def losses(
        self,
        batch: Triplets | Cuts,
        graph: InteractionGraph,
        *,
        generator: torch.Generator,
    ) -> Iterator[Tensor]:
        """Yield the loss ``[B]`` of a batch."""
        if self.future is not None and isinstance(batch, Cuts):
            yield self.future.loss(self.ddrm, batch, graph, generator=generator)
            return
        assert isinstance(batch, Triplets)
        history_emb = None
        if self.train_start == "history":
            sums = self._history_sums(graph)
            history_emb = sums.mean_without(batch.user, batch.pos_item)
        yield self.ddrm.loss(
            F.embedding(batch.user, self.user_emb),
            F.embedding(batch.pos_item, self.item_emb),
            F.embedding(batch.neg_item, self.item_emb),
            history_emb=history_emb,
            generator=generator,
        )

    def _history_sums(self, graph: InteractionGraph) -> HistorySums:
        if self._sums is None or self._sums.graph is not graph:
            self._sums = HistorySums(graph, self.item_emb, self.history_weight)
        return self._sums

    def scorer(self, graph: InteractionGraph) -> Embeddings:
        """Generate all ideal items; equal seeds give equal rankings."""
        if self.future is not None:
            return self.rank(self.future.sequences(graph))
        generator = torch.Generator(self.user_emb.device).manual_seed(self.seed)
        return self.ddrm(
            self.user_emb,
            self.item_emb,
            graph,
            history_weight=self.history_weight,
            generator=generator,
        )

    def generate(self, histories: Sequence[Tensor]) -> Embeddings:
        """Generate ideal items for new users, from histories in order.

        Of ``train_start="past"``. A user of the train graph gets what :meth:`scorer`
        has for the same history, and what a user gets depends on that history alone,
        unless the start is noised.

        Args:
            histories: One ``[L]`` int64 tensor of items per user, from first to last.

        Returns:
            Embeddings with a row per history.

        Raises:
            ValueError: Another ``train_start``, or an item out of range.
        """
        if self.future is None:
            raise ValueError(
                "'train_start' must be 'past' for histories in order (got "
                f"'{self.train_start}'); 'ddrm.generate' takes history means"
            )
        return self.rank(UserSequences.from_histories(histories, len(self.item_emb)))

    def rank(self, sequences: UserSequences) -> Embeddings:
        """Generate ideal items for histories in order, as :meth:`generate` does."""
        assert self.future is not None
        generator = torch.Generator(self.user_emb.device).manual_seed(self.seed)
        return self.future.embeddings(self.ddrm, sequences, generator=generator)


def _count_as_trained(ddrm: nn.Module, keys: Any) -> None:
    ddrm._warn_untrained = False  # type: ignore[assignment]


def _in_chunks(
    function: Callable[[Tensor, Tensor], Tensor], x_t: Tensor, cond: Tensor
) -> Tensor:
    """Apply a function of rows and their guides to some rows at a time."""
    chunks = zip(x_t.split(_CHUNK), cond.split(_CHUNK), strict=True)
    return torch.cat([function(rows, guides) for rows, guides in chunks])


def _dropout(dropout: float | None, denoiser: Any, attention: Attention) -> float:
    """Decide how much is dropped: nothing where the authors' code has no dropout."""
    keeps_all = denoiser == "transformer" and attention == "gate"
    if dropout is None:
        return 0.0 if keeps_all else 0.5
    check_share(dropout=dropout)
    if keeps_all and dropout > 0:
        raise ValueError(
            f"'dropout' must be 0 with attention='gate' (got {dropout}); "
            "'learned-gate' drops"
        )
    return dropout


def _network(
    denoiser: Denoiser | nn.Module | Callable[[int], nn.Module],
    attention: Attention,
    embedding_dim: int,
    hidden_dims: Sequence[int],
    time_dim: int,
    activation: str,
) -> nn.Module:
    if isinstance(denoiser, nn.Module):
        return copy.deepcopy(denoiser)
    if not isinstance(denoiser, str):
        return denoiser(embedding_dim)
    if denoiser == "mlp":
        return MLPDenoiser(embedding_dim, hidden_dims, time_dim, activation)
    if attention != "multi-head":
        learn_time = attention == "learned-gate"
        return GateDenoiser(
            embedding_dim, hidden_dims, activation, learn_time=learn_time
        )
    return TransformerDenoiser(embedding_dim, hidden_dims, time_dim, activation)
