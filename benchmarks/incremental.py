"""What appending costs in quality against training again, on given data.

MF and a small DDRM are trained on the first 80 % of every user's train interactions; a
twentieth of the users and of the items are left out altogether. The rest is then
appended (`Pipeline.append`), or trained on from the saved vectors (`warm_start`), or
everything is trained anew. All are measured on the same test split. The limit of a
training are the steps it took: what Adam must move of MF's tables, and the products
of DDRM's networks.
"""

from __future__ import annotations

import time
from typing import Any

import _measure
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg import (
    DDRM,
    MF,
    DDRMRecommender,
    Embeddings,
    InteractionGraph,
    Pipeline,
    evaluate,
    fit,
    load_interactions,
)
from ddrm_pyg.graph.interaction_graph import EDGE

SHARE, NEW, BATCH_SIZE = 0.8, 0.05, 2048
ON_CPU = "appending is on the CPU, and so is what it is compared with"
METRICS = ("recall@20", "ndcg@20")


def cut(data: HeteroData, seed: int) -> Tensor:
    """Tell which train interactions come first; order within a user is time's."""
    user, item = data[EDGE].edge_index
    graph = InteractionGraph.from_data(data)
    draw = torch.Generator().manual_seed(seed)
    later_user = torch.rand(graph.num_users, generator=draw) < NEW
    later_item = torch.rand(graph.num_items, generator=draw) < NEW
    order = user.argsort(stable=True)
    place = torch.empty_like(order)
    start = graph.degree("user").cumsum(0) - graph.degree("user")
    place[order] = torch.arange(len(order)) - start[user[order]]
    early = place < SHARE * graph.degree("user")[user]
    return early & ~later_user[user] & ~later_item[item]


def restricted(data: HeteroData, first: Tensor) -> HeteroData:
    """Keep the users and items of the first part, with rows of their own."""
    pairs = data[EDGE].edge_index[:, first]
    made = HeteroData()
    row_of = {}
    for kind, rows in zip(("user", "item"), pairs, strict=True):
        kept = rows.unique()
        made[kind].num_nodes, made[kind].raw_id = len(kept), kept
        row_of[kind] = torch.full((data[kind].num_nodes,), -1)
        row_of[kind][kept] = torch.arange(len(kept))
    made[EDGE].edge_index = _rows(pairs, row_of)
    val = _rows(data[EDGE].val_edge_label_index, row_of)
    made[EDGE].val_edge_label_index = val[:, (val >= 0).all(0)]
    return made


def _rows(pairs: Tensor, row_of: dict[str, Tensor]) -> Tensor:
    return torch.stack([row_of["user"][pairs[0]], row_of["item"][pairs[1]]])


def train(
    data: HeteroData, epochs: int, saved: Pipeline | None = None
) -> tuple[Pipeline, float, list[_measure.Least]]:
    """Train MF and DDRM, from saved vectors and weights if there are any."""
    begin = time.process_time()
    graph = InteractionGraph.from_data(data)
    torch.manual_seed(0)
    model = MF(graph.num_users, graph.num_items, 64, l2=0.02)
    ddrm = DDRM(64, (200,), sampler="skip", num_inference_steps=3)
    if saved is not None and saved.ddrm is not None:
        saved.warm_start(model, data)
        ddrm.load_state_dict(saved.ddrm.state_dict())
    short = {"batch_size": BATCH_SIZE}
    first = fit(model, data, epochs=epochs, eval_every=2, patience=4, **short)
    recommender = DDRMRecommender(ddrm, model(graph))
    second = fit(recommender, data, epochs=max(epochs // 4, 2), **short)
    made = Pipeline.from_data(recommender.scorer(graph), data, ddrm=ddrm)
    seconds = time.process_time() - begin
    steps = graph.num_edges / BATCH_SIZE
    flop = BATCH_SIZE * _measure.flop_of_row(ddrm)
    least = [
        _measure.least_of_steps(model, steps * len(first.history)),
        _measure.least_of_steps(ddrm, steps * len(second.history), flop=flop),
    ]
    return made, seconds, least


def table_of(pipeline: Pipeline, data: HeteroData) -> Embeddings:
    """Vectors in the rows of the whole data; zeros for what is not there."""
    tables = []
    for kind, ids, table in zip(
        ("user", "item"),
        (pipeline.user_ids, pipeline.item_ids),
        pipeline.embeddings,
        strict=True,
    ):
        whole = torch.zeros(data[kind].num_nodes, table.size(1))
        whole[torch.tensor(ids)] = table
        tables.append(whole)
    return Embeddings(*tables)


def histories(data: HeteroData, first: Tensor) -> dict[int, list[int]]:
    """What came after the first part, by user."""
    later: dict[int, list[int]] = {}
    for user, item in data[EDGE].edge_index[:, ~first].T.tolist():
        later.setdefault(user, []).append(item)
    return later


def main() -> None:
    """Measure."""
    parser = _measure.options(__doc__, rounds=False, on_cpu=ON_CPU)
    parser.add_argument("--data", required=True, help="what load_interactions reads")
    parser.add_argument("--epochs", type=int, default=60, help="of MF at most (60)")
    args = parser.parse_args()
    _measure.choose(args)
    data = load_interactions(args.data)
    for kind in ("user", "item"):  # rows are ids here
        data[kind].raw_id = torch.arange(data[kind].num_nodes)
    first = cut(data, seed=0)
    new = torch.ones(data["user"].num_nodes, dtype=torch.bool)
    new[data[EDGE].edge_index[0, first]] = False
    results: dict[str, Any] = {}

    def note(
        name: str,
        pipeline: Pipeline,
        seconds: float,
        least: list[_measure.Least] | None = None,
    ) -> None:
        metrics = evaluate(table_of(pipeline, data), data, k=20)
        mine = new[metrics.user]
        results[name] = {"cpu_seconds": round(seconds, 1)}
        if least:
            limit = _measure.least_seconds(least)
            results[name] |= {
                "limit_seconds": round(limit, 1),
                "share": round(limit / seconds, 3),
            }
        for metric in METRICS:
            values = metrics.per_user[metric]
            results[name][metric] = round(float(values.mean()), 4)
            results[name][f"{metric}, new users"] = round(float(values[mine].mean()), 4)
        print(f"{name:24} {results[name]}", flush=True)

    old, *cost = train(restricted(data, first), args.epochs)
    note("as it was", old, *cost)
    begin = time.process_time()
    grown = old.append(histories(data, first))
    note("appended", grown, time.process_time() - begin)
    note("trained on, 4 epochs", *train(data, 4, grown))
    note("trained anew", *train(data, args.epochs))
    record = {"data": args.data.split("/")[-1], "share": SHARE, "new": NEW}
    _measure.keep("incremental", {**record, "results": results})


if __name__ == "__main__":
    main()
