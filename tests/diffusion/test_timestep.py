import math

import pytest
import torch

from ddrm_pyg.diffusion import timestep_embedding


def test_hand_values():
    # frequencies 10000^0 and 10000^(-1/2) = 0.01
    t = torch.tensor([0, 1, 7])
    expected = [
        [math.cos(s), math.cos(0.01 * s), math.sin(s), math.sin(0.01 * s)]
        for s in (0, 1, 7)
    ]
    torch.testing.assert_close(timestep_embedding(t, 4), torch.tensor(expected))
    assert timestep_embedding(t[:1], 4).tolist() == [[1, 1, 0, 0]]


def test_the_published_width_has_five_frequencies():
    encoded = timestep_embedding(torch.tensor([3]), 10)
    frequency = [10_000 ** (-k / 5) for k in range(5)]
    expected = [math.cos(3 * f) for f in frequency] + [
        math.sin(3 * f) for f in frequency
    ]
    assert encoded[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_longest_period_is_an_argument():
    encoded = timestep_embedding(torch.tensor([2]), 4, max_period=25.0)
    expected = [math.cos(2), math.cos(0.4), math.sin(2), math.sin(0.4)]
    assert encoded[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("dim", "tail"), [(5, 1), (1, 1)])
def test_an_odd_width_ends_with_a_zero(dim, tail):
    t = torch.tensor([1, 2])
    encoded = timestep_embedding(t, dim)
    assert encoded.shape == (2, dim)
    assert torch.equal(encoded[:, :-tail], timestep_embedding(t, dim - 1))
    assert encoded[:, -1].tolist() == [0, 0]
