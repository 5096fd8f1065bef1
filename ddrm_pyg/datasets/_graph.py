"""Build the bipartite graph that every reader returns."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.transforms.core import EDGE, empty, get_block, set_block, take
from ddrm_pyg.transforms.split import HoldOutValidation

logger = logging.getLogger("ddrm_pyg")

RawIds = Tensor | list[str]
Blocks = dict[str, dict[str, Tensor]]


def build_graph(
    name: str, blocks: Blocks, user_raw: RawIds, item_raw: RawIds
) -> HeteroData:
    """Build the graph; of a pair that is there twice, one event stays.

    That is the one of the first split and there, where times are known, the earliest;
    of equal ones the first.

    Args:
        name: Name of the source, for messages.
        blocks: What is known about the pairs of each split, as
            :func:`~ddrm_pyg.transforms.core.get_block` returns it, the index of any
            integers; used up, so that nothing is there twice.
        user_raw: The caller's id of each user, by row.
        item_raw: The caller's id of each item, by row.

    Raises:
        ValueError: A split other than validation has no pairs.
    """
    repeated = _repeated(blocks, len(item_raw))
    if repeated is not None:
        by_time = all("time" in block for block in blocks.values())
        logger.warning(
            "%s: %d duplicate pairs (each kept once, the %s)",
            name,
            int(repeated.sum()),
            "earliest" if by_time else "first",
        )
        sizes = [block["index"].size(1) for block in blocks.values()]
        masks = repeated.split(sizes)
        for block, mask in zip(blocks.values(), masks, strict=True):
            pick = (~mask).nonzero().flatten()
            for attribute in block:
                block[attribute] = take(block[attribute], pick)
            del pick
    for split, block in blocks.items():
        if split != "val" and block["index"].size(1) == 0:
            raise ValueError(f"{name}: no rows for {split}")
    data = HeteroData()
    for node_type, raw_id in (("user", user_raw), ("item", item_raw)):
        data[node_type].num_nodes = len(raw_id)
        data[node_type].raw_id = raw_id
    for split, block in blocks.items():
        set_block(data, split, block)
    return data


def _repeated(blocks: Blocks, num_items: int) -> Tensor | None:
    """Return a mask of the repeats ``[E]`` that go, or None where there are none."""
    mark = _marks(blocks, num_items)
    mark.sort()  # a small part of the time of a hash table, and mostly enough
    twice = mark[1:][mark[1:] == mark[:-1]]
    del mark  # before the next
    if not len(twice):
        return None
    mask = pd.Series(_marks(blocks, num_items), copy=False).isin(twice).to_numpy()
    suspect, key = _by_time(blocks, mask, num_items)
    repeated = np.zeros(len(mask), dtype=bool)
    repeated[suspect] = pd.Series(key).duplicated().to_numpy()
    return torch.from_numpy(repeated)


def _marks(blocks: Blocks, num_items: int) -> np.ndarray:
    """Return a number of each pair, ``[E]``, which few other pairs have, if any.

    In 32 bits they are sorted twice as fast as in 64. They are those of one pair each
    where users times items fit, and an odd factor spreads the others.
    """
    sizes = [block["index"].size(1) for block in blocks.values()]
    mark = np.empty(sum(sizes), dtype=np.uint32)
    stop = 0
    for size, block in zip(sizes, blocks.values(), strict=True):
        start, stop = stop, stop + size
        user, item = block["index"].numpy()
        part = mark[start:stop]
        part[:] = user
        part *= np.uint32((num_items | 1) % 2**32)
        np.add(part, item, out=part, dtype=np.uint32, casting="unsafe")
    return mark


def _by_time(
    blocks: Blocks, mask: np.ndarray, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places ``[n]`` of some pairs, and a number of each pair.

    They come split by split, each by time if known.

    Args:
        blocks: As for :func:`build_graph`.
        mask: ``[E]`` which pairs.
        num_items: Number of items.
    """
    orders, keys, start = [], [], 0
    for block in blocks.values():
        user, item = block["index"].numpy()
        place = mask[start : start + len(user)].nonzero()[0]
        if "time" in block:
            place = place[np.argsort(block["time"].numpy()[place], kind="stable")]
        orders.append(start + place)
        keys.append(user[place].astype(np.int64) * num_items + item[place])
        start += len(user)
    return np.concatenate(orders), np.concatenate(keys)


def widen(data: HeteroData) -> None:
    """Make ``edge_index`` int64, as everything but reading has it.

    Args:
        data: Unsplit interactions, which are changed.
    """
    store = data[EDGE]
    if store.edge_index.dtype == torch.int64:
        return
    wide = empty(store.edge_index.shape, torch.int64)
    store.edge_index = wide.copy_(store.edge_index)


def hold_out(name: str, data: HeteroData, seed: int) -> HeteroData:
    """Hold out validation pairs of data that bring test pairs only, and say so.

    Args:
        name: Name of the source.
        data: Interactions without a validation split.
        seed: Seeds the draw.
    """
    logger.warning(
        "%s: no validation pairs; a tenth of each user's train pairs is held out "
        "(seed %d)",
        name,
        seed,
    )
    return HoldOutValidation(0.1, seed=seed)(data)


def warn_untrained(name: str, data: HeteroData) -> None:
    """Say how many nodes a model cannot learn.

    Args:
        name: Name of the source.
        data: Split interactions.
    """
    index = get_block(data, "train")["index"]
    for node_type, node, what in (
        ("user", index[0], "users have no train items"),
        ("item", index[1], "items are not in train"),
    ):
        degree = torch.bincount(node, minlength=data[node_type].num_nodes)
        missing = int((degree == 0).sum())
        if missing:
            logger.warning("%s: %d %s", name, missing, what)
