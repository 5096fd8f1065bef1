"""What makes two cells the same, and two data sets."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import AROUND, CLEANERS
from ddrm_pyg.experiments.stored import RUNNER_GIVES, TRAINED, arguments, build
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss
from ddrm_pyg.nn.deca import DeCA
from ddrm_pyg.nn.models import EASE, ItemKNN
from ddrm_pyg.training import fit

_TAKEN_BY: dict[str, Callable[..., Any]] = {
    "item_knn": ItemKNN,
    "ease": EASE,
    "t-ce": TruncatedLoss,
    "r-ce": ReweightedLoss,
    "deca": DeCA,
}
"""Whose arguments the settings are, of what is not trained by itself."""


_LATER: dict[str, dict[str, Any]] = {
    "ddrm": {"sampling_noise": False},
    "deca": {"num_negatives": 1},
    "diffrec": {"sampling_noise": False},
    "tdiffrec": {"sampling_noise": False},
    "ldiffrec": {"sampling_noise": False, "encoder_dims": [], "decoder_dims": None},
}
"""Settings that came after the first results, at the value that changes nothing: cells
are the same with and without them."""


def complete(cell: Cell) -> Cell:
    """Write out the settings that a cell and its bases leave to a default.

    A default may change from one version to the next; what was run with the old one is
    another cell then.

    Args:
        cell: A cell whose settings may be incomplete.

    Returns:
        A cell that is run in the same way, whatever the defaults become.
    """
    method, _, cleaner = cell.method.partition("+")
    return replace(
        cell,
        model=_complete(method, cell.model),
        fit=_with(_defaults(fit), cell.fit) if method in TRAINED else cell.fit,
        clean=_complete(cleaner, cell.clean) if cleaner in CLEANERS else cell.clean,
        base=cell.base and complete(cell.base),
    )


def identity(cell: Cell) -> str:
    """Tell a cell from every other: one line of JSON."""
    return json.dumps(asdict(complete(cell)), sort_keys=True)


def folder_name(cell: Cell, fingerprint: str) -> str:
    """Name a cell's folder by its method and a hash of what defines it."""
    digest = hashlib.sha256((identity(cell) + fingerprint).encode()).hexdigest()
    return f"{cell.method}-{digest[:12]}"


def fingerprint(data: HeteroData) -> str:
    """Hash a data set: its sizes, the pairs of every split, and times where known.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        pairs = InteractionGraph.from_data(data, splits=(split,)).edge_index
        digest.update(f"{split} {list(pairs.shape)} ".encode())
        digest.update(_bytes(pairs))
    digest.update(f"{data['user'].num_nodes} {data['item'].num_nodes}".encode())
    time = data[EDGE].get("edge_time")
    if time is not None:  # read by what weighs a history by recency
        digest.update(_bytes(time))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    """What a hash reads, without a copy."""
    return tensor.cpu().contiguous().numpy()


def _complete(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(AROUND.get(method, {}))
    if method in _TAKEN_BY:
        known |= _defaults(_TAKEN_BY[method])
    if method in TRAINED:
        known |= _plain(arguments(method))
    told = _with(known, settings)
    if method == "ddrm":
        told |= json.loads(_decided(json.dumps(told, sort_keys=True)))
    later = _LATER.get(method, {})
    return {k: v for k, v in told.items() if k not in later or v != later[k]}


def _with(known: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings over defaults; 0 and 0.0 are one number."""
    return {
        **known,
        **{
            name: float(value)
            if isinstance(known.get(name), float) and isinstance(value, int)
            else value
            for name, value in _listed(settings).items()
        },
    }


@functools.cache
def _decided(told: str) -> str:
    """What a DDRM makes of the settings that are None."""
    settings = json.loads(told)
    open_ones = [name for name, value in settings.items() if value is None]
    ddrm = build("ddrm", settings)
    return json.dumps({k: getattr(ddrm, k) for k in open_ones if hasattr(ddrm, k)})


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return _plain({p.name: p.default for p in parameters})


def _plain(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are settings: neither absent nor code, nor what the runner gives."""
    kinds = (str, int, float, tuple, type(None))
    return _listed(
        {
            name: value
            for name, value in defaults.items()
            if isinstance(value, kinds) and name not in RUNNER_GIVES
        }
    )


def _listed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON would give them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
