"""Losses that compare one score with a label, and how to tell them from pairwise ones.

A loss is pointwise or pairwise by the name of its second parameter, ``label`` or
``neg_score``: what wraps a loss, or feeds it, needs nothing else to serve both kinds.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


def bce_loss(score: Tensor, label: Tensor) -> Tensor:
    r"""Binary cross-entropy on logits, one value per row.

    .. math:: \ell = -y \log \sigma(s) - (1 - y) \log (1 - \sigma(s))

    Args:
        score: ``[M]`` logits, any real numbers.
        label: ``[M]`` float, 1 for interactions and 0 for negatives.

    Returns:
        ``[M]`` non-negative losses in natural-log units; log 2 at score 0.
    """
    return F.binary_cross_entropy_with_logits(score, label, reduction="none")


def loss_signature(loss: Any) -> inspect.Signature:
    """Read the signature of a pairwise or pointwise loss.

    Args:
        loss: A function, or a module whose ``forward`` is the loss.

    Raises:
        TypeError: The second parameter is named neither ``neg_score`` nor ``label``.
    """
    if isinstance(loss, nn.Module) and not hasattr(loss, "__signature__"):
        loss = loss.forward  # a module itself shows (*args, **kwargs)
    try:
        signature = inspect.signature(loss)
    except ValueError:  # built-in functions may have none
        signature = inspect.Signature()
    names = list(signature.parameters)
    if names[1:2] not in (["neg_score"], ["label"]):
        raise TypeError(
            "the loss must have a second parameter named 'neg_score' (pairwise) or "
            f"'label' (pointwise) (got {names})"
        )
    return signature


def is_pointwise(loss: Any) -> bool:
    """Tell a loss of ``(score, label)`` from one of ``(pos_score, neg_score)``.

    Raises:
        TypeError: It is neither, see :func:`loss_signature`.
    """
    return list(loss_signature(loss).parameters)[1] == "label"
