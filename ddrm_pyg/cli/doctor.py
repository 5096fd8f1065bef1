"""``ddrm-pyg doctor``: what this installation can do."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util
from typing import Any

import psutil
import torch

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._output import print_json

PACKAGES = (
    "ddrm_pyg",
    "torch",
    "torch-geometric",
    "numpy",
    "scipy",
    "pandas",
    "safetensors",
)
EXTRAS = {
    "sparse": "torch_sparse",
    "ann": "faiss",
    "diffrec": "sklearn",
    "parquet": "pyarrow",
    "tune": "optuna",
}


def command(as_json: options.Json = False) -> None:
    """Print versions, threads, devices, memory and optional extras."""
    record = diagnose()
    if as_json:
        print_json(record)
        return
    for name, value in record.items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{name:<20}{text}")


def diagnose() -> dict[str, Any]:
    """Collect what a bug report or a slow run needs."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "mkl": torch.backends.mkl.is_available(),
        "bf16 on cpu": torch.cpu._is_avx512_bf16_supported(),
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
