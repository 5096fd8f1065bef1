"""Rank all items for users: metrics and recommendations."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import HeteroData
from torch_geometric.metrics import (
    LinkPredCoverage,
    LinkPredMetricCollection,
    LinkPredNDCG,
    LinkPredRecall,
)

from ddrm_pyg.checks import check_list_length
from ddrm_pyg.embeddings import Embeddings, as_embeddings, has_factors
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ids import raw_ids
from ddrm_pyg.progress import progress_bar
from ddrm_pyg.typing import Scorer

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("ddrm_pyg")

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
"""Those of the paper, in its order, and what :func:`evaluate` gives by default."""

_SCORE_BYTES = 64 << 20
"""Memory for one chunk of scores on an accelerator."""

_CACHED_SCORE_BYTES = 8 << 20
"""The same on a CPU, where scores that stay in its cache are ranked faster."""

_MEASURED = 8192
"""Users measured at a time: amortises the many small steps of a measure."""

_BLOCK = 128
"""Scores whose largest is found before any place is."""

_MANY_BLOCKS = 8
"""Blocks per place of a list from which on that pays."""

_ITEMS = 1 << 20
"""Items of embeddings scored at a time: a larger catalogue is ranked block by block."""

_SMALLEST_PRODUCT = 16
"""Rows below which a BLAS picks other kernels, and other last bits, for a product."""


class Metrics(Mapping[str, float]):
    """Means over users by name, with every user's value beside them.

    Attributes:
        user: ``[N]`` the users who have held-out items.
        per_user: Name to ``[N]`` float values, in the order of ``user``.
    """

    def __init__(
        self,
        user: Tensor,
        per_user: dict[str, Tensor],
        overall: dict[str, float] | None = None,
    ) -> None:
        self.user = user
        self.per_user = per_user
        means = {name: value.double().mean().item() for name, value in per_user.items()}
        self._values = means | (overall or {})

    def __getitem__(self, name: str) -> float:
        if name not in self._values:
            near = get_close_matches(str(name).lower(), self._values, 1, 0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise KeyError(f"no metric '{name}' (there are {[*self]}){hint}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_frame(self, data: HeteroData | None = None) -> pd.DataFrame:
        """Give every user's values as a DataFrame, a row per user with held-out items.

        Args:
            data: What was evaluated on: its own user ids take the place of rows.
        """
        import pandas as pd  # only here, so that ranking does without

        user = self.user.tolist()
        if data is not None:
            ids = raw_ids(data, "user")
            user = [ids[row] for row in user]
        values = {name: value.numpy() for name, value in self.per_user.items()}
        return pd.DataFrame({"user": user, **values})

    def _repr_html_(self) -> str:
        import pandas as pd

        return pd.Series(dict(self), name="mean").to_frame().to_html()

    def __repr__(self) -> str:
        values = ", ".join(f"{name}: {value:.4f}" for name, value in self.items())
        return f"Metrics({values})"


class _KeepUsers:
    """Makes a PyG metric keep one value per user instead of a running sum."""

    def __init__(self, k: int) -> None:
        super().__init__(k)  # type: ignore[call-arg]
        self.values: list[Tensor] = []

    def _update(self, data: Any) -> None:
        self.values.append(self._compute(data))  # type: ignore[attr-defined]


class _Recall(_KeepUsers, LinkPredRecall):
    pass


class _NDCG(_KeepUsers, LinkPredNDCG):
    pass


def evaluate(
    scorer: Scorer | tuple[Any, Any],
    data: HeteroData,
    *,
    split: str = "test",
    k: int | Sequence[int] = (10, 20),
    exclude: InteractionGraph | None = None,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Metrics:
    r"""Rank all items for every user with held-out items, and measure.

    ``recall@k`` is hits / number of the user's held-out items; ``ndcg@k`` has gain 1,
    discount :math:`1 / \log_2(rank + 1)` and an ideal list cut at
    min(k, number of held-out items); both by ``torch_geometric.metrics``, averaged over
    users who have held-out items. Beside them ``coverage@k``, the share of all items
    that any of these users is shown, and ``popularity@k``, the mean number of train
    interactions of what they are shown. Equal scores have no promised order.

    Args:
        scorer: Embeddings, a pair ``(user, item)`` of tables, or
            ``model.scorer(graph)``.
        data: The loaded data set.
        split: ``"test"`` hides train and validation items from the ranking, ``"val"``
            hides train items.
        k: List lengths, one or several.
        exclude: Pairs to hide instead of those that ``split`` implies.
        chunk_size: Users scored at a time; a few MiB of scores if None. The result
            does not depend on it.
        progress: Show a bar.

    Returns:
        Means by name, with per-user values in ``.per_user``.

    Raises:
        ValueError: The split is empty or unknown, ``k`` < 1 or far above the number of
            items, a score is NaN, or the scorer knows another number of items.
        TypeError: ``scorer`` has no ``scores``, or ``k`` is no integer.
    """
    hidden = {"val": ("train",), "test": ("train", "val")}
    if split not in hidden:
        raise ValueError(f"'split' must be 'val' or 'test' (got '{split}')")
    asked = k if isinstance(k, Sequence) else [k]
    lengths = tuple(dict.fromkeys(_list_length(n) for n in asked))
    if not lengths:
        raise ValueError(f"'k' must hold list lengths >= 1 (got {k!r})")
    held_out = InteractionGraph.from_data(data, splits=(split,)).without_repeats()
    scorer = _as_scorer(scorer)
    if isinstance(scorer, Embeddings):
        scorer.check_matches(held_out.num_users, held_out.num_items)
    check_list_length(max(lengths), held_out.num_items)
    user = held_out.degree("user").nonzero().flatten()
    if user.numel() == 0:
        raise ValueError(f"'split' must not be empty ('{split}' has no pairs)")
    popularity = InteractionGraph.from_data(data).degree("item").float()
    if exclude is None:
        exclude = InteractionGraph.from_data(data, splits=hidden[split])
        _warn_of_seen(held_out, exclude, split)
    measures = {
        **{f"recall@{n}": _Recall(n) for n in lengths},
        **{f"ndcg@{n}": _NDCG(n) for n in lengths},
    }
    # one index beyond the items stands for "no candidate left"
    coverage = {n: LinkPredCoverage(n, held_out.num_items + 1) for n in lengths}
    collection = LinkPredMetricCollection(
        measures | {f"coverage@{n}": metric for n, metric in coverage.items()}
    )
    shown: dict[str, list[Tensor]] = {f"popularity@{n}": [] for n in lengths}
    chunks = recommend_chunks(
        scorer,
        user,
        k=max(lengths),
        exclude=exclude,
        chunk_size=chunk_size,
        progress=progress,
    )
    for block, item in _blocks(chunks):
        row, relevant = held_out.rows(block)
        collection.update(item, torch.stack([row, relevant]))
        for n in lengths:
            shown[f"popularity@{n}"].append(_mean_shown(popularity, item[:, :n]))
    per_user = {name: torch.cat(metric.values) for name, metric in measures.items()}
    per_user |= {name: torch.cat(values) for name, values in shown.items()}
    overall = {
        f"coverage@{n}": metric.mask[:-1].double().mean().item()
        for n, metric in coverage.items()
    }
    return Metrics(user, per_user, overall)


def _warn_of_seen(
    held_out: InteractionGraph, seen: InteractionGraph, name: str
) -> None:
    """Say how many held-out pairs no list can contain, since they are seen."""
    again = seen.contains(*held_out.edge_index)
    if bool(again.any()):
        user, item = held_out.edge_index[:, int(again.int().argmax())].tolist()
        logger.warning(
            "%d of %d %s pairs are pairs of an earlier split, which are never listed: "
            "they count as missed (the first: user %d, item %d)",
            int(again.sum()),
            held_out.num_edges,
            name,
            user,
            item,
        )


def _blocks(
    chunks: Iterable[tuple[Tensor, Tensor, Tensor]],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Join chunks to blocks of at least ``_MEASURED`` users and their items."""
    users: list[Tensor] = []
    items: list[Tensor] = []
    for chunk, _, item in chunks:
        users.append(chunk)
        items.append(item.cpu())
        if sum(map(len, users)) >= _MEASURED:
            yield torch.cat(users), torch.cat(items)
            users, items = [], []
    if users:
        yield torch.cat(users), torch.cat(items)


def _mean_shown(popularity: Tensor, item: Tensor) -> Tensor:
    """Mean popularity of each list; padding does not count."""
    value = F.pad(popularity, (0, 1))[item]
    return value.sum(-1) / (item < popularity.numel()).sum(-1).clamp(min=1)


def recommend(
    scorer: Scorer | tuple[Any, Any],
    user: Tensor,
    *,
    k: int = 10,
    exclude: InteractionGraph | None = None,
    chunk_size: int | None = None,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """List the best items of some users.

    Args:
        scorer: Embeddings, a pair ``(user, item)`` of tables, or
            ``model.scorer(graph)``.
        user: ``[B]`` int64 user rows.
        k: List length.
        exclude: Pairs that must not come back: what a user already knows.
        chunk_size: Users scored at a time; a few MiB of scores if None. The result
            does not depend on it.
        progress: Show a bar.

    Returns:
        ``score`` ``[B, k]``, descending, and ``item`` ``[B, k]``. Where a user has
        fewer than k candidates the list ends in ``num_items`` with score -inf.

    Raises:
        ValueError: ``k`` < 1 or far above ``num_items``, a score is NaN, or the scorer
            and ``exclude`` differ in their number of items.
        TypeError: ``scorer`` has no ``scores``, or another argument is of another type.
    """
    chunks = list(
        recommend_chunks(
            scorer,
            user,
            k=k,
            exclude=exclude,
            chunk_size=chunk_size,
            progress=progress,
        )
    )
    if exclude is not None and k > exclude.num_items:
        logger.warning(
            "'k' is %d, but there are %d items: lists end in padding",
            k,
            exclude.num_items,
        )
    if not chunks:
        return torch.empty(0, k), torch.empty(0, k, dtype=torch.int64)
    _, score, item = zip(*chunks, strict=True)
    return torch.cat(score), torch.cat(item)


@torch.no_grad()
def recommend_chunks(
    scorer: Any,
    user: Tensor,
    *,
    k: int,
    exclude: InteractionGraph | None = None,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield :func:`recommend` for a chunk of users at a time, in bounded memory.

    Yields:
        ``user`` ``[C]``, ``score`` ``[C, k]`` and ``item`` ``[C, k]``.
    """
    scorer = _as_scorer(scorer)
    _check_request(scorer, user, k, exclude, chunk_size)
    if user.numel() == 0:
        return
    with progress_bar(
        total=user.numel(), desc="rank", unit="user", progress=progress, leave=False
    ) as bar:
        for chunk in user.split(chunk_size or _chunk_size(scorer, user)):
            yield chunk, *_best(scorer, chunk, k, exclude)
            bar.update(chunk.numel())


def _as_scorer(scorer: Any) -> Any:
    """Take two tables, of tensors or of arrays, for the embeddings that they are."""
    if isinstance(scorer, Embeddings):
        plain = all(isinstance(table, Tensor) for table in scorer)
        return scorer if plain else as_embeddings(scorer)
    if isinstance(scorer, Scorer):
        return scorer
    tables = isinstance(scorer, tuple) or has_factors(scorer)
    return as_embeddings(scorer) if tables else scorer


def _check_request(
    scorer: Any,
    user: Any,
    k: int,
    exclude: Any,
    chunk_size: int | None,
) -> None:
    if not isinstance(scorer, Scorer):
        hint = "; pass model.scorer(graph)" if hasattr(scorer, "scorer") else ""
        raise TypeError(
            f"'scorer' must have a method 'scores' (got {type(scorer).__name__}{hint})"
        )
    if exclude is not None and not isinstance(exclude, InteractionGraph):
        raise TypeError(
            f"'exclude' must be an InteractionGraph (got {type(exclude).__name__})"
        )
    _list_length(k)
    whole = isinstance(user, Tensor) and user.dtype in (torch.int32, torch.int64)
    if not whole or user.dim() != 1:
        raise TypeError(
            f"'user' must be a tensor of user rows, [B] (got {user!r}); for "
            "ids of your own there is Pipeline.from_data(embeddings, data).recommend"
        )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"'chunk_size' must be >= 1 (got {chunk_size})")
    if user.numel() == 0:
        return
    if int(user.min()) < 0:
        raise ValueError(f"'user' must hold rows >= 0 (got {int(user.min())})")
    sizes = [] if exclude is None else [exclude.num_users]
    if isinstance(scorer, Embeddings):
        sizes.append(scorer.user.size(0))
    if sizes and int(user.max()) >= min(sizes):
        raise ValueError(
            f"'user' must hold rows < {min(sizes)} (got {int(user.max())})"
        )


def _list_length(k: Any) -> int:
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise TypeError(f"'k' must be an integer, or several (got {k!r})")
    if int(k) < 1:
        raise ValueError(f"'k' must be >= 1 (got {k})")
    return int(k)


def _chunk_size(scorer: Scorer, user: Tensor) -> int:
    # the width of a row is known only once one has been scored
    _, row = next(_score_blocks(scorer, user[:1]))
    budget = _CACHED_SCORE_BYTES if row.device.type == "cpu" else _SCORE_BYTES
    return max(budget // (4 * max(row.size(-1), 1)), _SMALLEST_PRODUCT)


def _score_blocks(scorer: Scorer, user: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the scores of all items: whole, or blocks of a large table and their start.

    Blocks bound the memory whatever the catalogue; scores in their last bits may not
    be those of one product.
    """
    if not isinstance(scorer, Embeddings) or scorer.num_items <= _ITEMS:
        yield 0, scorer.scores(user)
        return
    emb = Embeddings(scorer.user[user], scorer.item)
    own = torch.arange(user.numel(), device=emb.user.device)
    for start in range(0, emb.num_items, _ITEMS):
        block = emb._replace(item=emb.item[start : start + _ITEMS])
        yield start, block.scores(own)


def _best(
    scorer: Scorer, user: Tensor, k: int, exclude: InteractionGraph | None
) -> tuple[Tensor, Tensor]:
    padding = max(_SMALLEST_PRODUCT - user.numel(), 0)
    padded = torch.cat([user, user[-1:].expand(padding)])
    seen = None if exclude is None else exclude.rows(user.to(exclude.device))
    score = item = torch.empty(0)
    num_items = 0
    for start, block in _score_blocks(scorer, padded):
        scores = block[: user.numel()]
        num_items = start + scores.size(1)
        if seen is not None:
            scores = _without(scores.contiguous(), *seen, start)
        best, place = _top(scores, min(k, scores.size(1)))
        if start > 0:
            best = torch.cat([score, best], 1)
            place = torch.cat([item, place + start], 1)
            best, chosen = best.topk(min(k, best.size(1)), dim=1)
            place = place.gather(1, chosen)
        score, item = best, place
    if exclude is not None and exclude.num_items != num_items:
        raise ValueError(
            f"'scorer' must score the {exclude.num_items} items of the graph "
            f"(got {num_items})"
        )
    if bool(score.isnan().any()):
        at = user[score.isnan().any(dim=1).nonzero()[0, 0]]
        raise ValueError(f"'scorer' must not return NaN (user {int(at)})")
    check_list_length(k, num_items)
    item = item.masked_fill(score == float("-inf"), num_items)
    missing = (0, k - item.size(1))
    return (
        F.pad(score, missing, value=float("-inf")),
        F.pad(item, missing, value=num_items),
    )


def _without(scores: Tensor, row: Tensor, seen: Tensor, start: int) -> Tensor:
    """Hide, in place, what is seen among the items from ``start``."""
    width = scores.size(1)
    place = seen - start
    inside = (place >= 0) & (place < width)
    flat = (row[inside] * width + place[inside]).to(scores.device)
    scores.view(-1)[flat] = float("-inf")
    return scores


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest scores ``[C, k]`` of each row, descending, and their places.

    The k best items of a large catalogue lie in the k blocks of the largest maxima,
    and maxima are found several times as fast as places.
    """
    num_items = scores.size(1)
    if num_items < _MANY_BLOCKS * k * _BLOCK:
        return scores.topk(k, dim=1)
    whole = num_items // _BLOCK * _BLOCK
    blocks = scores[:, :whole].unflatten(1, (-1, _BLOCK))
    chosen = blocks.amax(2).topk(k, dim=1).indices
    near = blocks.gather(1, chosen.unsqueeze(2).expand(-1, -1, _BLOCK)).flatten(1)
    start = torch.arange(_BLOCK, device=scores.device)
    place = (chosen.unsqueeze(2) * _BLOCK + start).flatten(1)
    rest = torch.arange(whole, num_items, device=scores.device)
    score, best = torch.cat([near, scores[:, whole:]], 1).topk(k, dim=1)
    place = torch.cat([place, rest.expand(len(place), -1)], 1)
    return score, place.gather(1, best)
