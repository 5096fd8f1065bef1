"""Processor time of ``ddrm-pyg audit``, of this checkout and of others.

Each audit is a process of its own, so that reading, closed forms, trainings, measuring
and writing all count. Its processor time does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ddrm_pyg.files import write_json

HERE = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


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


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a path, as for the command")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1, help="audits of each checkout")
    parser.add_argument(
        "--against", type=Path, action="append", default=[], help="another checkout"
    )
    args = parser.parse_args()
    checkouts = {path.resolve().name: path.resolve() for path in args.against}
    sides = {**checkouts, "this": HERE}
    data = str(Path(args.data).resolve())
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(args.runs):
        for name, checkout in sides.items():
            results[name].append(measure(checkout, data, args.threads))
            print(name, json.dumps(results[name][-1]), flush=True)
    name = f"{Path(data).parent.name}-{Path(data).name}"
    record = {"data": name, "threads": args.threads, "audits": results}
    write_json(RESULTS / f"audit_{name}.json", record)


if __name__ == "__main__":
    main()
