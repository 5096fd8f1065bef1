"""ddrm_pyg: recommenders that survive noisy clicks.

Noisy clicks go in as a PyG bipartite graph, any recommender turns them into embeddings,
DDRM returns denoised embeddings, and everything downstream only sees embeddings.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddrm_pyg.datasets.hetero import from_hetero as from_hetero
    from ddrm_pyg.datasets.readers import load_interactions as load_interactions
    from ddrm_pyg.embeddings import Embeddings as Embeddings
    from ddrm_pyg.graph.interaction_graph import InteractionGraph as InteractionGraph
    from ddrm_pyg.nn.ddrm import DDRM as DDRM
    from ddrm_pyg.nn.ddrm import DDRMRecommender as DDRMRecommender
    from ddrm_pyg.nn.models.lightgcn import LightGCN as LightGCN
    from ddrm_pyg.nn.models.mf import MF as MF
    from ddrm_pyg.nn.models.sgl import SGL as SGL
    from ddrm_pyg.pipeline import Pipeline as Pipeline
    from ddrm_pyg.ranking import evaluate as evaluate
    from ddrm_pyg.ranking import recommend as recommend
    from ddrm_pyg.runs import load_run as load_run
    from ddrm_pyg.training import fit as fit

_HOME = {
    "DDRM": "ddrm_pyg.nn.ddrm",
    "DDRMRecommender": "ddrm_pyg.nn.ddrm",
    "Embeddings": "ddrm_pyg.embeddings",
    "InteractionGraph": "ddrm_pyg.graph.interaction_graph",
    "LightGCN": "ddrm_pyg.nn.models.lightgcn",
    "MF": "ddrm_pyg.nn.models.mf",
    "Pipeline": "ddrm_pyg.pipeline",
    "SGL": "ddrm_pyg.nn.models.sgl",
    "evaluate": "ddrm_pyg.ranking",
    "fit": "ddrm_pyg.training",
    "from_hetero": "ddrm_pyg.datasets.hetero",
    "load_interactions": "ddrm_pyg.datasets.readers",
    "load_run": "ddrm_pyg.runs",
    "recommend": "ddrm_pyg.ranking",
}

_ELSEWHERE = ("nn.models", "nn.deca", "datasets", "losses", "transforms", "testing")
"""Where the names that are not on the face are looked for, to say where they are."""

__version__ = "0.1.0"
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # resolved on first use, so that the command line can set thread options before
    # torch is imported
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    message = f"module '{__name__}' has no attribute '{name}'"
    if not name.startswith("_"):
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        for module in (f"{__name__}.{part}" for part in _ELSEWHERE):
            if hasattr(import_module(module), name):
                message += f": from {module} import {name}"
                break
    raise AttributeError(message, name=name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
