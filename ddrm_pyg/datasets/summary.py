"""Say in numbers, and in one picture, what a data set is like."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.files import atomic_path
from ddrm_pyg.transforms.core import SPLITS, UNKNOWN, get_block

_MOST_VALUES = 20  # ratings with more distinct values are counted in bins
_NUM_BINS = 10

_UNITS = {"s": 1e8, "ms": 1e11, "us": 1e14, "ns": 1e17}
"""Units of time since 1970, and from which number on they are the likely one."""


def summarize(data: HeteroData) -> dict[str, Any]:
    """Count what there is.

    Args:
        data: Interactions, split or not.

    Returns:
        ``users``, ``items``, ``interactions`` (all splits), ``train``, ``val`` and
        ``test`` where they are there, ``density``, ``time`` (first, last),
        ``time_unit`` (``s``, ``ms``, ``us`` or ``ns`` since 1970, as the size of the
        last one tells; absent where it is too small for a moment) and ``ratings``
        (count by value, or by bin) where known, and ``noise``, the share of known false
        positives in each split where labels are there.
    """
    blocks = {s: block for s in SPLITS if (block := get_block(data, s))}
    users, items = data["user"].num_nodes, data["item"].num_nodes
    sizes = {split: block["index"].size(1) for split, block in blocks.items()}
    total = sum(sizes.values())
    record: dict[str, Any] = {"users": users, "items": items, "interactions": total}
    record |= sizes
    record["density"] = total / (users * items)
    time = _of_all(blocks, "time")
    if time.numel():
        record["time"] = [time.min().item(), time.max().item()]
        unit = _unit(record["time"][1])
        if unit is not None:
            record["time_unit"] = unit
    rating = _of_all(blocks, "rating")
    if rating.numel():
        record["ratings"] = _histogram(rating.numpy())
    noise = {
        split: float(block["is_noise"].double().mean())
        for split, block in blocks.items()
        if "is_noise" in block and block["is_noise"].numel()
    }
    if noise:
        record["noise"] = noise
    return record


def _of_all(blocks: dict[str, dict[str, Tensor]], name: str) -> Tensor:
    values = [block[name] for block in blocks.values() if name in block]
    joined = torch.cat(values) if values else torch.empty(0)
    return joined[joined != UNKNOWN[name]]


def _unit(last: float) -> str | None:
    return next((unit for unit in reversed(_UNITS) if last >= _UNITS[unit]), None)


def _histogram(rating: np.ndarray) -> dict[str, int]:
    value, count = np.unique(rating, return_counts=True)
    if len(value) <= _MOST_VALUES:
        names = [f"{v:g}" for v in value]
    else:
        count, edge = np.histogram(rating, _NUM_BINS)
        names = [f"{a:g} to {b:g}" for a, b in pairwise(edge)]
    return dict(zip(names, count.tolist(), strict=True))


def plot_degrees(data: HeteroData, path: str | os.PathLike[str]) -> None:
    """Draw how many users and items have at least so many interactions, as PNG.

    Args:
        data: Interactions; all splits count.
        path: The file to write.
    """
    from matplotlib.figure import Figure

    blocks = [block for split in SPLITS if (block := get_block(data, split))]
    index = torch.cat([block["index"] for block in blocks], dim=1)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for node, kind, colour in zip(
        index, ("user", "item"), ("#2a6f97", "#d1603d"), strict=True
    ):
        degree = torch.bincount(node, minlength=data[kind].num_nodes).sort().values
        at_least = torch.arange(len(degree), 0, -1)
        active = degree > 0
        axes.step(
            degree[active],
            at_least[active],
            label=f"{kind}s",
            color=colour,
            where="pre",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="interactions",
        ylabel="users or items with at least so many",
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
