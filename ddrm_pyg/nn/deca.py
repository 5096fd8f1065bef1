"""DeCA: what two models disagree about is likely to be noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddrm_pyg.checks import check_at_least, check_share, check_size
from ddrm_pyg.embeddings import Embeddings, as_embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import draw_negatives
from ddrm_pyg.loader import Triplets, triplet_batches
from ddrm_pyg.nn.models._pairwise import triplet_scores
from ddrm_pyg.nn.models.mf import MF
from ddrm_pyg.typing import Backend, Scorer

_TABLE_STD = 0.01
"""Standard deviation of the small tables at the start: probabilities near one half."""


class DeCA(nn.Module):
    r"""Denoising with Cross-model Agreement, around any backend.

    `"Learning Robust Recommenders through Cross-Model Agreement"
    <https://arxiv.org/abs/2105.09605>`_ (WWW 2022). A latent preference r is predicted
    by the backend, :math:`f = \sigma(s_{ui})`, and by an auxiliary model, g; small
    models of what is clicked anyway, :math:`h = P(\tilde r = 1 | r = 0)` and
    :math:`h' = P(\tilde r = 1 | r = 1)`, explain the observed :math:`\tilde r`. Even
    iterations denoise positives and trust negatives (DP), odd ones the reverse (DN):

    .. math::
        \mathrm{DP} &= D - (1 - f) \log P_h(\tilde r) + C_1 f \, [\tilde r = 0] \\
        \mathrm{DN} &= D - f \log P_{h'}(\tilde r) + C_2 (1 - f) \, [\tilde r = 1] \\
        D &= \alpha \, \mathrm{KL}(g \| f) + (1 - \alpha) \, \mathrm{KL}(f \| g)

    with :math:`\log x` read as :math:`\log(x + 10^{-5})` throughout. A triplet's loss
    is the sum over its positive and its negative plus the backend's penalty, which is
    never reweighed; the backend's own ``pair_loss`` is not used. h is stepped only in
    DP and h' only in DN. Ranking is the backend's: f serves training.

    DeCA learns g beside f: matrix factorisation, unless ``auxiliary`` is a backend. For
    DeCA(p), ``pretrained=True``, g is another instance of the backend's architecture,
    trained before with plain binary cross-entropy and from then on frozen. It is given
    by its embeddings, so it can neither learn nor be propagated twice, and ``fit``
    trains it as it trains everything:

    .. code-block:: python

        other = MF(graph.num_users, graph.num_items, pair_loss=bce_loss)
        fit(other, data, seed=1)
        target = MF(graph.num_users, graph.num_items)
        fit(DeCA(target, other.scorer(graph), pretrained=True), data, seed=0)

    Departures from the authors' code:

    * Its first iteration, and every one with ``iterative`` off, runs both tasks at once
      with the likelihood of negatives on the positives. DP and DN alternate from the
      first.
    * Its negatives are uniform over all items, because its test for positives never
      matches. They are redrawn here until the user does not own them.
    * DeCA(p) copies the target's initial weights. The paper's other seed is what two
      constructor calls give.
    * Its stopping rule counts rises in the whole run against the last value and keeps
      the last weights. :func:`ddrm_pyg.fit` restores the best ones by validation.
    * Its penalty is :math:`\lambda / (2 \cdot \mathrm{users})` times the squared norm
      of all of f's parameters at every step. Here it is the backend's own.
    * It has no pairwise models; f of a pairwise backend is calibrated by training from
      scratch, not from BPR weights, of whose scores only differences have a meaning.

    The defaults of ``c1``, ``c2`` and ``alpha`` are those published for LightGCN on
    ML-100K (grids 1, 10, 100, 1000 and 0, .5, 1); none exist for the larger sets.

    Args:
        backend: The model to train, a Backend with ``num_users`` and ``num_items``. Its
            own ``batches`` and ``scorer`` are used where it has them; batches need
            fields ``user``, ``pos_item`` and ``neg_item``.
        auxiliary: g. A Backend to learn beside f (None: matrix factorisation); with
            ``pretrained``, embeddings: those of the trained auxiliary, a file of
            them, or a pair ``(user, item)``.
        pretrained: Whether g is trained already and frozen, DeCA(p).
        c1: :math:`C_1`, cost of liking a trusted negative.
        c2: :math:`C_2`, cost of disliking a trusted positive.
        alpha: Share of :math:`\mathrm{KL}(g \| f)` in D, in [0, 1].
        aux_dim: Width of the small models: h, h' and, unless given, g.
        num_negatives: Negatives of each positive, whose losses add up; 1 is published.
            The first is the batch's, the others are drawn in the backend's way,
            ``backend.negatives``, uniformly where it has none.

    Raises:
        TypeError: ``backend`` or ``auxiliary`` is not what it must be.
        ValueError: A number out of its range, or an auxiliary of other sizes.
    """

    step: Tensor
    aux_user: Tensor
    aux_item: Tensor

    def __init__(
        self,
        backend: Backend,
        auxiliary: Any = None,
        pretrained: bool = False,
        *,
        c1: float = 100.0,
        c2: float = 100.0,
        alpha: float = 0.0,
        aux_dim: int = 32,
        num_negatives: int = 1,
    ) -> None:
        super().__init__()
        check_at_least(0, c1=c1, c2=c2)
        check_share(alpha=alpha)
        check_size(1, aux_dim=aux_dim, num_negatives=num_negatives)
        sizes = _sizes("backend", backend)
        self.c1 = c1
        self.c2 = c2
        self.alpha = alpha
        self.num_negatives = num_negatives
        self.backend: Any = backend
        self.clicked_if_disliked = _small(sizes, aux_dim)  # h
        self.clicked_if_liked = _small(sizes, aux_dim)  # h'
        self.auxiliary: Any = None
        if pretrained:
            emb = _frozen(auxiliary)
            emb.check_matches(*sizes, where="auxiliary")
            # frozen and known to the caller: not part of the state dict
            self.register_buffer("aux_user", emb.user, persistent=False)
            self.register_buffer("aux_item", emb.item, persistent=False)
        elif auxiliary is None:
            self.auxiliary = _small(sizes, aux_dim)
        elif _sizes("auxiliary", auxiliary) == sizes:
            self.auxiliary = auxiliary
        else:
            raise ValueError(
                f"'auxiliary' must have the backend's {sizes} users and items "
                f"(got {_sizes('auxiliary', auxiliary)})"
            )
        # a buffer, so that a resumed run goes on with the right task
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterable[Any]:
        """Yield one epoch of the backend's batches."""
        batches = getattr(self.backend, "batches", triplet_batches)
        return batches(graph, batch_size=batch_size, generator=generator)

    def losses(
        self, batch: Triplets, graph: InteractionGraph, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss of DP or, every other time, DN plus the penalty, ``[B]``."""
        emb = self.backend(graph)
        triplets = self._triplets(batch, graph, generator)
        f, g = (_probability(e, triplets) for e in (emb, self._auxiliary(graph)))
        label = f.new_zeros(len(f), 1)
        label[0] = 1
        divergence = agreement_loss(f, g, alpha=self.alpha)
        if int(self.step) % 2 == 0:
            h = _probability(self.clicked_if_disliked(graph), triplets)
            task = denoise_positives_loss(f, h, label, c1=self.c1)
        else:
            h = _probability(self.clicked_if_liked(graph), triplets)
            task = denoise_negatives_loss(f, h, label, c2=self.c2)
        if self.training:
            self.step += 1
        penalty = self.backend.penalty(batch, emb, generator=generator)
        yield (divergence + task).sum(0) + penalty

    def _triplets(
        self, batch: Triplets, graph: InteractionGraph, generator: torch.Generator
    ) -> list[Triplets]:
        """The batch's triplets, once for each negative."""
        user, positives, first = batch.user, batch.pos_item, batch.neg_item
        further = (
            draw_negatives(
                graph,
                user,
                generator=generator,
                negatives=getattr(self.backend, "negatives", "uniform"),
            )
            for _ in range(self.num_negatives - 1)
        )
        return [Triplets(user, positives, item) for item in (first, *further)]

    def _auxiliary(self, graph: InteractionGraph) -> Embeddings:
        if self.auxiliary is None:
            return Embeddings(self.aux_user, self.aux_item)
        return self.auxiliary(graph)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the backend's groups and one of everything else."""
        groups = getattr(self.backend, "parameter_groups", None)
        theirs = groups() if groups else [{"params": [*self.backend.parameters()]}]
        ours = [
            parameter
            for name, parameter in self.named_parameters()
            if not name.startswith("backend.")
        ]
        return [*theirs, {"params": ours}]

    @torch.no_grad()
    def scorer(self, graph: InteractionGraph) -> Scorer:
        """Rank as the backend does."""
        return getattr(self.backend, "scorer", self.backend)(graph)


def agreement_loss(f: Tensor, g: Tensor, *, alpha: float) -> Tensor:
    r"""Disagreement of two models, :math:`\alpha KL(g \| f) + (1 - \alpha) KL(f \| g)`.

    Args:
        f: Probabilities of the target model, any shape.
        g: Those of the auxiliary model, same shape.
        alpha: Share of the first divergence.

    Returns:
        In the shape of ``f``; exactly 0 where both are equal.
    """
    return alpha * _divergence(g, f) + (1 - alpha) * _divergence(f, g)


def denoise_positives_loss(f: Tensor, h: Tensor, label: Tensor, *, c1: float) -> Tensor:
    """Loss of DP without D: negatives are trusted, positives may be disliked.

    Args:
        f: Probabilities that the item is liked.
        h: Probabilities of a click where it is not.
        label: 1 for clicked, 0 for negatives; broadcast.
        c1: Cost of liking a negative.

    Returns:
        In the shape of ``f``.
    """
    return -(1 - f) * _log_likelihood(h, label) + c1 * f * (1 - label)


def denoise_negatives_loss(f: Tensor, h: Tensor, label: Tensor, *, c2: float) -> Tensor:
    """Loss of DN without D: positives are trusted, negatives may be liked.

    Args:
        f: Probabilities that the item is liked.
        h: Probabilities of a click where it is.
        label: 1 for clicked, 0 for negatives; broadcast.
        c2: Cost of disliking a positive.

    Returns:
        In the shape of ``f``.
    """
    return -f * _log_likelihood(h, label) + c2 * (1 - f) * label


def _log(x: Tensor) -> Tensor:
    return (x + 1e-5).log()


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two Bernoulli laws."""
    return p * (_log(p) - _log(q)) + (1 - p) * (_log(1 - p) - _log(1 - q))


def _log_likelihood(h: Tensor, label: Tensor) -> Tensor:
    return _log(torch.where(label > 0, h, 1 - h))


def _probability(emb: Embeddings, triplets: Sequence[Triplets]) -> Tensor:
    """Probabilities ``[1 + n, B]`` of the positives and of n negatives each."""
    scores = [triplet_scores(emb, triplet) for triplet in triplets]
    return torch.stack([scores[0][0], *(negative for _, negative in scores)]).sigmoid()


def _small(sizes: tuple[int, int], dim: int) -> MF:
    return MF(*sizes, dim, init_std=_TABLE_STD)


def _sizes(name: str, model: Any) -> tuple[int, int]:
    is_backend = isinstance(model, nn.Module) and isinstance(model, Backend)
    sizes = (getattr(model, "num_users", None), getattr(model, "num_items", None))
    if not is_backend or None in sizes:
        raise TypeError(
            f"'{name}' must be a torch.nn.Module with 'forward', 'penalty', "
            f"'num_users' and 'num_items' (got {type(model).__name__})"
        )
    return sizes  # type: ignore[return-value]


def _frozen(auxiliary: Any) -> Embeddings:
    if auxiliary is None or isinstance(auxiliary, nn.Module):
        raise TypeError(
            "'auxiliary' must be the embeddings of a trained auxiliary with "
            "'pretrained', for instance auxiliary.scorer(graph) "
            f"(got {type(auxiliary).__name__})"
        )
    return as_embeddings(auxiliary)
