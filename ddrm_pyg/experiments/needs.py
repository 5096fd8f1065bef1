"""What memory a piece of work will need, estimated before any of it is allocated.

Estimates count the large tensors: parameters with their gradients, Adam's two moments,
the best copy and a checkpoint; tables at every layer; activations of a batch; the
graph. The factors were measured with :class:`ddrm_pyg.experiments.memory.PeakMemory`
and are good to a factor of two.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import count_parameters, fit_setting
from ddrm_pyg.experiments.sources import DOWNLOADS, NAMED, Source
from ddrm_pyg.experiments.stored import arguments, build
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import COLUMNS

logger = logging.getLogger("ddrm_pyg")

UNSURE = 2
"""What an estimate may be wrong by, as a factor."""

FLOAT, COPIES = 4, 6
"""Bytes of a number, and how often a trained parameter is held at the peak."""

_PER_EDGE = 220  # both sorted copies, both blocks, an epoch's draws
_PER_BYTE = {".json": 0.25, ".jsonl": 0.25}  # of a file that is mostly other text,
_OF_NUMBERS = 8.0  # and of others, while the graph is made
_TABLES = {"mf": 2.0, "lightgcn": 3.0, "sgl": 6.5, "adagcl": 15.0}
"""Tables of activations per layer, layer 0 included."""

_ROWS = {
    "cdae": 15.0,
    "multidae": 7.0,
    "multivae": 6.0,
    "diffrec": 15.0,
    "ldiffrec": 7.5,
    "tdiffrec": 15.0,
}
"""Dense batches of rows that are held at once."""

_DENSE = {"item_knn": 9.0, "ease": 28.0}
"""Bytes for every pair of items, of methods that hold all of them."""

_LOWERS = ("batch_size", "embedding_dim", "hidden_dims", "num_layers")
"""Arguments that make a method take less."""

_RANKED = 64 << 20  # scores of a chunk, and a block of lists that is measured


class Sizes(NamedTuple):
    """What of an :class:`~ddrm_pyg.InteractionGraph` counts here.

    Attributes:
        num_users: Number of users.
        num_items: Number of items.
        num_edges: Number of train interactions.
    """

    num_users: int
    num_items: int
    num_edges: int


class Needs(NamedTuple):
    """Bytes.

    Attributes:
        train: To train or solve.
        rank: To rank all items for all users.
    """

    train: int
    rank: int


def to_load(source: Source) -> int | None:
    """Estimate the bytes that reading a source takes; None if it is not there yet."""
    if source.data == "synthetic":
        return 64 << 20
    folder = DOWNLOADS / source.data.removesuffix("-clean") / "raw"
    path = folder if source.data in NAMED else Path(source.data)
    files = [path] if path.is_file() else sorted(path.glob("*"))
    if not files:
        return None
    shares = (f.stat().st_size * _PER_BYTE.get(f.suffix, _OF_NUMBERS) for f in files)
    return int(sum(shares))


def to_run(cell: Cell, graph: Sizes | InteractionGraph) -> Needs:
    """Estimate what a cell takes without those that it starts from, and ranking.

    Args:
        cell: Any cell; one that only arranges another's results takes nothing here.
        graph: Train interactions, or their numbers.
    """
    lists = graph.num_users * 20 * 12
    rank = _RANKED + lists + _PER_EDGE * graph.num_edges
    return Needs(_to_train(cell, graph), rank)


def _to_train(cell: Cell, graph: Sizes | InteractionGraph) -> int:
    name, _, added = cell.method.partition("+")
    if name in _DENSE:
        columns = FLOAT * graph.num_users * min(COLUMNS, graph.num_items)
        return int(_DENSE[name] * graph.num_items**2) + columns
    if name not in _TABLES and name not in _ROWS and name != "ddrm":
        return 0
    nodes = graph.num_users + graph.num_items
    batch = FLOAT * fit_setting(cell, "batch_size")
    if name == "ddrm":
        model = build(name, cell.model, 64)
        activations = 4 * batch * _widths(model) + 3 * FLOAT * nodes * 64
        return COPIES * FLOAT * count_parameters(model) + activations
    state = COPIES * FLOAT * _num_parameters(name, cell.model, graph)
    if name in _ROWS:
        return int(state + _ROWS[name] * batch * graph.num_items)
    told = {**arguments(name), **cell.model}
    width, layers = told["embedding_dim"], 1 + told.get("num_layers", 0)
    tables = _TABLES[name] * layers * FLOAT * nodes * width
    held = 2 if added == "deca" else 1  # two models are trained together
    return int(
        held * (state + tables) + 8 * batch * width + _PER_EDGE * graph.num_edges
    )


def _num_parameters(
    method: str, settings: Mapping[str, Any], graph: Sizes | InteractionGraph
) -> int:
    """Count parameters, which grow linearly with users and items, from small models."""
    one, more_users, more_items = (
        count_parameters(build(method, settings, *sizes))
        for sizes in ((1, 1), (2, 1), (1, 2))
    )
    per_user, per_item = more_users - one, more_items - one
    users, items = graph.num_users - 1, graph.num_items - 1
    return one + per_user * users + per_item * items


def _widths(model: nn.Module) -> int:
    """Activations of one row in all linear layers."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return sum(layer.in_features + layer.out_features for layer in layers)


def free_memory(device: str | None = None) -> int:
    """Bytes that are free where models train."""
    if device is not None and torch.device(device).type == "cuda":
        cached = torch.cuda.memory_reserved(device)
        cached -= torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return psutil.virtual_memory().available


def has_bf16(device: str | None = None) -> bool:
    """Whether a device has units for bfloat16, so that it is worth asking for."""
    if device is not None and torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def refuse_too_large(
    cell: Cell, graph: Sizes | InteractionGraph, device: str | None = None
) -> None:
    """Refuse what cannot fit, while nothing has been allocated; warn if it may not.

    Raises:
        MemoryError: Half of the estimate is above what is free; the message names the
            arguments to lower.
    """
    needed = to_run(cell, graph).train
    free = free_memory(None if cell.method in _DENSE else device)
    if needed <= free:
        return
    message = (
        f"{cell.method} on {graph.num_users} users and {graph.num_items} items "
        f"needs about {gibibytes(needed)} and {gibibytes(free)} are free{_advice(cell)}"
    )
    if needed > UNSURE * free:
        raise MemoryError(message)
    logger.warning("%s", message)


@contextmanager
def told_how_to_lower(cell: Cell) -> Iterator[None]:
    """Turn torch's words for memory that has run out into an argument to lower.

    Raises:
        MemoryError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        ran_out = isinstance(error, torch.OutOfMemoryError)
        if not ran_out and "DefaultCPUAllocator" not in str(error):
            raise
        raise MemoryError(f"{cell.method} ran out of memory{_advice(cell)}") from error


def _advice(cell: Cell) -> str:
    """Name the settings to lower; a closed form has none but fewer items."""
    name = cell.method.partition("+")[0]
    if name in _DENSE:
        return ": it holds all pairs of items, so it takes fewer items or none"
    if name not in (*_TABLES, *_ROWS, "ddrm"):
        return ""
    known = {*arguments(name), "batch_size"}
    return ": lower " + " or ".join(f"'{n}'" for n in _LOWERS if n in known)


def gibibytes(count: int) -> str:
    """Write bytes for people."""
    if count < 1 << 30:
        return f"{max(count >> 20, 1)} MiB"
    return f"{count / 2**30:.1f} GiB"
