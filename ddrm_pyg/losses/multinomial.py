"""The two terms of a variational auto-encoder of rows."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def multinomial_nll(logits: Tensor, target: Tensor) -> Tensor:
    r"""Negative log-likelihood of rows under a softmax over all items.

    `"Variational Autoencoders for Collaborative Filtering"
    <https://arxiv.org/abs/1802.05814>`_ (WWW 2018), Eq. 2, without the constant.

    .. math:: \ell_u = -\sum_i x_{ui} \log \operatorname{softmax}(s_u)_i

    Args:
        logits: ``[B, num_items]``; a constant added to a row changes nothing.
        target: ``[B, num_items]`` non-negative.

    Returns:
        ``[B]``; 0 for a row without items.
    """
    return -(target * F.log_softmax(logits, dim=-1)).sum(-1)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Divergence of diagonal Gaussians from the standard normal.

    .. math:: \tfrac12 \sum_k \left( \mu_k^2 + \sigma_k^2 - 1 - \log \sigma_k^2 \right)

    Args:
        mean: ``[B, K]``.
        log_variance: ``[B, K]``.

    Returns:
        ``[B]``; 0 only at mean 0 and log-variance 0.
    """
    terms = mean.square() + log_variance.exp() - 1 - log_variance
    return terms.sum(-1) / 2
