"""One score per interaction out of many signals, and how well it finds noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, sparse, stats
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sampling import draw_negatives

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCOPES = ("pooled", "within users", "within popularity deciles")
"""Over all interactions at once; mean over users; mean over tenths by popularity."""

_BINS = 1000
"""Quantiles of the scores that resamples tell apart."""

_DECILES = 10


class Estimate(NamedTuple):
    """A measured value with its 95 % interval over resampled users."""

    value: float
    low: float
    high: float


class Measure(NamedTuple):
    """How well scores tell noise from the rest."""

    auroc: Estimate
    average_precision: Estimate


@dataclass(frozen=True)
class NoiseAudit:
    """What an audit found.

    Attributes:
        signals: Name to ``[E]``.
        weights: Name to the signal's share of the score.
        score: ``[E]`` in (0, 1): the weighted mean of the signals' ranks, over all or
            within users, each scaled to (0, 1). Higher is noisier.
        rank: ``[E]`` place among the user's interactions; 1 is the noisiest.
        parts: Name to ``[E]``, what each signal that has a weight adds to the score.
        measures: ``"combined"`` and every signal, by each of :data:`SCOPES`; empty
            where the data have no labels to measure by.
        best_signal: The signal of the highest pooled AUROC; None without labels.
        gain: Pooled AUROC of the score less that of ``best_signal``; None without.
    """

    signals: dict[str, Tensor]
    weights: dict[str, float]
    score: Tensor
    rank: Tensor
    parts: dict[str, Tensor]
    measures: dict[str, dict[str, Measure]]
    best_signal: str | None = None
    gain: Estimate | None = None


def audit(
    signals: Mapping[str, Tensor],
    data: HeteroData,
    weights: Mapping[str, float] | None = None,
    *,
    within_users: Collection[str] = (),
    num_resamples: int = 200,
    seed: int = 0,
) -> NoiseAudit:
    """Combine signals to one score per train interaction, and measure it.

    Args:
        signals: Name to ``[E]``, higher where noise is likelier; what
            :func:`ddrm_pyg.experiments.audit.compute_signals` returns, or any other.
        data: The data set they belong to. Its ``edge_is_noise`` measures and does
            nothing else.
        weights: Name to weight >= 0; equal if None, a rule fixed before any label was
            seen. See :func:`fit_weights` for weights that are learnt without labels.
        within_users: Signals that enter the score by their ranks among the user's
            interactions, because they say little across users.
        num_resamples: Resamples of users behind the intervals. They see the scores cut
            into 1,000 quantiles; the values themselves are exact.
        seed: Seed of the resamples.

    Returns:
        Scores, ranks and, where there are labels of both kinds, measures.

    Raises:
        ValueError: No signal, one of another length or not finite, weights or
            ``within_users`` of other signals, weights that are negative or all 0, or
            ``num_resamples`` < 2.
    """
    graph = InteractionGraph.from_data(data)
    ranks = {name: _ranks(name, signal, graph) for name, signal in signals.items()}
    entering = _entering(ranks, within_users, graph)
    shares = _shares(weights, ranks)
    if num_resamples < 2:
        raise ValueError(f"'num_resamples' must be >= 2 (got {num_resamples})")
    parts = {n: share * entering[n] for n, share in shares.items() if share}
    score = np.zeros(graph.num_edges)
    for part in parts.values():
        score += part
    combined = torch.from_numpy(score)
    result = NoiseAudit(
        dict(signals),
        shares,
        combined,
        rank_within_user(combined, graph),
        {name: torch.from_numpy(part) for name, part in parts.items()},
        {},
    )
    noise = data[EDGE].get("edge_is_noise")
    if noise is None or bool(noise.all()) or not bool(noise.any()):
        return result
    ruler = _Ruler(noise.cpu().numpy(), graph, num_resamples, seed)
    return _measured(result, {"combined": score, **ranks}, ruler)


def fit_weights(
    signals: Mapping[str, Tensor],
    data: HeteroData,
    injected: Tensor,
    *,
    within_users: Collection[str] = (),
) -> dict[str, float]:
    """Learn weights from noise that was put in on purpose, see :func:`inject`.

    Logistic regression of the injected pairs on the signals' ranks. A weight is >= 0,
    because a signal's direction is part of its definition, and kept small (ridge of
    1e-3), so that signals of a few interactions that part them have finite weights.

    Args:
        signals: Name to ``[E]``, computed on the data with the injected pairs.
        data: Those data.
        injected: ``[E]`` bool, True for the injected pairs.
        within_users: As in :func:`audit`.

    Returns:
        Name to weight; they sum to 1.

    Raises:
        ValueError: Nothing or everything is injected, or no signal finds any of it.
    """
    if not bool(injected.any()) or bool(injected.all()):
        raise ValueError("'injected' must mark some interactions and not all")
    label = injected.cpu().double().numpy()
    graph = InteractionGraph.from_data(data)
    ranks = {name: _ranks(name, signal, graph) for name, signal in signals.items()}
    columns = _entering(ranks, within_users, graph).values()
    x = np.stack([*columns, np.ones(len(label))], axis=1)

    def loss(weight: Floats) -> tuple[float, Floats]:
        logit = x @ weight
        chance = 0.5 * (1 + np.tanh(logit / 2))
        kept = np.append(weight[:-1], 0)
        value = np.mean(np.logaddexp(0, logit) - label * logit) + 5e-4 * kept @ kept
        return float(value), x.T @ (chance - label) / len(label) + 1e-3 * kept

    bounds = [(0, None)] * len(signals) + [(None, None)]
    start = np.zeros(x.shape[1])
    weight = optimize.minimize(loss, start, jac=True, bounds=bounds).x[:-1]
    if not weight.any():
        raise ValueError("'signals' must tell injected pairs from others (none does)")
    return dict(zip(signals, (weight / weight.sum()).tolist(), strict=True))


def inject(
    data: HeteroData, *, ratio: float = 0.2, seed: int = 0
) -> tuple[HeteroData, Tensor]:
    """Add random pairs to the train interactions: noise that is known to be noise.

    Each has the user of a train interaction, drawn uniformly, and an item that the
    user does not have in train.

    Args:
        data: The loaded data set; only its train interactions are read.
        ratio: Share of injected pairs in the result, in (0, 1). Slightly fewer where
            one pair is drawn twice.
        seed: Seed of the draws.

    Returns:
        Data with train interactions only, and ``[E]`` bool, True for the injected.

    Raises:
        ValueError: ``ratio`` is out of its range, or nothing can be added.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"'ratio' must lie in (0, 1) (got {ratio})")
    graph = InteractionGraph.from_data(data)
    generator = torch.Generator().manual_seed(seed)
    size = round(graph.num_edges * ratio / (1 - ratio))
    free = graph.without_repeats().degree("user") < graph.num_items
    owners = graph.edge_index[0][free[graph.edge_index[0]]]
    if size == 0 or owners.numel() == 0:
        raise ValueError(
            f"'data' must have room for noise ({graph.num_edges} train interactions)"
        )
    user = owners[torch.randint(owners.numel(), (size,), generator=generator)]
    item = draw_negatives(graph, user, generator=generator)
    added = torch.stack([user, item]).unique(dim=1)
    noisy = train_only(data)
    noisy[EDGE].edge_index = torch.cat([graph.edge_index, added], dim=1)
    injected = torch.arange(noisy[EDGE].edge_index.size(1)) >= graph.num_edges
    return noisy, injected


def train_only(data: HeteroData) -> HeteroData:
    """Keep the nodes and the train interactions, and nothing that is known of them."""
    bare = HeteroData()
    for kind in ("user", "item"):
        bare[kind].num_nodes = data[kind].num_nodes
    bare[EDGE].edge_index = data[EDGE].edge_index
    return bare


def rank_within_user(score: Tensor, graph: InteractionGraph) -> Tensor:
    """Place of every interaction among its user's: 1 has the highest score.

    Args:
        score: ``[E]``.
        graph: Train interactions.

    Returns:
        ``[E]`` int64; equal scores keep their order.

    Raises:
        ValueError: ``score`` has another shape.
    """
    graph.check_per_edge(score, "score")
    order = score.argsort(descending=True, stable=True)
    return graph.place(order.to(graph.device)).to(score.device) + 1


def _ranks(name: str, signal: Tensor, graph: InteractionGraph) -> Floats:
    graph.check_per_edge(signal, name)
    values = signal.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values)))
        raise ValueError(
            f"'signals' must be finite ('{name}' is {values[bad]} at interaction {bad})"
        )
    return _scaled_rank(values)


def _entering(
    ranks: Mapping[str, Floats], within_users: Collection[str], graph: InteractionGraph
) -> dict[str, Floats]:
    """What is summed up to the score: ranks over all, or within users."""
    unknown = [name for name in within_users if name not in ranks]
    if unknown:
        raise ValueError(
            f"'within_users' must be among {', '.join(ranks)} (got '{unknown[0]}')"
        )
    return {
        name: _rank_within(rank, graph) if name in within_users else rank
        for name, rank in ranks.items()
    }


def _rank_within(ranks: Floats, graph: InteractionGraph) -> Floats:
    """Rank among the user's interactions only, ties at their mean, in (0, 1)."""
    user = graph.edge_index[0].cpu().numpy()
    count = np.bincount(user)
    before = count.cumsum() - count
    # ranks lie in (0, 1): users come one after the other
    return (stats.rankdata(user + ranks) - 0.5 - before[user]) / count[user]


def _scaled_rank(values: Floats) -> Floats:
    """Rank, ties at their mean, scaled to (0, 1)."""
    return (stats.rankdata(values) - 0.5) / max(len(values), 1)


def _shares(
    weights: Mapping[str, float] | None, ranks: Mapping[str, Floats]
) -> dict[str, float]:
    if not ranks:
        raise ValueError("'signals' must not be empty")
    values = dict.fromkeys(ranks, 1.0) if weights is None else weights
    unknown = [name for name in values if name not in ranks]
    if unknown:
        raise ValueError(
            f"'weights' must be for the signals {', '.join(ranks)} (got '{unknown[0]}')"
        )
    total = sum(values.values())
    if min(values.values(), default=0) < 0 or not 0 < total < np.inf:
        raise ValueError(f"'weights' must be >= 0 and not all 0 (got {dict(values)})")
    return {name: values.get(name, 0.0) / total for name in ranks}


def _measured(
    result: NoiseAudit, scores: Mapping[str, Floats], ruler: _Ruler
) -> NoiseAudit:
    measures, resampled = {}, {}
    for name, score in scores.items():
        measures[name], resampled[name] = ruler.measure(score)
    value = {name: measures[name]["pooled"].auroc.value for name in result.signals}
    best = max(value, key=value.__getitem__)
    gain = Estimate(
        measures["combined"]["pooled"].auroc.value - value[best],
        *_interval(resampled["combined"] - resampled[best]),
    )
    return replace(result, measures=measures, best_signal=best, gain=gain)


class _Ruler:
    """Measures scores against labels, on the data and on resampled users."""

    def __init__(
        self, noise: NDArray[np.bool_], graph: InteractionGraph, size: int, seed: int
    ) -> None:
        self.noise = noise
        # users without train interactions have nothing to say
        _, self.user = np.unique(graph.edge_index[0].cpu().numpy(), return_inverse=True)
        self.decile = popularity_decile(graph)
        num_users = int(self.user.max()) + 1
        draw = np.random.default_rng(seed).integers(num_users, size=(size, num_users))
        # how often each user was drawn, [size, num_users]
        self.drawn = np.stack([np.bincount(d, minlength=num_users) for d in draw])

    def measure(self, score: Floats) -> tuple[dict[str, Measure], Floats]:
        """Measure in all scopes; the pooled AUROCs of the resamples come along."""
        by_scope = {
            "pooled": _areas_by_group(score, self.noise, np.zeros_like(self.user)),
            "within users": _areas_by_group(score, self.noise, self.user),
            "within popularity deciles": _areas_by_group(
                score, self.noise, self.decile
            ),
        }
        resampled = self._resampled(score, by_scope["within users"])
        measures = {
            scope: Measure(
                *(
                    Estimate(float(_nanmean(area)), *_interval(samples))
                    for area, samples in zip(
                        by_scope[scope], resampled[scope], strict=True
                    )
                )
            )
            for scope in SCOPES
        }
        return measures, resampled["pooled"][0]

    def _resampled(self, score: Floats, of_users: Areas) -> dict[str, Areas]:
        column = self.decile * _BINS + (_scaled_rank(score) * _BINS).astype(np.int64)
        noise, clean = (
            self._histogram(column, kind) for kind in (self.noise, ~self.noise)
        )
        start = np.arange(_DECILES) * _BINS
        deciles = _areas(noise, clean, start)
        pooled = _areas(_folded(noise), _folded(clean), start[:1])
        has_both = ~np.isnan(of_users[0])
        count = self.drawn @ has_both
        with np.errstate(invalid="ignore"):
            users = Areas(
                *(self.drawn @ np.where(has_both, a, 0) / count for a in of_users)
            )
        return {
            "pooled": Areas(*(area[:, 0] for area in pooled)),
            "within users": users,
            "within popularity deciles": Areas(*map(_nanmean, deciles)),
        }

    def _histogram(self, column: Ints, kind: NDArray[np.bool_]) -> Floats:
        """Count interactions by column in every resample, ``[size, columns]``."""
        shape = (self.drawn.shape[1], _DECILES * _BINS)
        where = (self.user[kind], column[kind])
        counts = sparse.csr_array((np.ones(int(kind.sum())), where), shape=shape)
        return np.ascontiguousarray((counts.T @ self.drawn.T.astype(np.float64)).T)


class Areas(NamedTuple):
    """AUROC and average precision, ``[..., G]`` each; NaN where a kind is missing."""

    auroc: Floats
    average_precision: Floats


def _areas_by_group(score: Floats, noise: NDArray[np.bool_], group: Ints) -> Areas:
    """Areas ``[G]`` within every group, exact with ties."""
    order = np.lexsort((score, group))
    score, noise, group = score[order], noise[order], group[order]
    new_group = np.diff(group, prepend=-1) != 0
    first = np.flatnonzero(new_group | (np.diff(score, prepend=np.nan) != 0))
    start = np.flatnonzero(new_group[first])
    counts = (
        np.add.reduceat(kind.astype(np.float64), first) for kind in (noise, ~noise)
    )
    noisy, clean = counts
    return _areas(noisy, clean, start)


def _areas(noise: Floats, clean: Floats, start: Ints) -> Areas:
    """Areas under the curves of sorted scores.

    Args:
        noise: ``[..., T]`` noisy interactions at each distinct score, ascending within
            each group.
        clean: The same for the others.
        start: ``[G]`` first column of each group.
    """
    size = np.diff(start, append=noise.shape[-1])

    def total(values: Floats) -> Floats:
        return np.add.reduceat(values, start, axis=-1)

    def below(values: Floats) -> Floats:
        """Sum over lower scores of the same group."""
        lower = values.cumsum(-1) - values
        return lower - np.repeat(lower[..., start], size, axis=-1)

    num_noise, num_clean = total(noise), total(clean)
    clean_below = below(clean)
    hits = np.repeat(num_noise, size, axis=-1) - below(noise)
    shown = hits + np.repeat(num_clean, size, axis=-1) - clean_below
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(shown > 0, hits / shown, 0)
        auroc = total(noise * (clean_below + clean / 2)) / (num_noise * num_clean)
        average = np.where(num_clean > 0, total(noise * precision) / num_noise, np.nan)
    return Areas(auroc, average)


def _folded(counts: Floats) -> Floats:
    """Add up the deciles' columns, ``[..., _DECILES * _BINS]`` to ``[..., _BINS]``."""
    return counts.reshape(-1, _DECILES, _BINS).sum(1)


def popularity_decile(graph: InteractionGraph) -> Ints:
    """Cut the interactions into tenths by the popularity of their item.

    Returns:
        ``[E]`` from 0, the rarest items, to 9; all interactions of an item are in one,
        so that tenths are equal only up to the largest item.
    """
    degree = graph.degree("item").cpu().numpy()
    order = degree.argsort(kind="stable")
    middle = np.empty(len(degree))
    middle[order] = degree[order].cumsum() - degree[order] / 2
    decile = (_DECILES * middle / max(graph.num_edges, 1)).astype(np.int64)
    return decile[graph.edge_index[1].cpu().numpy()]


def _nanmean(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    is_number = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(is_number, values, 0).sum(-1) / is_number.sum(-1)


def _interval(samples: Floats) -> tuple[float, float]:
    numbers = samples[~np.isnan(samples)]
    if len(numbers) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(numbers, (0.025, 0.975))
    return float(low), float(high)
