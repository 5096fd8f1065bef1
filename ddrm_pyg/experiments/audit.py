"""The noise audit's default signals, its table and its picture."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.checks import check_among
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.methods import METHODS, names_of
from ddrm_pyg.experiments.settings import cell_for
from ddrm_pyg.experiments.tables import Column, Table
from ddrm_pyg.files import atomic_path
from ddrm_pyg.graph.history_weight import history_agreement
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.noise_audit import (
    SCOPES,
    Estimate,
    LossTrajectory,
    NoiseAudit,
    activity_signal,
    audit,
    coherence_signal,
    disagreement_signal,
    ease_signal,
    fit_weights,
    inject,
    item_knn_signal,
    popularity_signal,
    reconstruction_signal,
    train_only,
)
from ddrm_pyg.training import fit, own_randomness

logger = logging.getLogger("ddrm_pyg")

# A short training at a high rate: noise is what has not been learnt yet.
EPOCHS, LR = 15, 8e-3
BATCHES = 50  # an epoch, unless they became smaller than
SMALLEST_BATCH = 512
DDRM_EPOCHS = 5
_DDRM: dict[str, Any] = {
    "hidden_dims": (200, 100, 200),
    "num_train_timesteps": 50,
    "noise_scale": 1e-2,
}

MOST_ITEMS = 20_000
"""Items above which EASE's dense matrix (16 bytes an entry) is not solved for."""

SIGNALS = {
    "popularity": "the item has few interactions",
    "activity": "the user has many interactions",
    "item_knn": "low item cosine to the user's other items, the pair left out",
    "coherence": "the user's items have a low item cosine to one another",
    "ease": "low score by EASE, the pair left out",
    "loss": "high loss, averaged over a backend's training",
    "disagreement": "two seeds of the backend score it differently",
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

WITHIN_USERS = ("ease", "loss", "agreement")
"""The pair's own signals, which are compared within users: levels across users are the
user's, and activity and coherence tell more about those."""


def compute_signals(
    data: HeteroData,
    *,
    backend: str = "lightgcn",
    epochs: int = EPOCHS,
    ddrm_epochs: int = DDRM_EPOCHS,
    seed: int = 0,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Compute the default signals: two short trainings of a backend, one of DDRM.

    Only train interactions are read: no ratings, labels or held-out pairs, so that
    trainings have no validation and run for all their epochs.

    Args:
        data: The loaded data set.
        backend: ``"mf"``, ``"lightgcn"`` or ``"sgl"``, with its stored settings.
        epochs: Epochs of the backend.
        ddrm_epochs: Epochs of DDRM on the backend's embeddings.
        seed: Seed of all trainings; the second backend has ``seed + 1``.
        device: Where to train.
        progress: Show bars on a terminal.

    Returns:
        Name to ``[E]``, the keys of :data:`SIGNALS`; without ``ease`` above
        :data:`MOST_ITEMS` items, which is said.

    Raises:
        ValueError: ``backend`` is unknown.
    """
    pairwise = [name for name in names_of("backend") if METHODS[name].pairwise]
    check_among(pairwise, backend=backend)
    bare = train_only(data)
    graph = InteractionGraph.from_data(bare)
    signals = {
        "popularity": popularity_signal(graph),
        "activity": activity_signal(graph),
        "item_knn": item_knn_signal(graph),
    }
    signals["coherence"] = coherence_signal(signals["item_knn"], graph)
    if graph.num_items <= MOST_ITEMS:
        signals["ease"] = ease_signal(graph)
    else:
        logger.warning(
            "%d items: the signal 'ease' is left out above %d",
            graph.num_items,
            MOST_ITEMS,
        )
    told: dict[str, Any] = {"device": device, "progress": progress}
    logger.info("short trainings on train interactions alone, so without validation")
    # initial weights come from the global generator
    with own_randomness(seed, device or "cpu"):
        model = cell_for(backend).model
        emb, signals["loss"] = _train(backend, model, bare, epochs, seed, told)
        other, _ = _train(backend, model, bare, epochs, seed + 1, told)
        ddrm = _train_ddrm(emb, bare, ddrm_epochs, seed, told)
    signals["disagreement"] = disagreement_signal(emb, other, graph)
    signals["agreement"] = -history_agreement(graph, emb.item)
    # all weight on the reconstruction: what is left of the loss is the gap
    ddrm.reconstruction_weight = 1.0
    signals["reconstruction"] = reconstruction_signal(ddrm.loss, emb, graph, seed=seed)
    return signals


def _train(
    backend: str,
    settings: Mapping[str, Any],
    bare: HeteroData,
    epochs: int,
    seed: int,
    told: dict[str, Any],
) -> tuple[Embeddings, Tensor]:
    """Train a backend; its embeddings and every interaction's mean loss."""
    graph = InteractionGraph.from_data(bare)
    torch.manual_seed(seed)
    built = METHODS[backend].model.build(
        settings, {"num_users": graph.num_users, "num_items": graph.num_items}
    )
    model = LossTrajectory(built, graph.num_edges)
    size = max(graph.num_edges // BATCHES, SMALLEST_BATCH)
    fit(model, bare, epochs=epochs, lr=LR, batch_size=size, seed=seed, **told)
    placed = graph.to(model.total.device)
    model.note(placed)
    tables = (table.detach().cpu() for table in model.scorer(placed))
    return Embeddings(*tables), model.signal().cpu()


def _train_ddrm(
    emb: Embeddings, bare: HeteroData, epochs: int, seed: int, told: dict[str, Any]
) -> DDRM:
    torch.manual_seed(seed)
    ddrm = DDRM(emb.user.size(1), **_DDRM)
    fit(DDRMRecommender(ddrm, emb), bare, epochs=epochs, seed=seed, **told)
    return ddrm.cpu()


def stored_signals(
    folder: str | os.PathLike[str], data: HeteroData, **settings: Any
) -> dict[str, Tensor]:
    """Call :func:`compute_signals`, or read what it gave for the same data before.

    Args:
        folder: Where signals are kept, in a file named by a hash of all they depend on.
        data: The loaded data set.
        **settings: Arguments of :func:`compute_signals`.
    """
    graph = InteractionGraph.from_data(data)
    asked = inspect.signature(compute_signals).bind(data, **settings)
    asked.apply_defaults()
    told = {n: asked.arguments[n] for n in ("backend", "epochs", "ddrm_epochs", "seed")}
    told["model"] = cell_for(told["backend"]).model
    told["constants"] = [LR, BATCHES, SMALLEST_BATCH, _DDRM, MOST_ITEMS]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(f"{graph.num_users} {graph.num_items}".encode())
    digest.update(graph.edge_index.contiguous().numpy().tobytes())
    path = Path(folder) / f"signals-{digest.hexdigest()[:12]}.safetensors"
    if path.exists():
        logger.info("signals read from %s", path)
        kept = load_file(path)
        return {name: kept[name] for name in SIGNALS if name in kept}
    signals = compute_signals(data, **settings)
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in signals.items()}, temporary)
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
    within_users = _within_users(signals)
    return audit(signals, data, weights, within_users=within_users, seed=seed)


def _within_users(signals: Mapping[str, Tensor]) -> list[str]:
    return [name for name in WITHIN_USERS if name in signals]


def as_record(found: NoiseAudit) -> dict[str, Any]:
    """Flatten an audit for JSON.

    Returns:
        ``weights``; and, where there are labels, ``auroc`` and ``average_precision``
        (pooled, by name), ``measures`` (all scopes with their intervals; None where
        nothing could be measured), ``best_signal`` and ``gain``. All but the weights
        are empty without labels.
    """
    pooled = {name: by_scope["pooled"] for name, by_scope in found.measures.items()}
    return {
        "auroc": {k: m.auroc.value for k, m in pooled.items()},
        "average_precision": {k: m.average_precision.value for k, m in pooled.items()},
        "weights": found.weights,
        "measures": {
            name: {
                scope: {k: _known(v) for k, v in measure._asdict().items()}
                for scope, measure in by_scope.items()
            }
            for name, by_scope in found.measures.items()
        },
        "best_signal": found.best_signal,
        "gain": found.gain and _known(found.gain),
    }


def _known(estimate: Estimate) -> list[float | None]:
    """JSON has no NaN."""
    return [None if math.isnan(value) else value for value in estimate]


def as_table(audit: NoiseAudit) -> Table:
    """Lay out the AUROCs, and the pooled average precision, for people.

    Empty without labels, which leave nothing to measure.
    """
    rows = {
        name: {scope: by_scope[scope].auroc for scope in SCOPES}
        | {"average precision": by_scope["pooled"].average_precision}
        for name, by_scope in audit.measures.items()
    }
    heads = (*SCOPES[:2], "within deciles", "average precision")
    frame = pd.DataFrame.from_dict(rows, orient="index")
    names = (*SCOPES, "average precision")
    columns = {n: Column(h, _text) for n, h in zip(names, heads, strict=True)}
    if not rows:
        return Table(frame, {})
    notes = [
        "AUROC: the chance that a noisy interaction scores above another; .5 is blind.",
        "Brackets hold 95 % intervals over users.",
    ]
    return Table(frame, columns, corner="AUROC", notes=notes)


def _text(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return ""
    return f"{estimate.value:.4f} ({estimate.low:.4f}-{estimate.high:.4f})"


def noisiest_table(frame: pd.DataFrame, count: int = 20) -> Table:
    """Lay out the interactions that look most like noise.

    Args:
        frame: From :func:`to_frame`.
        count: How many.
    """
    shown = frame.head(count).set_index("user")
    columns = {"item": Column("item", str), "score": Column("score")}
    columns["rank"] = Column("rank of the user's", "d")
    return Table(shown, columns, f"the {len(shown)} noisiest", corner="user")


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
    order = audit.score.argsort(descending=True, stable=True)
    user, item = data[EDGE].edge_index[:, order].tolist()
    values = {"score": audit.score, "rank": audit.rank, **audit.signals}
    return pd.DataFrame(
        {
            "user": [ids["user"][row] for row in user],
            "item": [ids["item"][row] for row in item],
            **{name: value[order].numpy() for name, value in values.items()},
        }
    )
