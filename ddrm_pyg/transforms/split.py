"""Split each user's interactions into train, validation and test blocks."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from ddrm_pyg.checks import check_among
from ddrm_pyg.graph.sequences import edge_order, tells_order
from ddrm_pyg.transforms.core import (
    ATTRIBUTES,
    SPLITS,
    get_block,
    noise_of,
    require_unsplit,
    seeded,
    select,
    set_block,
    take,
)

Scope = Literal["user", "global"]
"""Whose timeline is cut, see :class:`TemporalSplit`."""

_FEW = 1 << 18
"""Pairs that are looked at together, so that they stay in the caches."""

_MOST = 0.5
"""Share of ties in time from which on they are said."""

logger = logging.getLogger("ddrm_pyg")


def check_ratios(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the shares of train, validation and test, or refuse them.

    Args:
        ratios: Three fractions; validation may be 0.

    Returns:
        The same three as floats.

    Raises:
        ValueError: They are not three, one is negative, train or test is 0, or they do
            not sum to 1 within 1e-6.
    """
    shares = tuple(float(ratio) for ratio in ratios)
    if len(shares) != 3 or not all(share >= 0 for share in shares):
        raise ValueError(f"'ratios' must be three shares >= 0 (got {tuple(ratios)})")
    if not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"'ratios' must sum to 1 (got {shares}: {sum(shares):g})")
    if not (shares[0] > 0 and shares[2] > 0):
        raise ValueError(f"'ratios' must leave a train and a test share (got {shares})")
    return shares[0], shares[1], shares[2]


class TemporalSplit(BaseTransform):
    """Cut each user's liked interactions, in the order of time, into three blocks.

    Of a user's n liked interactions, test gets ``round(test * n)`` (halves up), at
    least 1 where n >= 3 and never all of them; train gets ``round(train * n)``, at
    least 1 and at most what test leaves; validation gets the rest. A user with one or
    two liked interactions therefore always has one to train on.

    False positives up to the end of the user's train block go to train and the later
    ones to validation; test holds liked interactions only. This is how the
    natural-noise sets of DiffRec (SIGIR 2023) and DDRM (SIGIR 2024) are arranged. The
    false positives of a user who liked nothing go to train.

    Ties in time keep their order in the data, which is logged where most are ties.
    Without ``edge_time`` the order of the data takes the place of time where they are
    ``in_order``, and a random one where they are not, for false positives as well. Each
    block comes out grouped by user and in that order inside a user.

    With ``scope="global"`` one moment parts train from validation, and another one
    validation from test, so that nobody's future is in anybody's training: the ratios
    are shares of all interactions. Held-out pairs of users or items that train does not
    have are left out, and so are the false positives after the second moment; their
    numbers are logged.

    Args:
        ratios: Shares of train, validation and test, whatever ``order`` says.
        order: The blocks from earliest to latest. The published ML-1M is
            ``("train", "test", "val")``.
        seed: Seeds the generator of the random order; unused where time is known.
        scope: ``"user"`` cuts each user's own timeline, ``"global"`` everyone's at the
            same moments.

    Raises:
        ValueError: The ratios are refused by :func:`check_ratios`, ``order`` does
            not name each block once, or is another than the default with
            ``scope="global"``.
    """

    def __init__(
        self,
        ratios: Sequence[float] = (0.7, 0.1, 0.2),
        order: Sequence[str] = SPLITS,
        seed: int = 0,
        scope: Scope = "user",
    ) -> None:
        if sorted(order) != sorted(SPLITS):
            raise ValueError(
                f"'order' must name train, val and test once each (got {tuple(order)})"
            )
        check_among(get_args(Scope), scope=scope)
        if scope == "global" and tuple(order) != SPLITS:
            raise ValueError(
                f"'order' must be {SPLITS} with scope='global' (got {tuple(order)})"
            )
        self.scope = scope
        self.ratios = check_ratios(ratios)
        self.order = tuple(order)
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Move the held-out interactions out of ``edge_index``.

        Args:
            data: Unsplit interactions; ``edge_time`` and ``edge_is_noise`` are used
                where known.

        Returns:
            The data with train pairs in ``edge_index`` and the others in
            ``val_edge_label_index`` and ``test_edge_label_index``, each with the time,
            rating and noise label that its pairs had.

        Raises:
            ValueError: The data are split, no test pair is left, or nothing tells the
                times of a global split.
        """
        require_unsplit(data, "TemporalSplit")
        block = get_block(data, "train")
        order = self._timeline(data, block)
        num_users = data["user"].num_nodes
        degree = torch.bincount(block["index"][0], minlength=num_users)
        user = _repeat(np.arange(len(degree), dtype=np.int32), degree)  # in that order
        if "time" in block:
            warn_of_ties(*_count_ties_in(user, block["time"], order))
        if self.scope == "global":
            split = self._assign_by_moment(select(block, order))
        else:
            liked = ~noise_of(block)
            if "is_noise" in block:
                liked = liked.index_select(0, order)
            split = self.assign(user, liked, num_users)
            del liked
        del user
        if not bool((split == SPLITS.index("test")).any()):
            raise ValueError(f"the split leaves no test pairs: {self.no_test_pairs}")
        places = order.numpy()  # torch takes four times as long by a mask
        picks = [
            torch.from_numpy(places[(split == i).numpy()]) for i in range(len(SPLITS))
        ]
        del order, places, split
        _cut(data, block, picks)
        return data

    def _timeline(self, data: HeteroData, block: dict[str, Tensor]) -> Tensor:
        """Return the order ``[E]`` that groups by user and sorts by time inside."""
        user = block["index"][0]
        if "time" in block or tells_order(data):
            return order_by_user(user, edge_order(data))
        draw = torch.randperm(user.numel(), generator=seeded(self.seed))
        return order_by_user(user, draw)

    def assign(self, user: Tensor, liked: Tensor, num_users: int) -> Tensor:
        """Tell the block of each pair of a timeline, whole users at a time.

        Args:
            user: ``[E]`` integers, ascending; each user's pairs from first to last.
            liked: ``[E]`` bool.
            num_users: Number of users.

        Returns:
            ``[E]`` int8, positions in :data:`SPLITS`.
        """
        liked_user = user if bool(liked.all()) else user[liked]
        num_liked = torch.bincount(liked_user, minlength=num_users)
        order = [SPLITS.index(name) for name in self.order]
        sizes = self._sizes(num_liked)[:, order]
        # The timeline runs user by user, and its liked pairs block by block.
        blocks = _repeat(
            np.tile(np.array(order, dtype=np.int8), num_users), sizes.flatten()
        )
        if blocks.numel() == user.numel():  # all are liked
            return blocks
        split = torch.empty_like(liked, dtype=torch.int8)
        split[liked] = blocks

        low_user = user[~liked]
        of_users_before = num_liked.cumsum(0) - num_liked
        rank = liked.cumsum(0)[~liked] - of_users_before[low_user]
        train_end = sizes.cumsum(1)[:, self.order.index("train")]
        early = (rank < train_end[low_user]) | (num_liked[low_user] == 0)
        split[~liked] = torch.where(
            early, SPLITS.index("train"), SPLITS.index("val")
        ).to(torch.int8)
        return split

    def _assign_by_moment(self, block: dict[str, Tensor]) -> Tensor:
        """Return the position in :data:`SPLITS` of each pair, -1 for those left out."""
        if "time" not in block or bool((block["time"] == block["time"][:1]).all()):
            raise ValueError(
                "scope='global' needs 'edge_time' that tells interactions apart; "
                "scope='user' does without"
            )
        count = block["time"].numel()
        bounds = self.moments(count)
        split = torch.empty(count, dtype=torch.int64)
        rank = torch.arange(count)
        split[torch.from_numpy(_stable_argsort(block["time"].numpy()))] = sum(
            (rank >= bound).long() for bound in bounds
        )
        held_out, disliked = split > 0, (split == 2) & noise_of(block)
        unseen = torch.zeros(2, count, dtype=torch.bool)
        for row, index in enumerate(block["index"]):
            in_train = torch.zeros(int(index.max()) + 1, dtype=torch.bool)
            in_train[index[~held_out]] = True
            unseen[row] = held_out & ~in_train[index]
        for row, name in enumerate(("users", "items")):
            pairs = unseen[row]
            if bool(pairs.any()):
                logger.warning(
                    "%d held-out interactions of %d %s that train does not have are "
                    "left out",
                    int(pairs.sum()),
                    block["index"][row][pairs].unique().numel(),
                    name,
                )
        if bool(disliked.any()):
            logger.warning(
                "noise after the last %g %% began is left out: %d interactions",
                100 * self.ratios[2],
                int(disliked.sum()),
            )
        return split.masked_fill(unseen.any(0) | disliked, -1)

    @property
    def no_test_pairs(self) -> str:
        """Say why none may be left."""
        if self.scope == "global":
            return (
                "those after the last moment are noise, or of users or items "
                "that train does not have"
            )
        return "no user has enough liked interactions"

    def moments(self, count: int) -> tuple[int, int]:
        """Tell how many of some interactions come before validation, and before test.

        Args:
            count: Interactions of all users, for ``scope="global"``.
        """
        until = (self.ratios[0], self.ratios[0] + self.ratios[1])
        val, test = (int(_round(torch.tensor(count * share))) for share in until)
        return val, test

    def _sizes(self, num_liked: Tensor) -> Tensor:
        """Return the block sizes ``[U, 3]`` in the order of :data:`SPLITS`."""
        train, _, test = (_round(num_liked.double() * ratio) for ratio in self.ratios)
        test = torch.where(num_liked >= 3, test.clamp(min=1), test)
        test = torch.minimum(test, (num_liked - 1).clamp(min=0))
        train = torch.minimum(train.clamp(min=1), num_liked - test)
        return torch.stack([train, num_liked - train - test, test], dim=1)

    def __repr__(self) -> str:
        scope = "" if self.scope == "user" else f", scope={self.scope!r}"
        return (
            f"TemporalSplit(ratios={self.ratios}, order={self.order}, "
            f"seed={self.seed}{scope})"
        )


class HoldOutValidation(BaseTransform):
    """Move a random share of each user's train interactions to validation.

    For published splits that bring train and test only. A user with n train
    interactions gives ``round(share * n)`` of them (halves up), false positives and
    liked ones alike.

    Args:
        share: The share to hold out, in (0, 1).
        seed: Seeds the generator of the draw.

    Raises:
        ValueError: ``share`` does not lie in (0, 1).
    """

    def __init__(self, share: float = 0.1, seed: int = 0) -> None:
        if not 0 < share < 1:
            raise ValueError(f"'share' must lie in (0, 1) (got {share})")
        self.share = share
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Draw the validation pairs from ``edge_index``.

        Args:
            data: Interactions without a validation split.

        Returns:
            The data with fewer train pairs, in their old order, and with
            ``val_edge_label_index``.

        Raises:
            ValueError: There is a validation split already.
        """
        if get_block(data, "val"):
            raise ValueError("HoldOutValidation found a validation split already")
        block = get_block(data, "train")
        user = block["index"][0]
        count = torch.bincount(user, minlength=data["user"].num_nodes)

        draw = torch.randperm(user.numel(), generator=seeded(self.seed))
        order = order_by_user(user, draw)
        num_out = _round(count.double() * self.share)
        sizes = torch.stack([num_out, count - num_out], dim=1)
        held_out = torch.empty_like(user, dtype=torch.bool)
        held_out[order] = (
            torch.tensor([True, False])
            .repeat(len(count))
            .repeat_interleave(sizes.flatten())
        )

        set_block(data, "train", select(block, ~held_out))
        set_block(data, "val", select(block, held_out))
        return data

    def __repr__(self) -> str:
        return f"HoldOutValidation(share={self.share}, seed={self.seed})"


def count_ties(user: Tensor, time: Tensor) -> tuple[int, int]:
    """Count how often a user's next interaction has the time of the one before it.

    Args:
        user: ``[E]`` int64, ascending.
        time: ``[E]``, ascending for each user.

    Returns:
        The ties, and all interactions that follow another one of the same user.
    """
    follows = user[1:] == user[:-1]
    ties = follows & (time[1:] == time[:-1])
    return int(ties.sum()), int(follows.sum())


def _cut(data: HeteroData, block: dict[str, Tensor], picks: list[Tensor]) -> None:
    """Write the pairs ``[n]`` of each split; what is cut goes, before the next is.

    The index, which takes most room, is last, as no pick is kept beyond its own cut.

    Args:
        data: Changed in place.
        block: All pairs, which are used up; the index becomes int64.
        picks: The places of each split's pairs, which are used up.
    """
    blocks: dict[str, dict[str, Tensor]] = {name: {} for name in SPLITS}
    names = [name for name in ATTRIBUTES if name in block]
    for name in reversed(names):
        value = block.pop(name)
        dtype = torch.int64 if name == "index" else None
        for place, part in enumerate(blocks.values()):
            pick = picks[place] if block else picks.pop(0)
            part[name] = take(value, pick, dtype)
        set_block(data, "train", {name: blocks["train"][name]})
    for split, part in blocks.items():
        set_block(data, split, {name: part[name] for name in names})


def _count_ties_in(user: Tensor, time: Tensor, order: Tensor) -> tuple[int, int]:
    """Count the same of times ``[E]`` in any order, few at a time.

    Args:
        user: ``[E]`` ascending.
        time: ``[E]``, ascending for each user only once it is put in order.
        order: ``[E]`` as :func:`order_by_user` returns it.
    """
    ties = follows = 0
    for start in range(0, order.numel(), _FEW):
        some = slice(start, start + _FEW + 1)  # and the next one
        tied, following = count_ties(user[some], time.index_select(0, order[some]))
        ties, follows = ties + tied, follows + following
    return ties, follows


def warn_of_ties(ties: int, follows: int) -> None:
    """Say where the order of users' interactions is mostly that of the data's rows.

    Args:
        ties: As :func:`count_ties` counts them, like what follows.
        follows: Of how many.
    """
    if ties > _MOST * follows:
        logger.warning(
            "%.0f %% of users' interactions have the time of the one before: these are "
            "taken in the order of the rows",
            100 * ties / follows,
        )


def order_by_user(user: Tensor, moment: Tensor) -> Tensor:
    """Sort pairs by user, then by moment; ties keep their order.

    Args:
        user: User of each pair ``[E]`` int64, >= 0.
        moment: Time of each pair ``[E]``, of any number type.

    Returns:
        The order ``[E]``, int32 where that holds it.
    """
    return torch.from_numpy(_stable_argsort(user.numpy(), moment.numpy()))


def _stable_argsort(*keys: np.ndarray) -> np.ndarray:
    """Sort places ``[E]`` by keys ``[E]``, the first one first; ties keep their order.

    Integers are packed into one number with their places in the lower bits: NumPy sorts
    numbers several times as fast as it sorts places by numbers, and, unlike torch, no
    slower while other processes keep the cores busy.
    """
    count = len(keys[0])
    place_type = np.int32 if count <= np.iinfo(np.int32).max else np.int64
    packed = _packed(keys)
    if packed is not None:
        packed.sort()
        packed &= (1 << (count - 1).bit_length()) - 1
        return packed.astype(place_type)
    *higher, lowest = keys
    if not higher:
        return np.argsort(lowest, kind="stable").astype(place_type)
    order = _stable_argsort(lowest)
    return order[_stable_argsort(*(key[order] for key in higher))]


def _packed(keys: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return keys and places ``[E]`` as one int64, or None where they do not fit."""
    count = len(keys[0])
    if not count or any(key.dtype.kind not in "iu" for key in keys):
        return None
    lows = [int(key.min()) for key in keys]
    spans = [int(key.max()) - low for key, low in zip(keys, lows, strict=True)]
    widths, places = [span.bit_length() for span in spans], (count - 1).bit_length()
    if sum(widths) + places > 63:
        return None
    packed = np.zeros(count, dtype=np.int64)
    for start in range(0, count, _FEW):
        part = packed[start : start + _FEW]
        for key, low, width in zip(keys, lows, widths, strict=True):
            some = key[start : start + _FEW]
            part <<= width
            # wraps and comes back
            np.add(part, some, out=part, dtype=np.int64, casting="unsafe")
            part -= low
        part <<= places
        part |= np.arange(start, start + len(part))
    return packed


def _repeat(values: np.ndarray, count: Tensor) -> Tensor:
    """Repeat each value ``count`` times; torch would hold a place for each, too."""
    return torch.from_numpy(np.repeat(values, count.numpy()))


def _round(count: Tensor) -> Tensor:
    """Round halves up; the little more forgives 0.7 * 5 = 3.4999999999999996."""
    return (count + (0.5 + 1e-9)).floor().long()
