"""T-CE: drop the interactions with the largest losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ddrm_pyg.checks import check_positive
from ddrm_pyg.losses.pointwise import is_pointwise, loss_signature
from ddrm_pyg.typing import PairLoss, PointLoss


class TruncatedLoss(nn.Module):
    r"""Truncated loss (T-CE): a growing share of large-loss interactions is dropped.

    `"Denoising Implicit Feedback for Recommendation"
    <https://arxiv.org/abs/2006.04153>`_ (WSDM 2021): interactions that are hard to fit
    early in training are likelier to be noise. At iteration c the share

    .. math:: \epsilon(c) = \epsilon_{\max}^a \, c / (N - 1) \;\; (c < N), \qquad
              \epsilon_{\max} \;\; (c \ge N)

    of the M rows is dropped: the first :math:`\lfloor (1 - \epsilon) M \rfloor` by
    ascending loss are kept, at least one. Dropped rows are exactly 0 and have no
    gradient; kept ones are scaled by M / kept, so that the mean of the returned rows is
    the mean over the kept. Selection carries no gradient.

    It has the signature of the loss it wraps. Of a pointwise loss only rows of label 1
    are dropped, though the share is of all rows: with one negative per positive,
    ``drop_rate`` drops about twice that share of the positives. Of a pairwise loss it
    is the share of the triplets. Penalties are not part of the loss, so backends add
    them outside: they are never truncated.

    Departures from the authors' code: where the share exceeds that of the positives,
    they go on to drop negatives in arbitrary order (here no negative is dropped); of a
    batch of one row they keep none; they select weights by the truncated validation
    loss, which shrinks as the ramp climbs (:func:`ddrm_pyg.fit` selects by ranking).
    The paper has no pairwise form. Kept as published: the ramp counts iterations (their
    help text says epochs), so N must fit the length of training; and with an
    ``exponent`` other than 1 it ends at :math:`\epsilon_{\max}^a` and then jumps to
    :math:`\epsilon_{\max}`.

    Args:
        loss: A PairLoss or a PointLoss, told apart by the second parameter's name.
        drop_rate: :math:`\epsilon_{\max}`, in [0, 1); published grid .05, .1, .2.
        num_gradual: N, iterations until the full rate; 0 drops it from the first.
        exponent: a, shape of the ramp, > 0.

    Raises:
        TypeError: ``loss`` is neither pairwise nor pointwise.
        ValueError: A number out of its range.

    Example:
        >>> from ddrm_pyg.losses.pairwise import bpr_loss
        >>> loss = TruncatedLoss(bpr_loss, drop_rate=0.25)
        >>> loss(torch.tensor([9.0, 9.0, 9.0, -9.0]), torch.zeros(4))[-1]
        tensor(0.)
    """

    step: Tensor

    def __init__(
        self,
        loss: PairLoss | PointLoss,
        *,
        drop_rate: float,
        num_gradual: int = 0,
        exponent: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_rate < 1:
            raise ValueError(f"'drop_rate' must lie in [0, 1) (got {drop_rate})")
        if not (num_gradual >= 0 and num_gradual == int(num_gradual)):
            raise ValueError(
                f"'num_gradual' must be a whole number >= 0 (got {num_gradual})"
            )
        check_positive(exponent=exponent)
        self.loss = loss
        self.pointwise = is_pointwise(loss)
        self.__signature__ = loss_signature(loss)
        self.drop_rate = drop_rate
        self.num_gradual = int(num_gradual)
        self.exponent = exponent
        # calls in training mode; a buffer, so that a resumed run has the same bits
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def current_rate(self) -> float:
        """Share of rows that the next call drops."""
        step = int(self.step)
        if step >= self.num_gradual:
            return self.drop_rate
        # a ramp of one iteration is the 0 it starts with
        return self.drop_rate**self.exponent * step / max(self.num_gradual - 1, 1)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """Drop the largest losses, with the arguments of the wrapped loss.

        Returns:
            ``[M]``, 0 where dropped. In training mode the ramp advances by a step.
        """
        bound = self.__signature__.bind(*args, **kwargs)
        loss = self.loss(*bound.args, **bound.kwargs)
        size = loss.numel()
        num_dropped = size - max(int((1 - self.current_rate()) * size), 1)
        key = loss.detach()
        if self.pointwise:
            positive = bound.args[1] > 0
            # negatives come first in the order, and before them no one is dropped
            key = key.masked_fill(~positive, -math.inf)
            num_dropped = min(num_dropped, int(positive.sum()))
        if self.training:
            self.step += 1
        if num_dropped <= 0:
            return loss
        num_kept = size - num_dropped
        dropped = key.argsort(stable=True)[num_kept:]
        return (loss * (size / num_kept)).index_fill(0, dropped, 0.0)

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"drop_rate={self.drop_rate}, num_gradual={self.num_gradual}, "
            f"exponent={self.exponent}"
        )
