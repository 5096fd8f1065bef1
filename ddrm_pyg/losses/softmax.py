"""Cross-entropy over all items, exact and with sampled items."""

from __future__ import annotations

import torch
from torch import Tensor


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
