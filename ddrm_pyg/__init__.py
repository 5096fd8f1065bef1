"""ddrm_pyg: recommenders that survive noisy clicks.

Noisy clicks go in as a PyG bipartite graph, any recommender turns them into embeddings,
DDRM returns denoised embeddings, and everything downstream only sees embeddings.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "DDRM": "ddrm_pyg.nn.ddrm",
    "DDRMRecommender": "ddrm_pyg.nn.ddrm",
    "Embeddings": "ddrm_pyg.embeddings",
    "InteractionGraph": "ddrm_pyg.graph.interaction_graph",
    "LightGCN": "ddrm_pyg.nn.models.lightgcn",
    "MF": "ddrm_pyg.nn.models.mf",
    "SGL": "ddrm_pyg.nn.models.sgl",
    "evaluate": "ddrm_pyg.ranking",
    "fit": "ddrm_pyg.training",
    "load_interactions": "ddrm_pyg.datasets.readers",
    "recommend": "ddrm_pyg.ranking",
}

__version__ = "0.1.0"
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # resolved on first use, so that the command line can set thread options before
    # torch is imported
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
