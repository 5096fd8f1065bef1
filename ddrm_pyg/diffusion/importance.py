"""Which diffusion steps to train on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddrm_pyg.checks import check_size

_UNIFORM_SHARE = 1e-3
"""Probability mass spread evenly, so that no step is ever left out."""


class ImportanceSampler(nn.Module):
    r"""Draws steps in proportion to the size of their losses.

    `"Improved Denoising Diffusion Probabilistic Models"
    <https://arxiv.org/abs/2102.09672>`_ (ICML 2021), Section 3.3, as DiffRec uses it:

    .. math:: p_t \propto \sqrt{\operatorname{mean}(L_t^2)}

    over the last losses of every step, mixed with 0.1 % of a uniform distribution.
    Steps are uniform until each has a full history. Dividing a loss by its
    ``density`` keeps the mean over steps unbiased. The history is kept in buffers:
    it is part of the state dict.

    Args:
        num_steps: T.
        history_length: Losses kept for every step; 0 draws steps uniformly for good.

    Raises:
        ValueError: ``num_steps`` < 1 or ``history_length`` < 0.
    """

    loss: Tensor
    count: Tensor

    def __init__(self, num_steps: int, history_length: int = 10) -> None:
        super().__init__()
        check_size(1, num_steps=num_steps)
        check_size(0, history_length=history_length)
        self.num_steps = num_steps
        self.history_length = history_length
        self.register_buffer("loss", torch.zeros(num_steps, history_length))
        self.register_buffer("count", torch.zeros(num_steps, dtype=torch.int64))

    def probability(self) -> Tensor:
        """Return the probability of every step.

        Returns:
            ``[T]`` float32 with sum 1.
        """
        uniform = self.loss.new_full((self.num_steps,), 1 / self.num_steps)
        if self.history_length == 0 or bool((self.count < self.history_length).any()):
            return uniform
        size = self.loss.square().mean(1).sqrt()
        total = size.sum()
        if total == 0:
            return uniform
        return (1 - _UNIFORM_SHARE) * size / total + _UNIFORM_SHARE * uniform

    def sample(
        self, num_samples: int, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw steps.

        Args:
            num_samples: B.
            generator: Source of all randomness; torch's global one if None.

        Returns:
            Steps ``[B]`` int64, 0-based, and their density relative to a uniform one,
            :math:`p_t T`, ``[B]`` float32.
        """
        probability = self.probability()
        device = probability.device if generator is None else generator.device
        t = torch.multinomial(
            probability.to(device), num_samples, replacement=True, generator=generator
        ).to(probability.device)
        return t, probability[t] * self.num_steps

    @torch.no_grad()
    def update(self, t: Tensor, loss: Tensor) -> None:
        """Append losses to the histories of their steps, the oldest leave.

        Args:
            t: ``[B]`` int64 steps, any of them several times.
            loss: ``[B]`` losses before they are divided by the density.
        """
        if self.history_length == 0:
            return
        order = t.argsort(stable=True)
        t, loss = t[order], loss[order].to(self.loss)
        drawn = torch.bincount(t, minlength=self.num_steps)
        first = drawn.cumsum(0) - drawn
        place = torch.arange(t.numel(), device=t.device) - first[t]
        last = place >= drawn[t] - self.history_length
        # a ring: the mean square does not ask which loss is the oldest
        slot = (self.count[t] + place) % self.history_length
        self.loss[t[last], slot[last]] = loss[last]
        self.count += drawn

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_steps={self.num_steps}, "
            f"history_length={self.history_length})"
        )
