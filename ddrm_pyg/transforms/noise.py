"""The two noise settings of the paper, as transforms of split data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from ddrm_pyg.transforms.core import (
    SPLITS,
    get_block,
    noise_of,
    require_split,
    seeded,
    select,
    set_block,
)

NOISY_SPLITS = ("train", "val")


class NaturalNoise(BaseTransform):
    """Thin out train and validation, false positives and liked pairs alike.

    Low ratings added to a clean set make it larger. The natural-noise sets of DiffRec
    (SIGIR 2023) and DDRM (SIGIR 2024) are therefore sampled uniformly until train and
    validation have about their clean sizes; read off the published ML-1M, 64.7 % of
    train and 48 % of validation stay. Test is left alone.

    Args:
        keep: The share of pairs to keep, in (0, 1]: one for both, or (train,
            validation). ``None`` keeps as many pairs as the split has liked ones.
        seed: Seeds the generator of the draws, train before validation.

    Raises:
        ValueError: A share does not lie in (0, 1].
    """

    def __init__(
        self, keep: float | tuple[float, float] | None = None, seed: int = 0
    ) -> None:
        shares = keep if isinstance(keep, tuple) else (keep, keep)
        if not all(share is None or 0 < share <= 1 for share in shares):
            raise ValueError(f"'keep' must lie in (0, 1] (got {keep})")
        self.keep = keep
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Sample train and validation without replacement.

        Args:
            data: Split interactions, with noise labels where ``keep`` is ``None``.

        Returns:
            The data with ``round(share * E)`` pairs of each, in their old order.

        Raises:
            ValueError: The data are not split, or ``keep`` is ``None`` without labels.
        """
        require_split(data, "NaturalNoise")
        generator = seeded(self.seed)
        for i, split in enumerate(NOISY_SPLITS):
            block = get_block(data, split)
            size = block["index"].size(1)
            kept = torch.randperm(size, generator=generator)[: self._kept(block, i)]
            set_block(data, split, select(block, kept.sort().values))
        return data

    def _kept(self, block: dict[str, Tensor], i: int) -> int:
        if self.keep is None:
            if "is_noise" not in block:
                raise ValueError("NaturalNoise(keep=None) needs 'edge_is_noise'")
            return int((~block["is_noise"]).sum())
        share = self.keep[i] if isinstance(self.keep, tuple) else self.keep
        return round(share * block["index"].size(1))

    def __repr__(self) -> str:
        return f"NaturalNoise(keep={self.keep}, seed={self.seed})"


class RandomNoise(BaseTransform):
    """Replace a share of train and validation by pairs that nobody observed.

    The random-noise setting of "Denoising Diffusion Recommender Model" (SIGIR 2024,
    https://doi.org/10.1145/3626772.3657825) adds randomly sampled interactions to
    train and validation and keeps both "at the same scale as the original". Our
    reading: ``round(ratio * E)`` pairs of each, drawn uniformly, give their place to a
    noisy one, so that sizes stay and ``ratio`` of each is added noise. The noisy pair
    has the user, and so the activity, of the pair whose place it takes, and an item
    drawn uniformly from those the user has in no split, before or after. It inherits
    the time; its rating is 0, unknown. Test is left alone.

    Args:
        ratio: The share of noise in the result, in [0, 1).
        seed: Seeds the generator of all draws, train before validation.

    Raises:
        ValueError: ``ratio`` does not lie in [0, 1).
    """

    def __init__(self, ratio: float = 0.2, seed: int = 0) -> None:
        if not 0 <= ratio < 1:
            raise ValueError(f"'ratio' must lie in [0, 1) (got {ratio})")
        self.ratio = ratio
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Draw the pairs to replace and their replacements.

        Args:
            data: Split interactions. Noise labels already there stay on the pairs that
                stay.

        Returns:
            The data with noise labels for train and validation.

        Raises:
            ValueError: The data are not split, or a user has fewer unobserved items
                than pairs to replace.
        """
        require_split(data, "RandomNoise")
        num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
        pairs = [get_block(data, split)["index"] for split in SPLITS]
        taken = torch.cat([user * num_items + item for user, item in pairs]).unique()
        generator = seeded(self.seed)
        for split in NOISY_SPLITS:
            block = get_block(data, split)
            size = block["index"].size(1)
            order = torch.randperm(size, generator=generator)
            place = order[: round(self.ratio * size)]
            user = block["index"][0, place]
            item = _sample_unobserved(user, taken, num_users, num_items, generator)
            taken = torch.cat([taken, user * num_items + item]).sort().values
            set_block(data, split, _replace(block, place, item))
        return data

    def __repr__(self) -> str:
        return f"RandomNoise(ratio={self.ratio}, seed={self.seed})"


def _replace(
    block: dict[str, Tensor], place: Tensor, item: Tensor
) -> dict[str, Tensor]:
    block = block | {"is_noise": noise_of(block).clone()}
    block["is_noise"][place] = True
    block["index"] = block["index"].clone()
    block["index"][1, place] = item
    if "rating" in block:
        block["rating"] = block["rating"].index_fill(0, place, 0.0)
    return block


def _sample_unobserved(
    user: Tensor,
    taken: Tensor,
    num_users: int,
    num_items: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw for each user an item with which it forms no known pair, and none twice.

    Args:
        user: Users to draw for ``[M]``, repeated as often as items are wanted.
        taken: Known pairs as sorted keys ``user * num_items + item``.
        num_users: Number of users.
        num_items: Number of items.
        generator: Makes the draws.

    Returns:
        Items ``[M]`` int64.

    Raises:
        ValueError: A user has too few unknown items left.
    """
    free = num_items - torch.bincount(taken // num_items, minlength=num_users)
    short = (torch.bincount(user, minlength=num_users) > free).nonzero().flatten()
    if short.numel():
        raise ValueError(
            f"RandomNoise: user {int(short[0])} has only {int(free[short[0]])} "
            "unobserved items, fewer than pairs to replace"
        )
    item = torch.empty_like(user)
    todo = torch.arange(user.numel())
    while todo.numel():
        drawn = _draw_free(user[todo], taken, num_users, num_items, generator)
        key = user[todo] * num_items + drawn
        first = _first_of_each(key)
        item[todo[first]] = drawn[first]
        taken = torch.cat([taken, key[first]]).sort().values
        todo = todo[~first]
    return item


def _draw_free(
    user: Tensor,
    taken: Tensor,
    num_users: int,
    num_items: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw an unknown item per entry, equally likely each, by its rank among them.

    With a user's known items k_0 < k_1 < …, the unknown item of rank r is r + j, j the
    number of known items with k_j - j <= r: one search for all entries, no dense row.
    """
    owner = taken // num_items
    count = torch.bincount(owner, minlength=num_users)
    start = count.cumsum(0) - count
    rank_in_user = torch.arange(taken.numel()) - start[owner]
    free = num_items - count[user]
    # Doubles are exact far beyond any number of items, and < 1 keeps rank < free.
    draw = torch.rand(user.numel(), generator=generator, dtype=torch.float64)
    rank = (draw * free).long()
    skipped = torch.searchsorted(
        taken - rank_in_user, user * num_items + rank, right=True
    )
    return rank + skipped - start[user]


def _first_of_each(key: Tensor) -> Tensor:
    """Return a mask of the first entry of each distinct key."""
    order = key.argsort(stable=True)
    is_first = torch.ones_like(key, dtype=torch.bool)
    is_first[order[1:]] = key[order[1:]] != key[order[:-1]]
    return is_first
