"""Packages that only some uses need: imported there, named where they are absent."""

from __future__ import annotations

from importlib import import_module
from typing import Any


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
