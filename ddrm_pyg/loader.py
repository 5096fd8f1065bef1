"""Batches of one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, distributed

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import NegativeDraw, draw_negatives, draw_positives
from ddrm_pyg.graph.sequences import UserSequences

UserDraw = Literal["interactions", "uniform"]
"""How the users of triplets are drawn, see :func:`triplet_batches`."""

MIN_HISTORY = 3
"""Interactions that a history needs to be cut into a past and a future."""

_DRAW = 1 << 16
"""Triplets drawn at a time: enough to amortise a call, few enough for any memory."""


class Triplets(NamedTuple):
    """A batch of BPR triplets.

    Attributes:
        user: ``[B]`` int64.
        pos_item: ``[B]`` int64, items the user interacted with.
        neg_item: ``[B]`` int64, items the user did not.
    """

    user: Tensor
    pos_item: Tensor
    neg_item: Tensor


def triplet_batches(
    graph: InteractionGraph,
    *,
    batch_size: int,
    generator: torch.Generator,
    users: UserDraw = "interactions",
    negatives: NegativeDraw = "uniform",
    rank: int | None = None,
    world_size: int | None = None,
) -> Iterator[Triplets]:
    """Yield one epoch of triplets: as many draws as there are train interactions.

    Args:
        graph: Train interactions.
        batch_size: Triplets per batch; the last one may be smaller.
        generator: Source of all randomness; equal states give equal epochs.
        users: ``"interactions"`` visits every interaction once, in random order;
            ``"uniform"`` draws users uniformly with replacement and then one of their
            items, which gives light users the weight of heavy ones.
        negatives: ``"uniform"`` or ``"popularity"`` (WBPR), see
            :func:`ddrm_pyg.graph.sampling.draw_negatives`. Both of WBPR's forms exist:
            its code draws interactions, its formula weighs users alike.
        rank: With several processes, the share of each batch that this one takes;
            this process's rank if None.
        world_size: Number of processes, by default those of ``torch.distributed`` where
            it is initialised. All of them draw the same epoch.

    Raises:
        ValueError: No interaction can form a triplet, ``users`` or ``negatives`` is
            unknown, ``batch_size`` < 1 or ``rank`` not below ``world_size``.
    """
    rank, world_size = _share(batch_size, rank, world_size)
    # a user who owns every item has no negative
    eligible = graph.without_repeats().degree("user") < graph.num_items
    edges = eligible[graph.edge_index[0]].nonzero().flatten()
    if edges.numel() == 0:
        raise ValueError("'graph' must have a user who owns some items but not all")
    if users == "interactions":
        order = torch.randperm(
            edges.numel(), generator=generator, device=generator.device
        )
        edges = edges[order.to(edges.device)]
    elif users == "uniform":
        eligible = (eligible & (graph.degree("user") > 0)).nonzero().flatten()
    else:
        raise ValueError(f"'users' must be 'interactions' or 'uniform' (got '{users}')")
    block = max(_DRAW // batch_size, 1) * batch_size
    for start in range(0, edges.numel(), block):
        chosen = edges[start : start + block]
        if users == "interactions":
            user, pos_item = graph.edge_index[:, chosen]
        else:
            drawn = torch.randint(
                eligible.numel(),
                chosen.shape,
                generator=generator,
                device=generator.device,
            )
            user = eligible[drawn.to(eligible.device)]
            pos_item = draw_positives(graph, user, generator=generator)
        neg_item = draw_negatives(graph, user, generator=generator, negatives=negatives)
        for first in range(0, user.numel(), batch_size):
            part = slice(first + rank, first + batch_size, world_size)
            yield Triplets(user[part], pos_item[part], neg_item[part])


class UserRows(NamedTuple):
    """A batch of users with their train items, sparse.

    Attributes:
        user: ``[B]`` int64.
        row: ``[M]`` int64, positions in ``user``, ascending.
        item: ``[M]`` int64, sorted within each row.
        value: ``[M]`` float32, of each interaction.
    """

    user: Tensor
    row: Tensor
    item: Tensor
    value: Tensor

    def dense(self, num_items: int, value: Tensor | None = None) -> Tensor:
        """Write the rows out.

        Args:
            num_items: Number of columns.
            value: ``[M]`` float to write instead of ``self.value``.

        Returns:
            ``[B, num_items]``; users without items have a row of zeros.
        """
        value = self.value if value is None else value
        rows = value.new_zeros(self.user.numel(), num_items)
        rows[self.row, self.item] = value
        return rows


class RowTable:
    """The rows of all users, kept sparse and handed out for a few users at a time.

    Args:
        graph: Train interactions.
        value: ``[E]`` value of every interaction, in the order of ``edge_index``; 1 if
            None. A pair that repeats is one entry, of its last value.

    Raises:
        ValueError: ``value`` does not have one value per interaction.
    """

    def __init__(self, graph: InteractionGraph, value: Tensor | None = None) -> None:
        self.graph = graph.without_repeats()
        self._value: Tensor | None = None
        if value is not None:
            graph.check_per_edge(value, "value")
            self._key, edge = self._keys(*graph.edge_index).sort(stable=True)
            self._value = value.to(graph.device, torch.float32)[edge]

    def _keys(self, user: Tensor, item: Tensor) -> Tensor:
        return user * self.graph.num_items + item

    def rows(self, user: Tensor) -> UserRows:
        """Look up the rows of ``[B]`` users."""
        user = user.to(self.graph.device)
        row, item = self.graph.rows(user)
        if self._value is None:
            return UserRows(user, row, item, torch.ones(len(row), device=row.device))
        after = torch.searchsorted(self._key, self._keys(user[row], item), right=True)
        return UserRows(user, row, item, self._value[after - 1])


def user_row_batches(
    table: RowTable,
    *,
    batch_size: int,
    generator: torch.Generator,
    rank: int | None = None,
    world_size: int | None = None,
) -> Iterator[UserRows]:
    """Yield one epoch of user rows: every user with train items once, in random order.

    Args:
        table: Rows of train interactions.
        batch_size: Users per batch; the last one may be smaller.
        generator: Source of all randomness; equal states give equal epochs.
        rank: With several processes, the share of each batch that this one takes;
            this process's rank if None.
        world_size: Number of processes, by default those of ``torch.distributed`` where
            it is initialised. All of them draw the same epoch.

    Raises:
        ValueError: No user has train items, ``batch_size`` < 1 or ``rank`` not below
            ``world_size``.
    """
    users = table.graph.degree("user").nonzero().flatten()
    if users.numel() == 0:
        raise ValueError("'graph' must have a user with train interactions")
    for user in user_batches(
        users,
        batch_size=batch_size,
        generator=generator,
        rank=rank,
        world_size=world_size,
    ):
        yield table.rows(user)


def user_batches(
    users: Tensor,
    *,
    batch_size: int,
    generator: torch.Generator,
    rank: int | None = None,
    world_size: int | None = None,
) -> Iterator[Tensor]:
    """Yield one epoch of users: each once, in random order.

    Args:
        users: ``[N]`` int64 users to train on.
        batch_size: Users per batch; the last one may be smaller.
        generator: Source of all randomness; equal states give equal epochs.
        rank: As for :func:`user_row_batches`.
        world_size: Likewise.

    Raises:
        ValueError: ``batch_size`` < 1 or ``rank`` not below ``world_size``.
    """
    rank, world_size = _share(batch_size, rank, world_size)
    order = torch.randperm(users.numel(), generator=generator, device=generator.device)
    users = users[order.to(users.device)]
    for first in range(0, users.numel(), batch_size):
        yield users[first + rank : first + batch_size : world_size]


class Cuts(NamedTuple):
    """A batch of histories, each cut into a past and a future.

    Attributes:
        user: ``[B]`` int64.
        cut: ``[B]`` int64, how many of the user's interactions are past.
    """

    user: Tensor
    cut: Tensor


def cut_batches(
    sequences: UserSequences,
    *,
    batch_size: int,
    generator: torch.Generator,
    window: int = 10,
    cuts: int = 4,
    rank: int | None = None,
    world_size: int | None = None,
) -> Iterator[Cuts]:
    """Yield one epoch of cuts, in random order.

    A history of n interactions is cut once for every ``window`` of them, at least once
    and at most ``cuts`` times, each time behind a uniformly drawn place from n / 4 on,
    so that there is a past and a future. Histories shorter than three are left out.

    Args:
        sequences: Train interactions in order.
        batch_size: Cuts per batch; the last one may be smaller.
        generator: Source of all randomness; equal states give equal epochs.
        window: Interactions per cut.
        cuts: Cuts per user at most.
        rank: With several processes, the share of each batch that this one takes;
            this process's rank if None.
        world_size: Number of processes, by default those of ``torch.distributed`` where
            it is initialised. All of them draw the same epoch.

    Raises:
        ValueError: No history can be cut, ``batch_size``, ``window`` or ``cuts`` < 1
            or ``rank`` not below ``world_size``.
    """
    rank, world_size = _share(batch_size, rank, world_size)
    for name, value in (("window", window), ("cuts", cuts)):
        if value < 1:
            raise ValueError(f"'{name}' must be >= 1 (got {value})")
    length = sequences.length
    users = (length >= MIN_HISTORY).nonzero().flatten()
    if users.numel() == 0:
        raise ValueError(
            f"'graph' must have a user with {MIN_HISTORY} train interactions or more "
            f"(got {int(length.max()) if length.numel() else 0} at most)"
        )
    users = users.repeat_interleave((length[users] // window).clamp(1, cuts))
    device = generator.device
    order = torch.randperm(users.numel(), generator=generator, device=device)
    users = users[order.to(users.device)]
    share = torch.rand(users.numel(), generator=generator, device=device)
    first = (length[users] // 4).clamp(min=1)
    places = length[users] - first
    cut = first + (share.to(users.device).double() * places).long()
    for begin in range(0, users.numel(), batch_size):
        part = slice(begin + rank, begin + batch_size, world_size)
        yield Cuts(users[part], cut[part])


def processes() -> tuple[int, int]:
    """Return this process's rank and the number of processes that train together.

    Those of ``torch.distributed`` where it is initialised; 0 of 1 otherwise.
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _share(
    batch_size: int, rank: int | None, world_size: int | None
) -> tuple[int, int]:
    this, all_of_them = processes()
    rank = this if rank is None else rank
    world_size = all_of_them if world_size is None else world_size
    if batch_size < 1:
        raise ValueError(f"'batch_size' must be >= 1 (got {batch_size})")
    if not 0 <= rank < world_size:
        raise ValueError(f"'rank' must lie in [0, {world_size}) (got {rank})")
    return rank, world_size
