"""EASE against the bare LAPACK calls, and what factors cost it in quality.

The calls invert a float64 matrix of the same size in place (potrf and potri), which is
the least that EASE must do. Factors are what catalogues beyond 20,000 items get; here
they stand beside the exact weights, on sets that are small enough for both.
"""

from pathlib import Path

import _measure  # first: it sets what torch's workers do
import numpy as np
import torch
from scipy.linalg.lapack import dpotrf, dpotri

from ddrm_pyg import evaluate, load_interactions
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models import EASE
from ddrm_pyg.nn.models._similarity import inverse_gram, ridge_gram
from ddrm_pyg.transforms import KCore, TemporalSplit

METRICS = ("recall@20", "ndcg@20")
BARE = "LAPACK, potrf and potri"
FACTORS = (256, 512, 1024, None)


def main():
    """Measure."""
    parser = _measure.options(__doc__, on_cpu="EASE is solved by LAPACK")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument(
        "--thin",
        nargs=2,
        metavar=("PATH", "K"),
        help="one more, thinned to its k-core and split anew, at random without times",
    )
    args = parser.parse_args()
    _measure.choose(args)
    sets = [_measure.load_thinned(source, TemporalSplit()) for source in args.data]
    if args.thin:
        sets.append(load_core(Path(args.thin[0]), int(args.thin[1])))
    record = {"benchmark": "ease", **against_lapack(*sets[0], args.runs), "quality": []}
    for name, data in sets:
        for row in quality(name, data):
            record["quality"].append(row)
            _measure.keep("ease", record)


def against_lapack(name, data, runs):
    """Time EASE and its parts."""
    graph = InteractionGraph.from_data(data).without_repeats()
    gram = ridge_gram(graph, 1000.0)

    def bare():
        factor, _ = dpotrf(gram.copy(order="F"), lower=1, overwrite_a=1)
        dpotri(factor, lower=1, overwrite_c=1)

    def fresh():  # nothing sorted yet
        return InteractionGraph(graph.edge_index, graph.num_users, graph.num_items)

    seconds = _measure.alternate(
        {
            BARE: bare,
            "counts": lambda: ridge_gram(fresh(), 1000.0),
            "counts and their inverse": lambda: inverse_gram(fresh(), 1000.0),
            "EASE": lambda: EASE().scorer(fresh()),
        }
        | _measure.bare_sides("cpu"),
        runs,
    )
    median = {side: float(np.median(times)) for side, times in seconds.items()}
    ratio = {s: float(np.median(t / seconds[BARE])) for s, t in seconds.items()}
    limits = dict.fromkeys(("counts and their inverse", "EASE"), BARE)
    # a float64 takes the units twice as long as the bare product's float32
    least = {"EASE": _measure.Least(flop=2 * graph.num_items**3)}
    for side, value in median.items():
        print(f"{name:20} {side:28} {value:.3f} s  {ratio[side]:.2f}", flush=True)
    return {
        "data": name,
        "items": graph.num_items,
        "threads": torch.get_num_threads(),
        "seconds": {side: round(value, 4) for side, value in median.items()},
        "ratio": {side: round(value, 3) for side, value in ratio.items()},
        "limits": _measure.shares(limits, seconds, "cpu"),
        "least": _measure.shares(least, seconds, "cpu"),
    }


def load_core(path, k):
    """Take all pairs of a folder, whatever their split, and split their k-core."""
    graph = InteractionGraph.from_data(
        load_interactions(path), splits=("train", "val", "test")
    )
    data = load_interactions(graph.edge_index.T.numpy(), split=False)
    return f"{path.name}, {k}-core", TemporalSplit()(KCore(k)(data))


def quality(name, data):
    """Validation and test of exact weights and of factors."""
    graph = InteractionGraph.from_data(data)
    for factors in FACTORS:
        scorer = EASE(num_factors=factors).scorer(graph)
        row = {"data": name, "items": graph.num_items, "factors": factors or "exact"}
        for split in ("val", "test"):
            metrics = evaluate(scorer, data, split=split)
            row[split] = {m: round(float(metrics[m]), 5) for m in METRICS}
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()
