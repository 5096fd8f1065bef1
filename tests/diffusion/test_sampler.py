import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.diffusion import GaussianDiffusion, posterior_sample, spread_steps


@pytest.fixture
def diffusion():
    return GaussianDiffusion(torch.tensor([0.1, 0.2, 0.5]))


class Recorder:
    """A predictor that keeps what it was asked."""

    def __init__(self, predict):
        self.predict = predict
        self.steps = []
        self.rows = []

    def __call__(self, x_t, step):
        self.steps.append(step)
        self.rows.append(x_t)
        return self.predict(x_t, step)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_a_perfect_predictor_returns_the_clean_rows_to_the_bit(diffusion, num_steps):
    clean, noisy = torch.randn(2, 5, 4)
    done = posterior_sample(diffusion, lambda x, step: clean, noisy, num_steps)
    assert torch.equal(done, clean)


def test_the_walk_by_hand(diffusion):
    # predict x0 = 2 x_t + step; start at x_2 = 1
    predict = Recorder(lambda x, step: 2 * x + step)
    done = posterior_sample(diffusion, predict, torch.ones(1, 1), 3)
    x_1 = 0.72**0.5 * 0.5 / 0.64 * 4 + 0.5**0.5 * 0.28 / 0.64 * 1
    x_0 = 0.9**0.5 * 0.2 / 0.28 * (2 * x_1 + 1) + 0.8**0.5 * 0.1 / 0.28 * x_1
    assert predict.steps == [2, 1, 0]
    assert [float(x) for x in predict.rows] == pytest.approx([1, x_1, x_0])
    assert float(done) == pytest.approx(2 * x_0)


def test_a_longer_walk_repeats_the_last_coefficients_and_counts_on(diffusion):
    predict = Recorder(lambda x, step: torch.full_like(x, float(step)))
    posterior_sample(diffusion, predict, torch.ones(1, 1), 5)
    assert predict.steps == [4, 3, 2, 1, 0]
    c1, c2 = 0.72**0.5 * 0.5 / 0.64, 0.5**0.5 * 0.28 / 0.64  # of step 2
    x = 1.0
    for seen, step in zip(predict.rows[:3], (4, 3, 2), strict=True):
        assert float(seen) == pytest.approx(x)
        x = c1 * step + c2 * x


def test_a_shorter_walk_starts_lower(diffusion):
    predict = Recorder(lambda x, step: x)
    posterior_sample(diffusion, predict, torch.ones(1, 1), 2)
    assert predict.steps == [1, 0]


def test_no_noise_is_drawn(diffusion):
    before = torch.get_rng_state()
    posterior_sample(diffusion, lambda x, step: 0.5 * x, torch.ones(3, 2), 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_steps", [1, 3, 5])
def test_sampling_noise_is_equation_13(diffusion, num_steps):
    draws = torch.randn(num_steps, 4, 2, generator=torch.Generator().manual_seed(0))
    left = list(draws)

    def noise(like):
        assert like.shape == (4, 2)
        return left.pop()

    def predict(x, step):
        return 2 * x + step

    done = posterior_sample(
        diffusion, predict, torch.ones(4, 2), num_steps, noise=noise
    )
    assert len(left) == 1  # the last step ends at the prediction
    kept, betas = [1, 0.9, 0.72, 0.36], [0.1, 0.2, 0.5]
    x = torch.ones(4, 2, dtype=torch.float64)
    for step in reversed(range(num_steps)):
        t = min(step, 2)
        before, after, beta = kept[t], kept[t + 1], betas[t]
        mean = (
            before**0.5 * beta * (2 * x + step) + (1 - beta) ** 0.5 * (1 - before) * x
        ) / (1 - after)
        deviation = (beta * (1 - before) / (1 - after)) ** 0.5
        x = mean + deviation * draws[step].double() * (step > 0)
    torch.testing.assert_close(done.double(), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("num_chosen", "num_steps", "steps"),
    [(1, 50, [49]), (2, 50, [24, 49]), (3, 50, [15, 32, 49]), (4, 4, [0, 1, 2, 3])],
)
def test_steps_are_spread_up_to_the_last(num_chosen, num_steps, steps):
    assert spread_steps(num_chosen, num_steps) == steps


@given(num_steps=st.integers(1, 200), data=st.data())
def test_spread_steps_lie_at_equal_distances(num_steps, data):
    num_chosen = data.draw(st.integers(1, num_steps))
    steps = spread_steps(num_chosen, num_steps)
    assert len(steps) == num_chosen
    assert steps[-1] == num_steps - 1
    gaps = {b - a for a, b in zip([-1, *steps], steps, strict=False)}
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("num_chosen", [0, 4])
def test_steps_that_are_not_there_are_not_chosen(num_chosen):
    with pytest.raises(ValueError, match=rf"lie in 1 \.\.\. 3 \(got {num_chosen}\)"):
        spread_steps(num_chosen, 3)
