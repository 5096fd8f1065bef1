"""AdaGCL: contrastive learning between two views of the graph that are learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.utils import scatter

from ddrm_pyg.checks import check_at_least, check_positive, check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph, as_graph
from ddrm_pyg.graph.sampling import NegativeDraw
from ddrm_pyg.loader import Triplets, UserDraw
from ddrm_pyg.losses.contrastive import check_temperature, decoupled_info_nce_loss
from ddrm_pyg.losses.multinomial import gaussian_kl
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.nn.conv import LightGraphConv
from ddrm_pyg.nn.models._pairwise import PairwiseBackend, triplet_scores
from ddrm_pyg.typing import PairLoss, PointLoss

_CHUNK = 1 << 14
"""Edges that the decoder scores at a time: their activations stay in the cache."""

_KL_WEIGHT = 0.1
"""Weight of the prior on the latent vectors, a constant of the authors' code."""


class AdaGCL(PairwiseBackend):
    r"""Light convolution with self loops, contrasted in two generated views.

    `"Adaptive Graph Contrastive Learning for Recommendation"
    <https://arxiv.org/abs/2305.10837>`_ (KDD 2023). Embeddings are the *sum* of layers
    0 ... L of propagation with :math:`\hat A = D^{-1/2} (A + I) D^{-1/2}`. One view of
    the graph comes from a :class:`GraphVAE`, the other from a :class:`DenoisingNet`.
    Every batch takes three optimiser steps:

    1. contrast: ``ssl_weight`` :math:`\cdot\, \ell(\text{view 1}, \text{view 2})`;
    2. information bottleneck, with the same first view and embeddings that step 1 has
       moved: ``ib_weight`` :math:`\cdot` the agreement :math:`\ell` of each view with
       itself as it was before step 1;
    3. the pairwise loss and ``l2`` times the squared norm of all tables, together with
       the losses of the two generators.

    :math:`\ell` is InfoNCE over the batch's users and positive items in one pool,
    without the positive in the denominator
    (:func:`~ddrm_pyg.losses.contrastive.decoupled_info_nce_loss`). The views are drawn
    with the generator given to ``losses``; the gates' temperature falls by epoch, which
    ``batches`` counts in a buffer.

    As in the authors' code: the generators get no gradient from steps 1 and 2 (views
    are made without gradient and view 1 by a hard threshold), and step 2 *raises* the
    agreement, although the paper speaks of a bottleneck. Unlike it:

    - its denoising net trains on the tables as they were at construction, but gates
      the current ones; here both are current, unless ``stale_features``;
    - attention exists for any number of layers, not for two;
    - sums over a batch are divided by its own size, also in a short last batch, and
      :math:`\log \sigma` cannot overflow;
    - a view without any edge left is empty instead of undefined;
    - one optimiser holds all parameters, which is the same: those without a gradient
      rest. The denoising net keeps an Adam epsilon of its own;
    - vectors are 64 wide, like those of the other backends, not 32.

    Published are batches of 4096, a learning rate of 1e-3 and 200 epochs. A step costs
    about thirty light convolutions, a decoder pass over all edges and three products of
    the batch's nodes with each other.

    Args:
        num_users: Number of user rows.
        num_items: Number of item rows.
        embedding_dim: Width of the vectors.
        num_layers: L.
        ssl_weight: Weight of step 1.
        ib_weight: Weight of step 2.
        temperature: Of the contrast; lower is harder on near candidates.
        l0_weight: Weight of the expected share of open gates.
        gamma: Lower end of the stretched gates, below 0.
        zeta: Upper end of the stretched gates, above 1.
        gate_temperature: Of the gates in the first epoch.
        gate_decay: Factor by which that falls in every epoch.
        min_gate_temperature: Where it stops falling.
        stale_features: Train the denoising net on the initial tables, as the authors'
            code does.
        pair_loss: A PairLoss of a positive against a negative score, or a PointLoss of
            scores against labels, told apart by the name of the second parameter
            (``neg_score`` or ``label``). The generators keep BPR.
        l2: Weight of the squared norm of all parameters of a part: of the tables, of
            the encoder of view 1, of the denoising net.
        users: How the users of triplets are drawn, see
            :func:`ddrm_pyg.loader.triplet_batches`.
        negatives: How their negatives are: ``"uniform"``, or by ``"popularity"``
            (WBPR), see :func:`ddrm_pyg.graph.sampling.draw_negatives`.

    Raises:
        TypeError: ``pair_loss`` is neither pairwise nor pointwise.
        ValueError: A number out of its range.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        *,
        num_layers: int = 2,
        ssl_weight: float = 0.1,
        ib_weight: float = 0.1,
        temperature: float = 0.5,
        l0_weight: float = 1e-4,
        gamma: float = -0.45,
        zeta: float = 1.05,
        gate_temperature: float = 2.0,
        gate_decay: float = 0.98,
        min_gate_temperature: float = 0.05,
        stale_features: bool = False,
        pair_loss: PairLoss | PointLoss = bpr_loss,
        l2: float = 1e-5,
        users: UserDraw = "interactions",
        negatives: NegativeDraw = "uniform",
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            embedding_dim,
            pair_loss=pair_loss,
            l2=l2,
            init_std=0.0,  # the initial tables are those of reset_parameters
            users=users,
            negatives=negatives,
        )
        check_temperature(temperature)
        check_size(1, num_layers=num_layers)
        check_at_least(
            0, ssl_weight=ssl_weight, ib_weight=ib_weight, l0_weight=l0_weight
        )
        check_positive(
            gate_temperature=gate_temperature,
            min_gate_temperature=min_gate_temperature,
        )
        if not 0 < gate_decay <= 1:
            raise ValueError(f"'gate_decay' must be in (0, 1] (got {gate_decay})")
        self.num_layers = num_layers
        self.ssl_weight = ssl_weight
        self.ib_weight = ib_weight
        self.temperature = temperature
        self.l0_weight = l0_weight
        self.gate_temperature = gate_temperature
        self.gate_decay = gate_decay
        self.min_gate_temperature = min_gate_temperature
        self.stale_features = stale_features
        self.vae = GraphVAE(num_users, num_items, embedding_dim, num_layers, l2=l2)
        self.denoiser = DenoisingNet(
            embedding_dim, num_layers, gamma=gamma, zeta=zeta, l2=l2
        )
        self.epochs_begun: Tensor
        self.register_buffer("epochs_begun", torch.tensor(0))
        self.initial_user: Tensor | None
        self.initial_item: Tensor | None
        for name, table in zip(("user", "item"), self._tables(), strict=True):
            kept = table.detach().clone() if stale_features else None
            self.register_buffer(f"initial_{name}", kept)

    def reset_parameters(self) -> None:
        """Draw all parameters anew from torch's global generator, begin at epoch 0."""
        nn.init.xavier_uniform_(self.user_table)
        nn.init.xavier_uniform_(self.item_table)
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                cast(nn.Linear, module).reset_parameters()
        start = {
            "epochs_begun": torch.tensor(0),
            "initial_user": self.user_table.detach(),
            "initial_item": self.item_table.detach(),
        }
        for name, buffer in self.named_buffers(recurse=False):
            buffer.copy_(start[name])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the denoising net the Adam epsilon of the authors' code."""
        own = {id(parameter) for parameter in self.denoiser.parameters()}
        rest = [p for p in self.parameters() if id(p) not in own]
        return [
            {"params": rest},
            {"params": list(self.denoiser.parameters()), "eps": 1e-3},
        ]

    def forward(self, graph: InteractionGraph | Tensor | Any) -> Embeddings:
        """Sum the layers of the full graph.

        Args:
            graph: Train interactions: an :class:`InteractionGraph` (its blocks are
                cached), an ``edge_index`` ``[2, E]`` or a ``SparseTensor``
                ``[num_items, num_users]``.
        """
        graph = as_graph(graph, self.num_users, self.num_items)
        return encode(self._tables(), with_self_loops(graph), self.num_layers)

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterator[Triplets]:
        """Begin an epoch: cool the gates, then yield its triplets."""
        self.epochs_begun += 1
        return super().batches(graph, batch_size=batch_size, generator=generator)

    def losses(
        self, batch: Triplets, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the three steps' losses of each triplet, ``[B]``."""
        adjacency = with_self_loops(graph)
        first_view = self.vae.view(adjacency, generator=generator)
        views = self._embed_views(graph, first_view)
        before = [Embeddings(*(table.detach() for table in view)) for view in views]
        yield self.ssl_weight * self._contrast(batch, *views)

        views = self._embed_views(graph, first_view)
        agreement = [
            self._contrast(batch, now, then)
            for now, then in zip(views, before, strict=True)
        ]
        yield self.ib_weight * torch.stack(agreement).sum(0)

        (loss,) = super().losses(batch, graph, generator=generator)
        loss = loss + self.vae.loss(batch, adjacency, generator=generator)
        yield loss + self.denoiser.loss(
            batch,
            self._denoiser_input(),
            graph,
            temperature=self.current_gate_temperature(),
            l0_weight=self.l0_weight,
            generator=generator,
        )

    def penalty(
        self, batch: Triplets, emb: Embeddings, *, generator: torch.Generator
    ) -> Tensor:
        """Regularise all rows of the tables, as published; the same for all ``[B]``.

        The contrast is no part of this: it has steps of its own.
        """
        return (self.l2 * _squares(self._tables())).expand(batch.user.size(0))

    def current_gate_temperature(self) -> float:
        """Temperature of the gates in the current epoch."""
        epoch = max(int(self.epochs_begun) - 1, 0)
        return max(
            self.min_gate_temperature, self.gate_temperature * self.gate_decay**epoch
        )

    def _tables(self) -> Embeddings:
        return Embeddings(self.user_table, self.item_table)

    def _denoiser_input(self) -> Embeddings:
        if self.initial_user is not None and self.initial_item is not None:
            return Embeddings(self.initial_user, self.initial_item)
        return Embeddings(self.user_table.detach(), self.item_table.detach())

    def _embed_views(
        self, graph: InteractionGraph, first_view: Adjacency
    ) -> list[Embeddings]:
        """Embed in both views; the second one depends on the tables as they are."""
        tables = self._tables()
        return [
            encode(tables, first_view, self.num_layers),
            self.denoiser(tables, graph),
        ]

    def _contrast(self, batch: Triplets, view: Embeddings, other: Embeddings) -> Tensor:
        """Contrast the batch's users and positive items in one pool, ``[B]``."""
        node = torch.cat([batch.user, view.num_users + batch.pos_item])
        loss = decoupled_info_nce_loss(
            torch.cat(view), torch.cat(other), node, temperature=self.temperature
        )
        return loss.view(2, -1).mean(0)


class Adjacency(NamedTuple):
    r"""A weighted adjacency matrix with self loops, of three factors.

    .. math:: (\text{adjacency} \,@\, x)_a
        = s_a \sum_b w_{ab} s_b x_b + \ell_a x_a

    Attributes:
        graph: Which pairs are neighbours.
        scale: :math:`s`, ``[num_users, 1]`` and ``[num_items, 1]``.
        loop: :math:`\ell`, likewise.
        edge_weight: :math:`w`, ``[2, E]``: of messages to users and of messages to
            items; the graph's own normalisation if None.
    """

    graph: InteractionGraph
    scale: Embeddings
    loop: Embeddings
    edge_weight: Tensor | None = None

    def __matmul__(self, x: Embeddings) -> Embeddings:
        """Propagate once."""
        out = LightGraphConv()(
            _each(torch.mul, self.scale, x), self.graph, self.edge_weight
        )
        return _each(_multiply_add, self.scale, out, self.loop, x)


def with_self_loops(graph: InteractionGraph) -> Adjacency:
    r"""Normalise with self loops: :math:`\hat A = D^{-1/2} (A + I) D^{-1/2}`.

    The graph's own blocks are :math:`(d_u d_i)^{-1/2}`, so :math:`\sqrt{d / (d + 1)}`
    on both sides makes :math:`((d_u + 1)(d_i + 1))^{-1/2}` of them.
    """
    degree = _degrees(graph)
    return Adjacency(
        graph,
        _each(lambda d: (d / (d + 1)).sqrt(), degree),
        _each(lambda d: 1 / (d + 1), degree),
    )


def encode(x: Embeddings, adjacency: Adjacency, num_layers: int) -> Embeddings:
    """Sum layers 0 ... L of propagation."""
    total = x
    for _ in range(num_layers):
        x = adjacency @ x
        total = _each(torch.add, total, x)
    return total


class GraphVAE(nn.Module):
    r"""View 1: a variational graph auto-encoder that says which edges to keep.

    From tables of its own, propagated, come a mean and a standard deviation for every
    node; a pair of drawn vectors is an edge with probability
    :math:`\sigma(\mathrm{MLP}(\mathrm{ReLU}(z_a \odot z_b)))`.

    Args:
        num_users: Number of user rows.
        num_items: Number of item rows.
        dim: Width of the vectors.
        num_layers: Layers of propagation.
        l2: Weight of the squared norm of all parameters but the decoder's.
    """

    def __init__(
        self, num_users: int, num_items: int, dim: int, num_layers: int, *, l2: float
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.l2 = l2
        self.user_table = nn.Parameter(torch.empty(num_users, dim))
        self.item_table = nn.Parameter(torch.empty(num_items, dim))
        self.mean = _mlp(dim, dim)
        self.std = nn.Sequential(_mlp(dim, dim), nn.Softplus())
        self.decoder = nn.Sequential(nn.ReLU(), _mlp(dim, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the tables anew from torch's global generator."""
        nn.init.xavier_uniform_(self.user_table)
        nn.init.xavier_uniform_(self.item_table)

    def forward(self, adjacency: Adjacency) -> tuple[Embeddings, Embeddings]:
        """Return the mean and the standard deviation of every node."""
        tables = Embeddings(self.user_table, self.item_table)
        x = encode(tables, adjacency, self.num_layers)
        return _each(self.mean, x), _each(self.std, x)

    def loss(
        self, batch: Triplets, adjacency: Adjacency, *, generator: torch.Generator
    ) -> Tensor:
        """Reconstruct the triplets' edges, stay near the prior and rank, ``[B]``."""
        mean, std = self(adjacency)
        z = _draw(mean, std, generator)
        user = F.embedding(batch.user, z.user)
        pos_item = F.embedding(batch.pos_item, z.item)
        neg_item = F.embedding(batch.neg_item, z.item)
        pos_logit, neg_logit = (
            self.decoder(user * item).squeeze(-1) for item in (pos_item, neg_item)
        )
        reconstruction = F.softplus(-pos_logit) + F.softplus(neg_logit)
        prior = gaussian_kl(torch.cat(mean), 2 * torch.cat(std).log()).mean()
        encoder = [p for name, p in self.named_parameters() if "decoder" not in name]
        return (
            reconstruction
            + _KL_WEIGHT * prior
            + bpr_loss(*triplet_scores(z, batch))
            + self.l2 * _squares(encoder)
        )

    @torch.no_grad()
    def view(self, adjacency: Adjacency, *, generator: torch.Generator) -> Adjacency:
        """Keep the entries of probability >= 1/2, self loops among them.

        They keep their weight, divided by the kept share of all entries.
        """
        graph = adjacency.graph
        mean, std = self(adjacency)
        z = _draw(mean, std, generator)
        kept_loop = _each(lambda table: self._is_edge(table, table), z)
        kept_edge = torch.cat(
            [
                self._is_edge(
                    z.user.index_select(0, user), z.item.index_select(0, item)
                )
                for user, item in zip(
                    *(row.split(_CHUNK) for row in graph.edge_index), strict=True
                )
            ]
        )
        return keep_entries(adjacency, kept_edge, kept_loop)

    def _is_edge(self, a: Tensor, b: Tensor) -> Tensor:
        return self.decoder(a * b) >= 0


def keep_entries(
    adjacency: Adjacency, kept_edge: Tensor, kept_loop: Embeddings
) -> Adjacency:
    r"""Keep some entries of :math:`\hat A`, divided by their share of all entries.

    Args:
        adjacency: Of :func:`with_self_loops`.
        kept_edge: ``[E, 1]`` bool, for both directions.
        kept_loop: Bool ``[num_users, 1]`` and ``[num_items, 1]``.
    """
    graph = adjacency.graph
    kept = 2 * kept_edge.sum() + sum(loop.sum() for loop in kept_loop)
    size = 2 * kept_edge.numel() + sum(loop.numel() for loop in kept_loop)
    share = kept.clamp(min=1) / size
    remaining = graph.subgraph(kept_edge.flatten())
    return Adjacency(
        remaining,
        _each(
            lambda d, all_d: (d / (all_d + 1) / share).sqrt(),
            _degrees(remaining),
            _degrees(graph),
        ),
        _each(lambda loop, kept: loop * kept / share, adjacency.loop, kept_loop),
    )


class DenoisingNet(nn.Module):
    r"""View 2: hard-concrete gates on all entries of the adjacency, layer by layer.

    `"Learning Sparse Neural Networks through L0 Regularization"
    <https://arxiv.org/abs/1712.01312>`_ (ICLR 2018). The entry through which node *a*
    hears node *b* has
    :math:`\log \alpha_{ab} = w^\top [\mathrm{MLP}(x_a), \mathrm{MLP}'(x_b)] + c`, from
    the vectors that enter the layer. The gates replace the entries and are normalised
    by the square roots of their row sums, which may not stretch a row by more than 10.

    Args:
        dim: Width of the vectors.
        num_layers: Layers of propagation, each with its own attention.
        gamma: Lower end of the stretched gates, below 0.
        zeta: Upper end of the stretched gates, above 1.
        l2: Weight of the squared norm of all parameters.

    Raises:
        ValueError: ``gamma`` or ``zeta`` out of range.
    """

    def __init__(
        self, dim: int, num_layers: int, *, gamma: float, zeta: float, l2: float
    ) -> None:
        super().__init__()
        if not gamma < 0:
            raise ValueError(f"'gamma' must be < 0 (got {gamma})")
        if not zeta > 1:
            raise ValueError(f"'zeta' must be > 1 (got {zeta})")
        self.gamma = gamma
        self.zeta = zeta
        self.l2 = l2
        self.layers = nn.ModuleList(_Attention(dim) for _ in range(num_layers))

    def forward(self, x: Embeddings, graph: InteractionGraph) -> Embeddings:
        """Embed with the gates' expected state; gradients reach ``x`` only."""
        total = x
        for layer in self.layers:
            with torch.no_grad():
                gate = hard_concrete(layer(x, graph), self.gamma, self.zeta)
                adjacency = gated(graph, gate)
            x = adjacency @ x
            total = _each(torch.add, total, x)
        return total

    def loss(
        self,
        batch: Triplets,
        x: Embeddings,
        graph: InteractionGraph,
        *,
        temperature: float,
        l0_weight: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Rank with drawn gates and close as many as possible, ``[B]``.

        Args:
            batch: Triplets.
            x: Tables, without gradient.
            graph: Train interactions.
            temperature: Of the gates.
            l0_weight: Weight of the expected share of open gates, summed over layers.
            generator: Source of the gates' noise.
        """
        total, regularisation = x, self.l2 * _squares(self.parameters())
        for layer in self.layers:
            log_alpha = layer(x, graph)
            gate = hard_concrete(
                log_alpha,
                self.gamma,
                self.zeta,
                temperature=temperature,
                generator=generator,
            )
            x = gated(graph, gate) @ x
            total = _each(torch.add, total, x)
            is_open = open_probability(log_alpha, self.gamma, self.zeta, temperature)
            regularisation = regularisation + l0_weight * is_open.mean()
        return bpr_loss(*triplet_scores(total, batch)) + regularisation


class _Attention(nn.Module):
    """Scores all entries of an adjacency matrix with self loops."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hearing = nn.Sequential(nn.Linear(dim, dim), nn.ReLU())
        self.heard = nn.Sequential(nn.Linear(dim, dim), nn.ReLU())
        self.score = nn.Linear(2 * dim, 1)

    def forward(self, x: Embeddings, graph: InteractionGraph) -> Tensor:
        """Return ``[2 E + num_users + num_items]``: to users, to items, self loops.

        A score is a sum of one number per end, so nothing is computed per entry.
        """
        left, right = self.score.weight.view(2, -1)
        a = _each(lambda table: self.hearing(table) @ left + self.score.bias, x)
        b = _each(lambda table: self.heard(table) @ right, x)
        user, item = graph.edge_index
        return torch.cat(
            [
                a.user.index_select(0, user) + b.item.index_select(0, item),
                a.item.index_select(0, item) + b.user.index_select(0, user),
                a.user + b.user,
                a.item + b.item,
            ]
        )


def hard_concrete(
    log_alpha: Tensor,
    gamma: float,
    zeta: float,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Open and close gates.

    .. math:: g = \min(1, \max(0, \sigma((\mathrm{logit}(u) + \log \alpha) / T)
                  (\zeta - \gamma) + \gamma)), \quad u \sim U(0, 1)

    Args:
        log_alpha: Scores of any shape.
        gamma: Lower end before clamping.
        zeta: Upper end before clamping.
        temperature: T, where there is noise.
        generator: Source of the noise; None leaves out noise and temperature.

    Returns:
        Gates in [0, 1], shape of ``log_alpha``.
    """
    if generator is not None:
        noise = torch.rand(
            log_alpha.shape, generator=generator, device=generator.device
        )
        logit = torch.logit(noise, eps=1e-7).to(log_alpha.device)
        log_alpha = (logit + log_alpha) / temperature
    return (log_alpha.sigmoid() * (zeta - gamma) + gamma).clamp(0, 1)


def open_probability(
    log_alpha: Tensor, gamma: float, zeta: float, temperature: float
) -> Tensor:
    r"""Probability that a drawn gate is not closed, shape of ``log_alpha``.

    .. math:: P(g > 0) = \sigma(\log \alpha - T \log(-\gamma / \zeta))
    """
    return (log_alpha - temperature * math.log(-gamma / zeta)).sigmoid()


def gated(graph: InteractionGraph, gate: Tensor) -> Adjacency:
    """Put gates in place of the entries and normalise by their row sums.

    Args:
        graph: Train interactions.
        gate: ``[2 E + num_users + num_items]``: to users, to items, self loops.
    """
    size = graph.num_edges
    edge_weight, loop = gate[: 2 * size].view(2, size), gate[2 * size :].unsqueeze(1)
    loops = Embeddings(*loop.split([graph.num_users, graph.num_items]))
    sums = Embeddings(
        scatter(edge_weight[0], graph.edge_index[0], dim_size=graph.num_users),
        scatter(edge_weight[1], graph.edge_index[1], dim_size=graph.num_items),
    )
    scale = _each(
        lambda total, own: (total.unsqueeze(1) + own + 1e-6).rsqrt().clamp(max=10),
        sums,
        loops,
    )
    loops = _each(lambda own, by: own * by.square(), loops, scale)
    return Adjacency(graph, scale, loops, edge_weight)


def _mlp(dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim))


def _each(function: Callable[..., Tensor], *pairs: Embeddings) -> Embeddings:
    """Apply a function to users and to items."""
    return Embeddings(*(function(*tables) for tables in zip(*pairs, strict=True)))


def _multiply_add(scale: Tensor, out: Tensor, loop: Tensor, x: Tensor) -> Tensor:
    return torch.addcmul(scale * out, loop, x)


def _degrees(graph: InteractionGraph) -> Embeddings:
    """Degrees as columns of floats."""
    return Embeddings(
        graph.degree("user").float().unsqueeze(1),
        graph.degree("item").float().unsqueeze(1),
    )


def _draw(mean: Embeddings, std: Embeddings, generator: torch.Generator) -> Embeddings:
    """Draw one vector of each node."""

    def one(mean: Tensor, std: Tensor) -> Tensor:
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
        return mean + noise.to(mean.device) * std

    return _each(one, mean, std)


def _squares(tensors: Iterable[Tensor]) -> Tensor:
    """Sum of all squares."""
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum()
