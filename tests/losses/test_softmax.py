import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.losses.softmax import sampled_softmax_loss, softmax_loss


def test_softmax_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]])
    row, item = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    expected = torch.tensor([math.log(4), math.log(4 / 3), math.log(2)])
    torch.testing.assert_close(softmax_loss(logits, row, item), expected)


@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(2, 6))
def test_a_sample_of_every_item_once_is_the_whole(seed, num_rows, num_items):
    """Where n q = 1, each drawn item stands for itself."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_rows, num_items, generator=generator, dtype=torch.float64)
    row = torch.randint(num_rows, (5,), generator=generator)
    item = torch.randint(num_items, (5,), generator=generator)
    sample = torch.randperm(num_items, generator=generator)
    log_q = torch.full((num_items,), -math.log(num_items), dtype=torch.float64)
    loss = sampled_softmax_loss(
        logits[row, item], logits[:, sample], row, item, sample, log_q
    )
    torch.testing.assert_close(loss, softmax_loss(logits, row, item))


def test_the_correction_makes_any_draw_an_estimate_of_the_whole():
    """The mean of exp(loss - s) over many samples is the sum over the items."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    q = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.05], dtype=torch.float64)
    row, item = torch.tensor([0]), torch.tensor([2])
    sums = []
    for _ in range(4000):
        sample = torch.multinomial(q, 4, replacement=True, generator=generator)
        loss = sampled_softmax_loss(
            logits[row, item], logits[:, sample], row, item, sample, q[sample].log()
        )
        sums.append((loss + logits[0, 2]).exp())
    whole = logits.exp().sum()
    assert abs(torch.stack(sums).mean() / whole - 1) < 0.03
