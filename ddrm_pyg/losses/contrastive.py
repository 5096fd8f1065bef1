"""Losses that compare two views of the same nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


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


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not positive.

    Raises:
        ValueError: It is not.
    """
    if not temperature > 0:
        raise ValueError(f"'temperature' must be positive (got {temperature})")


class _LogSumExpOfProducts(torch.autograd.Function):
    """``(anchor @ candidate.T).logsumexp(1)`` that never holds the product."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, candidate: Tensor, chunk_size: int) -> Tensor:
        total = anchor.new_full((anchor.size(0),), -torch.inf)
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
        for chunk, chunk_grad in chunks:
            share = torch.addmm(-total.unsqueeze(1), anchor, chunk.T).exp_()
            anchor_grad.addmm_(share, chunk)
            torch.mm(share.T, weighted, out=chunk_grad)
        return anchor_grad.mul_(grad.unsqueeze(1)), candidate_grad, None
