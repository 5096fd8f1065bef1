"""Processor time of ``ddrm-pyg audit``, of this checkout and of others.

Each audit is a process of its own, so that reading, closed forms, trainings, measuring
and writing all count. Its processor time does not depend on what else the machine does.
The limit are the products and sums of its two trainings, and the factor and inverse of
EASE's matrix, at the rate of a bare product.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _measure
import torch

from ddrm_pyg import DDRM
from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.experiments.audit import BATCHES, ROWS, signals_cell
from ddrm_pyg.files import read_json, write_json
from ddrm_pyg.graph.interaction_graph import InteractionGraph

HERE = Path(__file__).parents[1]


def measure(checkout: Path, data: str, threads: int) -> dict[str, Any]:
    """Audit once, in an empty folder.

    Args:
        checkout: Where the package is.
        data: What to audit.
        threads: Threads torch may use.

    Returns:
        Seconds of user and system time, and the AUROCs.
    """
    count = str(threads)
    own = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    environment = {**os.environ, "PYTHONPATH": str(checkout), **own}
    words = ["audit", "--data", data, "--out", "audit", "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run(
            [sys.executable, "-m", "ddrm_pyg", *words],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"processor_seconds": round(spent, 1), "auroc": json.loads(out)["auroc"]}


def limit(data: str) -> float:
    """Processor seconds that an audit must at least take."""
    graph = InteractionGraph.from_data(load_interactions(data))
    cell = signals_cell()
    assert cell.base is not None
    dim, layers = (cell.base.model[key] for key in ("embedding_dim", "num_layers"))
    steps = BATCHES * cell.base.fit["epochs"]
    backend = steps * 2 * layers * 2 * graph.num_edges * 2 * dim
    network = DDRM(dim, cell.model["hidden_dims"])
    rows = max(ROWS // graph.num_edges, 1) * graph.num_edges
    denoiser = rows * _measure.flop_of_row(network)
    ease = 2 * graph.num_items**3  # in float64, at half the rate of the product
    torch.set_num_threads(1)
    flop = backend + denoiser + ease
    return round(_measure.least_seconds([_measure.Least(flop=flop)]), 1)


def main() -> None:
    """Measure, print and keep."""
    why = "processor seconds are counted"
    parser = _measure.options(__doc__, rounds=False, on_cpu=why)
    parser.add_argument("--data", required=True, help="a path, as for the command")
    parser.set_defaults(threads=2)
    parser.add_argument("--runs", type=int, default=1, help="audits of each checkout")
    parser.add_argument(
        "--against", type=Path, action="append", default=[], help="another checkout"
    )
    args = parser.parse_args()
    _measure.choose(args)
    checkouts = {path.resolve().name: path.resolve() for path in args.against}
    sides = {**checkouts, "this": HERE}
    data = str(Path(args.data).resolve())
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(args.runs):
        for name, checkout in sides.items():
            results[name].append(measure(checkout, data, args.threads))
            print(name, json.dumps(results[name][-1]), flush=True)
    least = limit(data)
    share = least / min(audit["processor_seconds"] for audit in results["this"])
    print(f"{share:.0%} of the limit, {least} s of bare products")
    name = f"{Path(data).parent.name}-{Path(data).name}"
    path = _measure.RESULTS / f"audit_{name}.json"
    if path.exists():  # checkouts that were not measured again stay
        results = {**read_json(path)["audits"], **results}
    bare = {"limit_seconds": least, "share": round(share, 3)}
    record = {"data": name, "threads": args.threads, **bare, "audits": results}
    write_json(path, record)


if __name__ == "__main__":
    main()
