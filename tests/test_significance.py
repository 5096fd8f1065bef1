import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddrm_pyg.ranking import Metrics
from ddrm_pyg.significance import PairedTest, holm, mean_metrics, paired_test


def as_metrics(values, user=None):
    user = torch.arange(len(values)) if user is None else torch.tensor(user)
    return Metrics(user, {"ndcg@20": torch.tensor(values)})


def test_paired_test_is_the_t_test_by_hand():
    ours, theirs = [0.5, 0.25, 1.0, 0.0], [0.25, 0.25, 0.5, 0.25]
    result = paired_test(as_metrics(ours), as_metrics(theirs))
    # differences .25 0 .5 -.25: mean 1/8, squared deviations sum to 5/16
    t = (1 / 8) / ((5 / 16) / 3 / 4) ** 0.5
    assert result.difference == pytest.approx(1 / 8)
    assert result.relative == pytest.approx((1 / 8) / (1.25 / 4))
    assert result.p_value == pytest.approx(2 * stats.t.sf(t, df=3))
    assert result.num_users == 4


def test_paired_test_is_antisymmetric():
    a, b = as_metrics([0.5, 0.1, 0.9]), as_metrics([0.2, 0.3, 0.4])
    assert paired_test(a, b).difference == -paired_test(b, a).difference
    assert paired_test(a, b).p_value == pytest.approx(paired_test(b, a).p_value)


def test_identical_rankings_have_p_one():
    result = paired_test(as_metrics([0.5, 0.1]), as_metrics([0.5, 0.1]))
    assert (result.difference, result.relative, result.p_value) == (0, 0, 1)


def test_paired_test_of_zeros_has_no_relative_difference():
    result = paired_test(as_metrics([0.5, 0.0]), as_metrics([0.0, 0.0]))
    assert result.difference == 0.25
    assert math.isnan(result.relative)
    assert result.record() == {**result._asdict(), "relative": None}
    assert result.change() == "up from 0"
    assert paired_test(as_metrics([0.0]), as_metrics([0.0])).change() == "both 0"


@pytest.mark.parametrize(
    ("relative", "own", "corrected", "counts"),
    [
        (0.02, 0.009, None, True),
        (-0.02, 0.009, None, True),
        (0.02, 0.01, None, False),
        (0.02, 0.009, 0.02, False),
        (0.02, 0.5, 0.001, True),
        (0.009, 0.0, None, False),
        (math.nan, 0.009, None, True),
    ],
)
def test_a_change_counts_if_significant_and_not_negligible(
    relative, own, corrected, counts
):
    assert PairedTest(0.1, relative, own, 9).counts(corrected) is counts


def test_significance_does_not_ask_how_large():
    tiny = PairedTest(0.1, 0.001, 0.009, 9)
    assert tiny.significant()
    assert not tiny.counts()
    assert not tiny.significant(0.01)


def test_changes_are_written_and_kept():
    test = PairedTest(-0.01, -0.1234, 0.5, 9)
    assert test.change() == "-12.3%"
    assert test.record() == test._asdict()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([1.0, 1.0], [0.5, 0.5]), ([0.6, 0.7, 0.3], [0.5, 0.6, 0.2]), ([0.5], [0.1])],
)
def test_paired_test_without_a_spread_is_certain_of_nothing(ours, theirs):
    result = paired_test(as_metrics(ours), as_metrics(theirs))
    assert result.difference > 0
    assert result.p_value == 1


def test_paired_test_refuses_different_users():
    a = as_metrics([0.5, 0.1])
    with pytest.raises(ValueError, match="measured on the same users"):
        paired_test(a, as_metrics([0.5, 0.1], user=[0, 2]))
    with pytest.raises(ValueError, match="measured on the same users"):
        paired_test(a, as_metrics([0.5]))


def test_paired_test_refuses_what_was_not_measured():
    a = as_metrics([0.5, 0.1])
    with pytest.raises(ValueError, match=r"'metric' must be .* \(got 'ndcg@5'\)"):
        paired_test(a, a, "ndcg@5")


def test_holm_by_hand():
    # sorted: .01 * 4, .02 * 3, .03 * 2, .04 * 1; then never below an earlier one
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_as_the_stepwise_procedure_does(p_values):
    alpha = 0.05
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[i] * (len(p_values) - rank) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_mean_metrics_by_hand():
    user = torch.tensor([3, 5])
    seeds = [
        Metrics(user, {"ndcg@20": torch.tensor([0.0, 0.5])}, {"coverage@20": 0.2}),
        Metrics(user, {"ndcg@20": torch.tensor([1.0, 0.5])}, {"coverage@20": 0.4}),
    ]
    mean = mean_metrics(seeds)
    assert mean.per_user["ndcg@20"].tolist() == [0.5, 0.5]
    assert dict(mean) == pytest.approx({"ndcg@20": 0.5, "coverage@20": 0.3})


def test_mean_metrics_refuses_other_users():
    a, b = (Metrics(torch.tensor([u]), {"x": torch.zeros(1)}) for u in (0, 1))
    with pytest.raises(ValueError, match="measured on the same users"):
        mean_metrics([a, b])
    with pytest.raises(ValueError, match="must not be empty"):
        mean_metrics([])
    other = Metrics(a.user, {"y": torch.zeros(1)})
    with pytest.raises(ValueError, match="must have the same metrics"):
        mean_metrics([a, other])
