import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss, bce_loss, bpr_loss

SCORE = torch.tensor([2.0, 0.0, -1.0, 1.0])
LABEL = torch.tensor([1.0, 1.0, 1.0, 0.0])
POS = torch.tensor([2.0, 0.0, -1.0, 0.5])
NEG = torch.tensor([0.0, 0.0, 1.0, -0.5])


def random_scores(size=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, size, generator=generator)


@pytest.mark.fidelity(
    "T-CE", "pointwise, and which rows are kept", "values by hand", digits=6
)
@pytest.mark.parametrize(
    ("drop_rate", "kept", "mean"),
    [
        (0, [0, 1, 2, 3], 0.861650),
        (0.25, [0, 1, 3], 0.711112),
        (0.5, [0, 3], 0.720095),
        (0.75, [3], 1.313262),
        (0.99, [3], 1.313262),  # negatives are never dropped
    ],
)
def test_pointwise_hand_values(drop_rate, kept, mean, agrees):
    loss = TruncatedLoss(bce_loss, drop_rate=drop_rate)(SCORE, LABEL)
    assert loss.nonzero().flatten().tolist() == kept
    agrees(loss.mean(), mean)


@pytest.mark.fidelity("T-CE", "pairwise, on BPR", "values by hand", digits=6)
def test_pairwise_hand_values(agrees):
    loss = TruncatedLoss(bpr_loss, drop_rate=0.25)(POS, NEG)
    agrees(loss.mean(), 0.377779)
    plain = torch.tensor([0.126928, 0.693147, 0, 0.313262])
    torch.testing.assert_close(loss, plain * 4 / 3, rtol=1e-5, atol=0)
    assert loss[2] == 0


@pytest.mark.parametrize(("loss", "second"), [(bpr_loss, NEG), (bce_loss, LABEL)])
def test_drop_rate_0_is_the_plain_loss(loss, second):
    assert torch.equal(TruncatedLoss(loss, drop_rate=0)(POS, second), loss(POS, second))


@pytest.mark.parametrize(
    ("drop_rate", "dropped"),
    [(0.05, 103), (0.1, 205), (0.2, 410), (0.3, 615), (0.4, 820)],
)
def test_number_of_dropped_rows(drop_rate, dropped):
    loss = TruncatedLoss(bpr_loss, drop_rate=drop_rate)(*random_scores(2048))
    assert int((loss == 0).sum()) == dropped == 2048 - int((1 - drop_rate) * 2048)


def test_share_of_a_pointwise_batch_counts_all_rows():
    # 50 positives and 50 negatives: .2 of all is .4 of the positives
    score = random_scores().flatten()
    label = torch.cat([torch.ones(50), torch.zeros(50)])
    loss = TruncatedLoss(bce_loss, drop_rate=0.2)(score, label)
    assert int((loss[:50] == 0).sum()) == 20
    torch.testing.assert_close(loss[50:], bce_loss(score, label)[50:] / 0.8)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_small_batches_keep_a_row(size):
    pos, neg = random_scores(size)
    loss = TruncatedLoss(bpr_loss, drop_rate=0.9)(pos, neg)
    assert loss.shape == (size,)
    assert int((loss > 0).sum()) == min(size, 1)


def test_dropped_rows_have_no_gradient_and_others_that_of_the_mean_over_kept():
    pos, neg = random_scores().requires_grad_().unbind()
    pos.retain_grad()
    loss = TruncatedLoss(bpr_loss, drop_rate=0.3)(pos, neg)
    loss.mean().backward()
    dropped = loss == 0
    assert int(dropped.sum()) == 15
    assert (pos.grad[dropped] == 0).all()
    expected = -torch.sigmoid(neg - pos)[~dropped] / 35
    torch.testing.assert_close(pos.grad[~dropped], expected)


def test_an_infinite_loss_is_dropped_without_a_trace():
    pos = torch.tensor([1.0, -math.inf, 2.0], requires_grad=True)
    loss = TruncatedLoss(bpr_loss, drop_rate=0.3)(pos, torch.zeros(3))
    loss.mean().backward()
    assert torch.isfinite(pos.grad).all()
    assert loss[1] == 0 == pos.grad[1]


@given(seed=st.integers(0, 99), drop_rate=st.floats(0, 0.99))
def test_rows_may_come_in_any_order(seed, drop_rate):
    pos, neg = random_scores(seed=seed)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
    truncated = TruncatedLoss(bpr_loss, drop_rate=drop_rate)
    loss = truncated(pos, neg)
    again = truncated(pos[order], neg[order])
    # the last bit of a vectorised softplus depends on the row
    torch.testing.assert_close(again, loss[order])
    assert torch.equal(again == 0, loss[order] == 0)


def test_mean_never_rises_with_the_rate():
    pos, neg = random_scores()
    means = [
        float(TruncatedLoss(bpr_loss, drop_rate=rate)(pos, neg).mean())
        for rate in np.linspace(0, 0.98, 50)
    ]
    assert all(low <= high + 1e-6 for high, low in pairwise(means))


@pytest.mark.parametrize("exponent", [0.5, 1, 2])
@pytest.mark.parametrize("num_gradual", [0, 1, 2, 7])
def test_ramp_is_the_published_one(num_gradual, exponent):
    # linspace(0, drop_rate ** exponent, N)[iteration], then drop_rate
    ramp = [*np.linspace(0, 0.4**exponent, num_gradual), 0.4, 0.4]
    truncated = TruncatedLoss(
        bpr_loss, drop_rate=0.4, num_gradual=num_gradual, exponent=exponent
    )
    for rate in ramp:
        assert truncated.current_rate() == pytest.approx(rate)
        truncated(POS, NEG)


def test_ramp_stands_still_in_evaluation():
    truncated = TruncatedLoss(bpr_loss, drop_rate=0.4, num_gradual=3)
    truncated(POS, NEG)
    truncated.eval()
    for _ in range(5):
        truncated(POS, NEG)
    assert truncated.current_rate() == pytest.approx(0.2)


def test_ramp_is_part_of_the_state():
    truncated, again = (
        TruncatedLoss(bpr_loss, drop_rate=0.4, num_gradual=3) for _ in range(2)
    )
    truncated(POS, NEG)
    again.load_state_dict(truncated.state_dict())
    assert again.current_rate() == pytest.approx(0.2)


def test_can_be_called_by_name_and_nested():
    truncated = TruncatedLoss(bpr_loss, drop_rate=0.25)
    loss = truncated(POS, NEG)
    assert torch.equal(truncated(neg_score=NEG, pos_score=POS), loss)
    outer = TruncatedLoss(ReweightedLoss(bpr_loss, exponent=0), drop_rate=0.25)
    assert torch.equal(outer(POS, NEG), loss)
    assert repr(truncated) == (
        "TruncatedLoss(drop_rate=0.25, num_gradual=0, exponent=1.0)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop_rate": 1}, r"'drop_rate' must lie in \[0, 1\) \(got 1\)"),
        ({"drop_rate": -0.1}, r"'drop_rate' must lie in \[0, 1\) \(got -0\.1\)"),
        ({"drop_rate": math.nan}, r"'drop_rate' must lie .* \(got nan\)"),
        ({"num_gradual": -1}, r"'num_gradual' must be a whole n.* \(got -1\)"),
        ({"num_gradual": 1.5}, r"'num_gradual' must be a whole n.* \(got 1\.5\)"),
        ({"exponent": 0}, r"'exponent' must be positive \(got 0\)"),
        ({"exponent": math.inf}, r"'exponent' must be finite .*\(got inf\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TruncatedLoss(bpr_loss, **{"drop_rate": 0.1, **arguments})
