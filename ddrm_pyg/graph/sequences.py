"""Histories in the order in which they happened, cut anywhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import (
    EDGE,
    UNKNOWN_TIME,
    InteractionGraph,
    interactions_of,
    row_pointer,
)

_FEW = 0.01
"""Share of interactions whose time may be unknown: they stand first, which is said."""

logger = logging.getLogger("ddrm_pyg")


class Bags(NamedTuple):
    """Some interactions of each of B users, one after the other.

    Attributes:
        row: ``[M]`` int64, positions in the batch, ascending.
        item: ``[M]`` int64, from first to last within each row.
        offset: ``[B]`` int64, where each row begins.
        later: ``[M]`` int64, how many interactions of the same row come after.
    """

    row: Tensor
    item: Tensor
    offset: Tensor
    later: Tensor

    @property
    def num_rows(self) -> int:
        """B; a row may be empty."""
        return self.offset.numel()

    def padded(self, length: int, padding: int) -> Tensor:
        """Write the last ``length`` items of each row out, aligned to the right.

        Args:
            length: Number of columns.
            padding: What stands where a row has no item.

        Returns:
            ``[B, length]`` int64.
        """
        items = self.item.new_full((self.num_rows, length), padding)
        kept = self.later < length
        items[self.row[kept], length - 1 - self.later[kept]] = self.item[kept]
        return items


class UserSequences:
    """Every user's items from first to last, each item once.

    Args:
        pointer: ``[num_users + 1]`` int64, where each user's items begin.
        item: ``[E]`` int64.
        num_items: Number of items, those without interactions included.
    """

    def __init__(self, pointer: Tensor, item: Tensor, num_items: int) -> None:
        self.pointer = pointer
        self.item = item
        self.num_items = num_items

    @classmethod
    def from_graph(
        cls, graph: InteractionGraph, edge_time: Tensor | None = None
    ) -> UserSequences:
        """Put the interactions of a graph in order.

        Args:
            graph: Train interactions. Of a pair that repeats, the first one counts.
            edge_time: ``[E]`` when each happened; interactions of equal time stand in
                the order of ``edge_index``, as all do if None. Unknown times (-1) come
                first, which is logged.

        Raises:
            ValueError: Times that do not order: not one per interaction, NaN, unknown
                for more than 1 % of the interactions, or all equal for each user.
        """
        user, item = graph.edge_index
        order = torch.arange(graph.num_edges, device=graph.device)
        if edge_time is not None:
            order = _check_time(graph, edge_time).argsort(stable=True)
        order = order[user[order].argsort(stable=True)]
        user, item = user[order], item[order]
        key, place = (user * graph.num_items + item).sort(stable=True)
        repeated = torch.zeros_like(key, dtype=torch.bool)
        repeated[place[1:][key[1:] == key[:-1]]] = True
        degree = torch.bincount(user[~repeated], minlength=graph.num_users)
        return cls(row_pointer(degree), item[~repeated], graph.num_items)

    @classmethod
    def from_histories(
        cls, histories: Sequence[Tensor], num_items: int
    ) -> UserSequences:
        """Take histories of users who need not be in any graph.

        Args:
            histories: One ``[L]`` int64 tensor of items per user, from first to last;
                may be empty. Of an item that repeats, the first one counts.
            num_items: Number of items.

        Raises:
            ValueError: An item out of range.
        """
        lengths = [len(history) for history in histories]
        count = torch.tensor(lengths, dtype=torch.int64)
        item = torch.cat([torch.empty(0, dtype=torch.int64), *histories])
        edges = torch.stack([torch.repeat_interleave(count), item])
        return cls.from_graph(InteractionGraph(edges, len(histories), num_items))

    @property
    def num_users(self) -> int:
        """Number of users, those without interactions included."""
        return self.pointer.numel() - 1

    @property
    def length(self) -> Tensor:
        """``[num_users]`` int64, items of each user."""
        return self.pointer[1:] - self.pointer[:-1]

    def before(self, user: Tensor, cut: Tensor | None = None) -> Bags:
        """List the first items of some users.

        Args:
            user: ``[B]`` int64.
            cut: ``[B]`` int64, how many of each; all if None.
        """
        stop = self.length[user] if cut is None else cut
        return self._between(user, torch.zeros_like(user), stop)

    def after(self, user: Tensor, cut: Tensor, size: int) -> Bags:
        """List the items of some users that follow a cut, at most ``size`` of each."""
        stop = torch.minimum(cut + size, self.length[user])
        return self._between(user, cut, stop)

    def _between(self, user: Tensor, first: Tensor, stop: Tensor) -> Bags:
        count = stop - first
        row = torch.repeat_interleave(count)
        offset = row_pointer(count)[:-1]
        place = torch.arange(row.numel(), device=row.device) - offset[row]
        item = self.item[(self.pointer[user] + first)[row] + place]
        return Bags(row, item, offset, count[row] - 1 - place)


def tells_order(data: HeteroData) -> bool:
    """Tell whether each user's train interactions are known to be in an order.

    Args:
        data: As :func:`ddrm_pyg.load_interactions` returns it.

    Returns:
        True where the times are known for 99 % of the interactions and tell those of a
        user apart, and where ``data["user", "interacts", "item"].in_order`` says that
        every user's interactions stand in the order of time.
    """
    return _times_tell(data) or _is_in_order(data)


def edge_order(data: HeteroData) -> Tensor:
    """Return what puts the train interactions of a data set in order.

    Args:
        data: As :func:`ddrm_pyg.load_interactions` returns it.

    Returns:
        ``[E]`` ``edge_time``, or places from 0 where it does not tell the order and the
        data are ``in_order``.

    Raises:
        ValueError: There is neither.
    """
    store = interactions_of(data)
    if _is_in_order(data) and not _times_tell(data):
        return torch.arange(store.edge_index.size(1), device=store.edge_index.device)
    if "edge_time" not in store:
        raise ValueError(
            "'data' must tell the order of interactions: load them with a column of "
            f"times, or set data[{EDGE}].in_order = True if each user's stand in the "
            "order of time (got neither 'edge_time' nor 'in_order')"
        )
    return store.edge_time


def _is_in_order(data: HeteroData) -> bool:
    flag = interactions_of(data).get("in_order", False)
    if not isinstance(flag, bool):
        raise ValueError(f"'in_order' must be True or False (got {flag!r})")
    return flag


def _times_tell(data: HeteroData) -> bool:
    time = interactions_of(data).get("edge_time")
    if time is None or int((time == UNKNOWN_TIME).sum()) > _FEW * time.numel():
        return False
    user = interactions_of(data).edge_index[0]
    return _are_apart(user, time, data["user"].num_nodes)


def _are_apart(user: Tensor, time: Tensor, num_users: int) -> bool:
    """Tell whether times order interactions: of a user, or at all where none has two.

    One moment for all that a user took is that of a crawl, say, and no order.
    """
    other = time[:1]
    if user.unique().numel() < user.numel():
        any_of = time.new_empty(num_users)
        any_of[user] = time
        other = any_of[user]
    return bool((time != other).any())


def _check_time(graph: InteractionGraph, edge_time: Tensor) -> Tensor:
    """Return the times of a caller, if they put the interactions in order."""
    time = graph.check_time(edge_time).to(graph.device)
    count = graph.num_edges
    unknown = int((edge_time == UNKNOWN_TIME).sum())
    if unknown > _FEW * count:
        raise ValueError(
            "'edge_time' must be known (not -1) for 99 % of the interactions "
            f"(got {unknown} of {count} unknown)"
        )
    if unknown:
        logger.warning(
            "%d of %d train interactions have no time: they count as the first ones",
            unknown,
            count,
        )
    user = graph.edge_index[0]
    if graph.num_edges > 1 and not _are_apart(user, time, graph.num_users):
        raise ValueError(
            "'edge_time' must tell a user's interactions apart (got one time for all "
            f"of each: the first user's is {time[0].item()})"
        )
    return time
