"""Packages: the versions of those that are always there, the import of the others."""

from __future__ import annotations

import platform
from importlib import import_module, metadata
from typing import Any

PACKAGES = (
    "ddrm_pyg",
    "torch",
    "torch-geometric",
    "numpy",
    "scipy",
    "pandas",
    "safetensors",
)
"""Those that results depend on."""


def versions() -> dict[str, str]:
    """Tell the versions of Python and of the packages that results depend on."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}


def check_device(device: Any) -> None:
    """Refuse a device that this machine, or this torch, cannot train on.

    Args:
        device: A name such as ``"cuda"``, or a ``torch.device``.

    Raises:
        ValueError: It cannot hold values; the message says what torch says.
    """
    import torch

    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"'device' must be usable on this machine (got '{device}': {reason})"
        ) from None


def import_extra(module: str, need: str, extra: str) -> Any:
    """Import a package of an extra.

    Args:
        module: Its import name.
        need: What needs what, for the message: ``"group_items needs scikit-learn"``.
        extra: The extra that installs it.

    Raises:
        ImportError: It is not installed; the message says how to get it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{need}: pip install 'ddrm_pyg[{extra}]'") from error
