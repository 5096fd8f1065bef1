"""The noise audit's default signals, its table and its picture."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.checks import check_among
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import pairwise_backends
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import cell_for, denoised
from ddrm_pyg.experiments.tables import Column, Table
from ddrm_pyg.experiments.work import Outcome, Work, count_parameters
from ddrm_pyg.graph.history_weight import history_agreement
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.messages import UNSELECTED, hushed
from ddrm_pyg.nn.ddrm import DDRMRecommender
from ddrm_pyg.noise_audit import (
    SCOPES,
    Estimate,
    NoiseAudit,
    activity_signal,
    audit,
    coherence_signal,
    ease_signal,
    fit_weights,
    inject,
    item_knn_signal,
    popularity_signal,
    reconstruction_signal,
    train_only,
)

logger = logging.getLogger("ddrm_pyg")

BATCHES = 50
"""Steps of an epoch, unless batches became smaller than :data:`SMALLEST_BATCH`."""

SMALLEST_BATCH = 512

ROWS = 500_000
"""Interactions that DDRM is shown, in whole epochs: more tell no more."""

MOST_ITEMS = 20_000
"""Items above which EASE's dense matrix (16 bytes an entry) is not solved for."""

SIGNALS = {
    "popularity": "the item has few interactions",
    "activity": "the user has many interactions",
    "item_knn": "low item cosine to the user's other items, the pair left out",
    "coherence": "the user's items have a low item cosine to one another",
    "ease": "low score by EASE, the pair left out",
    "loss": "high loss, averaged over a backend's training",
    "disagreement": "the backend's training scores it otherwise half-way than last",
    "agreement": "the backend's item vector is unlike the rest of the history",
    "reconstruction": "DDRM rebuilds the two vectors badly from each other",
}
"""Name of each default signal, and what makes an interaction look like noise."""

WEIGHTS = {
    "activity": 1 / 8,
    "coherence": 1 / 8,
    "popularity": 1 / 4,
    "ease": 1 / 6,
    "loss": 1 / 6,
    "agreement": 1 / 6,
}
"""The fixed weights: a quarter to the user, a quarter to the item, half to the pair.

Set on MovieLens latest-small with natural noise and on ML-1M with injected noise; the
other signals added nothing there.
"""

REASONS = {
    "activity": "one of very many by this person",
    "item_knn": "far from this person's other items",
    "coherence": "in a history that does not hang together",
    "ease": "not what people with this history take",
    "loss": "hard to learn for this person",
    "disagreement": "learnt late",
    "agreement": "unlike the rest of the history",
    "reconstruction": "person and item do not explain each other",
}
"""What a high value of a signal says of an interaction; the item's are told apart."""

NOISIEST = 0.05
"""Share of the interactions among which users and items are counted."""

WITHIN_USERS = ("ease", "loss", "agreement")
"""The pair's own signals, which are compared within users: levels across users are the
user's, and activity and coherence tell more about those."""


def signals_cell(
    backend: str = "lightgcn",
    *,
    seed: int = 0,
    epochs: int | None = None,
    ddrm_epochs: int | None = None,
) -> Cell:
    """Build the cell of the signals: a training of DDRM on one of a backend.

    Both are short: noise is what has not been learnt yet.

    Args:
        backend: A backend that is trained on pairs, with its stored settings.
        seed: Seed of both trainings.
        epochs: Epochs of the backend; as stored if None.
        ddrm_epochs: Epochs of DDRM at most, see :data:`ROWS`; as stored if None.

    Raises:
        ValueError: ``backend`` is unknown.
    """
    check_among(pairwise_backends(), backend=backend)
    noted = denoised(cell_for(backend, seed=seed), "noted", epochs=epochs)
    changes = {"most_items": MOST_ITEMS}
    return denoised(noted, "signals", epochs=ddrm_epochs, changes=changes)


def _sized(cell: Cell, num_edges: int) -> Cell:
    """The cell of the signals with batches and epochs that suit the data."""
    assert cell.base is not None
    size = max(num_edges // BATCHES, SMALLEST_BATCH)
    base = replace(cell.base, fit={**cell.base.fit, "batch_size": size})
    epochs = min(cell.fit["epochs"], max(ROWS // max(num_edges, 1), 1))
    return replace(cell, fit={**cell.fit, "epochs": epochs}, base=base)


def compute_signals(
    data: HeteroData,
    *,
    backend: str = "lightgcn",
    epochs: int | None = None,
    ddrm_epochs: int | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Compute the default signals: closed forms, and two short trainings.

    Only train interactions are read: no ratings, labels or held-out pairs, so that
    trainings have no validation and run for all their epochs.

    Args:
        data: The loaded data set.
        backend: As in :func:`signals_cell`.
        epochs: As in :func:`signals_cell`.
        ddrm_epochs: As in :func:`signals_cell`.
        seed: As in :func:`signals_cell`.
        folder: Where trainings and signals are kept as cells, so that what was
            interrupted goes on and what is there is read; nothing is kept if None.
        device: Where to train.
        progress: Show bars on a terminal.

    Returns:
        Name to ``[E]``, the keys of :data:`SIGNALS`; without ``ease`` above
        :data:`MOST_ITEMS` items, which is said.

    Raises:
        ValueError: ``backend`` is unknown.
    """
    cell = signals_cell(backend, seed=seed, epochs=epochs, ddrm_epochs=ddrm_epochs)
    if folder is None:
        with TemporaryDirectory() as temporary:
            return _signals(data, cell, temporary, device, progress)
    return _signals(data, cell, folder, device, progress)


def _signals(
    data: HeteroData,
    cell: Cell,
    folder: str | os.PathLike[str],
    device: str | None,
    progress: bool,
) -> dict[str, Tensor]:
    runner = Runner(train_only(data), folder, device=device, progress=progress)
    cell = _sized(cell, runner.graph.num_edges)
    assert cell.base is not None
    logger.info(
        "two short trainings, of %s for %d epochs, its losses noted, and of DDRM for "
        "%d, beside signals that need none; "
        "held-out pairs are left alone, so nothing picks an epoch: the last is kept",
        cell.base.method.partition("+")[0],
        cell.base.fit["epochs"],
        cell.fit["epochs"],
    )
    with hushed(UNSELECTED):  # as has just been said
        result = runner.run(cell)
    tensors = result.tensors("signals")
    return {name: tensors[name] for name in SIGNALS if name in tensors}


def find_signals(work: Work) -> Outcome:
    """Solve the closed forms, train DDRM, and read off all signals."""
    graph, emb = work.graph, work.base.embeddings()
    logger.info("signals that need no training ...")
    signals = _closed_forms(graph, work.settings["most_items"])
    noted = work.base.tensors("noted")
    signals |= {"loss": noted["loss"], "disagreement": noted["change"]}
    signals["agreement"] = -history_agreement(graph, emb.item)
    ddrm = work.method.model.build(work.settings, {"embedding_dim": emb.user.size(1)})
    recommender = DDRMRecommender(ddrm, emb)
    trained = work.fit(recommender)
    ddrm.cpu()
    # all weight on the reconstruction: what is left of the loss is the gap
    ddrm.reconstruction_weight = 1.0
    signals["reconstruction"] = reconstruction_signal(
        ddrm.loss, emb, graph, num_draws=1, seed=work.seed
    )
    return Outcome(
        None,
        {"signals": signals},
        fit=trained,
        num_parameters=count_parameters(ddrm),
    )


def _closed_forms(graph: InteractionGraph, most_items: int) -> dict[str, Tensor]:
    """The signals that take no training; EASE's only where it fits."""
    signals = {
        "popularity": popularity_signal(graph),
        "activity": activity_signal(graph),
        "item_knn": item_knn_signal(graph),
    }
    signals["coherence"] = coherence_signal(signals["item_knn"], graph)
    if graph.num_items <= most_items:
        return signals | {"ease": ease_signal(graph)}
    logger.warning(
        "%d items: the signal 'ease' is left out above %d", graph.num_items, most_items
    )
    return signals


def injected_weights(
    data: HeteroData, *, ratio: float = 0.2, seed: int = 0, **settings: Any
) -> dict[str, float]:
    """Learn the signals' weights from random pairs injected into train.

    Args:
        data: The loaded data set; only its train interactions are read.
        ratio: Share of injected pairs.
        seed: Seed of the pairs and of all trainings.
        **settings: Other arguments of :func:`compute_signals`.

    Returns:
        Name to weight, for :func:`ddrm_pyg.noise_audit.audit`.
    """
    noisy, injected = inject(data, ratio=ratio, seed=seed)
    logger.info(
        "weights of the signals: the same again, on a copy with %d random pairs more",
        injected.sum(),
    )
    signals = compute_signals(noisy, seed=seed, **settings)
    return fit_weights(signals, noisy, injected, within_users=_within_users(signals))


def combine(
    signals: Mapping[str, Tensor],
    data: HeteroData,
    weights: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
) -> NoiseAudit:
    """Audit the default signals, those of :data:`WITHIN_USERS` within users.

    Args:
        signals: What :func:`compute_signals` returns.
        data: The data set they belong to.
        weights: Name to weight; those of :data:`WEIGHTS` that there are, if None.
        seed: Seed of the intervals' resamples.
    """
    if weights is None:
        weights = {name: w for name, w in WEIGHTS.items() if name in signals}
    logger.info("combining and measuring ...")
    within_users = _within_users(signals)
    return audit(signals, data, weights, within_users=within_users, seed=seed)


def _within_users(signals: Mapping[str, Tensor]) -> list[str]:
    return [name for name in WITHIN_USERS if name in signals]


def as_record(audit: NoiseAudit) -> dict[str, Any]:
    """Flatten an audit for JSON.

    Returns:
        ``weights``; and, where there are labels, ``auroc`` and ``average_precision``
        (pooled, by name), ``measures`` (all scopes with their intervals; None where
        nothing could be measured), ``best_signal`` and ``gain``. All but the weights
        are empty without labels.
    """
    pooled = {name: by_scope["pooled"] for name, by_scope in audit.measures.items()}
    return {
        "auroc": {k: m.auroc.value for k, m in pooled.items()},
        "average_precision": {k: m.average_precision.value for k, m in pooled.items()},
        "weights": audit.weights,
        "measures": {
            name: {
                scope: {k: _as_list(v) for k, v in measure._asdict().items()}
                for scope, measure in by_scope.items()
            }
            for name, by_scope in audit.measures.items()
        },
        "best_signal": audit.best_signal,
        "gain": audit.gain and _as_list(audit.gain),
    }


def _as_list(estimate: Estimate) -> list[float | None]:
    """JSON has no NaN."""
    return [None if math.isnan(value) else value for value in estimate]


def headline(audit: NoiseAudit) -> str:
    """Say in a sentence how well the score finds noise."""
    if not audit.measures:
        return "every train interaction has a score, which nothing here can measure"
    auroc = audit.measures["combined"]["pooled"].auroc.value
    how = next((word for limit, word in _HOW_WELL if auroc < limit), "well")
    return (
        f"the score tells noise from the rest {how} (AUROC {auroc:.3f}; .5 is a coin)"
    )


_HOW_WELL = (
    (0.52, "no better than a coin"),
    (0.65, "barely better than a coin"),
    (0.8, "better than a coin"),
)
"""Words for an AUROC below each limit."""


def as_table(audit: NoiseAudit) -> Table:
    """Lay out the AUROCs, and the pooled average precision, for people.

    Empty without labels, which leave nothing to measure.
    """
    rows = {
        name: {scope: by_scope[scope].auroc for scope in SCOPES}
        | {"average precision": by_scope["pooled"].average_precision}
        for name, by_scope in audit.measures.items()
    }
    heads = ("all clicks", "within users", "alike popular", "average precision")
    frame = pd.DataFrame.from_dict(rows, orient="index")
    names = (*SCOPES, "average precision")
    columns = {n: Column(h, _text) for n, h in zip(names, heads, strict=True)}
    if not rows:
        return Table(frame, {})
    notes = [
        "AUROC: the chance that a noisy click scores above another; .5 is a coin.",
        "within users: among one user's clicks, the mean over users.",
        "alike popular: among a tenth of the items by popularity, likewise.",
        "average precision: how pure the top is; a coin has the share of noise.",
        "Brackets hold 95 % intervals over users.",
        "combined: the score, the others' weighted mean.",
        *(f"{name}: {what}." for name, what in SIGNALS.items() if name in rows),
    ]
    return Table(frame, columns, corner="AUROC", notes=notes)


def _text(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return ""
    return f"{estimate.value:.4f} ({estimate.low:.4f}-{estimate.high:.4f})"


def reasons(audit: NoiseAudit, edge: Tensor) -> list[str]:
    """Say in words why interactions look like noise.

    First what the item is, then the other signal that raises the score most.

    Args:
        audit: The audit.
        edge: ``[N]`` the interactions.

    Returns:
        A text for each.
    """
    # how far each signal raises the score above that of the middle rank
    raised = {
        name: (part[edge] - audit.weights[name] / 2).tolist()
        for name, part in audit.parts.items()
    }
    rarity = raised.pop("popularity", [0.0] * len(edge))
    third = audit.weights.get("popularity", 0.0) / 6
    texts = []
    for place, rare in enumerate(rarity):
        of_item = "rare" * (rare > third) or "popular with everyone" * (rare < -third)
        strongest = max(raised, key=lambda name: raised[name][place], default="")
        of_pair = REASONS.get(strongest, strongest)
        texts.append(", ".join(filter(None, [of_item, of_pair])))
    return texts


def noisiest_table(audit: NoiseAudit, frame: pd.DataFrame, count: int = 20) -> Table:
    """Lay out the interactions that look most like noise, and why.

    Args:
        audit: The audit.
        frame: Of it, from :func:`to_frame`.
        count: How many.
    """
    shown = frame.head(count).set_index("user")
    shown = shown.assign(reason=reasons(audit, _noisiest_first(audit)[:count]))
    columns = {"item": Column("item", str), "score": Column("score")}
    columns["rank"] = Column("rank of the user's", "d")
    columns["reason"] = Column("why", str)
    notes = [
        "score: a weighted mean of the signals' ranks, in (0, 1); high is noisy.",
        "rank of the user's: 1 is the noisiest that this user took.",
    ]
    title = f"the {len(shown)} noisiest"
    return Table(shown, columns, title, corner="user", notes=notes)


def count_table(frame: pd.DataFrame, kind: str, count: int = 10) -> Table:
    """Lay out who, or what, has most of the noisiest interactions.

    Args:
        frame: From :func:`to_frame`.
        kind: ``"user"`` or ``"item"``.
        count: How many.
    """
    top = frame.head(max(round(NOISIEST * len(frame)), 1))
    counts = pd.DataFrame(
        {
            "noisiest": top.groupby(kind, sort=False).size(),
            "all": frame.groupby(kind, sort=False).size(),
        }
    ).dropna()
    shown = counts.sort_values("noisiest", ascending=False, kind="stable").head(count)
    head = f"among the noisiest {NOISIEST:.0%}"
    columns = {"noisiest": Column(head, ".0f"), "all": Column("of", "d")}
    return Table(shown, columns, f"{kind}s with most of the noisiest", corner=kind)


def _noisiest_first(audit: NoiseAudit) -> Tensor:
    return audit.score.argsort(descending=True, stable=True)


def to_frame(
    audit: NoiseAudit, data: HeteroData, ids: Mapping[str, list[Any]]
) -> pd.DataFrame:
    """Lay out an audit as a DataFrame, the noisiest interaction first.

    Args:
        audit: The audit.
        data: What was audited.
        ids: The caller's ids of ``user`` and ``item`` rows.

    Returns:
        A row per train interaction: ``user``, ``item``, ``score``, ``rank`` (the place
        among the user's own interactions, 1 the noisiest) and the signals.
    """
    order = _noisiest_first(audit)
    user, item = data[EDGE].edge_index[:, order].tolist()
    values = {"score": audit.score, "rank": audit.rank, **audit.signals}
    return pd.DataFrame(
        {
            "user": [ids["user"][row] for row in user],
            "item": [ids["item"][row] for row in item],
            **{name: value[order].numpy() for name, value in values.items()},
        }
    )
