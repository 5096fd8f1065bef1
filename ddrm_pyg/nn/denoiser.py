"""Networks that predict a clean vector from a noisy one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ddrm_pyg.diffusion.timestep import timestep_embedding

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class MLPDenoiser(nn.Module):
    r"""The reconstruction MLP :math:`f_\theta(x_t, c, t)` of DDRM (Eq. 15).

    The noisy vector, a learned map of the sinusoidal step embedding, and the
    collaborative condition are concatenated; an activation follows every layer but
    the last. Weights start at N(0, 2 / (fan_in + fan_out)), biases at N(0, 0.001^2),
    as in the authors' code.

    Args:
        embedding_dim: Width D of the vectors.
        hidden_dims: Widths of the hidden layers, in order. (The authors' launchers
            write the pair ``a,b`` for ``(b, a, b)``.)
        time_dim: Width of the step embedding.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"``.

    Raises:
        ValueError: A width < 1 or an unknown activation.
    """

    def __init__(
        self,
        embedding_dim: int,
        hidden_dims: Sequence[int],
        time_dim: int = 10,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if min(embedding_dim, time_dim, *hidden_dims) < 1:
            raise ValueError(
                "'embedding_dim', 'time_dim' and 'hidden_dims' must be >= 1 "
                f"(got {embedding_dim}, {time_dim} and {tuple(hidden_dims)})"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"'activation' must be one of {sorted(ACTIVATIONS)} "
                f"(got '{activation}')"
            )
        self.time_dim = time_dim
        self.time = nn.Linear(time_dim, time_dim)
        widths = [2 * embedding_dim + time_dim, *hidden_dims, embedding_dim]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                variance = 2 / (module.in_features + module.out_features)
                nn.init.normal_(module.weight, std=variance**0.5)
                nn.init.normal_(module.bias, std=0.001)

    def forward(self, x_t: Tensor, cond: Tensor, t: Tensor) -> Tensor:
        """Predict the clean rows.

        Args:
            x_t: ``[B, D]`` noisy rows.
            cond: ``[B, D]`` collaborative information.
            t: ``[B]`` int64 steps, 0-based, or ``[1]`` where all rows share one.

        Returns:
            ``[B, D]``.
        """
        time = self.time(timestep_embedding(t, self.time_dim).to(x_t.dtype))
        time = time.expand(x_t.size(0), -1)
        return self.layers(torch.cat([x_t, time, cond], dim=-1))
