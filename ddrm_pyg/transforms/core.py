"""Mark and thin out interactions, and the few helpers every transform shares.

All transforms work on one :class:`~torch_geometric.data.HeteroData` with the node
types ``user`` and ``item`` and the edge type :data:`EDGE`. A *block* is one split of
it: the train pairs are ``edge_index`` with ``edge_time``, ``edge_rating`` and
``edge_is_noise``; the pairs held out for validation are ``val_edge_label_index`` with
``val_edge_time`` and so on; the same with ``test``. Unsplit data have all their
interactions in the train block.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from ddrm_pyg.graph.interaction_graph import (
    EDGE,
    interactions_of,
    per_edge,
    without_nan,
)

SPLITS = ("train", "val", "test")
ATTRIBUTES = ("index", "time", "rating", "is_noise")
UNKNOWN = {"rating": 0, "time": -1}
"""What stands for a value that is not known."""


def get_block(data: HeteroData, split: str) -> dict[str, Tensor]:
    """Return the pairs of one split with whatever is known about them.

    Args:
        data: Interactions, split or not.
        split: ``train``, ``val`` or ``test``.

    Returns:
        ``index`` ``[2, E]`` int64 and, where known, ``time`` ``[E]`` int64 or
        float64, ``rating`` ``[E]`` float32 and ``is_noise`` ``[E]`` bool. Empty where
        there is no such split.

    Raises:
        ValueError: :func:`~ddrm_pyg.graph.interaction_graph.interactions_of` refuses
            the data, or a value per pair is missing or NaN.
    """
    store = interactions_of(data)
    keys = {name: _key(split, name) for name in ATTRIBUTES}
    block = {name: store[key] for name, key in keys.items() if key in store}
    for name, value in block.items():
        if name != "index" and "index" in block:
            per_edge(value, keys[name], block["index"].size(1))
            without_nan(value, keys[name])
    return block


def set_block(data: HeteroData, split: str, block: dict[str, Tensor]) -> None:
    """Write the pairs of one split, as :func:`get_block` returns them.

    Args:
        data: Changed in place; its old tensors are left as they are.
        split: ``train``, ``val`` or ``test``.
        block: ``index`` ``[2, E]`` and what else is known about the pairs, ``[E]``.
    """
    for name, value in block.items():
        data[EDGE][_key(split, name)] = value


def select(block: dict[str, Tensor], pick: Tensor) -> dict[str, Tensor]:
    """Return the pairs that ``pick``, a mask or an index, chooses."""
    if pick.dtype == torch.bool:
        pick = pick.nonzero().flatten()  # once, not once per attribute
    return {name: take(value, pick) for name, value in block.items()}


def take(value: Tensor, pick: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Take columns ``[n]`` of what is known about pairs, ``[E]`` or ``[2, E]``.

    Args:
        value: Columns; of two rows each is taken on its own, as torch is seven times as
            slow over both at once.
        pick: ``[n]`` integers.
        dtype: What they become; their own type if None.
    """
    size = (*value.shape[:-1], pick.numel())
    columns = empty(size, dtype or value.dtype, value.device)
    rows = [(value, columns)] if value.dim() == 1 else zip(value, columns, strict=True)
    for row, target in rows:
        if target.dtype == row.dtype:
            torch.index_select(row, 0, pick, out=target)
        else:
            target.copy_(row.index_select(0, pick))
    return columns


def empty(
    size: Sequence[int], dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """Make a large tensor to be written to, the processor's in NumPy's memory.

    NumPy asks the system for large pages: many small ones take longer to come than
    what is written to them.

    Args:
        size: Of each dimension.
        dtype: Of its values.
        device: Where it is; the processor if None.
    """
    num_bytes = math.prod(size) * dtype.itemsize
    if not num_bytes or (device is not None and device.type != "cpu"):
        return torch.empty(size, dtype=dtype, device=device)
    raw = torch.from_numpy(np.empty(num_bytes, dtype=np.uint8))
    return raw.view(dtype).view(size)


def seeded(seed: int) -> torch.Generator:
    """Return a CPU generator of its own, so that no draw disturbs another."""
    return torch.Generator().manual_seed(seed)


def require_unsplit(data: HeteroData, name: str) -> None:
    """Refuse data that are split already.

    Args:
        data: Interactions.
        name: The transform that asks, for the message.

    Raises:
        ValueError: A held-out block is there.
    """
    for split in SPLITS[1:]:
        if get_block(data, split):
            raise ValueError(
                f"{name} works on unsplit interactions "
                f"(got {_key(split, 'index')!r}: apply it before the split)"
            )


def require_split(data: HeteroData, name: str) -> None:
    """Refuse data that are not split yet.

    Args:
        data: Interactions.
        name: The transform that asks, for the message.

    Raises:
        ValueError: A held-out block is missing.
    """
    for split in SPLITS[1:]:
        if not get_block(data, split):
            raise ValueError(
                f"{name} works on split interactions "
                f"(no {_key(split, 'index')!r}: apply it after the split)"
            )


def compact_ids(data: HeteroData) -> HeteroData:
    """Drop nodes without a pair in any split and close the gaps in the numbering.

    The nodes that stay keep their order. ``raw_id`` and every other node attribute
    travel with them.

    Args:
        data: Interactions, split or not. Not changed.

    Returns:
        A copy with nodes numbered ``0 … n - 1`` for each node type.
    """
    data = copy.copy(data)
    blocks = {split: get_block(data, split) for split in SPLITS}
    pairs = torch.cat([block["index"] for block in blocks.values() if block], dim=1)
    new_id = []
    for node_type, node in zip(("user", "item"), pairs, strict=True):
        used = torch.zeros(data[node_type].num_nodes, dtype=torch.bool)
        used[node] = True
        _keep_nodes(data, node_type, used)
        new_id.append(used.cumsum(0) - 1)
    for split, block in blocks.items():
        if block:
            user, item = block["index"]
            index = torch.stack([new_id[0][user], new_id[1][item]])
            set_block(data, split, {"index": index})
    return data


class RatingThreshold(BaseTransform):
    """Mark ratings below a threshold as false positives.

    An interaction that the user later rated low was noise as an implicit click:
    ``edge_is_noise = edge_rating < threshold``. ML-1M with ``threshold=4`` is the
    reading of "Denoising Diffusion Recommender Model" (SIGIR 2024,
    https://doi.org/10.1145/3626772.3657825) and of DiffRec (SIGIR 2023).

    Args:
        threshold: The lowest rating that counts as liked, in the unit of the ratings.
        drop: Remove the low ratings instead of marking them. Nodes stay.
    """

    def __init__(self, threshold: float = 4.0, drop: bool = False) -> None:
        self.threshold = threshold
        self.drop = drop

    def forward(self, data: HeteroData) -> HeteroData:
        """Mark or remove the low ratings.

        Args:
            data: Unsplit interactions with ``edge_rating`` ``[E]``.

        Returns:
            The data with ``edge_is_noise`` ``[E]`` bool, or with fewer edges.

        Raises:
            ValueError: There are no ratings, or the data are split.
        """
        require_unsplit(data, "RatingThreshold")
        block = get_block(data, "train")
        if "rating" not in block:
            raise ValueError("RatingThreshold needs 'edge_rating' (got none)")
        is_noise = block["rating"] < self.threshold
        block = select(block, ~is_noise) if self.drop else {"is_noise": is_noise}
        set_block(data, "train", block)
        return data

    def __repr__(self) -> str:
        return f"RatingThreshold(threshold={self.threshold}, drop={self.drop})"


class KCore(BaseTransform):
    """Keep the users and items with at least k liked interactions among themselves.

    Users and items with fewer are removed in turns until none is left to remove. Only
    liked interactions count. The false positives of the users who stay are kept,
    whatever their item, so that a core user's noisy history remains whole.

    Args:
        k: The least number of liked interactions per user and per item.

    Raises:
        ValueError: ``k`` is below 1.
    """

    def __init__(self, k: int = 10) -> None:
        if k < 1:
            raise ValueError(f"'k' must be >= 1 (got {k})")
        self.k = k

    def forward(self, data: HeteroData) -> HeteroData:
        """Cut the data down to the core and renumber what stays.

        Args:
            data: Unsplit interactions; those with ``edge_is_noise`` are not counted.

        Returns:
            The core with compact ids; see :func:`compact_ids`.

        Raises:
            ValueError: Nothing is left, or the data are split.
        """
        require_unsplit(data, "KCore")
        block = get_block(data, "train")
        liked = ~noise_of(block)
        stays, core_user = self._core(block["index"], liked)
        if not bool(stays.any()):
            raise ValueError(f"{self!r} leaves no interactions")
        keep = stays | (~liked & core_user[block["index"][0]])
        set_block(data, "train", select(block, keep))
        return compact_ids(data)

    def _core(self, index: Tensor, liked: Tensor) -> tuple[Tensor, Tensor]:
        """Return which pairs ``[E]`` and which users form the liked core."""
        user, item = index
        stays = liked
        while True:
            core_user = torch.bincount(user[stays], minlength=_size(user)) >= self.k
            core_item = torch.bincount(item[stays], minlength=_size(item)) >= self.k
            fewer = stays & core_user[user] & core_item[item]
            if torch.equal(fewer, stays):
                return stays, core_user
            stays = fewer

    def __repr__(self) -> str:
        return f"KCore(k={self.k})"


def noise_of(block: dict[str, Tensor]) -> Tensor:
    """Return the noise label of each pair ``[E]``: all False where none is known."""
    if "is_noise" in block:
        return block["is_noise"]
    return torch.zeros(block["index"].size(1), dtype=torch.bool)


def _key(split: str, name: str) -> str:
    if split == "train":
        return f"edge_{name}"
    return f"{split}_edge_{'label_index' if name == 'index' else name}"


def _keep_nodes(data: HeteroData, node_type: str, used: Tensor) -> None:
    store = data[node_type]
    for key in [key for key in store if store.is_node_attr(key)]:
        value = store[key]
        if isinstance(value, Tensor):
            store[key] = value[used]
        else:
            store[key] = [value[i] for i in used.nonzero().flatten().tolist()]
    store.num_nodes = int(used.sum())


def _size(node: Tensor) -> int:
    return int(node.max()) + 1 if node.numel() else 0
