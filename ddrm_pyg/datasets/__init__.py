"""Interactions as PyG data: read from files, planted, or downloaded."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "AmazonBook": "ddrm_pyg.datasets.amazon_book",
    "InteractionDataset": "ddrm_pyg.datasets.base",
    "MovieLens1M": "ddrm_pyg.datasets.movielens_1m",
    "PaperDataset": "ddrm_pyg.datasets.paper",
    "SyntheticInteractions": "ddrm_pyg.datasets.synthetic",
    "Yelp": "ddrm_pyg.datasets.yelp",
    "from_hetero": "ddrm_pyg.datasets.hetero",
    "load_interactions": "ddrm_pyg.datasets.readers",
    "save_interactions": "ddrm_pyg.datasets.writers",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # resolved on first use, so that planted data do without pandas
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
