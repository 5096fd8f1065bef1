"""Noise schedules."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ddrm_pyg.checks import check_size

FIRST_BETA = 1e-5
"""What the authors' code puts in place of the first beta."""


@dataclass(frozen=True)
class LinearVariance:
    r"""A schedule whose accumulated noise variance grows linearly (Eq. 8 of DDRM).

    .. math:: 1 - \bar\alpha_t = s \left[ \alpha_{\min} + \tfrac{t - 1}{T - 1}
              (\alpha_{\max} - \alpha_{\min}) \right], \quad t = 1 \ldots T

    Departure of the authors' code, on by default: the first beta is overwritten with
    1e-5, so that Eq. 8 holds for no step exactly; for small :math:`s` that value
    dominates the whole schedule.

    Attributes:
        num_steps: T.
        noise_scale: s; 0 for no noise at all, all betas 0.
        noise_min: :math:`\alpha_{\min}`, variance of the first step before scaling.
        noise_max: :math:`\alpha_{\max}`, variance of the last step before scaling.
        fix_first_beta: Overwrite the first beta as published.
    """

    num_steps: int
    _: KW_ONLY
    noise_scale: float
    noise_min: float
    noise_max: float
    fix_first_beta: bool = True

    def betas(self) -> Tensor:
        """Compute the variance that every step adds.

        Returns:
            ``[num_steps]`` float64, each in (0, 1), or all 0.

        Raises:
            ValueError: ``num_steps`` < 1, or the variances do not rise within (0, 1).
        """
        check_size(1, num_steps=self.num_steps)
        if self.noise_scale == 0:
            return torch.zeros(self.num_steps, dtype=torch.float64)
        low, high = (self.noise_scale * n for n in (self.noise_min, self.noise_max))
        if not 0 < low <= high < 1:
            raise ValueError(
                "'noise_scale' times 'noise_min' and 'noise_max' must rise within "
                f"(0, 1) (got {low:g} and {high:g})"
            )
        remaining = 1 - torch.linspace(low, high, self.num_steps, dtype=torch.float64)
        before = torch.cat([remaining.new_ones(1), remaining[:-1]])
        betas = 1 - remaining / before
        if self.fix_first_beta:
            betas[0] = FIRST_BETA
        if bool((betas <= 0).any()):
            raise ValueError(
                "'noise_min' and 'noise_max' must differ when 'num_steps' > 1 "
                f"(got {self.noise_min:g} twice)"
            )
        return betas

    def noise(self, t: Tensor, noise_scale: Tensor) -> Tensor:
        r"""Accumulated noise of rows that each have a scale of their own.

        :math:`1 - \bar\alpha_t`, row by row in closed form.

        Args:
            t: ``[B]`` int64 steps in 0 ... T - 1.
            noise_scale: ``[B]`` s of each row, in place of the schedule's, such that s
                ``noise_max`` < 1.

        Returns:
            ``[B]`` float64 in [0, 1).
        """
        scale = noise_scale.double()
        place = t.double() / max(self.num_steps - 1, 1)
        spread = self.noise_max - self.noise_min
        remaining = 1 - scale * (self.noise_min + place * spread)
        if self.fix_first_beta:
            remaining = (1 - FIRST_BETA) * remaining / (1 - scale * self.noise_min)
        return 1 - remaining
