import pytest
import torch

from ddrm_pyg.diffusion import LinearVariance

SETTING = {"noise_scale": 0.01, "noise_min": 0.001, "noise_max": 0.01}


def accumulated(betas):
    return 1 - torch.cumprod(1 - betas, dim=0)


@pytest.mark.parametrize("fix_first_beta", [True, False])
def test_hand_values_where_the_fixed_first_beta_changes_nothing(fix_first_beta):
    betas = LinearVariance(5, **SETTING, fix_first_beta=fix_first_beta).betas()
    noise = torch.tensor([1e-5, 3.25e-5, 5.5e-5, 7.75e-5, 1e-4], dtype=torch.float64)
    torch.testing.assert_close(accumulated(betas), noise, rtol=1e-9, atol=0)
    keep = 1 - noise
    expected = torch.cat([noise[:1], 1 - keep[1:] / keep[:-1]])
    torch.testing.assert_close(betas, expected, rtol=1e-9, atol=0)


def test_equation_8_holds_exactly_without_the_override():
    betas = LinearVariance(
        4, noise_scale=0.5, noise_min=0.1, noise_max=0.7, fix_first_beta=False
    ).betas()
    expected = torch.tensor([0.05, 0.15, 0.25, 0.35], dtype=torch.float64)
    torch.testing.assert_close(accumulated(betas), expected, rtol=1e-12, atol=0)
    by_hand = [0.05, 0.10 / 0.95, 0.10 / 0.85, 0.10 / 0.75]
    assert betas.tolist() == pytest.approx(by_hand, rel=1e-12)


def test_the_override_replaces_the_first_beta_and_no_other():
    arguments = {"noise_scale": 0.5, "noise_min": 0.1, "noise_max": 0.7}
    fixed = LinearVariance(4, **arguments).betas()
    exact = LinearVariance(4, **arguments, fix_first_beta=False).betas()
    assert fixed[0] == 1e-5
    assert torch.equal(fixed[1:], exact[1:])
    # what accumulates is then 1 - (1 - 1e-5)(1 - v_t) / (1 - v_1)
    keep = (1 - 1e-5) / 0.95
    expected = [1e-5, 1 - keep * 0.85, 1 - keep * 0.75, 1 - keep * 0.65]
    assert accumulated(fixed).tolist() == pytest.approx(expected, rel=1e-9)


def test_the_override_dominates_small_scales():
    betas = LinearVariance(50, noise_scale=1e-4, noise_min=1e-4, noise_max=1e-3).betas()
    assert betas.dtype == torch.float64
    # Eq. 8 would reach 1e-7; the first step alone adds a hundred times that
    assert float(accumulated(betas)[-1]) == pytest.approx(1e-5 + 9e-8, rel=1e-6)


def test_one_step_takes_the_lower_end():
    betas = LinearVariance(1, **SETTING, fix_first_beta=False).betas()
    assert betas.tolist() == pytest.approx([1e-5], rel=1e-9)


@pytest.mark.parametrize("fix_first_beta", [True, False])
def test_no_scale_is_no_noise(fix_first_beta):
    arguments = {**SETTING, "noise_scale": 0, "fix_first_beta": fix_first_beta}
    assert LinearVariance(3, **arguments).betas().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("num_steps", "changes", "message"),
    [
        (0, {}, r"'num_steps' must be >= 1 \(got 0\)"),
        (5, {"noise_scale": 1e-3, "noise_min": 0.0}, r"must rise .* \(got 0 and 1e-05"),
        (5, {"noise_scale": -1.0}, r"must rise within \(0, 1\) \(got -0.001 and -0.01"),
        (5, {"noise_scale": 100.0}, r"must rise within \(0, 1\) \(got 0.1 and 1\)"),
        (5, {"noise_min": 0.1}, r"must rise within \(0, 1\) \(got 0.001 and 0.0001\)"),
        (5, {"noise_max": float("nan")}, r"must rise within .* nan\)"),
        (5, {"noise_min": 0.01}, r"must differ when 'num_steps' > 1 \(got 0.01 twice"),
    ],
)
def test_impossible_schedules_are_refused(num_steps, changes, message):
    with pytest.raises(ValueError, match=message):
        LinearVariance(num_steps, **{**SETTING, **changes}).betas()


@pytest.mark.parametrize("fix_first_beta", [True, False])
@pytest.mark.parametrize("num_steps", [1, 2, 50])
def test_noise_of_own_scales_is_that_of_the_schedules(num_steps, fix_first_beta):
    shape = {"noise_min": 0.1, "noise_max": 0.7, "fix_first_beta": fix_first_beta}
    scales = [1e-4, 0.01, 0.5, 1.2]
    t = torch.arange(num_steps)
    for scale in scales:
        betas = LinearVariance(num_steps, noise_scale=scale, **shape).betas()
        noise = LinearVariance(num_steps, noise_scale=0.3, **shape).noise(
            t, torch.full((num_steps,), scale)
        )
        expected = 1 - torch.cumprod(1 - betas, 0)
        torch.testing.assert_close(noise, expected, rtol=1e-6, atol=1e-9)
    exact = LinearVariance(
        num_steps, noise_scale=0.3, **shape | {"fix_first_beta": False}
    )
    mixed = exact.noise(torch.zeros(4, dtype=torch.int64), torch.tensor(scales))
    assert mixed.tolist() == pytest.approx([0.1 * s for s in scales], rel=1e-6)
