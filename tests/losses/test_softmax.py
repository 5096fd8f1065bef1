import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.losses import softmax
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


@pytest.mark.parametrize("score_bytes", [1, 100, 1 << 20])
def test_products_are_compared_as_if_they_were_held(score_bytes, monkeypatch):
    monkeypatch.setattr(softmax, "_SCORE_BYTES", score_bytes)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(7, 3, generator=generator).requires_grad_()
    item_emb = torch.randn(5, 3, generator=generator).requires_grad_()
    item = torch.tensor([4, 4, 0, 1, 3, 3, 2])
    weight = torch.rand(7, generator=generator)  # rows may weigh differently
    loss = softmax.softmax_loss_of_products(query, item_emb, item)
    held = softmax_loss(query @ item_emb.T, torch.arange(7), item)
    torch.testing.assert_close(loss, held)
    gradients = torch.autograd.grad((loss * weight).sum(), (query, item_emb))
    expected = torch.autograd.grad((held * weight).sum(), (query, item_emb))
    torch.testing.assert_close(gradients, expected)


def test_products_are_float32_under_autocast():
    query, item_emb = torch.randn(4, 8), torch.randn(6, 8)
    item = torch.tensor([0, 5, 1, 1])
    loss = softmax.softmax_loss_of_products(query, item_emb, item)
    with torch.autocast("cpu", torch.bfloat16):
        again = softmax.softmax_loss_of_products(query, item_emb, item)
    assert torch.equal(again, loss)
