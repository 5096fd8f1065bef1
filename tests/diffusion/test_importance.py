import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.diffusion import ImportanceSampler


def filled(*losses, history_length=2):
    """Every step has the same loss throughout its history."""
    sampler = ImportanceSampler(len(losses), history_length)
    for _ in range(history_length):
        sampler.update(torch.arange(len(losses)), torch.tensor(losses))
    return sampler


def test_steps_are_uniform_until_each_has_a_full_history():
    sampler = ImportanceSampler(2, history_length=2)
    sampler.update(torch.tensor([0, 0, 0, 1]), torch.tensor([9.0, 9.0, 9.0, 1.0]))
    assert sampler.probability().tolist() == [0.5, 0.5]
    t, density = sampler.sample(50)
    assert set(t.tolist()) == {0, 1}
    assert density.tolist() == [1.0] * 50
    sampler.update(torch.tensor([1]), torch.tensor([1.0]))
    assert sampler.probability().tolist() == pytest.approx(
        [0.999 * 0.9 + 0.0005, 0.999 * 0.1 + 0.0005]
    )


def test_probability_is_the_root_mean_square_by_hand():
    sampler = ImportanceSampler(2, history_length=2)
    sampler.update(torch.tensor([0, 1, 0, 1]), torch.tensor([1.0, 0.0, 7.0, 0.0]))
    # step 0: sqrt((1 + 49) / 2) = 5; step 1: 0, and still drawn now and then
    assert sampler.probability().tolist() == pytest.approx([0.9995, 0.0005])


@given(
    loss=st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=6),
    other=st.integers(0, 2**31),
)
def test_dividing_by_the_density_keeps_the_mean_over_steps(loss, other):
    sampler = filled(*loss)
    probability = sampler.probability().double()
    assert float(probability.sum()) == pytest.approx(1, abs=1e-6)
    # whatever is averaged, and not only what the history holds
    value = torch.rand(
        len(loss), generator=torch.Generator().manual_seed(other)
    ).double()
    estimate = (probability * value / (probability * len(loss))).sum()
    assert float(estimate) == pytest.approx(float(value.mean()), rel=1e-6)


def test_drawn_steps_follow_the_probability_and_know_their_density():
    sampler = filled(3.0, 1.0, 0.0)
    t, density = sampler.sample(200_000, generator=torch.Generator().manual_seed(0))
    probability = sampler.probability()
    share = torch.bincount(t, minlength=3) / 200_000
    torch.testing.assert_close(share, probability, atol=0.005, rtol=0)
    assert torch.equal(density, probability[t] * 3)
    value = torch.tensor([2.0, 5.0, 1.0])
    assert float((value[t] / density).mean()) == pytest.approx(8 / 3, rel=0.05)


@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.floats(0, 9, width=32)), max_size=12),
        max_size=5,
    ),
    length=st.integers(1, 4),
)
def test_update_is_the_naive_queue(batches, length):
    sampler = ImportanceSampler(4, length)
    queues = [[] for _ in range(4)]
    for batch in batches:
        for t, loss in batch:
            queues[t] = [*queues[t], loss][-length:]
        sampler.update(
            torch.tensor([t for t, _ in batch], dtype=torch.int64),
            torch.tensor([loss for _, loss in batch]),
        )
    for t, queue in enumerate(queues):
        kept = sampler.loss[t][: int(sampler.count[t])]
        assert sorted(kept.tolist()) == sorted(queue)


def test_without_history_or_losses_steps_stay_uniform():
    never = ImportanceSampler(4, history_length=0)
    never.update(torch.arange(4), torch.arange(4.0))
    assert never.probability().tolist() == [0.25] * 4
    assert filled(0.0, 0.0).probability().tolist() == [0.5, 0.5]


def test_history_is_part_of_the_state_and_keeps_no_gradient():
    sampler = filled(3.0, 1.0)
    copy = ImportanceSampler(2, 2)
    copy.load_state_dict(sampler.state_dict())
    draws = [
        s.sample(20, generator=torch.Generator().manual_seed(4))[0]
        for s in (sampler, copy)
    ]
    assert torch.equal(*draws)
    sampler.update(torch.tensor([0]), torch.ones(1, requires_grad=True))
    assert not sampler.loss.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), r"'num_steps' must be >= 1 \(got 0\)"),
        ((3, -1), r"'history_length' must be >= 0 \(got -1\)"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImportanceSampler(*arguments)


def test_repr_shows_the_sizes():
    shown = "ImportanceSampler(num_steps=3, history_length=2)"
    assert repr(ImportanceSampler(3, 2)) == shown
