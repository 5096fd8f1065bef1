"""Our SASRec beside RecBole's, of the same sizes, on the same split.

RecBole lives in an environment of its own (_peers.py), whose interpreter is --python:

    python benchmarks/sasrec_peer.py --data ratings.csv --python peer/bin/python --out F

It trains on every prefix of every train sequence by cross-entropy over all items, which
is what ours does place by place. Both are scored by this package: validation Recall@20
picks the epoch, test is read once.
"""

import json
from pathlib import Path

import _measure
import _peers

from ddrm_pyg import evaluate
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import load_settings
from ddrm_pyg.transforms import TemporalSplit

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def main():
    """Train both, print and keep."""
    why = "both are trained on the CPU"
    parser = _measure.options(__doc__, rounds=False, on_cpu=why)
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--python", required=True, help="the interpreter that has RecBole"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=20, help="of the peer")
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    _measure.choose(options)
    name, data = _measure.load_thinned(options.data, TemporalSplit())
    peer = _peers.PEERS["recbole"]._replace(length=options.length)
    folder = options.out / f"recbole-{name}"
    curve = _peers.train(peer, options.python, data, folder, options.epochs, 2)
    value = [evaluate(point.emb, data, split="val")["recall@20"] for point in curve]
    best = max(range(len(value)), key=value.__getitem__)
    point = curve[best]
    ours = load_settings("sasrec", "sasrec")
    model = {**ours["model"], "max_length": options.length}
    result = Runner(data, options.out / name, progress=False).run(
        Cell("sasrec", 0, model, ours["fit"])
    )
    rows = [
        line(peer.of, point.epoch, value[best], evaluate(point.emb, data)),
        line("ours", result.best_epoch, result.val["recall@20"], result.test),
    ]
    for row in rows:
        print(row)
    record = {"data": name, "length": options.length, "rows": rows}
    path = _measure.RESULTS / "sasrec_peer.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


def line(name, epoch, value, test):
    """A row of the table."""
    metrics = {metric: round(float(test[metric]), 5) for metric in METRICS}
    return {
        "of": name,
        "epoch": epoch,
        "val recall@20": round(value, 5),
        "test": metrics,
    }


if __name__ == "__main__":
    main()
