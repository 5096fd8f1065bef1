"""Losses that compare a positive with a negative item."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def bpr_loss(pos_score: Tensor, neg_score: Tensor) -> Tensor:
    r"""Bayesian personalised ranking, one value per triplet.

    `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_ (UAI 2009).

    .. math:: \ell = -\log \sigma(s_{ui} - s_{uj})

    Args:
        pos_score: ``[B]`` scores of items the user interacted with.
        neg_score: ``[B]`` scores of items the user did not.

    Returns:
        ``[B]`` non-negative losses in natural-log units; log 2 at equal scores.
    """
    return F.softplus(neg_score - pos_score)
