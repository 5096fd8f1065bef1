"""The reverse process."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ddrm_pyg.diffusion.process import GaussianDiffusion


def posterior_sample(
    diffusion: GaussianDiffusion,
    predict_x_start: Callable[[Tensor, int], Tensor],
    x_t: Tensor,
    num_steps: int,
    *,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""Walk from step ``num_steps`` to clean rows along the posterior (Eqs. 13-14).

    Algorithm 2 of DDRM (line 8) follows the posterior means, without sampling noise,
    and so do DiffRec and both authors' codes by default. With ``noise`` each step but
    the last, which ends at clean rows, is drawn from the posterior instead (Eq. 13):

    .. math:: x_{t-1} = \mu_t + \sigma_t \epsilon, \quad \epsilon \sim \mathcal N(0, 1)

    A walk longer than the schedule repeats the coefficients of its last step,
    while the step that the predictor is told keeps counting: that is how the authors'
    code runs more reverse than forward steps.

    Args:
        diffusion: The schedule.
        predict_x_start: Maps ``[B, D]`` noisy rows and a 0-based step to predicted
            clean rows.
        x_t: ``[B, D]`` rows at the last step.
        num_steps: T', at least 1.
        noise: Draws standard normal values in the shape of a tensor, once per step but
            the last; None follows the means.

    Returns:
        ``[B, D]``. At step 0 the posterior mean is the prediction itself.
    """
    for step in reversed(range(num_steps)):
        x_start = predict_x_start(x_t, step)
        noisiest = min(step, diffusion.num_steps - 1)
        x_t, variance = diffusion.q_posterior(x_start, x_t, noisiest)
        if noise is not None and step > 0:
            x_t = x_t + variance.sqrt() * noise(x_t)
    return x_t


def spread_steps(num_chosen: int, num_steps: int) -> list[int]:
    """Choose steps at equal distances, the last one always among them.

    This is the "trailing" spacing of `"Common Diffusion Noise Schedules and Sample
    Steps are Flawed" <https://arxiv.org/abs/2305.08891>`_ (WACV 2024): a walk begins at
    the noise that its rows really have.

    Args:
        num_chosen: How many, at least 1.
        num_steps: Of how many.

    Returns:
        Ascending 0-based steps; all of them if ``num_chosen`` is ``num_steps``.

    Raises:
        ValueError: ``num_chosen`` not in 1 ... ``num_steps``.

    Example:
        >>> spread_steps(3, 50)
        [15, 32, 49]
    """
    if not 1 <= num_chosen <= num_steps:
        raise ValueError(
            f"'num_chosen' must lie in 1 ... {num_steps} (got {num_chosen})"
        )
    return [(k + 1) * num_steps // num_chosen - 1 for k in range(num_chosen)]
