"""How a long command starts: what the machine has, the data, what will be needed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell, chain
from ddrm_pyg.experiments.memory import (
    free_memory,
    gibibytes,
    has_bf16,
    to_load,
    to_run,
)
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.experiments.tables import counted
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.transforms.core import get_block, noise_of

logger = logging.getLogger("ddrm_pyg")


def announce(source: Source, device: str | None) -> None:
    """Say what there is to work with, and what reading a source takes."""
    needed = to_load(source)
    reading = f"; reading {source.name} takes about {gibibytes(needed or 0)}"
    logger.info(
        "%s, device %s %s bf16 units, %s free%s",
        counted(torch.get_num_threads(), "thread"),
        device or "cpu",
        "with" if has_bf16(device) else "without",
        gibibytes(free_memory(device)),
        "" if needed is None else reading,
    )


def begin(source: Source, device: str | None, cells: Iterable[Cell] = ()) -> HeteroData:
    """Load a data set between what is needed before and after.

    Args:
        source: Where it is.
        device: Where models will train.
        cells: What will be run; the largest is logged, of these and of what they start
            from. None where that depends on the data, see :func:`log_memory`.
    """
    announce(source, device)
    data = source.load()
    graph, *held_out = (
        InteractionGraph.from_data(data, splits=(split,))
        for split in ("train", "val", "test")
    )
    logger.info(
        "%s: %s, %s, %d / %d / %d train, validation and test interactions%s",
        source.name,
        counted(graph.num_users, "user"),
        counted(graph.num_items, "item"),
        graph.num_edges,
        *(pairs.num_edges for pairs in held_out),
        _noise(data),
    )
    log_memory(cells, graph)
    return data


def _noise(data: HeteroData) -> str:
    """Say how many interactions of each split are labelled as noise, if any are."""
    if "edge_is_noise" not in data[EDGE]:
        return ""
    blocks = (get_block(data, split) for split in ("train", "val", "test"))
    counts = " / ".join(str(int(noise_of(block).sum())) for block in blocks)
    return f", of which {counts} are noise"


def log_memory(cells: Iterable[Cell], graph: InteractionGraph) -> None:
    """Say what the largest of these cells, and of what they start from, takes."""
    links = [link for cell in cells for link in chain(cell)]
    memory = {link.method: to_run(link, graph) for link in links}
    if memory:
        largest = max(memory, key=lambda method: memory[method].train)
        logger.info(
            "training takes about %s (%s), ranking %s",
            gibibytes(memory[largest].train),
            largest,
            gibibytes(memory[largest].rank),
        )
