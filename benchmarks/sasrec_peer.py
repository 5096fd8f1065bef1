"""Our SASRec beside RecBole's, of the same sizes, on the same split.

RecBole lives in an environment of its own, whose interpreter is ``--peer``:

    python -m venv peer && peer/bin/pip install recbole==1.2.1 torch==2.13.0
    python benchmarks/sasrec_peer.py --data ratings.csv --peer peer/bin/python --out F

It trains on every prefix of every train sequence by cross-entropy over all items, which
is what ours does place by place. Both are scored by this package: validation Recall@20
picks the epoch, test is read once.
"""

import json
import subprocess
from pathlib import Path

import _measure
import numpy as np
import torch

from ddrm_pyg import Embeddings, InteractionGraph, evaluate
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import load_settings
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.transforms import TemporalSplit

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def write_sequences(data, length, path):
    """Write every prefix of at most ``length`` items, its length and what came next."""
    graph = InteractionGraph.from_data(data)
    sequences = UserSequences.from_graph(graph, data[EDGE].edge_time)
    users = torch.arange(graph.num_users)
    items = [sequences.before(users[u : u + 1]).item.numpy() + 1 for u in users]
    cut = [
        (row[max(0, t - length) : t], row[t])
        for row in items
        for t in range(1, len(row))
    ]
    prefix, prefix_length = padded([row for row, _ in cut], length)
    whole, whole_length = padded([row[-length:] for row in items], length)
    np.savez(
        path,
        prefix=prefix,
        length=prefix_length,
        target=np.array([item for _, item in cut]),
        whole=whole,
        whole_length=whole_length.clip(1),
        num_items=graph.num_items,
    )


def padded(rows, length):
    """Pad on the right with 0, as RecBole does."""
    table = np.zeros((len(rows), length), np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table, np.array([len(row) for row in rows])


def main():
    """Train both, print and keep."""
    why = "both are trained on the CPU"
    parser = _measure.options(__doc__, rounds=False, on_cpu=why)
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--peer", required=True, help="the interpreter that has RecBole"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=20, help="of the peer")
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    _measure.choose(options)
    name, data = _measure.load_thinned(options.data, TemporalSplit())
    folder = options.out / f"recbole-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    write_sequences(data, options.length, folder / "sequences.npz")
    script = Path(__file__).with_name("_recbole_sasrec.py")
    subprocess.run([options.peer, script, folder, str(options.epochs), "2"], check=True)
    tables = {}
    for epoch in range(2, options.epochs + 1, 2):
        kept = np.load(folder / f"{epoch}.npz")
        tables[epoch] = Embeddings(
            *(torch.from_numpy(kept[k]) for k in ("user", "item"))
        )
    value = {
        epoch: evaluate(emb, data, split="val")["recall@20"]
        for epoch, emb in tables.items()
    }
    best = max(value, key=value.__getitem__)
    ours = load_settings("sasrec", "sasrec")
    model = {**ours["model"], "max_length": options.length}
    result = Runner(data, options.out / name, progress=False).run(
        Cell("sasrec", 0, model, ours["fit"])
    )
    rows = [
        line("RecBole 1.2.1", best, value[best], evaluate(tables[best], data)),
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
