"""What memory a piece of work needs, estimated before, guarded and measured.

Estimates count the large tensors: parameters with their gradients, Adam's two moments,
the best copy and a checkpoint; tables at every layer; activations of a batch; the
graph. The factors, which are in the methods' records, were measured with
:class:`PeakMemory` and are good to a factor of two.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import psutil
import torch
from torch import nn

from ddrm_pyg.experiments.arguments import WIDTH
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import Held, Method, find
from ddrm_pyg.experiments.sources import DOWNLOADS, NAMED, Source
from ddrm_pyg.experiments.work import count_parameters
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import COLUMNS
from ddrm_pyg.nn.models.ease import factors_for

logger = logging.getLogger("ddrm_pyg")

UNSURE = 2
"""What an estimate may be wrong by, as a factor."""

FLOAT, COPIES = 4, 6
"""MemoryEstimate of a number, and how often a trained parameter is held at the peak."""

_PER_EDGE = 220  # both sorted copies, both blocks, an epoch's draws
_PER_NEIGHBOUR, _COUNTED = 40, 80 << 20  # of item-kNN, and items that a thread counts
_PER_BYTE = {".json": 0.25, ".jsonl": 0.25}  # of a file that is mostly other text,
_OF_NUMBERS = 8.0  # and of others, while the graph is made
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


class MemoryEstimate(NamedTuple):
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


def to_run(cell: Cell, graph: Sizes | InteractionGraph) -> MemoryEstimate:
    """Estimate what a cell takes without those that it starts from, and ranking.

    Args:
        cell: Any cell; one that only arranges another's results takes nothing here.
        graph: Train interactions, or their numbers.
    """
    lists = graph.num_users * 20 * 12
    rank = _RANKED + lists + _PER_EDGE * graph.num_edges
    return MemoryEstimate(_to_train(cell, graph), rank)


def _to_train(cell: Cell, graph: Sizes | InteractionGraph) -> int:
    method = find(cell.method)
    if not method.trained and method.held is None:
        return 0
    held = method.held or Held("tables", 0.0)
    return _HELD[held.kind](cell, method, held.factor, graph)


def _pairs(
    cell: Cell, method: Method, factor: float, graph: Sizes | InteractionGraph
) -> int:
    neighbours = cell.model.get("k")
    if neighbours is not None:
        kept = min(neighbours, graph.num_items) * graph.num_items
        counted = _COUNTED * torch.get_num_threads()
        return _PER_NEIGHBOUR * kept + counted + _PER_EDGE * graph.num_edges
    columns = FLOAT * graph.num_users * min(COLUMNS, graph.num_items)
    return int(factor * graph.num_items**2) + columns


def _inverse(
    cell: Cell, method: Method, factor: float, graph: Sizes | InteractionGraph
) -> int:
    factors = factors_for(graph.num_items, cell.model.get("num_factors"))
    if factors is None:
        return _pairs(cell, method, factor, graph)
    nodes = graph.num_users + graph.num_items
    return 5 * FLOAT * nodes * factors + _PER_EDGE * graph.num_edges


def _tables(
    cell: Cell, method: Method, factor: float, graph: Sizes | InteractionGraph
) -> int:
    nodes = graph.num_users + graph.num_items
    width = cell.model.get("embedding_dim", WIDTH)
    layers = 1 + cell.model.get("num_layers", 0)
    tables = factor * layers * FLOAT * nodes * width
    models = method.models * (_state(cell, method, graph) + tables)
    batch = FLOAT * cell.fit["batch_size"]
    return int(models + 8 * batch * width + _PER_EDGE * graph.num_edges)


def _vectors(
    cell: Cell, method: Method, factor: float, graph: Sizes | InteractionGraph
) -> int:
    nodes = graph.num_users + graph.num_items
    width = max(cell.model["embedding_dim"], cell.model.get("widest", 0))
    vectors = factor * FLOAT * nodes * width
    return int(vectors + _PER_EDGE * graph.num_edges)


def _places(
    cell: Cell, method: Method, factor: float, graph: Sizes | InteractionGraph
) -> int:
    model = cell.model
    places = cell.fit["batch_size"] * model["max_length"] * model["num_layers"]
    activations = factor * FLOAT * places * model["embedding_dim"]
    state = _state(cell, method, graph) + _PER_EDGE * graph.num_edges
    return int(state + activations)


def _rows(
    cell: Cell, method: Method, factor: float, graph: Sizes | InteractionGraph
) -> int:
    rows = FLOAT * cell.fit["batch_size"] * graph.num_items
    return int(_state(cell, method, graph) + factor * rows)


def _widths(
    cell: Cell, method: Method, factor: float, graph: Sizes | InteractionGraph
) -> int:
    model = method.model.example(cell.model)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    row = sum(layer.in_features + layer.out_features for layer in layers)
    nodes = graph.num_users + graph.num_items
    activations = 4 * factor * FLOAT * cell.fit["batch_size"] * row
    tables = 3 * FLOAT * nodes * WIDTH
    return int(_bytes(cell, count_parameters(model)) + activations + tables)


_HELD = {
    "pairs": _pairs,
    "inverse": _inverse,
    "tables": _tables,
    "vectors": _vectors,
    "rows": _rows,
    "places": _places,
    "widths": _widths,
}
"""What a method takes by what it holds, see :class:`Held`."""


def _state(cell: Cell, method: Method, graph: Sizes | InteractionGraph) -> int:
    return _bytes(cell, num_parameters(cell, graph))


def _bytes(cell: Cell, num_trained: int) -> int:
    """All copies of what is trained; an average is one, and keeps another aside."""
    averaged = cell.fit.get("ema_decay") is not None
    return (COPIES + 2 * averaged) * FLOAT * num_trained


def num_parameters(cell: Cell, graph: Sizes | InteractionGraph) -> int:
    """Count parameters, which grow linearly with users and items, from small models."""
    model = find(cell.method).model
    one, more_users, more_items = (
        count_parameters(model.example(cell.model, *sizes))
        for sizes in ((1, 1), (2, 1), (1, 2))
    )
    per_user, per_item = more_users - one, more_items - one
    users, items = graph.num_users - 1, graph.num_items - 1
    return one + per_user * users + per_item * items


def free_memory(device: str | None = None) -> int:
    """MemoryEstimate that are free where models train."""
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


@contextmanager
def guard_memory(
    cell: Cell, graph: Sizes | InteractionGraph, device: str | None = None
) -> Iterator[None]:
    """Refuse what cannot fit while nothing has been allocated; warn if it may not.

    Memory that runs out all the same becomes an argument to lower.

    Raises:
        MemoryError: Half of the estimate is above what is free, or nothing is left; the
            message names the arguments to lower.
    """
    _refuse_too_large(cell, graph, device)
    try:
        yield
    except RuntimeError as error:
        ran_out = isinstance(error, torch.OutOfMemoryError)
        if not ran_out and "DefaultCPUAllocator" not in str(error):
            raise
        raise MemoryError(f"{cell.method} ran out of memory{_advice(cell)}") from error


def _refuse_too_large(
    cell: Cell, graph: Sizes | InteractionGraph, device: str | None
) -> None:
    needed = to_run(cell, graph).train
    # closed forms are solved on the CPU
    free = free_memory(device if find(cell.method).trained else None)
    if needed <= free:
        return
    message = (
        f"{cell.method} on {graph.num_users} users and {graph.num_items} items "
        f"needs about {gibibytes(needed)} and {gibibytes(free)} are free{_advice(cell)}"
    )
    if needed > UNSURE * free:
        raise MemoryError(message)
    logger.warning("%s", message)


def _advice(cell: Cell) -> str:
    """Name the settings to lower; a closed form has none but fewer items."""
    method = find(cell.method)
    if method.held is not None and method.held.kind in ("pairs", "inverse"):
        return ": it holds all pairs of items, so it takes fewer items or none"
    if not method.trained:
        return ""
    settings = {*method.model.defaults(), "batch_size"}
    return ": lower " + " or ".join(f"'{n}'" for n in _LOWERS if n in settings)


def gibibytes(count: int) -> str:
    """Write bytes for people."""
    if count < 1 << 30:
        return f"{max(count >> 20, 1)} MiB"
    return f"{count / 2**30:.1f} GiB"


_INTERVAL = 0.02
"""Seconds between two looks at the process."""


class PeakMemory:
    """Measures the most memory that a ``with`` block adds to the process.

    On a CPU it samples the resident memory of the process from a thread, 50 times a
    second; shorter peaks may be missed. What earlier work freed is first given back to
    the system where the C library can (glibc), or it would not be counted again. On
    CUDA it asks torch's allocator, which counts exactly, and the process is not looked
    at.

    Args:
        device: Where the work is done.

    Attributes:
        bytes: MemoryEstimate above the start of the block, once it is left.
    """

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.bytes = 0
        self._cuda = device is not None and torch.device(device).type == "cuda"
        self._device = device
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
            self._start = torch.cuda.memory_allocated(self._device)
        else:
            _give_back()
            self._start = self._peak = self._process.memory_info().rss
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._cuda:
            self._peak = torch.cuda.max_memory_allocated(self._device)
        else:
            self._done.set()
            self._thread.join()
            self._look()
        self.bytes = self._peak - self._start

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)


def _give_back() -> None:
    """Return freed memory to the system."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
