"""Signals of noise, one value per train interaction, higher where noise is likelier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.checks import check_at_least
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import (
    SimilarityScorer,
    cooccurrence,
    inverse_gram,
)

_USERS = 1024
"""Users whose dense rows are held at a time."""

_PAIRS = 1 << 16
"""Interactions whose vectors are held at a time."""


def popularity_signal(graph: InteractionGraph) -> Tensor:
    """Rarity: minus the number of the item's interactions, ``[E]``."""
    return -graph.degree("item")[graph.edge_index[1]].float()


def activity_signal(graph: InteractionGraph) -> Tensor:
    """Restlessness: the number of the user's interactions, ``[E]``.

    Who clicks on everything likes a smaller share of it.
    """
    return graph.degree("user")[graph.edge_index[0]].float()


def coherence_signal(item_knn: Tensor, graph: InteractionGraph) -> Tensor:
    """Incoherence: the mean of a pair signal over the user's interactions, ``[E]``.

    A history of items that others do not combine is likelier to hold misclicks, and
    its owner likes less of it.

    Args:
        item_knn: ``[E]``, of :func:`item_knn_signal`.
        graph: Train interactions.

    Raises:
        ValueError: ``item_knn`` has another shape.
    """
    graph.check_per_edge(item_knn, "item_knn")
    user = graph.edge_index[0]
    total = item_knn.new_zeros(graph.num_users).index_add(0, user, item_knn)
    return (total / graph.degree("user").clamp(min=1))[user]


class LossTrajectory(nn.Module):
    r"""Wraps a backend and notes every interaction's loss on the way of its training.

    T-CE (`"Denoising Implicit Feedback for Recommendation"
    <https://arxiv.org/abs/2006.04153>`_, WSDM 2021) rests on noise being learnt late:
    its loss stays large while that of the others falls. Before each epoch, and with
    :meth:`note` once more after the last, the cross-entropy of every train
    interaction, :math:`-\log \sigma(s_{ui})`, is added to a running sum; the scores
    of one epoch and the last ones are kept. Training itself is the backend's, bit
    for bit.

    Args:
        backend: A Backend that is a Recommender, such as
            :class:`ddrm_pyg.nn.models.MF`.
        num_edges: E, train interactions.
        halfway: Epoch whose scores are compared with the last, see :meth:`change`; 0
            for those of the initial weights.

    Raises:
        ValueError: ``halfway`` < 0.
    """

    total: Tensor
    early: Tensor
    last: Tensor
    num_notes: Tensor

    def __init__(self, backend: Any, num_edges: int, *, halfway: int = 0) -> None:
        super().__init__()
        check_at_least(0, halfway=halfway)
        self.backend = backend
        self.halfway = halfway
        # buffers, so that a resumed run has the same sum
        for name in ("total", "early", "last"):
            self.register_buffer(name, torch.zeros(num_edges))
        self.register_buffer("num_notes", torch.zeros((), dtype=torch.int64))

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Any:
        """Note all losses, then yield one epoch of the backend's batches."""
        self.note(graph)
        return self.backend.batches(graph, batch_size=batch_size, generator=generator)

    def losses(
        self, batch: Any, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the backend's losses."""
        return self.backend.losses(batch, graph, generator=generator)

    def scorer(self, graph: InteractionGraph) -> Embeddings:
        """Rank as the backend does."""
        return self.backend.scorer(graph)

    @torch.no_grad()
    def note(self, graph: InteractionGraph) -> None:
        """Add the present loss of every interaction to the sum."""
        self.last = _pair_scores(self.backend(graph), graph)
        if self.num_notes == self.halfway:
            self.early = self.last.clone()
        self.total += F.softplus(-self.last)
        self.num_notes += 1

    def signal(self) -> Tensor:
        """Mean loss of every interaction over the epochs, ``[E]``."""
        return self.total / self.num_notes.clamp(min=1)

    def change(self) -> Tensor:
        r"""How far the first and the second half of the training differ, ``[E]``.

        :math:`|\sigma(s_{ui}) - \sigma(s'_{ui})|`, of the scores after ``halfway``
        epochs and the last ones that were noted: :func:`disagreement_signal` of one
        model with itself, at no cost. What is memorised late is likelier to be noise.
        """
        return (self.early.sigmoid() - self.last.sigmoid()).abs()


def disagreement_signal(
    one: Embeddings, other: Embeddings, graph: InteractionGraph
) -> Tensor:
    r"""How far two models differ on every interaction, ``[E]`` in [0, 1].

    :math:`|\sigma(s_{ui}) - \sigma(s'_{ui})|`, the idea of DeCA
    (`"Learning Robust Recommenders through Cross-Model Agreement"
    <https://arxiv.org/abs/2105.09605>`_, WWW 2022): models of other seeds or kinds
    agree on clean pairs and differ on noisy ones.
    """
    scores = (_pair_scores(emb, graph).sigmoid() for emb in (one, other))
    return (next(scores) - next(scores)).abs()


@torch.no_grad()
def reconstruction_signal(
    reconstruction_loss: Callable[..., Tensor],
    emb: Embeddings,
    graph: InteractionGraph,
    *,
    num_draws: int = 2,
    seed: int = 0,
) -> Tensor:
    """How badly a trained denoiser rebuilds the two vectors of an interaction, ``[E]``.

    Each vector is noised and rebuilt under the guidance of the other, so that a user
    and an item which do not belong together mislead the denoiser.

    Args:
        reconstruction_loss: ``(user_emb, item_emb, neg_item_emb, *, generator)`` to
            ``[B]``: ``DDRM.loss`` of a plug-in in evaluation mode with
            ``reconstruction_weight=1`` and ``gamma=0``, which reads no negative.
        emb: What the denoiser was trained on.
        graph: Train interactions.
        num_draws: Steps and noises drawn per interaction; their mean is returned.
        seed: Seed of the draws.
    """
    generator = torch.Generator(emb.user.device).manual_seed(seed)
    parts = []
    for user, item in graph.edge_index.split(_PAIRS, dim=1):
        rows = emb.user[user], emb.item[item], emb.item[item]
        draws = [
            reconstruction_loss(*rows, generator=generator) for _ in range(num_draws)
        ]
        parts.append(torch.stack(draws).mean(0))
    return torch.cat(parts)


@torch.no_grad()
def item_knn_signal(graph: InteractionGraph) -> Tensor:
    r"""Minus the pair's mean item cosine, counted without the pair itself, ``[E]``.

    .. math:: s_{ui} = \frac{1}{d_u - 1} \sum_{j \in I_u \setminus i}
              \frac{c_{ij} - 1}{\sqrt{(d_i - 1) \, d_j}}

    with c the users that two items share and d the numbers of interactions: what the
    cosines are once (u, i), and so u's own part in every :math:`c_{ij}`, is deleted.
    0 where nobody else has the item or the user has no other.
    """
    pairs = graph.without_repeats()
    user, item = graph.edge_index
    degree = pairs.degree("item").float()
    scale = degree.clamp(min=1).rsqrt()
    everyone = torch.arange(graph.num_users, device=graph.device)
    shared = torch.empty(graph.num_edges, device=graph.device)
    for start, block in cooccurrence(pairs):
        stop = start + block.shape[1]
        column = torch.arange(stop - start, device=graph.device)
        block[column + start, column] = 0
        block *= scale.unsqueeze(1)
        scores = SimilarityScorer(pairs, block).scores(everyone)
        within = ((item >= start) & (item < stop)).nonzero().flatten()
        shared[within] = scores[user[within], item[within] - start]
    own = torch.zeros(graph.num_users, device=graph.device)
    own = own.index_add(0, pairs.edge_index[0], scale[pairs.edge_index[1]])
    others = (degree[item] - 1).clamp(min=1).sqrt()
    rest = (pairs.degree("user")[user] - 1).clamp(min=1)
    similarity = (shared - (own[user] - scale[item])) / (others * rest)
    return -torch.where(degree[item] > 1, similarity, 0)  # 0, not what rounding left


@torch.no_grad()
def ease_signal(graph: InteractionGraph, *, l2: float = 1000.0) -> Tensor:
    r"""Minus the score that EASE, solved without the pair, gives the pair, ``[E]``.

    Deleting (u, i) changes the regression of item i on the other items in one target,
    from 1 to 0, so that its new prediction is the old one less u's leverage. With
    :math:`P = (X^\top X + \lambda I)^{-1}` and :math:`v = P x_u` that is

    .. math:: s_{ui} = 1 - \frac{v_i}{P_{ii}}
              - \left( x_u^\top v - \frac{v_i^2}{P_{ii}} \right)

    Solved in float64; time grows with the cube and memory with the square of the
    number of items.

    Args:
        graph: Train interactions.
        l2: :math:`\lambda` of :class:`ddrm_pyg.nn.models.EASE`.

    Raises:
        ValueError: ``l2`` <= 0.
    """
    if not l2 > 0:
        raise ValueError(f"'l2' must be > 0 (got {l2})")
    pairs = graph.without_repeats()
    precision = inverse_gram(pairs, l2).float()
    scorer = SimilarityScorer(pairs, precision)
    by_user = graph.edge_index[0].argsort(stable=True)
    signal = torch.empty(graph.num_edges, device=graph.device)
    first = 0
    for users in torch.arange(graph.num_users, device=graph.device).split(_USERS):
        size = int(graph.degree("user")[users].sum())
        edge = by_user[first : first + size]
        first += size
        v = scorer.scores(users)
        row, item = pairs.rows(users)
        norm = v.new_zeros(len(users)).index_add(0, row, v[row, item])
        row, item = graph.edge_index[0, edge] - users[0], graph.edge_index[1, edge]
        value, diagonal = v[row, item], precision.diagonal()[item]
        signal[edge] = (value - value.square()) / diagonal + norm[row] - 1
    return signal


def _pair_scores(emb: Embeddings, graph: InteractionGraph) -> Tensor:
    """Inner products of all interactions ``[E]``, in bounded memory."""
    parts = [
        (F.embedding(user, emb.user).float() * F.embedding(item, emb.item)).sum(-1)
        for user, item in graph.edge_index.split(_PAIRS, dim=1)
    ]
    return torch.cat(parts)
