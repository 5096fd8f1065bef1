"""Does DDRM from the past help backends that are trained from scratch?

Reads the folders of finished runs, one per backend and seed, and keeps what their
verdicts rest on:

    ddrm-pyg run --data ml-1m/natural --backend mf --backend-settings mf_ml-1m --out A
    python benchmarks/backends.py A B C
"""

import json
from pathlib import Path

import _measure

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def main():
    """Collect the runs, print and keep them."""
    parser = _measure.options(__doc__, rounds=False, on_cpu="nothing is trained here")
    parser.add_argument("runs", nargs="+", type=Path)
    args = parser.parse_args()
    _measure.choose(args)
    rows = [read(folder) for folder in args.runs]
    for row in rows:
        shown = "  ".join(f"{row['test'][m]:.4f}" for m in METRICS)
        print(f"{row['backend']:10} {row['seed']}  {row['verdict']:22} {shown}")
    path = _measure.RESULTS / "backends.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


def read(folder):
    """Take from a run what its verdict rests on."""
    record = json.loads((folder / "metrics.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    rows = {row["name"]: row for row in record["rows"]}
    backend = config["backend"]["method"]

    def test(name):
        return {metric: round(rows[name][metric], 5) for metric in METRICS}

    return {
        "backend": backend,
        "seed": config["backend"]["seed"],
        "verdict": record["verdict"],
        "rival": record["rival"],
        "relative": round(record["relative"], 4),
        "p_value": record["p_value"],
        "test": test("ddrm"),
        "of the rival": test(record["rival"]),
        "of the backend": test(backend),
    }


if __name__ == "__main__":
    main()
