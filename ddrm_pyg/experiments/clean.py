"""Drop the noisiest train interactions, and see what a backend makes of it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.plug_in import METRIC
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.tables import Column, Table, legend, measure_columns
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.noise_audit import popularity_signal, rank_within_user
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.significance import paired_test
from ddrm_pyg.transforms.core import get_block, noise_of, select, set_block

TESTED = ("recall@20", METRIC)
"""What the paired tests are about."""

PLAIN, CLEANED = "plain", "cleaned"


def noisiest(score: Tensor, graph: InteractionGraph, share: float) -> Tensor:
    """Mark the interactions with the highest scores.

    Every user keeps the interaction with the lowest score, so that nobody is left
    without a history.

    Args:
        score: ``[E]``; equal scores are taken in their order.
        graph: Train interactions.
        share: Of all interactions, rounded to whole ones, in (0, 1).

    Returns:
        ``[E]`` bool, True for those to drop.

    Raises:
        ValueError: ``share`` out of its range, or more than can be dropped.
    """
    if not 0 < share < 1:
        raise ValueError(f"'share' must lie in (0, 1) (got {share})")
    last = graph.degree("user")[graph.edge_index[0]]
    free = (rank_within_user(score, graph) < last).nonzero().flatten()
    size = round(share * graph.num_edges)
    if not 0 < size <= free.numel():
        raise ValueError(
            f"'share' must drop between 1 and {free.numel()} of the {graph.num_edges} "
            f"train interactions, every user keeping one (got {share}: {size})"
        )
    order = score[free].argsort(descending=True, stable=True)
    drop = torch.zeros(graph.num_edges, dtype=torch.bool)
    drop[free[order[:size]]] = True
    return drop


def choices(
    score: Tensor, graph: InteractionGraph, share: float, *, seed: int = 0
) -> dict[str, Tensor]:
    """What to drop by the score, and what blind rules of the same size would.

    Args:
        score: ``[E]`` of an audit.
        graph: Train interactions.
        share: Of all interactions.
        seed: Seed of the random choice, and of which of equally rare items go.

    Returns:
        ``cleaned``, ``random`` and ``popularity`` (the rarest items), each ``[E]``
        bool.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(graph.num_edges, generator=generator, dtype=torch.float64)
    rules = {
        CLEANED: score,
        "random": draw,
        "popularity": popularity_signal(graph).double() + 0.5 * draw,
    }
    return {name: noisiest(rule, graph, share) for name, rule in rules.items()}


def without(data: HeteroData, drop: Tensor) -> HeteroData:
    """Copy data without some train interactions; nodes and held-out pairs stay.

    Args:
        data: Not changed.
        drop: ``[E]`` bool.
    """
    kept = copy.copy(data)
    set_block(kept, "train", select(get_block(data, "train"), ~drop))
    return kept


def retrain(
    data: HeteroData,
    drops: Mapping[str, Tensor],
    cell: Cell,
    folder: str | os.PathLike[str],
    *,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Result]:
    """Train a backend on the data as they are and after every choice.

    Validation and test are the same for all, and what was dropped stays hidden from
    test rankings: its user has seen it. A run that is interrupted goes on with
    the training that was not finished.

    Args:
        data: The loaded data set.
        drops: Name to ``[E]`` bool, the interactions to drop.
        cell: The backend.
        folder: Where results are kept.
        device: Where to train.
        progress: Show bars on a terminal.

    Returns:
        ``plain`` and every name to its result.
    """
    train = {PLAIN: data, **{name: without(data, drop) for name, drop in drops.items()}}
    seen = InteractionGraph.from_data(data, splits=("train", "val"))

    def run(kept: HeteroData) -> Result:
        bench = Runner(kept, folder, exclude=seen, device=device, progress=progress)
        return bench.run(cell)

    return {name: run(kept) for name, kept in train.items()}


def as_records(
    results: Mapping[str, Result], drops: Mapping[str, Tensor], data: HeteroData
) -> list[dict[str, Any]]:
    """Flatten results for JSON, each with paired tests against all the others.

    Returns:
        Records with ``name``, ``dropped``, ``noise`` (the share of noise among what
        was dropped; None without labels), the metrics, and ``against``: other row to
        metric to difference, relative difference, p-value and number of users.
    """
    block = get_block(data, "train")
    return [
        {
            "name": name,
            "dropped": int(drops[name].sum()) if name in drops else 0,
            "noise": (
                float(noise_of(block)[drops[name]].double().mean())
                if name in drops and "is_noise" in block
                else None
            ),
            **result.test,
            "against": {
                other: {
                    metric: paired_test(result.test, rival.test, metric).record()
                    for metric in TESTED
                }
                for other, rival in results.items()
                if other != name
            },
        }
        for name, result in results.items()
    ]


def headline(records: Sequence[Mapping[str, Any]]) -> str:
    """Say what dropping the noisiest does, in a sentence."""
    cleaned = next(record for record in records if record["name"] == CLEANED)
    tests = {name: cleaned["against"][name][METRIC] for name in (PLAIN, "random")}
    changes = [
        f"{_gain(test['relative'])} against {name} (p {test['p_value']:.4f})"
        for name, test in tests.items()
    ]
    return f"NDCG@20 after cleaning: {', '.join(changes)}"


def is_worth(results: Mapping[str, Result]) -> bool:
    """Whether dropping the noisiest is better than dropping nothing, or blindly.

    Significantly, and by at least 1 % of NDCG@20, see
    :meth:`ddrm_pyg.significance.PairedTest.counts`.

    Args:
        results: Of :func:`retrain`.
    """
    cleaned = results[CLEANED].test
    tests = [paired_test(cleaned, results[n].test, METRIC) for n in (PLAIN, "random")]
    return all(test.counts() and test.difference > 0 for test in tests)


def as_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out the records of :func:`as_records` for people."""
    frame = pd.DataFrame(records).set_index("name")
    tests = [record["against"].get(PLAIN, {}).get(METRIC) for record in records]
    gains = [test and _gain(test["relative"]) for test in tests]
    measures = measure_columns(METRICS)
    p_values = [test["p_value"] if test else math.nan for test in tests]
    return Table(
        frame.assign(gain=gains, p_value=p_values),
        {
            "dropped": Column("dropped", lambda size: f"{size:,}" if size else ""),
            "noise": Column("noise", ".1%"),
            **measures,
            "gain": Column("N@20 to plain"),
            "p_value": Column("p"),
        },
        notes=[
            *legend(measures),
            "plain: the data as they are; cleaned: without the noisiest.",
            "random, popularity: without as many at random, and of the rarest items.",
            "dropped: train interactions left out; noise: known noise among them.",
        ],
        marked=[CLEANED],
    )


def _gain(relative: float | None) -> str:
    return "up from 0" if relative is None else f"{relative:+.1%}"
