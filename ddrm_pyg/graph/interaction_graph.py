"""The bipartite graph of train interactions: storage and lookup, nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage
from torch_geometric.typing import SparseTensor

EDGE = ("user", "interacts", "item")
"""The edge type of every interaction graph."""

UNKNOWN_TIME = -1
"""A time that is not there; any other negative one is before 1970."""

_SPLIT_ATTRIBUTE = {
    "train": "edge_index",
    "val": "val_edge_label_index",
    "test": "test_edge_label_index",
}


class InteractionGraph:
    """Users, items and the pairs that interacted.

    Rows are looked up by user, and the two normalised blocks of the adjacency matrix
    are built once and cached. The order of the edges is kept, so that per-edge values
    (times, weights) of the caller stay aligned. A pair that occurs twice counts twice,
    as everywhere in PyG; the loaders remove repeats.

    Args:
        edge_index: ``[2, E]`` int64; row 0 holds users, row 1 items, both from 0.
        num_users: Number of users, those without interactions included.
        num_items: Number of items, likewise.

    Raises:
        ValueError: Wrong shape or type, or an index out of range.
    """

    def __init__(self, edge_index: Tensor, num_users: int, num_items: int) -> None:
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ValueError(
                f"'edge_index' must have shape [2, E] (got {list(edge_index.shape)})"
            )
        if edge_index.dtype != torch.int64:
            raise ValueError(f"'edge_index' must be int64 (got {edge_index.dtype})")
        for row, name, size in ((0, "user", num_users), (1, "item", num_items)):
            if edge_index.size(1) == 0:
                break
            low, high = (int(v) for v in edge_index[row].aminmax())
            if low < 0 or high >= size:
                raise ValueError(
                    f"'edge_index' must hold {name}s in [0, {size}) "
                    f"(got {low if low < 0 else high})"
                )
        self.edge_index = edge_index
        self.num_users = num_users
        self.num_items = num_items

    @classmethod
    def from_data(
        cls, data: HeteroData, splits: Sequence[str] = ("train",)
    ) -> InteractionGraph:
        """Take the pairs of some splits out of a loaded data set.

        Args:
            data: As :func:`ddrm_pyg.load_interactions` returns it.
            splits: Any of ``"train"``, ``"val"``, ``"test"``; splits that the data
                does not have count as empty.

        Raises:
            ValueError: An unknown split, or data that :func:`interactions_of` refuses.
            TypeError: No ``HeteroData``.
        """
        store = interactions_of(data)
        pairs = []
        for split in splits:
            if split not in _SPLIT_ATTRIBUTE:
                raise ValueError(
                    f"'splits' must be among {list(_SPLIT_ATTRIBUTE)} (got '{split}')"
                )
            if _SPLIT_ATTRIBUTE[split] in store:
                pairs.append(store[_SPLIT_ATTRIBUTE[split]])
        if not pairs:
            pairs.append(store.edge_index[:, :0])
        edge_index = torch.cat(pairs, dim=1) if len(pairs) != 1 else pairs[0]
        return cls(edge_index, data["user"].num_nodes, data["item"].num_nodes)

    @property
    def num_edges(self) -> int:
        """Number of interactions."""
        return self.edge_index.size(1)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.edge_index.device

    def degree(self, node_type: Literal["user", "item"]) -> Tensor:
        """Count the interactions of every user, or of every item.

        Returns:
            ``[num_users]`` or ``[num_items]`` int64.

        Raises:
            ValueError: An unknown node type.
        """
        if node_type not in ("user", "item"):
            raise ValueError(
                f"'node_type' must be 'user' or 'item' (got {node_type!r})"
            )
        return self._user_degree if node_type == "user" else self._item_degree

    def place(self, order: Tensor) -> Tensor:
        """Number every user's interactions from 0, in a given order.

        Args:
            order: ``[E]`` int64 permutation, all interactions from first to last.

        Returns:
            ``[E]`` int64, in the order of ``edge_index``.
        """
        user = self.edge_index[0]
        order = order[user[order].argsort(stable=True)]
        place = torch.empty_like(order)
        place[order] = torch.arange(self.num_edges, device=order.device)
        return place - row_pointer(self.degree("user"))[user]

    @cached_property
    def _user_degree(self) -> Tensor:
        return torch.bincount(self.edge_index[0], minlength=self.num_users)

    @cached_property
    def _item_degree(self) -> Tensor:
        return torch.bincount(self.edge_index[1], minlength=self.num_items)

    @property
    def by_user(self) -> Tensor:
        """The interactions sorted by user, then item, as ``adj().values()`` has them.

        Returns:
            ``[E]`` int64 columns of ``edge_index``; repeats of a pair keep their
            order. Sorted once.
        """
        return self._sorted_keys[1]

    @cached_property
    def by_item(self) -> Tensor:
        """The interactions sorted by item, then user, as ``adj_t().values()`` has them.

        Returns:
            ``[E]`` int64 columns of ``edge_index``; repeats of a pair keep their
            order. Sorted once.
        """
        user, item = self.edge_index
        return (item * self.num_users + user).argsort(stable=True)

    @cached_property
    def _sorted_keys(self) -> tuple[Tensor, Tensor]:
        """Sorted keys ``user * num_items + item`` and the edge each came from."""
        user, item = self.edge_index
        key = user * self.num_items + item
        if self.num_users * self.num_items <= torch.iinfo(torch.int32).max:
            key = key.int()  # sorts in half the time
        key, order = key.sort(stable=True)
        return key.long(), order

    @cached_property
    def user_items(self) -> tuple[Tensor, Tensor]:
        """The items of all users, in compressed rows.

        Returns:
            ``pointer`` ``[num_users + 1]`` int64 and ``item`` ``[E]`` int64: user u
            has ``item[pointer[u] : pointer[u + 1]]``, ascending.
        """
        return row_pointer(self._user_degree), self._sorted_keys[0] % self.num_items

    def rows(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """List the items of some users.

        Args:
            user: ``[B]`` int64.

        Returns:
            ``row`` ``[M]``, positions in ``user`` (0 to B - 1, ascending), and
            ``item`` ``[M]``, sorted within each row.
        """
        pointer, items = self.user_items
        start = pointer[user]
        count = pointer[user + 1] - start
        row = torch.repeat_interleave(count)
        shift = start - row_pointer(count)[:-1]
        return row, items[torch.arange(row.numel(), device=row.device) + shift[row]]

    def contains(self, user: Tensor, item: Tensor) -> Tensor:
        """Tell which pairs interacted.

        Args:
            user: ``[B]`` int64.
            item: ``[B]`` int64.

        Returns:
            ``[B]`` bool.
        """
        if self.num_edges == 0:
            return torch.zeros_like(user, dtype=torch.bool)
        return self._search(user, item)[1]

    def find(self, user: Tensor, item: Tensor) -> Tensor:
        """Find the interactions of some pairs.

        Args:
            user: ``[B]`` int64.
            item: ``[B]`` int64.

        Returns:
            ``[B]`` int64 columns of ``edge_index``, the first one of a pair that
            repeats; -1 for a pair that did not interact.
        """
        if self.num_edges == 0:
            return torch.full_like(user, -1)
        position, is_there = self._search(user, item)
        return torch.where(is_there, self.by_user[position], -1)

    def _search(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Position of each pair among the sorted ones, and whether it is there."""
        keys = self._sorted_keys[0]
        wanted = user * self.num_items + item
        position = torch.searchsorted(keys, wanted).clamp_(max=keys.numel() - 1)
        return position, keys[position] == wanted

    def history_mean(
        self,
        item_emb: Tensor,
        *,
        weight: Tensor | None = None,
        history: InteractionGraph | None = None,
        fallback: Tensor | None = None,
    ) -> Tensor:
        r"""Average the item vectors of every user's history (Eq. 23 of DDRM).

        .. math:: \bar e_u = \sum_{i \in I_u} w_{ui} e_i \,/ \sum_{i \in I_u} w_{ui}

        A user without train items, or with none that has a vector (SVD has zeros for
        an item that train does not have), gets the ``fallback``.

        Args:
            item_emb: ``[num_items, D]``.
            weight: ``[E]`` non-negative weight of every interaction, in the order of
                ``edge_index``; ``None`` weighs them equally, as published.
            history: The histories to average instead of this graph's own: users that
                were never trained on, over the same items. ``weight`` then belongs to
                its edges; the mean item stays this graph's.
            fallback: ``[D]``; the mean item over all interactions of this graph if
                None. A graph of some users' rows is given the whole graph's.

        Returns:
            ``[num_users, D]``, or one row per user of ``history``.

        Raises:
            ValueError: ``item_emb``, ``weight`` or ``history`` does not match the
                graph.
        """
        if item_emb.size(0) != self.num_items:
            raise ValueError(
                f"'item_emb' must have one row per item, {self.num_items} "
                f"(got {item_emb.size(0)})"
            )
        rows = history or self
        if rows.num_items != self.num_items:
            raise ValueError(
                f"'history' must have the graph's {self.num_items} items "
                f"(got {rows.num_items})"
            )
        values = rows._ones(item_emb) if weight is None else rows.check_weight(weight)
        values = values.to(item_emb)
        total = item_emb.new_zeros(rows.num_users)
        total = total.index_add(0, rows.edge_index[0], values)
        block = rows._csr_by_user(values / total.clamp(min=1e-38)[rows.edge_index[0]])
        mean = block @ item_emb
        says_something = (total > 0) & mean.any(dim=1)
        if fallback is None:
            fallback = self.mean_item(item_emb)
        return torch.where(says_something.unsqueeze(1), mean, fallback)

    def mean_item(self, item_emb: Tensor) -> Tensor:
        """Average the item vectors of all interactions.

        The start of a user about whom nothing is known.

        Args:
            item_emb: ``[num_items, D]``.

        Returns:
            ``[D]``; zeros in a graph without interactions.
        """
        return mean_item(self._item_degree, item_emb)

    def _ones(self, like: Tensor) -> Tensor:
        return like.new_ones(self.num_edges)

    def check_per_edge(self, value: Tensor, name: str) -> Tensor:
        """Return the values of a caller, if there is one per interaction.

        Args:
            value: To be in the order of ``edge_index``.
            name: What the caller calls them.

        Raises:
            ValueError: Not of shape ``[E]``.
        """
        return per_edge(value, name, self.num_edges)

    def check_time(self, time: Tensor) -> Tensor:
        """Return the times of a caller, if every interaction has one.

        Args:
            time: One value per interaction, in the order of ``edge_index``.

        Returns:
            ``[E]`` the same, unknown ones (-1) before all others.

        Raises:
            ValueError: Not of shape ``[E]``, or NaN.
        """
        time = without_nan(self.check_per_edge(time, "edge_time"), "edge_time")
        is_unknown = time == UNKNOWN_TIME
        if not bool(is_unknown.any()):
            return time
        # others may be negative, too: what happened before 1970
        return time.masked_fill(is_unknown, int(time.min()) - 1)

    def check_weight(self, weight: Tensor) -> Tensor:
        """Return the weights of a caller, if they fit.

        Args:
            weight: One value per interaction, in the order of ``edge_index``.

        Raises:
            ValueError: Not of shape ``[E]``, negative or not finite.
        """
        self.check_per_edge(weight, "weight")
        if not bool((torch.isfinite(weight) & (weight >= 0)).all()):
            raise ValueError("'weight' must be finite and >= 0")
        return weight

    def adj(self) -> Tensor:
        r"""Normalised adjacency :math:`D_u^{-1/2} A D_i^{-1/2}`, users by items.

        Returns:
            ``[num_users, num_items]`` sparse CSR float32. Built once.
        """
        return self._blocks[0]

    def adj_t(self) -> Tensor:
        """The transpose of :meth:`adj`, items by users, as a CSR block of its own.

        Each block is the other's backward, which saves torch's slow one.

        Returns:
            ``[num_items, num_users]`` sparse CSR float32. Built once.
        """
        return self._blocks[1]

    @cached_property
    def _blocks(self) -> tuple[Tensor, Tensor]:
        value = self.edge_weight()
        adj_t = csr_tensor(
            row_pointer(self._item_degree),
            self.edge_index[0][self.by_item],
            value[self.by_item],
            (self.num_items, self.num_users),
        )
        return self._csr_by_user(value), adj_t

    def edge_weight(self) -> Tensor:
        """Symmetric normalisation :math:`(d_u d_i)^{-1/2}` of every interaction.

        Returns:
            ``[E]`` float32, in the order of ``edge_index``.
        """
        user, item = self.edge_index
        product = self._user_degree[user] * self._item_degree[item]
        return product.to(torch.float32).rsqrt()

    def _csr_by_user(self, value: Tensor) -> Tensor:
        pointer, items = self.user_items
        shape = (self.num_users, self.num_items)
        return csr_tensor(pointer, items, value[self.by_user], shape)

    def subgraph(self, edge_mask: Tensor) -> InteractionGraph:
        """Keep some interactions and every node; degrees are counted anew.

        Args:
            edge_mask: ``[E]`` bool, True to keep.
        """
        kept = InteractionGraph(
            self.edge_index[:, edge_mask], self.num_users, self.num_items
        )
        # what is sorted here stays sorted: views are drawn every epoch
        position = edge_mask.cumsum(0) - 1
        if "_sorted_keys" in vars(self):
            key, edge = self._sorted_keys
            kept._sorted_keys = key[edge_mask[edge]], position[edge[edge_mask[edge]]]
        if "by_item" in vars(self):
            kept.by_item = position[self.by_item[edge_mask[self.by_item]]]
        return kept

    def without_repeats(self) -> InteractionGraph:
        """Keep the first occurrence of every pair; the graph itself if none repeats."""
        key, edge = self._sorted_keys
        repeated = key[1:] == key[:-1]
        if not bool(repeated.any()):
            return self
        keep = torch.ones_like(key, dtype=torch.bool)
        keep[edge[1:][repeated]] = False
        return self.subgraph(keep)

    def to(self, device: torch.device | str) -> InteractionGraph:
        """Move to a device."""
        if self.device == torch.device(device):
            return self
        return InteractionGraph(
            self.edge_index.to(device), self.num_users, self.num_items
        )

    def __repr__(self) -> str:
        return (
            f"InteractionGraph(num_users={self.num_users}, "
            f"num_items={self.num_items}, num_edges={self.num_edges})"
        )


def interactions_of(data: HeteroData) -> EdgeStorage:
    """Return the store of the interactions of a caller's data, checked and unchanged.

    Args:
        data: As :func:`ddrm_pyg.load_interactions` returns it.

    Raises:
        ValueError: Another edge type, or missing ``edge_index`` or ``num_nodes``.
        TypeError: No ``HeteroData``.
    """
    if not isinstance(data, HeteroData):
        raise TypeError(
            "'data' must be a HeteroData, as load_interactions returns it (got "
            f"{type(data).__name__})"
        )
    # data[...] would add what is not there to the caller's object
    if EDGE not in data.edge_types:
        raise ValueError(
            f"'data' must have the edge type {EDGE} (there are {data.edge_types}; "
            "from_hetero takes another)"
        )
    for node_type in ("user", "item"):
        if node_type not in data.node_types or data[node_type].num_nodes is None:
            raise ValueError(
                f"'data' must tell the number of {node_type}s: set "
                f"data[{node_type!r}].num_nodes"
            )
    store = data[EDGE]
    if "edge_index" not in store:
        raise ValueError(f"'data' must have an edge_index for {EDGE} (got none)")
    return store


def has_validation(data: HeteroData) -> bool:
    """Tell whether a data set has pairs that anything can be selected by."""
    pairs = data[EDGE].get("val_edge_label_index")
    return pairs is not None and pairs.size(1) > 0


def per_edge(value: Tensor, name: str, num_edges: int) -> Tensor:
    """Return the values of a caller, if there is one per interaction.

    Args:
        value: To be ``[num_edges]``.
        name: What the caller calls them.
        num_edges: Number of interactions.

    Raises:
        ValueError: Another shape.
    """
    if value.shape != (num_edges,):
        raise ValueError(
            f"'{name}' must have one value per interaction, {num_edges} "
            f"(got shape {list(value.shape)})"
        )
    return value


def without_nan(value: Tensor, name: str) -> Tensor:
    """Return the values ``[E]`` of a caller, if none is NaN.

    Raises:
        ValueError: NaN.
    """
    # a NaN makes the sum one, which is there in a fifth of the time
    if not value.is_floating_point() or not bool(value.sum().isnan()):
        return value
    if bool(value.isnan().any()):
        raise ValueError(
            f"'{name}' must be known for every interaction "
            f"(got {int(value.isnan().sum())} NaN of {value.numel()})"
        )
    return value


def as_graph(
    edges: InteractionGraph | Tensor | Any, num_users: int, num_items: int
) -> InteractionGraph:
    """Accept a graph in any of the forms that PyG users have.

    Args:
        edges: An :class:`InteractionGraph`, an ``edge_index`` ``[2, E]`` (users,
            items), or the ``adj_t`` ``SparseTensor`` ``[num_items, num_users]`` that
            PyG's ``ToSparseTensor`` makes; its values are not used.
        num_users: Number of user rows the graph must have.
        num_items: Number of item rows the graph must have.

    Raises:
        ValueError: The sizes differ.
        TypeError: None of the three forms.
    """
    if isinstance(edges, InteractionGraph):
        shape = (edges.num_users, edges.num_items)
    elif isinstance(edges, SparseTensor):
        shape = (edges.size(1), edges.size(0))
    elif isinstance(edges, Tensor) and edges.layout == torch.strided:
        return InteractionGraph(edges, num_users, num_items)
    else:
        raise TypeError(
            "'graph' must be an InteractionGraph, an edge_index or a SparseTensor "
            f"(got {type(edges).__name__})"
        )
    if shape != (num_users, num_items):
        raise ValueError(
            f"'graph' must have {num_users} users and {num_items} items "
            f"(got {shape[0]} and {shape[1]})"
        )
    if isinstance(edges, InteractionGraph):
        return edges
    item, user, _ = edges.coo()
    return InteractionGraph(torch.stack([user, item]), num_users, num_items)


def mean_item(item_degree: Tensor, item_emb: Tensor) -> Tensor:
    """Average item vectors by how many interactions each item has.

    Args:
        item_degree: ``[num_items]`` int64.
        item_emb: ``[num_items, D]``.

    Returns:
        ``[D]``; zeros without interactions.
    """
    share = item_degree.to(item_emb) / max(int(item_degree.sum()), 1)
    return share @ item_emb


def row_pointer(count: Tensor) -> Tensor:
    """Turn counts ``[N]`` into CSR pointers ``[N + 1]``."""
    return torch.nn.functional.pad(count.cumsum(0), (1, 0))


def csr_tensor(pointer: Tensor, column: Tensor, value: Tensor, shape: tuple) -> Tensor:
    """Make a sparse CSR matrix of its parts."""
    with warnings.catch_warnings():
        # torch announces at every first use that CSR is in beta; we only multiply
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            pointer, column, value, shape, check_invariants=False
        )
