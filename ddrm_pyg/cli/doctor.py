"""``ddrm-pyg doctor``: what this installation can do."""

from __future__ import annotations

import os
from importlib import util
from typing import Annotated, Any

import psutil
import torch
import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._output import print_json
from ddrm_pyg.experiments.cells import chain
from ddrm_pyg.experiments.memory import Sizes, gibibytes, has_bf16, to_run
from ddrm_pyg.experiments.methods import each_once
from ddrm_pyg.experiments.settings import cell_for
from ddrm_pyg.extras import versions

EXTRAS = {
    "sparse": "torch_sparse",
    "ann": "faiss",
    "diffrec": "sklearn",
    "parquet": "pyarrow",
    "tune": "optuna",
    "duckdb": "duckdb",
    "ray": "ray",
    "onnx": "onnxscript",
    "serve": "fastapi",
    "tracking": "mlflow",
}
"""A module of each extra that does not serve the work on this package."""

EXAMPLES = (
    "ddrm-pyg doctor",
    "ddrm-pyg doctor --users 1000000 --items 100000",
)
"""Shown below the help."""


def command(
    users: Annotated[int, typer.Option(min=1, help="Users of your data.")] = 2000,
    items: Annotated[int, typer.Option(min=1, help="Items of your data.")] = 1500,
    interactions: Annotated[
        int, typer.Option(min=0, help="Train interactions of your data.")
    ] = 80_000,
    as_json: options.Json = False,
) -> None:
    """Print versions, threads, devices, extras, and the memory that methods need.

    Memory is an estimate, good to a factor of two, for data of the sizes given; about
    those of the default world if none are. Nothing is loaded or trained.
    """
    record = diagnose()
    sizes = Sizes(users, items, interactions)
    record["memory is for"] = (
        f"{users:,} users, {items:,} items, {interactions:,} train interactions"
    )
    for name in each_once():  # with what they start from
        largest = max(to_run(link, sizes).train for link in chain(cell_for(name)))
        record[f"memory to train {name}"] = gibibytes(largest)
    record["memory to rank"] = gibibytes(to_run(cell_for("popularity"), sizes).rank)
    if as_json:
        print_json(record)
        return
    width = max(map(len, record))
    for name, value in record.items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{name:<{width}}  {text}")


def diagnose() -> dict[str, Any]:
    """Collect what a bug report or a slow run needs."""
    return {
        **versions(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "mkl": torch.backends.mkl.is_available(),
        "bf16 on cpu": has_bf16(),
        "devices": [
            "cpu",
            *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        ],
        "memory available": f"{psutil.virtual_memory().available / 2**30:.1f} GiB",
        **{
            f"extra [{extra}]": "installed" if util.find_spec(module) else "absent"
            for extra, module in EXTRAS.items()
        },
    }
