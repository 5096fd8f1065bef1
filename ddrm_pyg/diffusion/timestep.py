"""Step embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    r"""Encode diffusion steps by sinusoids of geometric frequencies.

    `"Denoising Diffusion Probabilistic Models" <https://arxiv.org/abs/2006.11239>`_
    (NeurIPS 2020), after the Transformer's positional encoding.

    .. math:: [\cos(t \omega_k), \sin(t \omega_k)]_{k=0}^{h-1},
              \quad \omega_k = P^{-k/h}, \; h = \lfloor dim / 2 \rfloor

    Args:
        t: ``[B]`` steps, 0-based.
        dim: Width; an odd width ends with a zero column.
        max_period: P, the longest period.

    Returns:
        ``[B, dim]`` float32: the cosines, then the sines.
    """
    half = dim // 2
    exponent = torch.arange(half, device=t.device, dtype=torch.float32) / max(half, 1)
    angle = t.unsqueeze(-1).float() * torch.exp(-math.log(max_period) * exponent)
    encoded = torch.cat([angle.cos(), angle.sin()], dim=-1)
    return torch.nn.functional.pad(encoded, (0, dim - 2 * half))
