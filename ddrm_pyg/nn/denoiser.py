"""Networks that predict a clean vector from a noisy one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrm_pyg.checks import check_size
from ddrm_pyg.diffusion.timestep import timestep_embedding
from ddrm_pyg.nn._parts import mlp, reset_linear


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
        _check_widths(embedding_dim, time_dim, hidden_dims)
        self.time_dim = time_dim
        self.time = nn.Linear(time_dim, time_dim)
        widths = [2 * embedding_dim + time_dim, *hidden_dims, embedding_dim]
        self.layers = mlp(widths, activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        reset_linear(self)

    def forward(
        self,
        x_t: Tensor,
        cond: Tensor,
        t: Tensor,
        *,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Predict the clean rows.

        Args:
            x_t: ``[B, D]`` noisy rows.
            cond: ``[B, D]`` collaborative information.
            t: ``[B]`` int64 steps, 0-based, or ``[1]`` where all rows share one.
            after: Applied to the activations of every hidden layer, for instance to
                drop some in training.

        Returns:
            ``[B, D]``.
        """
        time = self.time(timestep_embedding(t, self.time_dim).to(x_t.dtype))
        time = time.expand(x_t.size(0), -1)
        hidden = torch.cat([x_t, time, cond], dim=-1)
        if after is None:
            return self.layers(hidden)
        for layer in self.layers:
            hidden = layer(hidden)
            if not isinstance(layer, nn.Linear):
                hidden = after(hidden)
        return hidden


class TransformerDenoiser(nn.Module):
    r"""The Transformer of DDRM's Table 3, as the paper words it.

    Multi-head attention whose query is the condition, whose key is the step embedding
    and whose value is the noisy vector, then a feed-forward network, each added to what
    it was given:

    .. math:: h = x_t + W_o \operatorname{Attention}(W_q c, W_k \tau_t, W_v x_t), \quad
              \hat x_0 = h + \operatorname{MLP}(\operatorname{LayerNorm}(h))

    The paper does not say what attention ranges over. If each vector were one token,
    the softmax over a single key would be 1, and neither condition nor step would
    count; so the tokens here are a head's entries, each one number, as in the
    cross-covariance attention of `"XCiT" <https://arxiv.org/abs/2106.09681>`_
    (NeurIPS 2021). The authors' code has something else, see :class:`GateDenoiser`.

    Args:
        embedding_dim: Width D of the vectors.
        hidden_dims: Hidden widths of the feed-forward network, in order.
        time_dim: Width of the step embedding :math:`\tau_t`.
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"``, of that network.
        num_heads: Heads, of :math:`\lceil D / heads \rceil` entries each; a head of
            one entry attends to nothing else.

    Raises:
        ValueError: A width or ``num_heads`` < 1, or an unknown activation.
    """

    def __init__(
        self,
        embedding_dim: int,
        hidden_dims: Sequence[int],
        time_dim: int = 10,
        activation: str = "relu",
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        _check_widths(embedding_dim, time_dim, hidden_dims)
        check_size(1, num_heads=num_heads)
        self.time_dim = time_dim
        self.num_heads = num_heads
        width = num_heads * -(-embedding_dim // num_heads)
        self.query = nn.Linear(embedding_dim, width)
        self.key = nn.Linear(time_dim, width)
        self.value = nn.Linear(embedding_dim, width)
        self.out = nn.Linear(width, embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim)
        self.layers = mlp([embedding_dim, *hidden_dims, embedding_dim], activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        reset_linear(self)
        self.norm.reset_parameters()

    def forward(self, x_t: Tensor, cond: Tensor, t: Tensor) -> Tensor:
        """Predict the clean rows, see :meth:`MLPDenoiser.forward`."""
        time = timestep_embedding(t, self.time_dim).to(x_t.dtype)
        time = time.expand(x_t.size(0), -1)
        query, key, value = (
            project(rows).view(x_t.size(0), self.num_heads, -1, 1)
            for project, rows in (
                (self.query, cond),
                (self.key, time),
                (self.value, x_t),
            )
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        hidden = x_t + self.out(attended.flatten(1))
        return hidden + self.layers(self.norm(hidden))


class GateDenoiser(nn.Module):
    r"""The Transformer of DDRM's Table 3, as in the authors' code: a gate.

    .. math:: v = x_t + \tau_t, \quad
              g = \sigma\left(f_k(v) \odot f_q(c)\right), \quad
              \hat x_0 = f_o\left(g \odot f_v(v)\right)

    with four MLPs f and the sinusoids :math:`\tau_t` of the step, as many as the
    vectors are wide. There is no softmax and there are no heads.

    Args:
        embedding_dim: Width D of the vectors.
        hidden_dims: Hidden widths of each MLP, in order. (Two mirrored widths there.)
        activation: ``"relu"``, ``"sigmoid"`` or ``"tanh"`` (there), of each MLP.
        learn_time: Put a learned linear map of :math:`\tau_t` in its place (ours).

    Raises:
        ValueError: A width < 1 or an unknown activation.
    """

    def __init__(
        self,
        embedding_dim: int,
        hidden_dims: Sequence[int],
        activation: str = "tanh",
        *,
        learn_time: bool = False,
    ) -> None:
        super().__init__()
        _check_widths(embedding_dim, embedding_dim, hidden_dims)
        self.time = (
            nn.Linear(embedding_dim, embedding_dim) if learn_time else nn.Identity()
        )
        self.query, self.key, self.value, self.layers = (
            mlp([embedding_dim, *hidden_dims, embedding_dim], activation)
            for _ in range(4)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        reset_linear(self)

    def forward(self, x_t: Tensor, cond: Tensor, t: Tensor) -> Tensor:
        """Predict the clean rows, see :meth:`MLPDenoiser.forward`."""
        timed = x_t + self.time(timestep_embedding(t, x_t.size(-1)).to(x_t.dtype))
        gate = (self.key(timed) * self.query(cond)).sigmoid()
        return self.layers(gate * self.value(timed))


def _check_widths(
    embedding_dim: int, time_dim: int, hidden_dims: Sequence[int]
) -> None:
    if min(embedding_dim, time_dim, *hidden_dims) < 1:
        raise ValueError(
            "'embedding_dim', 'time_dim' and 'hidden_dims' must be >= 1 "
            f"(got {embedding_dim}, {time_dim} and {tuple(hidden_dims)})"
        )
    check_size(1, embedding_dim=embedding_dim, time_dim=time_dim)
