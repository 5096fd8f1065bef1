"""Approximate lists for catalogues whose full ranking takes too long (extra [ann])."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddrm_pyg.embeddings import Embeddings
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
        item_emb: ``[num_items, D]``.
        num_groups: Groups; :math:`4 \sqrt{num\_items}`, at most one per 39 items (what
            faiss wants to train a centre on), if None.
        num_probes: Groups looked at per user: more is slower and nearer to exact.
        seed: Seed of k-means.

    Raises:
        ImportError: faiss is not installed.
        ValueError: A number out of its range.

    Example:
        >>> emb = Embeddings(torch.randn(3, 8), torch.randn(200, 8))
        >>> index = ApproximateIndex(emb.item, num_groups=4, num_probes=4)
        >>> score, item = index.recommend(emb, torch.arange(3), k=5)
        >>> item.shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        item_emb: Tensor,
        *,
        num_groups: int | None = None,
        num_probes: int = 16,
        seed: int = 0,
    ) -> None:
        faiss = _faiss()
        self.num_items, dim = item_emb.shape
        if num_groups is None:
            wanted = round(4 * math.sqrt(self.num_items))
            num_groups = max(min(wanted, self.num_items // 39), 1)
        if not 1 <= num_groups <= self.num_items:
            raise ValueError(
                f"'num_groups' must lie in [1, {self.num_items}] (got {num_groups})"
            )
        if num_probes < 1:
            raise ValueError(f"'num_probes' must be >= 1 (got {num_probes})")
        self.num_groups = num_groups
        self.num_probes = min(num_probes, num_groups)
        items = _float32(item_emb)
        centres = faiss.IndexFlatIP(dim)
        self._index = faiss.IndexIVFFlat(
            centres, dim, num_groups, faiss.METRIC_INNER_PRODUCT
        )
        self._index.cp.seed = seed
        self._index.cp.min_points_per_centroid = 1  # small is no reason to warn
        self._index.train(items)
        self._index.add(items)
        self._index.nprobe = self.num_probes

    def recommend(
        self,
        emb: Embeddings,
        user: Tensor,
        *,
        k: int = 10,
        exclude: InteractionGraph | None = None,
    ) -> tuple[Tensor, Tensor]:
        """List good items of some users, the best of those that were looked at.

        Args:
            emb: The users' vectors, for the items the index was made of.
            user: ``[B]`` int64 user rows.
            k: List length.
            exclude: Pairs that must not come back. A user's known items never shorten
                the list: as many more candidates are asked for.

        Returns:
            ``score`` ``[B, k]``, descending, and ``item`` ``[B, k]``, as
            :func:`ddrm_pyg.recommend` does: lists that run out end in ``num_items``
            with score -inf.

        Raises:
            ValueError: ``k`` < 1, or another number of items.
        """
        if k < 1:
            raise ValueError(f"'k' must be >= 1 (got {k})")
        known = [emb.num_items] + ([exclude.num_items] if exclude is not None else [])
        for count in known:
            if count != self.num_items:
                raise ValueError(
                    f"'emb' and 'exclude' must have the index's {self.num_items} items "
                    f"(got {count})"
                )
        seen = torch.zeros_like(user)
        if exclude is not None:
            seen = exclude.degree("user")[user]
        # those who know as much together: one long history lengthens few searches
        order = seen.argsort(stable=True)
        score = torch.full((user.numel(), k), -torch.inf)
        item = torch.full((user.numel(), k), self.num_items)
        for rows in order.split(_CHUNK):
            depth = min(k + int(seen[rows].max()), self.num_items)
            found, candidate = self._search(emb.user[user[rows]], depth)
            if exclude is not None:
                pair = user[rows].repeat_interleave(depth), candidate.flatten()
                hidden = exclude.contains(*pair).view_as(candidate)
                found = found.masked_fill(hidden, -torch.inf)
            width = min(k, depth)
            best, place = found.topk(width, dim=1)
            score[rows, :width] = best
            chosen = candidate.gather(1, place)
            item[rows, :width] = chosen.masked_fill(best == -torch.inf, self.num_items)
        return score, item

    def _search(self, query: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        score, item = self._index.search(_float32(query), depth)
        missing = item < 0  # fewer were looked at
        score = np.where(missing, -np.inf, score)
        return torch.from_numpy(score), torch.from_numpy(np.where(missing, 0, item))


def recall_against_exact(found: Tensor, exact: Tensor, num_items: int) -> float:
    """Share of the exact lists that was found.

    Args:
        found: ``[B, k]`` items.
        exact: ``[B, k]`` items of :func:`ddrm_pyg.recommend` for the same users.
        num_items: Padding, which counts neither way.
    """
    same = (found.unsqueeze(2) == exact.unsqueeze(1)).any(1)
    real = exact < num_items
    return int((same & real).sum()) / max(int(real.sum()), 1)


def _float32(table: Tensor) -> Any:
    return table.detach().float().cpu().contiguous().numpy()


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError as error:
        raise ImportError(
            "ApproximateIndex needs faiss: pip install 'ddrm_pyg[ann]'"
        ) from error
