"""Training from the past: what came next is generated from what came before.

The third item of DDRM's future work (sequential adaptation), ours. A start source turns
histories, cut anywhere, into vectors beside an item table of its own; DDRM generates
from them the ideal next items.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.checks import check_among, check_size
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import draw_candidates, draw_negatives
from ddrm_pyg.graph.sequences import Bags, UserSequences
from ddrm_pyg.loader import MIN_HISTORY, Cuts, cut_batches
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.losses.reweighted import belief_weight
from ddrm_pyg.losses.softmax import sampled_softmax_loss, softmax_loss
from ddrm_pyg.nn._parts import drop

logger = logging.getLogger("ddrm_pyg")

FutureLoss = Literal["softmax", "bpr"]
"""How generated vectors are compared with what came next."""

SCALES = (1.0, 2.0, 5.0, 20.0, math.inf)
"""E-foldings of a history's weights, in interactions; infinity weighs all alike."""

_ALL_ITEMS, _SAMPLE = 50_000, 8192
"""Items up to which the softmax is over all, and the size of a sample beyond."""

_CHUNK = 8192
"""Histories read at a time."""


class StartSource(Protocol):
    """Vectors of histories, to be compared with the items of one table."""

    item_emb: Tensor
    num_starts: int

    def __call__(self, bags: Bags) -> Tensor:
        """Map B histories to ``[B, num_starts, D]``, rows of length 1 (or 0)."""
        ...


class HistoryEncoder(Protocol):
    """A model that has a state for every history, like SASRec."""

    max_length: int

    def encode(self, item: Tensor) -> Tensor:
        """Map ``[B, L]`` items, padded with ``num_items``, to ``[B, D]`` states."""
        ...


class HistoryMeans(nn.Module):
    r"""Means of a history's item vectors, the older the less, at several time scales.

    .. math:: m_\tau \propto \sum_j e^{-r_j / \tau}\, e_{i_j}, \quad \|m_\tau\| = 1

    with :math:`r_j` the number of interactions of the history that came after j.

    Args:
        item_emb: ``[num_items, D]``.
        scales: E-foldings :math:`\tau`, in interactions; infinity weighs all alike.

    Raises:
        ValueError: No scale, or one that is not positive.
    """

    item_emb: Tensor
    scales: Tensor

    def __init__(self, item_emb: Tensor, scales: Sequence[float] = SCALES) -> None:
        super().__init__()
        if len(scales) == 0 or not all(scale > 0 for scale in scales):
            raise ValueError(f"'scales' must be positive (got {tuple(scales)})")
        self.num_starts = len(scales)
        exact = torch.tensor(scales, dtype=torch.float64)
        self.register_buffer("scales", exact, persistent=False)
        self.register_buffer("item_emb", item_emb, persistent=False)

    @torch.no_grad()
    def forward(self, bags: Bags) -> Tensor:
        """Average histories: ``[B, num_starts, D]``; zeros for an empty one."""
        means = [
            F.embedding_bag(
                bags.item,
                self.item_emb,
                bags.offset,
                mode="sum",
                per_sample_weights=torch.exp(-bags.later / scale).to(self.item_emb),
            )
            for scale in self.scales.tolist()
        ]
        return F.normalize(torch.stack(means, dim=1), dim=-1)


class HistoryStates(nn.Module):
    """States of histories from a trained model, which stays as it is.

    Args:
        model: Has ``encode`` and ``max_length``, see :class:`HistoryEncoder`; for
            instance a fitted :class:`~ddrm_pyg.nn.models.SASRec`.
        item_emb: ``[num_items, D]`` that its states are compared with.
    """

    item_emb: Tensor
    num_starts = 1

    def __init__(self, model: Any, item_emb: Tensor) -> None:
        super().__init__()
        self._model = (model,)  # no part of what is trained or saved here
        self.register_buffer("item_emb", item_emb, persistent=False)

    @property
    def model(self) -> Any:
        """What encodes histories."""
        return self._model[0]

    @torch.no_grad()
    def forward(self, bags: Bags) -> Tensor:
        """Encode histories: ``[B, 1, D]``; zeros for an empty one."""
        model = self.model
        model.eval()
        states = self.item_emb.new_zeros(bags.num_rows, self.item_emb.size(1))
        items = bags.padded(model.max_length, padding=len(self.item_emb))
        rows = (items[:, -1] < len(self.item_emb)).nonzero().flatten()
        if rows.numel():
            states[rows] = model.encode(items[rows])
        return F.normalize(states, dim=-1).unsqueeze(1)


@torch.no_grad()
def start_embeddings(
    source: StartSource, sequences: UserSequences, mean_item: Tensor
) -> Embeddings:
    """Put the start of every history beside the items: a ranking without DDRM.

    Args:
        source: Has one start per history.
        sequences: Histories over its items.
        mean_item: ``[D]`` what a history has that is empty, or whose items have
            vectors of zeros: train did not have them.
    """
    user = torch.arange(sequences.num_users, device=sequences.item.device)
    vector = source(sequences.before(user)).squeeze(1)
    says_nothing = ~vector.any(dim=1, keepdim=True)
    return Embeddings(torch.where(says_nothing, mean_item, vector), source.item_emb)


class Past(nn.Module):
    r"""What DDRM is given of a history, and how its answer scores the items.

    All starts of a source are mixed by learned weights (softmax) to the vector that is
    denoised; a learned linear map of all starts is the condition. Each source's item
    table is scaled to a mean row length of 1. With the generated vector v, whose part
    for source k is :math:`v_k`:

    .. math:: s_i = \sum_k e^{\lambda_k}\, v_k \cdot e^k_i + b \log (1 + d_i)

    with learned :math:`\lambda_k` and b, and the train degrees d.

    Args:
        sources: One or several; their widths add up to ``embedding_dim``.
        embedding_dim: Width D of what is denoised.

    Raises:
        ValueError: Widths that do not add up, or tables of different numbers of items.
    """

    item_degree: Tensor
    item_table: Tensor

    def __init__(self, sources: Sequence[Any], embedding_dim: int) -> None:
        super().__init__()
        widths = [source.item_emb.size(1) for source in sources]
        if sum(widths) != embedding_dim:
            raise ValueError(
                "'embedding_dim' of 'ddrm' must be the width of all item tables "
                f"together, {' + '.join(map(str, widths))} (got {embedding_dim})"
            )
        sizes = [len(source.item_emb) for source in sources]
        if len(set(sizes)) > 1:
            raise ValueError(f"all item tables must have as many rows (got {sizes})")
        self.widths = widths
        self.sources = nn.ModuleList(sources)
        self.mix = nn.ParameterList(torch.zeros(s.num_starts) for s in sources)
        starts = sum(
            source.num_starts * width
            for source, width in zip(sources, widths, strict=True)
        )
        self.guide = nn.Linear(starts, embedding_dim, bias=False)
        self.log_scale = nn.Parameter(torch.full((len(sources),), 2.0))
        self.popularity_weight = nn.Parameter(torch.zeros(()))
        tables = [s.item_emb / s.item_emb.norm(dim=1).mean() for s in sources]
        table = torch.cat(tables, dim=1)
        self.register_buffer("item_table", table, persistent=False)
        self.register_buffer("item_degree", torch.zeros(sizes[0], dtype=torch.int64))
        nn.init.xavier_normal_(self.guide.weight)

    def forward(self, bags: Bags) -> tuple[Tensor, Tensor]:
        """Read histories.

        Args:
            bags: B histories.

        Returns:
            What is denoised and the condition, both ``[B, D]``.
        """
        return mix_starts(self._starts(bags), list(self.mix), self.guide)

    def _starts(self, bags: Bags) -> list[Tensor]:
        """Ask every source; what says nothing has the mean of all interactions.

        That is an empty history, and one of items without vectors: SVD has zeros for
        an item that train does not have.
        """
        starts = [source(bags) for source in self.sources]
        is_blank = ~torch.cat([start.flatten(1) for start in starts], dim=1).any(1)
        if bool(is_blank.any()):
            for k, source in enumerate(self.sources):
                table: Tensor = source.item_emb  # type: ignore[assignment]
                mean = self.item_degree.to(table) @ table
                mean = F.normalize(mean, dim=-1)
                starts[k] = torch.where(is_blank[:, None, None], mean, starts[k])
        return starts

    def scaled(self, vector: Tensor) -> Tensor:
        """Bring each source's part of ``[B, D]`` vectors to the scale of scores."""
        scale = self.log_scale.exp().repeat_interleave(
            torch.tensor(self.widths, device=vector.device)
        )
        return vector * scale

    def popularity(self, item: Tensor | slice = slice(None)) -> Tensor:
        """What a score owes to popularity, of some items or all."""
        return self.popularity_weight * self.item_degree[item].float().log1p()

    def count(self, graph: InteractionGraph) -> None:
        """Count how often each item was taken in training."""
        self.item_degree.copy_(graph.degree("item"))

    def pair_logits(self, vector: Tensor, item: Tensor) -> Tensor:
        """Score one item for each of ``[M, D]`` vectors: ``[M]``."""
        products = (self.scaled(vector) * self.item_table[item]).sum(-1)
        return products + self.popularity(item)

    def logits(self, vector: Tensor, item: Tensor | slice = slice(None)) -> Tensor:
        """Score ``n`` items for each of ``[B, D]`` vectors: ``[B, n]``."""
        return torch.addmm(
            self.popularity(item), self.scaled(vector), self.item_table[item].T
        )


def mix_starts(
    starts: Sequence[Tensor], mix: Sequence[Tensor], guide: nn.Module
) -> tuple[Tensor, Tensor]:
    """Turn the starts of all sources into what DDRM is given, see :class:`Past`.

    Args:
        starts: ``[B, num_starts, D]`` of each source.
        mix: ``[num_starts]`` of each, before the softmax.
        guide: Maps all of them, flat, to the condition.

    Returns:
        What is denoised and the condition, both as wide as all sources together.
    """
    mixed = [
        torch.einsum("s,bsd->bd", weight.softmax(0), vectors)
        for weight, vectors in zip(mix, starts, strict=True)
    ]
    flat = torch.cat([vectors.flatten(1) for vectors in starts], dim=1)
    return torch.cat(mixed, dim=1), guide(flat)


class FutureTraining(nn.Module):
    r"""Trains DDRM to generate what a user took next from what came before.

    Every history is cut at random (:func:`~ddrm_pyg.loader.cut_batches`). What is
    noised and restored is the start of the part before the cut, and the targets are the
    next ``window`` items after it, alike:

    .. math:: \ell = \frac1{|F|} \sum_{i \in F} w_i
              \left[(1 - a)\, \ell_i + a \tfrac1D \|v - e_i\|^2 \right], \quad
              \ell_i = -\log \operatorname{softmax}(s)_i

    with the plug-in's ``reconstruction_weight`` a and belief weights w
    (:math:`\sigma(s_i)^\gamma`, no gradient) as for the published loss.

    Args:
        past: Reads histories and scores items.
        edge_time: ``[E]`` when each train interaction happened.
        window: Items after the cut that are targets.
        cuts: Cuts per user and epoch at most.
        loss: ``"softmax"`` over all items, or the paper's ``"bpr"`` against uniform
            negatives.
        num_sampled: Items of the softmax, drawn for every batch with probabilities
            proportional to 1 + train degree and corrected for it; if None all items up
            to 50,000, and 8,192 beyond.

    Raises:
        ValueError: A number below 1 or an unknown loss.
    """

    edge_time: Tensor

    def __init__(
        self,
        past: Past,
        edge_time: Tensor,
        *,
        window: int = 10,
        cuts: int = 4,
        loss: FutureLoss = "softmax",
        num_sampled: int | None = None,
    ) -> None:
        super().__init__()
        check_size(1, window=window, cuts=cuts)
        check_among(get_args(FutureLoss), loss=loss)
        if num_sampled is None and len(past.item_table) > _ALL_ITEMS:
            num_sampled = _SAMPLE
        if num_sampled is not None:
            check_size(1, num_sampled=num_sampled)
        self.past = past
        self.window = window
        self.cuts = cuts
        self.loss_name = loss
        self.num_sampled = num_sampled
        self.register_buffer("edge_time", edge_time, persistent=False)
        self._in_order: tuple[InteractionGraph, UserSequences] | None = None

    def sequences(self, graph: InteractionGraph) -> UserSequences:
        """Put the graph's interactions in order, once."""
        if self._in_order is None or self._in_order[0] is not graph:
            ordered = UserSequences.from_graph(graph, self.edge_time)
            self._in_order = graph, ordered
        return self._in_order[1]

    def batches(
        self, graph: InteractionGraph, *, batch_size: int, generator: torch.Generator
    ) -> Iterator[Cuts]:
        """Yield one epoch of cuts; say at the first whose histories are too short."""
        self.past.count(graph)
        is_first = self._in_order is None
        sequences = self.sequences(graph)
        if is_first:
            _count_short(sequences)
        return cut_batches(
            sequences,
            batch_size=batch_size,
            generator=generator,
            window=self.window,
            cuts=self.cuts,
        )

    def loss(
        self,
        ddrm: Any,
        batch: Cuts,
        graph: InteractionGraph,
        *,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Loss ``[B]`` of each cut; what follows it is read as its target alone."""
        sequences = self.sequences(graph)
        start, cond = self.past(sequences.before(batch.user, batch.cut))
        future = sequences.after(batch.user, batch.cut, self.window)
        if ddrm.training:
            cond = drop(cond, ddrm.dropout, generator)
        vector = ddrm.restore(start, cond, generator=generator)
        row, item = future.row, future.item
        positive = self.past.pair_logits(vector[row], item)
        source = generator or torch.default_generator
        if self.loss_name == "bpr":
            user = batch.user[row]
            other = draw_negatives(graph, user, generator=source)
            negative = self.past.pair_logits(vector[row], other)
            recommendation = bpr_loss(positive, negative)
        else:
            recommendation = self._softmax(vector, row, item, positive, graph, source)
        share = ddrm.reconstruction_weight
        away = (vector[row] - self.past.item_table[item]).square().mean(-1)
        weight = belief_weight(positive, ddrm.gamma)
        pairs = weight * ((1 - share) * recommendation + share * away)
        count = torch.bincount(row, minlength=len(vector))
        return torch.zeros_like(vector[:, 0]).index_add(0, row, pairs) / count

    def _softmax(
        self,
        vector: Tensor,
        row: Tensor,
        item: Tensor,
        positive: Tensor,
        graph: InteractionGraph,
        generator: torch.Generator,
    ) -> Tensor:
        if self.num_sampled is None:
            return softmax_loss(self.past.logits(vector), row, item)
        sample, log_probability = draw_candidates(
            graph, self.num_sampled, generator=generator
        )
        return sampled_softmax_loss(
            positive,
            self.past.logits(vector, sample),
            row,
            item,
            sample,
            log_probability.to(vector.dtype),
        )

    @torch.no_grad()
    def embeddings(
        self,
        ddrm: Any,
        sequences: UserSequences,
        *,
        generator: torch.Generator | None = None,
    ) -> Embeddings:
        """Generate the ideal next item of every history, beside the items.

        Args:
            ddrm: The plug-in.
            sequences: Histories, of users trained on or not.
            generator: Source of the start's noise, where there is any.

        Returns:
            Embeddings of width D + 1, whose inner product is the score: the last
            column is 1 for users and what popularity adds for items.
        """
        users = torch.arange(sequences.num_users, device=sequences.item.device)
        read = [self.past(sequences.before(user)) for user in users.split(_CHUNK)]
        start, cond = (torch.cat(rows) for rows in zip(*read, strict=True))
        ideal = self.past.scaled(ddrm.generate(start, cond, generator=generator))
        popularity = self.past.popularity().unsqueeze(1)
        return Embeddings(
            torch.cat([ideal, torch.ones_like(ideal[:, :1])], dim=1),
            torch.cat([self.past.item_table, popularity], dim=1),
        )


def _count_short(sequences: UserSequences) -> None:
    """Say how many users are served without being trained on."""
    short = int((sequences.length < MIN_HISTORY).sum())
    if short:
        logger.info(
            "%d of %d users have fewer than %d train items: DDRM is not trained on "
            "them, and serves them",
            *(short, sequences.num_users, MIN_HISTORY),
        )
