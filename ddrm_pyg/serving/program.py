"""What an export computes: lists from histories, as modules that can be exported."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.graph.sequences import Bags, UserSequences
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import HistoryMeans, Past, mix_starts

ENCODE = "encode"
RECOMMEND = "recommend"

INPUTS = {
    ENCODE: ("history_emb", "mask"),
    RECOMMEND: ("history", "exclude", "item_emb"),
}
OUTPUTS = {ENCODE: ("ideal_emb",), RECOMMEND: ("score", "item")}
"""Names of what each program takes and gives, in order."""

_Module = TypeVar("_Module", bound=nn.Module)


class MeanEncode(nn.Module):
    """The items of a history, in any order, to the vector that ranks for it.

    Starts without noise, so that a list depends on its history alone.

    Args:
        ddrm: A trained plug-in; without one the mean of the history itself ranks.
        item_emb: ``[num_items, D]`` what is ranked.
        mean_item: ``[D]`` where a history without known items starts, and one whose
            items have vectors of zeros, as SVD's have that train does not have.

    Raises:
        ValueError: Tables of other shapes.
    """

    mean_item: Tensor
    ordered = False
    bias_columns = 0

    def __init__(self, ddrm: DDRM | None, item_emb: Tensor, mean_item: Tensor) -> None:
        super().__init__()
        if mean_item.shape != item_emb.shape[1:]:
            raise ValueError(
                f"'mean_item' must be {list(item_emb.shape[1:])} "
                f"(got {list(mean_item.shape)})"
            )
        self.ddrm = None if ddrm is None else _frozen(ddrm)
        self.item_emb = item_emb.detach()  # an input of programs, no part of them
        self.register_buffer("mean_item", mean_item.detach())

    def forward(self, history_emb: Tensor, mask: Tensor) -> Tensor:
        """Map ``[B, L, D]`` vectors, of which ``mask`` ``[B, L]`` are, to ``[B, D]``.

        The others are padding.
        """
        count = mask.sum(1, keepdim=True)
        total = (history_emb * mask.unsqueeze(-1)).sum(1)
        says_something = (total != 0).any(1, keepdim=True)
        mean = torch.where(says_something, total / count.clamp(min=1), self.mean_item)
        if self.ddrm is None:
            return mean
        return self.ddrm.generate(mean, noise=torch.zeros_like(mean))


class PastEncode(nn.Module):
    """The items of a history, from first to last, to the vector that ranks for it.

    Of a DDRM that was trained from the past, see :class:`~ddrm_pyg.nn.future.Past`.
    Starts without noise. What popularity adds is the last column of the items.

    Args:
        recommender: Trained with ``train_start="past"``, from history means.

    Raises:
        ValueError: Another ``train_start``, or a start that is no history mean.
    """

    item_emb: Tensor
    start_row: Tensor
    cond_row: Tensor
    scale_row: Tensor
    ordered = True
    bias_columns = 1

    def __init__(self, recommender: DDRMRecommender) -> None:
        super().__init__()
        nobody = recommender.generate([torch.empty(0, dtype=torch.int64)])
        assert recommender.future is not None
        past = recommender.future.past
        self.ddrm = _frozen(recommender.ddrm)
        self.guide = _frozen(past.guide)
        self.item_emb = nobody.item.detach()
        self.widths = past.widths
        self.mix = nn.ParameterList(_frozen(past.mix))
        self.scales = nn.ParameterList(
            nn.Parameter(source.scales.float(), requires_grad=False)
            for source in _history_means(past)
        )
        with torch.no_grad():
            start, cond = past(_nothing(len(self.item_emb)))
            scale = past.scaled(torch.ones_like(start))
        for name, row in (("start", start), ("cond", cond), ("scale", scale)):
            self.register_buffer(f"{name}_row", row)

    def forward(self, history_emb: Tensor, mask: Tensor) -> Tensor:
        """Map ``[B, L, D + 1]`` vectors, of which ``mask`` are, to ``[B, D + 1]``."""
        count = mask.sum(1, keepdim=True)
        later = (count - mask.cumsum(1)).unsqueeze(-1)
        starts, first = [], 0
        for width, scales in zip(self.widths, self.scales, strict=True):
            vectors = history_emb[..., first : first + width]
            weight = torch.exp(-later / scales) * mask.unsqueeze(-1)
            means = torch.einsum("bls,bld->bsd", weight, vectors)
            starts.append(F.normalize(means, dim=-1))
            first += width
        start, cond = mix_starts(starts, list(self.mix), self.guide)
        flat = torch.cat([vectors.flatten(1) for vectors in starts], 1)
        says_something = (flat != 0).any(1, keepdim=True)
        start = torch.where(says_something, start, self.start_row)
        cond = torch.where(says_something, cond, self.cond_row)
        ideal = self.ddrm.generate(start, cond, noise=torch.zeros_like(start))
        return F.pad(ideal * self.scale_row, (0, 1), value=1.0)


Encode = MeanEncode | PastEncode


class Recommend(nn.Module):
    """Histories of item rows to the best other items.

    The item table is an input: a program is small whatever the catalogue, and items
    may be added without a new one.

    Args:
        encode: What ranks.
        k: List length.
    """

    def __init__(self, encode: Encode, k: int) -> None:
        super().__init__()
        self.encode = encode
        self.k = k

    def forward(
        self, history: Tensor, exclude: Tensor, item_emb: Tensor
    ) -> tuple[Tensor, Tensor]:
        """List the best items that are in neither table of rows.

        Args:
            history: ``[B, L]`` int64 item rows, each once, padded with ``num_items``;
                from first to last where ``encode`` is ordered.
            exclude: ``[B, M]`` int64 more item rows to leave out, padded alike.
            item_emb: ``[num_items, D]``.

        Returns:
            ``score`` ``[B, k]``, descending, and ``item`` ``[B, k]``; a list without
            further candidates ends in ``num_items`` with score -inf.
        """
        num_items = item_emb.size(0)
        vectors = F.embedding(history.clamp(max=num_items - 1), item_emb)
        ideal = self.encode(vectors, history < num_items)
        scores = F.pad(F.linear(ideal, item_emb), (0, 1))  # a column for the padding
        hidden = torch.cat([history, exclude], 1)
        scores = scores.scatter(1, hidden, -torch.inf)[:, :-1]
        score, item = scores.topk(self.k, dim=1)
        return score, torch.where(score > -torch.inf, item, num_items)


def trace(encode: Encode, k: int) -> dict[str, torch.export.ExportedProgram]:
    """Trace both programs, for any number of rows, items and lengths of histories.

    Args:
        encode: What ranks.
        k: List length, at most the number of items.

    Returns:
        Programs by name.
    """
    size = torch.export.Dim
    batch, length = size("batch"), size("length")
    width = encode.item_emb.size(1)
    # two rows and more, all apart: a size of 1 and a shared stride count as constants
    history, exclude = (torch.zeros(2, n, dtype=torch.int64) for n in (3, 2))
    vectors, mask = torch.zeros(2, 3, width), torch.ones(2, 3, dtype=torch.bool)
    inputs = {
        ENCODE: (vectors, mask),
        RECOMMEND: (history, exclude, torch.zeros(max(k, 2), width)),
    }
    rows = {0: batch, 1: length}
    sizes = {
        ENCODE: (rows, rows),
        RECOMMEND: (
            rows,
            {0: batch, 1: size("excluded")},
            {0: size("num_items", min=k)},
        ),
    }
    modules = {ENCODE: encode, RECOMMEND: Recommend(encode, k)}
    return {
        name: torch.export.export(
            module.eval(), inputs[name], dynamic_shapes=sizes[name]
        )
        for name, module in modules.items()
    }


def _frozen(module: _Module) -> _Module:
    """Copy a module for inference: what needs a gradient cannot become an array."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def _history_means(past: Past) -> list[HistoryMeans]:
    """Refuse sources that a program cannot read."""
    for source in past.sources:
        if not isinstance(source, HistoryMeans):
            raise ValueError(
                "an export reads histories by means of their item vectors alone "
                f"(got {type(source).__name__}); 'recommend --history' lists by others"
            )
    return cast("list[HistoryMeans]", list(past.sources))


def _nothing(num_items: int) -> Bags:
    """Return the history of one user who has none."""
    empty = torch.empty(0, dtype=torch.int64)
    return UserSequences.from_histories([empty], num_items).before(torch.tensor([0]))
