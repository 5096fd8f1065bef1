"""The forward process and its posterior."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class GaussianDiffusion(nn.Module):
    r"""Gaussian noising in closed form, and the posterior of one step back.

    `"Denoising Diffusion Probabilistic Models" <https://arxiv.org/abs/2006.11239>`_
    (NeurIPS 2020); Eqs. 1-2, 6-7 and 11-14 of DDRM. Steps are 0-based here: index
    ``t`` is the papers' step t + 1.

    All constants are computed in float64 and kept as float32 buffers, which follow the
    module to its device and are not part of the state dict.

    Attributes:
        x_start_weight: ``[T]`` weight of the squared error of a predicted
            :math:`x_0` in the variational bound, :math:`SNR_{t-1} - SNR_t` with
            :math:`SNR_t = \bar\alpha_t / (1 - \bar\alpha_t)`, and 1 at step 0
            (DiffRec, without the factor 1/2 of the bound, as in its authors' code).
        noise_weight: ``[T]`` weight of the squared error of a predicted noise in the
            code of DiffRec's authors, :math:`(1 - \bar\alpha_t) /
            ((1 - \bar\alpha_{t-1})^2 \alpha_t)`, and 1 at step 0. The bound itself
            has :math:`\beta_t / ((1 - \bar\alpha_{t-1}) \alpha_t)`.

    Args:
        betas: ``[T]`` variance added in every step, each in (0, 1). All 0 is a process
            without noise: rows stay as they are, a step back is the prediction itself,
            and all steps weigh alike.
    """

    alphas_cumprod: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    posterior_x_start: Tensor
    posterior_x_t: Tensor
    posterior_variance: Tensor
    x_start_weight: Tensor
    noise_weight: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        # exact and for respacing only: stays where and as it is
        self.betas = betas = betas.double().cpu()
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        before = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
        noise = 1 - alphas_cumprod
        snr = alphas_cumprod / noise
        x_start_weight = before / (1 - before) - snr
        noise_weight = noise / ((1 - before).square() * (1 - betas))
        x_start_weight[0] = noise_weight[0] = 1
        # Eq. 12: the two weights of the posterior mean, and its variance
        posterior_x_start = before.sqrt() * betas / noise
        posterior_x_t = (1 - betas).sqrt() * (1 - before) / noise
        posterior_variance = betas * (1 - before) / noise
        still = noise == 0
        constants = {
            "alphas_cumprod": alphas_cumprod,
            "sqrt_alphas_cumprod": alphas_cumprod.sqrt(),
            "sqrt_one_minus_alphas_cumprod": noise.sqrt(),
            "posterior_x_start": posterior_x_start.masked_fill(still, 1),
            "posterior_x_t": posterior_x_t.masked_fill(still, 0),
            "posterior_variance": posterior_variance.masked_fill(still, 0),
            "x_start_weight": x_start_weight.masked_fill(still, 1),
            "noise_weight": noise_weight.masked_fill(still, 1),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.float(), persistent=False)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.alphas_cumprod.numel()

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        r"""Noise clean rows to step ``t`` in one jump (Eq. 2).

        .. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon

        Args:
            x_start: ``[B, D]``.
            t: ``[B]`` int64 in 0 ... T - 1 (the papers' step minus one).
            noise: ``[B, D]`` standard normal.

        Returns:
            ``[B, D]``.
        """
        return (
            self.sqrt_alphas_cumprod[t].unsqueeze(-1) * x_start
            + self.sqrt_one_minus_alphas_cumprod[t].unsqueeze(-1) * noise
        )

    def predict_x_start(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Solve :meth:`q_sample` for the clean rows, given the noise or a guess of it.

        Args:
            x_t: ``[B, D]``.
            t: ``[B]`` int64 in 0 ... T - 1, or ``[1]`` where all rows share one.
            noise: ``[B, D]``.

        Returns:
            ``[B, D]``.
        """
        noise = self.sqrt_one_minus_alphas_cumprod[t].unsqueeze(-1) * noise
        return (x_t - noise) / self.sqrt_alphas_cumprod[t].unsqueeze(-1)

    def q_posterior(
        self, x_start: Tensor, x_t: Tensor, t: int
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of one step back, given both ends (Eqs. 11-12).

        Args:
            x_start: ``[B, D]``, true or predicted.
            x_t: ``[B, D]``.
            t: Step in 0 ... T - 1, of all rows.

        Returns:
            Mean ``[B, D]`` and variance ``[]``.
        """
        mean = self.posterior_x_start[t] * x_start + self.posterior_x_t[t] * x_t
        return mean, self.posterior_variance[t]

    def respaced(self, steps: Sequence[int]) -> GaussianDiffusion:
        r"""Keep some steps and jump over the others.

        `"Improved Denoising Diffusion Probabilistic Models"
        <https://arxiv.org/abs/2102.09672>`_ (ICML 2021), Section 4: the kept steps have
        the :math:`\bar\alpha` they had, and betas and posterior follow from those.

        Args:
            steps: Ascending, within 0 ... T - 1. Index k of the result is ``steps[k]``.

        Returns:
            A process of as many steps. A step whose predecessor is kept too has the
            same constants to the bit.

        Raises:
            ValueError: Steps that do not ascend, or are not there.
        """
        bounds = [-1, *steps, self.num_steps]
        if len(steps) == 0 or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(
                f"'steps' must ascend within 0 ... {self.num_steps - 1} "
                f"(got {list(steps)})"
            )
        jumps = [self.betas[low + 1 : high + 1] for low, high in pairwise(bounds[:-1])]
        betas = [
            jump[0] if jump.numel() == 1 else -jump.neg().log1p().sum().expm1()
            for jump in jumps
        ]
        return GaussianDiffusion(torch.stack(betas))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_steps={self.num_steps})"
