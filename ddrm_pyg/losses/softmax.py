"""Cross-entropy over all items, exact and with sampled items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SCORE_BYTES = 4 << 20
"""Memory for the scores of some rows: few enough to stay in a cache."""


def softmax_loss(logits: Tensor, row: Tensor, item: Tensor) -> Tensor:
    r"""Cross-entropy of some items under a softmax over all items.

    .. math:: \ell_m = -\log \frac{e^{s_{r_m i_m}}}{\sum_j e^{s_{r_m j}}}

    Args:
        logits: ``[B, num_items]``.
        row: ``[M]`` int64, whose logits each target is compared with.
        item: ``[M]`` int64 targets.

    Returns:
        ``[M]``.
    """
    return logits.logsumexp(dim=1)[row] - logits[row, item]


def sampled_softmax_loss(
    positive: Tensor,
    logits: Tensor,
    row: Tensor,
    item: Tensor,
    sample: Tensor,
    log_probability: Tensor,
) -> Tensor:
    r"""The same over a sample of the items, corrected for how they were drawn.

    `"On Using Very Large Target Vocabulary for Neural Machine Translation"
    <https://arxiv.org/abs/1412.2007>`_ (ACL 2015): each drawn item j stands for
    :math:`1 / (n q_j)` items, so that the sum over the sample estimates that over all
    items; draws of the target itself are left out.

    .. math:: \ell_m = -\log \frac{e^{s_m}}
              {e^{s_m} + \sum_{j \ne i_m} e^{s_{r_m j} - \log n q_j}}

    Args:
        positive: ``[M]`` logits of the targets.
        logits: ``[B, n]`` logits of the sample, shared by the batch.
        row: ``[M]`` int64, as for :func:`softmax_loss`.
        item: ``[M]`` int64 targets.
        sample: ``[n]`` int64 items, drawn with replacement.
        log_probability: ``[n]`` log of each draw's probability q.

    Returns:
        ``[M]``.
    """
    corrected = logits - (log_probability + torch.tensor(sample.numel()).log())
    others = corrected[row].masked_fill(sample == item.unsqueeze(1), -torch.inf)
    total = torch.cat([positive.unsqueeze(1), others], dim=1).logsumexp(dim=1)
    return total - positive


def softmax_loss_of_products(query: Tensor, item_emb: Tensor, item: Tensor) -> Tensor:
    r"""The same of scores that are inner products, without holding them.

    Scores are made for some rows at a time and again in the backward pass, so memory is
    linear in rows plus items. In float32, under autocast, too.

    Args:
        query: ``[M, D]``.
        item_emb: ``[num_items, D]``.
        item: ``[M]`` int64 targets.

    Returns:
        ``[M]``.
    """
    return _SoftmaxOfProducts.apply(query.float(), item_emb, item)


class _SoftmaxOfProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, item_emb: Tensor, item: Tensor) -> Tensor:
        total = query.new_empty(query.size(0))
        with torch.autocast(query.device.type, enabled=False):
            for rows in _few_rows(query, item_emb):
                total[rows] = (query[rows] @ item_emb.T).logsumexp(1)
        ctx.save_for_backward(query, item_emb, item, total)
        return total - (query * item_emb[item]).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        query, item_emb, item, total = ctx.saved_tensors
        weighted = query * grad.unsqueeze(1)
        query_grad, item_grad = -item_emb[item], torch.zeros_like(item_emb)
        with torch.autocast(query.device.type, enabled=False):
            for rows in _few_rows(query, item_emb):
                share = query[rows] @ item_emb.T
                share.sub_(total[rows].unsqueeze(1)).exp_()
                query_grad[rows] += share @ item_emb
                item_grad.addmm_(share.T, weighted[rows])
        item_grad.index_add_(0, item, weighted, alpha=-1)
        return query_grad.mul_(grad.unsqueeze(1)), item_grad, None


def _few_rows(query: Tensor, item_emb: Tensor) -> list[slice]:
    size = max(_SCORE_BYTES // (query.element_size() * max(len(item_emb), 1)), 1)
    return [slice(i, i + size) for i in range(0, query.size(0), size)]
