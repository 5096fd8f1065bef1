"""What networks are made of: layers and draws from a generator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ddrm_pyg.checks import check_among, check_size

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def mlp(widths: Sequence[int], activation: str = "tanh") -> nn.Sequential:
    """Stack linear layers with an activation after each but the last.

    Args:
        widths: Of the input, the hidden layers and the output.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"``.

    Raises:
        ValueError: A width < 1 or an unknown activation.
    """
    if min(widths) < 1:
        raise ValueError(f"all widths must be >= 1 (got {tuple(widths)})")
    for width in widths[1:-1]:  # the outer ones may be as many as there are items
        check_size(1, hidden_dims=width)
    check_among(ACTIVATIONS, activation=activation)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def reset_linear(model: nn.Module) -> None:
    """Draw linear weights from N(0, 2 / (fan_in + fan_out)), biases N(0, 0.001^2)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.normal_(module.bias, std=1e-3)


def drop(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zero entries at a rate and scale the others up, so that the mean is kept."""
    if rate == 0:
        return x
    kept = draw(torch.rand, x, generator) >= rate
    return x * kept / max(1 - rate, 1e-12)


def draw(distribution: Any, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw in the shape of a tensor, on the generator's device."""
    device = like.device if generator is None else generator.device
    return distribution(like.shape, generator=generator, device=device).to(like.device)
