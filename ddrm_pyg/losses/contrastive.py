"""Losses that compare two views of the same nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ddrm_pyg.checks import check_positive


def info_nce_loss(
    view: Tensor,
    other: Tensor,
    node: Tensor,
    *,
    temperature: float = 0.2,
    chunk_size: int = 512,
) -> Tensor:
    r"""Tell a node of one view from all nodes of the other, one value per anchor.

    `"Self-supervised Graph Learning for Recommendation"
    <https://arxiv.org/abs/2010.10783>`_ (SIGIR 2021), Eq. 10, with all N nodes of the
    other view as candidates, the anchor's own among them, as in the authors' code:

    .. math:: \ell_b = -\log \frac{\exp(\cos(z'_b, z''_b) / \tau)}
                                  {\sum_{v=1}^N \exp(\cos(z'_b, z''_v) / \tau)}

    Logits are made for ``chunk_size`` candidates at a time and again in the backward
    pass, so memory is ``B * chunk_size`` and not ``B * N``; a node that occurs in
    several rows is computed once. Neither changes the values beyond rounding.

    Args:
        view: ``[N, D]`` vectors of all nodes in the anchors' view.
        other: ``[N, D]`` vectors of the same nodes in the other view.
        node: ``[B]`` int64 anchors; repeats count each time.
        temperature: :math:`\tau`.
        chunk_size: Candidates at a time.

    Returns:
        ``[B]`` losses in natural-log units, between 0 and
        :math:`\log N + 2 / \tau`; :math:`\log N` where all candidates are equal.

    Raises:
        ValueError: ``temperature`` not positive or ``chunk_size`` < 1.
    """
    check_temperature(temperature)
    if chunk_size < 1:
        raise ValueError(f"'chunk_size' must be >= 1 (got {chunk_size})")
    anchor_node, row = node.unique(return_inverse=True)
    anchor = F.normalize(F.embedding(anchor_node, view)) / temperature
    candidate = F.normalize(other)
    total = _LogSumExpOfProducts.apply(anchor, candidate, chunk_size)
    positive = (anchor * F.embedding(anchor_node, candidate)).sum(-1)
    return (total - positive)[row]


def decoupled_info_nce_loss(
    view: Tensor,
    other: Tensor,
    node: Tensor,
    *,
    temperature: float = 0.5,
    chunk_size: int = 128,
) -> Tensor:
    r"""Tell the nodes of a batch apart in two views, the positive not among the rest.

    As in the code of `"Adaptive Graph Contrastive Learning for Recommendation"
    <https://arxiv.org/abs/2305.10837>`_ (KDD 2023). The candidates are the batch's own
    B rows, and the denominator leaves out the anchor's (known from `"Decoupled
    Contrastive Learning" <https://arxiv.org/abs/2110.06848>`_, ECCV 2022):

    .. math:: \ell_b = -\log \frac{\exp(\cos(z'_b, z''_b) / \tau)}
                            {\sum_{c \neq b} \exp(\cos(z'_b, z''_c) / \tau)}

    A node that occurs in several rows is a candidate in each of them, so the others of
    its rows stay in the denominator; it is computed once, and weighed.

    Args:
        view: ``[N, D]`` vectors of all nodes in the anchors' view.
        other: ``[N, D]`` vectors of the same nodes in the other view.
        node: ``[B]`` int64 anchors and candidates, at least two; repeats count.
        temperature: :math:`\tau`.
        chunk_size: Anchors at a time; it changes speed, not values.

    Returns:
        ``[B]`` losses in natural-log units, negative where the positive outweighs all
        others together; :math:`\log (B - 1)` where all candidates are equal.

    Raises:
        ValueError: ``temperature`` not positive, ``chunk_size`` < 1 or B < 2.
    """
    check_temperature(temperature)
    if chunk_size < 1:
        raise ValueError(f"'chunk_size' must be >= 1 (got {chunk_size})")
    if node.numel() < 2:
        raise ValueError(f"'node' must hold at least 2 rows (got {node.numel()})")
    own, row, count = node.unique(return_inverse=True, return_counts=True)
    anchor = F.normalize(F.embedding(own, view)) / temperature
    candidate = F.normalize(F.embedding(own, other))
    count = count.to(anchor.dtype)
    one_less = ((count - 1) / count).log()  # of the anchor itself; -inf if it is alone
    totals, start = [], 0
    for chunk in anchor.split(chunk_size):
        stop = start + chunk.size(0)
        logit = torch.addmm(count.log(), chunk, candidate.T)
        logit[:, start:stop].diagonal().add_(one_less[start:stop])
        totals.append(logit.logsumexp(1))
        start = stop
    positive = (anchor * candidate).sum(-1)
    return (torch.cat(totals) - positive)[row]


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not positive.

    Raises:
        ValueError: It is not.
    """
    check_positive(temperature=temperature)


class _LogSumExpOfProducts(torch.autograd.Function):
    """``(anchor @ candidate.T).logsumexp(1)`` that never holds the product."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, candidate: Tensor, chunk_size: int) -> Tensor:
        total = anchor.new_full((anchor.size(0),), -torch.inf)
        # float32 under autocast, too: backward's shares add up to 1 by this very total
        with torch.autocast(anchor.device.type, enabled=False):
            for chunk in candidate.split(chunk_size):
                total = torch.logaddexp(total, (anchor @ chunk.T).logsumexp(1))
        ctx.save_for_backward(anchor, candidate, total)
        ctx.chunk_size = chunk_size
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        anchor, candidate, total = ctx.saved_tensors
        weighted = anchor * grad.unsqueeze(1)
        anchor_grad = torch.zeros_like(anchor)
        candidate_grad = torch.empty_like(candidate)
        chunks = zip(
            candidate.split(ctx.chunk_size),
            candidate_grad.split(ctx.chunk_size),
            strict=True,
        )
        with torch.autocast(anchor.device.type, enabled=False):
            for chunk, chunk_grad in chunks:
                share = torch.addmm(-total.unsqueeze(1), anchor, chunk.T).exp_()
                anchor_grad.addmm_(share, chunk)
                torch.mm(share.T, weighted, out=chunk_grad)
        return anchor_grad.mul_(grad.unsqueeze(1)), candidate_grad, None
