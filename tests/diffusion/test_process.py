import pytest
import torch

from ddrm_pyg.diffusion import GaussianDiffusion, LinearVariance

BETAS = [0.1, 0.2, 0.5]
KEPT = [0.9, 0.72, 0.36]  # cumulative products of 1 - beta


@pytest.fixture
def diffusion():
    return GaussianDiffusion(torch.tensor(BETAS))


@pytest.fixture(
    params=[
        (50, 1e-2, 1e-4, 1e-3, True),
        (50, 1e-2, 1e-4, 1e-3, False),
        (20, 1e-4, 1e-4, 1e-3, True),
        (30, 1e-4, 1e-4, 1e-2, False),
        (4, 0.5, 0.1, 0.7, True),
        (1, 0.01, 0.001, 0.01, True),
    ],
    ids=str,
)
def scheduled(request):
    steps, scale, low, high, fix = request.param
    return GaussianDiffusion(
        LinearVariance(
            steps, noise_scale=scale, noise_min=low, noise_max=high, fix_first_beta=fix
        ).betas()
    )


def test_constants_by_hand(diffusion):
    assert diffusion.num_steps == 3
    assert diffusion.alphas_cumprod.tolist() == pytest.approx(KEPT)
    # c1 = sqrt(abar') beta / (1 - abar), c2 = sqrt(1 - beta) (1 - abar') / (1 - abar)
    c1 = [1, 0.9**0.5 * 0.2 / 0.28, 0.72**0.5 * 0.5 / 0.64]
    c2 = [0, 0.8**0.5 * 0.1 / 0.28, 0.5**0.5 * 0.28 / 0.64]
    assert diffusion.posterior_x_start.tolist() == pytest.approx(c1)
    assert diffusion.posterior_x_t.tolist() == pytest.approx(c2)
    variance = [0, 0.2 * 0.1 / 0.28, 0.5 * 0.28 / 0.64]
    assert diffusion.posterior_variance.tolist() == pytest.approx(variance)


def test_q_sample_weighs_each_row_by_its_step(diffusion):
    x = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    noise = torch.tensor([[5.0, 1.0], [-1.0, 2.0]])
    x_t = diffusion.q_sample(x, torch.tensor([2, 0]), noise)
    expected = torch.tensor(
        [[0.6 + 0.8 * 5, -1.2 + 0.8], [0.9**0.5 * 3 - 0.1**0.5, 0.1**0.5 * 2]]
    )
    torch.testing.assert_close(x_t, expected)


@pytest.mark.parametrize("t", [0, 1, 2])
def test_q_sample_has_the_moments_of_equation_2(diffusion, t):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(100_000, 1, generator=generator)
    x = diffusion.q_sample(torch.full_like(noise, 2.0), torch.tensor([t]), noise)
    # five standard errors of a mean and of a variance
    deviation = (1 - KEPT[t]) ** 0.5
    assert float(x.mean()) == pytest.approx(2 * KEPT[t] ** 0.5, abs=0.016 * deviation)
    assert float(x.var()) == pytest.approx(1 - KEPT[t], rel=0.023)


def test_one_step_of_equation_6_after_another_is_the_jump(diffusion):
    # variances accumulate: v_t = (1 - beta_t) v_(t-1) + beta_t
    variance, scale = 0.0, 1.0
    for t, beta in enumerate(BETAS):
        variance, scale = (1 - beta) * variance + beta, (1 - beta) ** 0.5 * scale
        assert float(diffusion.sqrt_alphas_cumprod[t]) == pytest.approx(scale)
        jump = float(diffusion.sqrt_one_minus_alphas_cumprod[t])
        assert jump**2 == pytest.approx(variance)


def test_posterior_of_a_noiseless_pair_lies_on_the_path(scheduled):
    # c1 + c2 sqrt(abar_t) = sqrt(abar_(t-1))
    after = scheduled.alphas_cumprod.double().sqrt()
    before = torch.cat([after.new_ones(1), after[:-1]])
    path = scheduled.posterior_x_start + scheduled.posterior_x_t * after
    torch.testing.assert_close(path, before, rtol=0, atol=3e-7)


def test_posterior_at_step_zero_is_the_prediction_to_the_bit(scheduled):
    assert scheduled.posterior_x_start[0] == 1
    assert scheduled.posterior_x_t[0] == 0
    x_start, x_t = torch.randn(2, 4, 3)
    mean, variance = scheduled.q_posterior(x_start, x_t, 0)
    assert torch.equal(mean, x_start)
    assert variance == 0


def test_posterior_is_what_bayes_says_of_two_gaussians(diffusion):
    # q(x_(t-1) | x_0) times q(x_t | x_(t-1)), precisions added up
    x_0, x_t = 1.5, -0.3
    for t in (1, 2):
        prior_mean, prior_variance = KEPT[t - 1] ** 0.5 * x_0, 1 - KEPT[t - 1]
        alpha, beta = 1 - BETAS[t], BETAS[t]
        precision = 1 / prior_variance + alpha / beta
        mean = (prior_mean / prior_variance + alpha**0.5 * x_t / beta) / precision
        got, variance = diffusion.q_posterior(
            torch.tensor([[x_0]]), torch.tensor([[x_t]]), t
        )
        assert float(got) == pytest.approx(mean, rel=1e-5)
        assert float(variance) == pytest.approx(1 / precision, rel=1e-5)


def test_constants_follow_the_module_but_are_not_saved(diffusion):
    assert diffusion.state_dict() == {}
    assert len(list(diffusion.buffers())) == 8
    assert diffusion.to("meta").posterior_x_t.device.type == "meta"
    assert repr(diffusion) == "GaussianDiffusion(num_steps=3)"


def test_loss_weights_by_hand():
    # the first beta is what it would be without the fix: 1 - abar = v
    diffusion = GaussianDiffusion(
        LinearVariance(5, noise_scale=0.01, noise_min=0.001, noise_max=0.01).betas()
    )
    variance = [1e-5, 3.25e-5, 5.5e-5, 7.75e-5, 1e-4]
    assert (1 - diffusion.alphas_cumprod.double()).tolist() == pytest.approx(
        variance, abs=6e-8
    )
    assert diffusion.x_start_weight.tolist() == pytest.approx(
        [1, 69230.769, 12587.413, 5278.592, 2903.226]
    )


def test_loss_weights_of_a_coarse_schedule_by_hand(diffusion):
    snr = [kept / (1 - kept) for kept in KEPT]
    assert diffusion.x_start_weight.tolist() == pytest.approx(
        [1, snr[0] - snr[1], snr[1] - snr[2]]
    )
    assert diffusion.noise_weight.tolist() == pytest.approx(
        [1, 0.28 / (0.1**2 * 0.8), 0.64 / (0.28**2 * 0.5)]
    )


def test_bound_weighs_noise_as_it_weighs_rows(diffusion):
    # |x - x_hat|^2 = |e - e_hat|^2 (1 - abar) / abar turns one weight into the other
    for t in (1, 2):
        alpha, beta = 1 - BETAS[t], BETAS[t]
        bound = beta / ((1 - KEPT[t - 1]) * alpha)
        rows = float(diffusion.x_start_weight[t]) * (1 - KEPT[t]) / KEPT[t]
        assert rows == pytest.approx(bound, rel=1e-5)


def test_clean_rows_follow_from_the_noise(scheduled):
    x_start, noise = torch.randn(2, 6, 4)
    t = torch.arange(6) % scheduled.num_steps
    x_t = scheduled.q_sample(x_start, t, noise)
    torch.testing.assert_close(
        scheduled.predict_x_start(x_t, t, noise), x_start, rtol=1e-4, atol=1e-5
    )


def test_without_noise_rows_stay_and_a_step_back_is_the_prediction():
    still = GaussianDiffusion(torch.zeros(4))
    x_start, x_t = torch.randn(2, 6, 3)
    for t in range(4):
        row = torch.full((6,), t)
        assert torch.equal(still.q_sample(x_start, row, torch.randn(6, 3)), x_start)
        mean, variance = still.q_posterior(x_start, x_t, t)
        assert torch.equal(mean, x_start)
        assert variance == 0
    assert still.x_start_weight.tolist() == [1] * 4
    assert still.respaced([1, 3]).posterior_x_start.tolist() == [1, 1]


# ------------------------------------------------------------------------- respacing


def test_respaced_constants_by_hand(diffusion):
    # steps 0 and 2: 1 - beta = 0.36 / 0.9
    jump = diffusion.respaced([0, 2])
    assert jump.alphas_cumprod.tolist() == pytest.approx([0.9, 0.36])
    assert jump.betas.tolist() == pytest.approx([0.1, 0.6])
    assert jump.posterior_x_start[1] == pytest.approx(0.9**0.5 * 0.6 / 0.64)
    assert jump.posterior_x_t[1] == pytest.approx(0.4**0.5 * 0.1 / 0.64)
    # the first step that is kept goes straight to the prediction
    assert diffusion.respaced([2]).posterior_x_start.tolist() == [1]
    assert diffusion.respaced([2]).posterior_x_t.tolist() == [0]


def test_neighbours_keep_their_constants_to_the_bit(scheduled):
    steps = list(range(scheduled.num_steps))
    for kept in (steps, steps[: max(len(steps) // 2, 1)]):
        respaced = scheduled.respaced(kept)
        for name, constant in scheduled.named_buffers():
            assert torch.equal(respaced.get_buffer(name), constant[: len(kept)]), name


def test_respaced_steps_keep_their_noise_and_lie_on_the_path(scheduled):
    steps = sorted({scheduled.num_steps // 3, scheduled.num_steps - 1})
    respaced = scheduled.respaced(steps)
    torch.testing.assert_close(
        respaced.sqrt_one_minus_alphas_cumprod,
        scheduled.sqrt_one_minus_alphas_cumprod[steps],
        rtol=1e-5,
        atol=0,
    )
    test_posterior_of_a_noiseless_pair_lies_on_the_path(respaced)


@pytest.mark.parametrize("steps", [[], [1, 0], [1, 1], [-1, 2], [0, 3]])
def test_steps_that_do_not_ascend_are_refused(diffusion, steps):
    with pytest.raises(ValueError, match=r"'steps' must ascend within 0 \.\.\. 2"):
        diffusion.respaced(steps)
