"""What the cells of a table do: every method by name."""

from __future__ import annotations

import inspect
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import Bench, Cell, Method, Outcome, Result
from ddrm_pyg.graph.history_weight import agreement_weight, recency_weight
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss, bpr_loss
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.deca import DeCA
from ddrm_pyg.nn.models import (
    CDAE,
    EASE,
    MF,
    SGL,
    AdaGCL,
    DiffRec,
    ItemKNN,
    LDiffRec,
    LightGCN,
    MultiDAE,
    MultiVAE,
    Popularity,
    TDiffRec,
    group_items,
)
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.training import fit, own_randomness

logger = logging.getLogger("ddrm_pyg")

HISTORY_WEIGHTS = {"recency": {"tau"}, "agreement": {"slope", "offset"}}
"""Kinds of the setting ``history``, and what each takes."""

AROUND: dict[str, dict[str, Any]] = {
    "ddrm": {"history": None, "train_start": "item"},
    "ldiffrec": {"num_groups": 2},
    "item_knn": {"history": None},
    "ease": {"history": None},
    "history_mean": {"history": None},
    "propagated": {"combine": "mean"},
    "best_depth": {"metric": "ndcg@20", "combine": "mean", "deepest": 6},
}
"""Settings of a method that no constructor takes, with their defaults."""


def load_embeddings(
    path: str | os.PathLike[str], graph: InteractionGraph
) -> Embeddings:
    """Read tables for a graph as float32, in which propagation and DDRM compute.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The tables cannot be scored or do not match the graph.
    """
    tables = Embeddings.load(path)
    tables.check_matches(graph.num_users, graph.num_items, str(path))
    if all(table.dtype == torch.float32 for table in tables):
        return tables
    logger.warning("%s: read as float32", path)
    tables = Embeddings(tables.user.float(), tables.item.float())
    tables.check(str(path))
    return tables


def _closed_form(model: Callable[..., Any]) -> Method:
    def solve(bench: Bench, cell: Cell) -> Outcome:
        return Outcome(model(**cell.model).scorer(bench.graph))

    return solve


def _similarity(model: Callable[..., Any]) -> Method:
    """A closed form whose users may weigh their items."""

    def solve(bench: Bench, cell: Cell) -> Outcome:
        settings = dict(cell.model)
        weight = _history_weight(bench, cell, settings.pop("history", None))
        return Outcome(model(**settings).scorer(bench.graph, history_weight=weight))

    return solve


def _history_weight(bench: Bench, cell: Cell, told: Any) -> Tensor | None:
    """Weights of the train interactions, as the setting ``history`` asks for them."""
    check_history(told)
    if told is None:
        return None
    settings = {name: value for name, value in told.items() if name != "kind"}
    if told["kind"] == "recency":
        return recency_weight(bench.data, **settings)
    base = _base(bench, cell)
    if base.cell.method == "ddrm":  # the vectors that it was trained on
        base = _base(bench, base.cell)
    return agreement_weight(bench.graph, base.embeddings().item, **settings)


def check_history(told: Any) -> None:
    """Refuse a setting ``history`` that is not understood.

    Args:
        told: ``{"kind": "recency", "tau": ...}`` or ``{"kind": "agreement"}`` with
            ``slope`` and ``offset``, see :mod:`ddrm_pyg.graph.history_weight`; None
            weighs all alike.

    Raises:
        ValueError: It is none of these.
    """
    if told is None:
        return
    kind = told.get("kind") if isinstance(told, Mapping) else None
    if kind not in HISTORY_WEIGHTS:
        raise ValueError(
            f"'history' must be an object with a 'kind' of {sorted(HISTORY_WEIGHTS)} "
            f"(got {told!r})"
        )
    extra = sorted(told.keys() - {"kind"} - HISTORY_WEIGHTS[kind])
    if extra or (kind == "recency" and "tau" not in told):
        names = ", ".join(sorted(HISTORY_WEIGHTS[kind]))
        raise ValueError(f"'history' of kind '{kind}' takes {names} (got {dict(told)})")
    for name, value in told.items():
        if name != "kind" and not isinstance(value, (int, float)):
            raise ValueError(f"'{name}' of 'history' must be a number (got {value!r})")
    if not told.get("tau", 1) > 0:
        raise ValueError(f"'tau' of 'history' must be > 0 (got {told['tau']})")


def _backend(
    model: Callable[..., Any], clean: Callable[..., Any] | None = None
) -> Method:
    def train(bench: Bench, cell: Cell) -> Outcome:
        graph = bench.graph

        def build(**changed: Any) -> Any:
            return model(graph.num_users, graph.num_items, **{**cell.model, **changed})

        if clean is None:
            trained = backend = build()
        else:
            trained, backend = clean(build, _steps_per_epoch(bench, cell), cell.clean)
        result = bench.train(cell, trained)
        emb = backend.scorer(graph.to(backend.user_table.device))
        tables = {"user": backend.user_table, "item": backend.item_table}
        return Outcome(
            emb,
            {"embeddings": emb._asdict(), "tables": tables},
            fit=result,
            num_parameters=count_parameters(trained),
        )

    return train


def count_parameters(model: nn.Module) -> int:
    """Count trained numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _row_model(model: Callable[..., Any], *sizes: str) -> Method:
    """A model that reads users' rows, built from sizes of the graph."""

    def train(bench: Bench, cell: Cell) -> Outcome:
        sized = [getattr(bench.graph, size) for size in sizes]
        return _train_rows(bench, cell, lambda: model(*sized, **cell.model))

    return train


def _train_rows(bench: Bench, cell: Cell, build: Callable[[], Any]) -> Outcome:
    model = build()
    result = bench.train(cell, model)
    device = next(model.parameters()).device
    return Outcome(
        model.scorer(bench.graph.to(device)),
        fit=result,
        num_parameters=count_parameters(model),
    )


def _tdiffrec(bench: Bench, cell: Cell) -> Outcome:
    """Rows by time where it is known, else by the order of the interactions."""
    edge_time = bench.data[EDGE].get("edge_time")
    num_items = bench.graph.num_items
    return _train_rows(
        bench, cell, lambda: TDiffRec(num_items, edge_time=edge_time, **cell.model)
    )


def _ldiffrec(bench: Bench, cell: Cell) -> Outcome:
    """Item groups from the embeddings of the base."""
    settings = {**AROUND["ldiffrec"], **cell.model}
    item_group = group_items(
        _base(bench, cell).embeddings().item,
        settings.pop("num_groups"),
        seed=cell.seed or 0,
    )
    return _train_rows(bench, cell, lambda: LDiffRec(item_group, **settings))


def fit_setting(cell: Cell, name: str) -> Any:
    """What a cell is trained with: its own setting, or :func:`fit`'s default."""
    return cell.fit.get(name, inspect.signature(fit).parameters[name].default)


def _steps_per_epoch(bench: Bench, cell: Cell) -> int:
    return math.ceil(bench.graph.num_edges / fit_setting(cell, "batch_size"))


# What cleans a backend's training: given how to build the backend, the steps of an
# epoch and the settings, each returns what is trained and the backend in it.


def _t_ce(
    build: Callable[..., Any],
    steps: int,
    settings: Mapping[str, Any],
) -> tuple[Any, Any]:
    # an unknown setting reaches the loss, which refuses it
    given = dict(settings)
    num_gradual = round(given.pop("num_gradual_epochs", 0) * steps)
    backend = build(pair_loss=TruncatedLoss(bpr_loss, num_gradual=num_gradual, **given))
    return backend, backend


def _r_ce(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    backend = build(pair_loss=ReweightedLoss(bpr_loss, **settings))
    return backend, backend


def _wbpr(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    backend = build(negatives="popularity", **settings)
    return backend, backend


def _deca(
    build: Callable[..., Any], steps: int, settings: Mapping[str, Any]
) -> tuple[Any, Any]:
    backend = build()
    return DeCA(backend, **settings), backend


def _given(bench: Bench, cell: Cell) -> Outcome:
    """Embeddings from a file, propagated as told."""
    tables = load_embeddings(cell.model["path"], bench.graph)
    emb = light_propagate(
        tables, bench.graph, cell.model["num_layers"], cell.model["combine"]
    )
    return Outcome(emb, {"embeddings": emb._asdict(), "tables": tables._asdict()})


def _propagated(bench: Bench, cell: Cell) -> Outcome:
    """The backend's tables at a given depth."""
    tables = _base(bench, cell).embeddings("tables")
    emb = light_propagate(tables, bench.graph, **cell.model)
    return Outcome(emb, {"embeddings": emb._asdict()})


def _best_depth(bench: Bench, cell: Cell) -> Outcome:
    """The backend's tables at the depth that validation likes best."""
    tables = _base(bench, cell).embeddings("tables")
    told = {**AROUND["best_depth"], **cell.model}
    metric, combine = told["metric"], told["combine"]
    found = {}
    for depth in range(told["deepest"] + 1):
        emb = light_propagate(tables, bench.graph, depth, combine)
        found[depth] = evaluate(emb, bench.data, split="val")[metric]
    depth = max(found, key=found.__getitem__)
    return Outcome(
        light_propagate(tables, bench.graph, depth, combine),
        notes={"num_layers": depth, f"val {metric} by depth": list(found.values())},
    )


def _history_mean(bench: Bench, cell: Cell) -> Outcome:
    """Where DDRM starts, taken as the answer."""
    emb = _base(bench, cell).embeddings()
    weight = _history_weight(bench, cell, cell.model.get("history"))
    user = bench.graph.history_mean(emb.item, weight=weight)
    return Outcome(Embeddings(user, emb.item))


def _ddrm(bench: Bench, cell: Cell) -> Outcome:
    model = untrained_ddrm(bench, cell)
    ddrm = model.ddrm
    result = bench.train(cell, model)
    denoised = model.scorer(bench.graph.to(model.user_emb.device))
    return Outcome(
        denoised,
        {"embeddings": denoised._asdict(), "weights": ddrm.state_dict()},
        fit=result,
        num_parameters=count_parameters(ddrm),
    )


def untrained_ddrm(bench: Bench, cell: Cell) -> DDRMRecommender:
    """Build what a cell of method ``ddrm`` trains, with the weights of its seed."""
    emb = _base(bench, cell).embeddings()
    settings, around = _split_settings(cell.model)
    weight = _history_weight(bench, cell, around.pop("history", None))
    with own_randomness(cell.seed or 0):
        ddrm = DDRM(emb.user.size(1), **settings)
    return DDRMRecommender(ddrm, emb, history_weight=weight, **around)


def _split_settings(
    model: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell the arguments of DDRM from those of how it is trained and started."""
    around = {name: model[name] for name in AROUND["ddrm"] if name in model}
    return {k: v for k, v in model.items() if k not in around}, around


def _resampled(bench: Bench, cell: Cell) -> Outcome:
    """The trained DDRM, sampled in another way or from another start."""
    trained = _base(bench, cell)
    emb = _base(bench, trained.cell).embeddings()
    settings, around = _split_settings(cell.model)
    told = around.pop("history", trained.cell.model.get("history"))
    if around:
        raise ValueError(f"'{cell.method}' does not train (got {around})")
    generator = torch.Generator().manual_seed(cell.seed or 0)
    denoised = load_ddrm(trained, **settings)(
        emb.user,
        emb.item,
        bench.graph,
        history_weight=_history_weight(bench, cell, told),
        generator=generator,
    )
    return Outcome(denoised)


def _one_pass(bench: Bench, cell: Cell) -> Outcome:
    """The trained DDRM as a plain denoiser: no noise added, one reverse step."""
    once = {"num_inference_steps": 1, "num_start_steps": 0, **cell.model}
    return _resampled(bench, replace(cell, model=once))


def load_ddrm(trained: Result, **changed: Any) -> DDRM:
    """Rebuild a trained DDRM from its cell.

    Args:
        trained: A result of method ``ddrm``.
        **changed: Constructor arguments to replace.
    """
    settings = {**_split_settings(trained.cell.model)[0], **changed}
    ddrm = DDRM(trained.embeddings().item.size(1), **settings)
    ddrm.load_state_dict(trained.weights())
    return ddrm


def _base(bench: Bench, cell: Cell) -> Result:
    if cell.base is None:
        raise ValueError(f"'base' must be a cell for method '{cell.method}' (got None)")
    return bench.run(cell.base)


BACKENDS: dict[str, Callable[..., Any]] = {"mf": MF, "lightgcn": LightGCN, "sgl": SGL}
"""Method name to the backend."""

CLEANERS: dict[str, Callable[..., Any]] = {
    "t-ce": _t_ce,
    "r-ce": _r_ce,
    "deca": _deca,
    "wbpr": _wbpr,
}
"""What can clean a backend's training."""

METHODS: dict[str, Method] = {
    "popularity": _closed_form(Popularity),
    "item_knn": _similarity(ItemKNN),
    "ease": _similarity(EASE),
    **{name: _backend(model) for name, model in BACKENDS.items()},
    **{
        f"{name}+{cleaner}": _backend(model, clean)
        for name, model in BACKENDS.items()
        for cleaner, clean in CLEANERS.items()
    },
    "adagcl": _backend(AdaGCL),
    "cdae": _row_model(CDAE, "num_users", "num_items"),
    "multidae": _row_model(MultiDAE, "num_items"),
    "multivae": _row_model(MultiVAE, "num_items"),
    "diffrec": _row_model(DiffRec, "num_items"),
    "ldiffrec": _ldiffrec,
    "tdiffrec": _tdiffrec,
    "embeddings": _given,
    "propagated": _propagated,
    "best_depth": _best_depth,
    "history_mean": _history_mean,
    "one_pass": _one_pass,
    "resampled": _resampled,
    "ddrm": _ddrm,
}
"""Method name to what runs it."""
