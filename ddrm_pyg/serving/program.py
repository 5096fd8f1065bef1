"""What an export computes: lists from histories, as modules that can be exported."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.nn.ddrm import DDRM

ENCODE = "encode"
RECOMMEND = "recommend"

INPUTS = {ENCODE: ("history_emb",), RECOMMEND: ("history", "exclude", "item_emb")}
OUTPUTS = {ENCODE: ("ideal_emb",), RECOMMEND: ("score", "item")}
"""Names of what each program takes and gives, in order."""


class Encode(nn.Module):
    """The mean vector of a history to the vector that ranks items for it.

    Starts without noise, so that a list depends on its history alone.

    Args:
        ddrm: A trained plug-in; without one the mean itself ranks.
    """

    def __init__(self, ddrm: DDRM | None) -> None:
        super().__init__()
        self.ddrm = ddrm

    def forward(self, history_emb: Tensor) -> Tensor:
        """Map ``[B, D]`` to ``[B, D]``."""
        if self.ddrm is None:
            return history_emb.clone()  # a program may not return its input
        return self.ddrm.generate(history_emb, noise=torch.zeros_like(history_emb))


class Recommend(nn.Module):
    """Histories of item rows to the best other items.

    The item table is an input: a program is small whatever the catalogue, and items
    may be added without a new one.

    Args:
        encode: What ranks.
        mean_item: ``[D]`` where a history without known items starts.
        k: List length.
    """

    mean_item: Tensor

    def __init__(self, encode: Encode, mean_item: Tensor, k: int) -> None:
        super().__init__()
        self.encode = encode
        self.k = k
        self.register_buffer("mean_item", mean_item)

    def forward(
        self, history: Tensor, exclude: Tensor, item_emb: Tensor
    ) -> tuple[Tensor, Tensor]:
        """List the best items that are in neither table of rows.

        Args:
            history: ``[B, L]`` int64 item rows, each once, padded with ``num_items``.
            exclude: ``[B, M]`` int64 more item rows to leave out, padded alike.
            item_emb: ``[num_items, D]``.

        Returns:
            ``score`` ``[B, k]``, descending, and ``item`` ``[B, k]``; a list without
            further candidates ends in ``num_items`` with score -inf.
        """
        num_items = item_emb.size(0)
        known = history < num_items
        vectors = F.embedding(history.clamp(max=num_items - 1), item_emb)
        count = known.sum(1, keepdim=True)
        mean = (vectors * known.unsqueeze(-1)).sum(1) / count.clamp(min=1)
        ideal = self.encode(torch.where(count > 0, mean, self.mean_item))
        scores = F.pad(F.linear(ideal, item_emb), (0, 1))  # a column for the padding
        hidden = torch.cat([history, exclude], 1)
        scores = scores.scatter(1, hidden, -torch.inf)[:, :-1]
        score, item = scores.topk(self.k, dim=1)
        return score, torch.where(score > -torch.inf, item, num_items)


def trace(
    ddrm: DDRM | None, mean_item: Tensor, k: int
) -> dict[str, torch.export.ExportedProgram]:
    """Trace both programs, for any number of rows, items and lengths of histories.

    Args:
        ddrm: A trained plug-in, or None for the mean of the history.
        mean_item: ``[D]`` where a history without known items starts.
        k: List length, at most the number of items.

    Returns:
        Programs by name.
    """
    if ddrm is not None:  # what needs a gradient cannot become an array
        ddrm = copy.deepcopy(ddrm).eval().requires_grad_(False)
    encode = Encode(ddrm)
    size = torch.export.Dim
    batch = size("batch")
    # two rows and more, all apart: a size of 1 and a shared stride count as constants
    sample = torch.zeros(max(k, 2), mean_item.size(0))
    history, exclude = (torch.zeros(2, n, dtype=torch.int64) for n in (3, 2))
    inputs = {ENCODE: (sample[:2].clone(),), RECOMMEND: (history, exclude, sample)}
    sizes = {
        ENCODE: ({0: batch},),
        RECOMMEND: (
            {0: batch, 1: size("length")},
            {0: batch, 1: size("excluded")},
            {0: size("num_items", min=k)},
        ),
    }
    modules = {ENCODE: encode, RECOMMEND: Recommend(encode, mean_item, k)}
    return {
        name: torch.export.export(
            module.eval(), inputs[name], dynamic_shapes=sizes[name]
        )
        for name, module in modules.items()
    }
