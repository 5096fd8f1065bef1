"""Approximate lists for catalogues whose full ranking takes too long (extra [ann])."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ddrm_pyg.checks import check_list_length
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.extras import import_extra
from ddrm_pyg.graph.interaction_graph import InteractionGraph

_CHUNK = 512
"""Users searched at a time: few, so that they have histories of about one length."""


class ApproximateIndex:
    r"""Lists by inner product that look at a part of the items only.

    `"Billion-scale Similarity Search with GPUs" <https://arxiv.org/abs/1702.08734>`_
    (IEEE Transactions on Big Data 2021), by its authors' faiss: items are grouped by
    k-means, and a user is compared with the items of the ``num_probes`` groups whose
    centres score best. With ``num_probes = num_groups`` all items are looked at and
    the lists are those of :func:`ddrm_pyg.recommend`, which is exact and the default
    everywhere else. Runs on the CPU.

    Args:
        item_emb: ``[num_items, D]``, without NaN.
        num_groups: Groups; :math:`4 \sqrt{num\_items}`, at most one per 39 items (what
            faiss wants to train a centre on), if None.
        seed: Seed of k-means.

    Raises:
        ImportError: faiss is not installed.
        ValueError: ``num_groups`` out of its range, or a NaN.

    Example:
        >>> emb = Embeddings(torch.randn(3, 8), torch.randn(200, 8))
        >>> index = ApproximateIndex(emb.item, num_groups=4)
        >>> score, item = index.recommend(emb, torch.arange(3), k=5, num_probes=2)
        >>> item.shape
        torch.Size([3, 5])
    """

    def __init__(
        self, item_emb: Tensor, *, num_groups: int | None = None, seed: int = 0
    ) -> None:
        self._faiss = import_extra("faiss", "ApproximateIndex needs faiss", "ann")
        self.num_items, self.dim = item_emb.shape
        if num_groups is None:
            wanted = round(4 * math.sqrt(self.num_items))
            num_groups = max(min(wanted, self.num_items // 39), 1)
        if not 1 <= num_groups <= self.num_items:
            raise ValueError(
                f"'num_groups' must lie in [1, {self.num_items}] (got {num_groups})"
            )
        self.num_groups = num_groups
        items = _float32(item_emb, "item_emb")
        centres = self._faiss.IndexFlatIP(self.dim)
        self._index = self._faiss.IndexIVFFlat(
            centres, self.dim, num_groups, self._faiss.METRIC_INNER_PRODUCT
        )
        self._index.cp.seed = seed
        self._index.cp.min_points_per_centroid = 1  # small is no reason to warn
        self._index.train(items)
        self._index.add(items)

    def recommend(
        self,
        emb: Embeddings,
        user: Tensor,
        *,
        k: int = 10,
        exclude: InteractionGraph | None = None,
        num_probes: int = 16,
    ) -> tuple[Tensor, Tensor]:
        """List good items of some users, the best of those that were looked at.

        Args:
            emb: The users' vectors, for the items the index was made of.
            user: ``[B]`` int64 user rows.
            k: List length.
            exclude: Pairs that must not come back. What a user knows does not shorten
                the list: as many more items are asked for, and all groups are looked
                at for a user whose list would still run out.
            num_probes: Groups looked at per user: more is slower and nearer to exact.

        Returns:
            ``score`` ``[B, k]`` float32, descending, and ``item`` ``[B, k]``. Where a
            user has fewer than k candidates the list ends in ``num_items`` with score
            -inf.

        Raises:
            ValueError: ``k`` or ``num_probes`` < 1, a user out of range, NaN, or
                vectors and graph of other sizes than the index.
        """
        for name, value in (("k", k), ("num_probes", num_probes)):
            if value < 1:
                raise ValueError(f"'{name}' must be >= 1 (got {value})")
        check_list_length(k, self.num_items)
        self._check(emb, user, exclude)
        score = torch.full((user.numel(), k), -torch.inf)
        item = torch.full((user.numel(), k), self.num_items)
        seen = torch.zeros_like(user)
        if exclude is not None:
            seen = exclude.degree("user")[user]
        # those who know as much together: one long history lengthens few searches
        todo = seen.argsort(stable=True)
        for probes in dict.fromkeys(
            [min(num_probes, self.num_groups), self.num_groups]
        ):
            for rows in todo.split(_CHUNK) if todo.numel() else ():
                depth = min(k + int(seen[rows].max()), self.num_items)
                query = emb.user[user[rows]]
                near, candidate = self._search(query, depth, probes)
                if exclude is not None:
                    pair = user[rows].repeat_interleave(depth), candidate.flatten()
                    hidden = exclude.contains(*pair).view_as(candidate)
                    near = near.masked_fill(hidden, -torch.inf)
                width = min(k, depth)
                best, place = near.topk(width, dim=1)
                chosen = candidate.gather(1, place)
                score[rows, :width] = best
                item[rows, :width] = chosen.masked_fill(
                    best == -torch.inf, self.num_items
                )
            todo = todo[(item[todo] == self.num_items).any(1)]
        return score, item

    def _search(
        self, query: Tensor, depth: int, num_probes: int
    ) -> tuple[Tensor, Tensor]:
        parameters = self._faiss.SearchParametersIVF(nprobe=num_probes)
        score, item = self._index.search(
            _float32(query, "emb"), depth, params=parameters
        )
        value, candidate = torch.from_numpy(score), torch.from_numpy(item)
        missing = candidate < 0  # fewer were looked at
        return value.masked_fill(missing, -torch.inf), candidate.clamp(min=0)

    def _check(
        self, emb: Embeddings, user: Tensor, exclude: InteractionGraph | None
    ) -> None:
        shape = (emb.num_items, emb.user.size(1))
        if shape != (self.num_items, self.dim):
            raise ValueError(
                f"'emb' must have the index's {self.num_items} items and width "
                f"{self.dim} (got {shape[0]} and {shape[1]})"
            )
        if exclude is not None:
            emb.check_matches(exclude.num_users, exclude.num_items)
        if user.numel() and not 0 <= int(user.min()) <= int(user.max()) < emb.num_users:
            raise ValueError(
                f"'user' must hold rows in [0, {emb.num_users}) "
                f"(got {int(user.min())} to {int(user.max())})"
            )


def recall_against_exact(approximate: Tensor, exact: Tensor, num_items: int) -> float:
    """Share of the exact lists that was found.

    Args:
        approximate: ``[B, k]`` items.
        exact: ``[B, k]`` items of :func:`ddrm_pyg.recommend` for the same users.
        num_items: Padding, which counts neither way.
    """
    same = (approximate.unsqueeze(2) == exact.unsqueeze(1)).any(1)
    real = exact < num_items
    return int((same & real).sum()) / max(int(real.sum()), 1)


def _float32(table: Tensor, name: str) -> Any:
    if bool(table.isnan().any()):
        raise ValueError(f"'{name}' must not hold NaN")
    return table.detach().float().cpu().contiguous().numpy()
