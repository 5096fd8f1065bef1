"""How long SASRec and DDRM from the past train until validation is equally good.

Epochs come from logs of `fit` (`log.jsonl` in a cell's folder): how many until
Recall@20 on validation is what the worst of the logs has at best. Seconds are those
epochs times the batches of an epoch times a step, all steps timed side by side here.
Validation itself is left out.

    python benchmarks/time_to_quality.py --data ml-1m/natural --sasrec LOG --ddrm LOG
"""

import json
from pathlib import Path

import _measure
import torch

from ddrm_pyg import DDRM, DDRMRecommender
from ddrm_pyg.experiments.settings import load_settings
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.nn.models import SVD, SASRec

METRIC = "recall@20"


def read(path):
    """The validated epochs of a log as (epoch, value)."""
    lines = map(json.loads, Path(path).read_text().splitlines())
    return [(line["epoch"], line[METRIC]) for line in lines if METRIC in line]


def epochs_until(curve, level):
    """The first epoch that reaches a level."""
    return next(epoch for epoch, value in curve if value >= level)


def stepper(model, settings, graph):
    """Batches of an epoch, and a function that trains on one after the other."""
    generator = torch.Generator().manual_seed(0)
    size = settings["fit"]["batch_size"]
    batches = list(model.batches(graph, batch_size=size, generator=generator))
    optimizer = torch.optim.Adam(model.parameters())
    turn = iter(range(1_000_000))

    def step():
        optimizer.zero_grad(set_to_none=True)
        batch = batches[next(turn) % len(batches)]
        next(model.losses(batch, graph, generator=generator)).mean().backward()
        optimizer.step()

    return len(batches), step


def main():
    """Measure, print and keep."""
    parser = _measure.data_options(__doc__)
    parser.add_argument("--sasrec", nargs="+", required=True, help="logs of fit")
    parser.add_argument("--ddrm", nargs="+", required=True, help="logs of fit")
    parser.add_argument("--width", type=int, default=512, help="of SVD (512)")
    args = parser.parse_args()
    setting = _measure.setting_of(args)
    graph, time = setting.graph, setting.data[EDGE].edge_time
    settings = {
        "SASRec": load_settings("sasrec", "sasrec"),
        "SVD + DDRM": load_settings("ddrm_future", "ddrm"),
    }
    sasrec = SASRec(graph.num_items, edge_time=time, **settings["SASRec"]["model"])
    network = dict(settings["SVD + DDRM"]["model"])
    past = {"train_start": network.pop("train_start"), "edge_time": time}
    emb = SVD(args.width).scorer(graph)
    ddrm = DDRMRecommender(DDRM(args.width, **network), emb, **past)
    models = {"SASRec": sasrec, "SVD + DDRM": ddrm}
    steps = {name: stepper(m, settings[name], graph) for name, m in models.items()}
    seconds = _measure.alternate({n: s for n, (_, s) in steps.items()}, setting.runs)
    logs = {"SASRec": args.sasrec, "SVD + DDRM": args.ddrm}
    curves = {name: [read(path) for path in paths] for name, paths in logs.items()}
    level = min(max(v for _, v in curve) for some in curves.values() for curve in some)
    facts = {}
    for name, (batches, _) in steps.items():
        needed = [epochs_until(curve, level) for curve in curves[name]]
        epoch = batches * float(_measure.np.median(seconds[name]))
        facts[name] = {
            "best validation": [round(max(v for _, v in c), 4) for c in curves[name]],
            "epochs needed": needed,
            "batches per epoch": batches,
            "seconds needed": [round(epoch * count, 1) for count in needed],
        }
        print(f"{name}: {facts[name]}")
    print(f"until {METRIC} on validation is {level:.4f}\n")
    _measure.report(
        "time_to_quality",
        "A training step",
        setting,
        seconds,
        reference="SVD + DDRM",
        ours=("SVD + DDRM",),
        level=round(level, 4),
        to_that_level=facts,
    )


if __name__ == "__main__":
    main()
