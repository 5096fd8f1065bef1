"""R-CE: weigh down the interactions that the model does not believe."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.checks import check_at_least
from ddrm_pyg.losses.pointwise import is_pointwise, loss_signature
from ddrm_pyg.typing import PairLoss, PointLoss


def belief_weight(score: Tensor, exponent: float) -> Tensor:
    r"""Weigh rows by the belief in them, :math:`\sigma(s)^\alpha`, without gradient.

    Args:
        score: ``[M]`` s.
        exponent: :math:`\alpha`; 0 weighs all alike.

    Returns:
        ``[M]`` in [0, 1].
    """
    # in logarithms, so that tiny beliefs to a small power do not vanish
    return (exponent * F.logsigmoid(score.detach())).exp()


class ReweightedLoss(nn.Module):
    r"""Reweighted loss (R-CE): each row is weighed by the model's own belief in it.

    `"Denoising Implicit Feedback for Recommendation"
    <https://arxiv.org/abs/2006.04153>`_ (WSDM 2021). With s the score of a row, the
    weight of a pointwise loss is

    .. math:: w = \sigma(s)^\beta \;\; (y = 1), \qquad
              (1 - \sigma(s))^\beta \;\; (y = 0)

    and that of a pairwise loss is :math:`\sigma(s_{ui})^\beta` as in Eq. 21-22 of
    `DDRM <https://arxiv.org/abs/2401.06982>`_, or :math:`\sigma(s_{ui} -
    s_{uj})^\beta`, the exact analogue for BPR: its weight is :math:`e^{-\beta \ell}`
    and, unlike the former, does not change when all scores of a user shift. No gradient
    flows through weights, and their sum is not normalised: a larger :math:`\beta` also
    lowers the loss as a whole.

    It has the signature of the loss it wraps. Penalties are not part of the loss, so
    backends add them outside: they are never reweighted (the code of DDRM's backends
    reweighs their L2 term as well). Traps: tables that start with large scores have
    weights of about 0 or 1 at random, so start small or warm; a published pairwise
    form, :math:`\sigma(\ell)^\beta`, is reversed and trusts the least believed most.

    Args:
        loss: A PairLoss or a PointLoss, told apart by the second parameter's name.
        exponent: :math:`\beta` >= 0; 0 is the plain loss. Published grid .05 to 1.
        score: What a pairwise loss is weighed by: the score of the ``"positive"`` item
            or its ``"difference"`` to the negative one's.

    Raises:
        TypeError: ``loss`` is neither pairwise nor pointwise.
        ValueError: ``exponent`` < 0 or infinite, an unknown ``score``, or
            ``"difference"`` around a pointwise loss, which has none.
    """

    def __init__(
        self,
        loss: PairLoss | PointLoss,
        *,
        exponent: float,
        score: Literal["positive", "difference"] = "positive",
    ) -> None:
        super().__init__()
        check_at_least(0, exponent=exponent)
        if score not in ("positive", "difference"):
            raise ValueError(
                f"'score' must be 'positive' or 'difference' (got '{score}')"
            )
        self.loss = loss
        self.pointwise = is_pointwise(loss)
        self.__signature__ = loss_signature(loss)
        if self.pointwise and score == "difference":
            raise ValueError(
                "'score' must be 'positive' around a pointwise loss (got 'difference')"
            )
        self.exponent = exponent
        self.score = score

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """Weigh the rows, with the arguments of the wrapped loss.

        Returns:
            ``[M]`` weighed losses.
        """
        bound = self.__signature__.bind(*args, **kwargs)
        score, second, *_ = bound.args
        if self.pointwise:
            belief = torch.where(second > 0, score, -score)
        elif self.score == "difference":
            belief = score - second
        else:
            belief = score
        weight = belief_weight(belief, self.exponent)
        return weight * self.loss(*bound.args, **bound.kwargs)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"exponent={self.exponent}, score='{self.score}'"
