import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ddrm_pyg.losses import info_nce_loss
from ddrm_pyg.losses.contrastive import decoupled_info_nce_loss

SIZE = 40


def tables(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, SIZE, 6, generator=generator, dtype=dtype)


def naive_loss(view, other, node, temperature):
    """All logits at once, by the formula."""
    logits = F.normalize(view[node]) @ F.normalize(other).T / temperature
    return F.cross_entropy(logits, node, reduction="none")


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0.2, [0.207990, 0.028727]), (0.5, [0.442548, 0.217622])],
)
def test_hand_values(temperature, expected):
    view = torch.eye(2)
    other = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    loss = info_nce_loss(view, other, torch.arange(2), temperature=temperature)
    assert loss.tolist() == pytest.approx(expected, abs=1e-6)


def test_lengths_do_not_matter():
    view, other = tables()
    node = torch.arange(SIZE)
    scaled = info_nce_loss(3 * view, other / 7, node)
    torch.testing.assert_close(scaled, info_nce_loss(view, other, node))


@given(temperature=st.floats(0.02, 5), seed=st.integers(0, 99))
def test_bounds(temperature, seed):
    view, other = tables(seed)
    node = torch.arange(SIZE)
    for loss in (
        info_nce_loss(view, other, node, temperature=temperature),
        info_nce_loss(view, view, node, temperature=temperature),
        info_nce_loss(view, -view, node, temperature=temperature),
    ):
        assert float(loss.min()) >= -1e-4
        assert float(loss.max()) <= math.log(SIZE) + 2 / temperature + 1e-4


def test_shares_of_the_gradient_are_whole_under_autocast():
    """By float32 all along: a total in bf16 would not belong to backward's products."""
    view, other = (table.requires_grad_() for table in tables())
    node = torch.arange(SIZE)
    info_nce_loss(view, other, node).sum().backward()
    exact = view.grad.clone()
    view.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        info_nce_loss(view, other, node).sum().backward()
    torch.testing.assert_close(view.grad, exact)


def test_equal_candidates_cost_log_n():
    view, other = tables()
    same = other[:1].expand(SIZE, -1)
    loss = info_nce_loss(view, same, torch.arange(SIZE))
    torch.testing.assert_close(loss, torch.full((SIZE,), math.log(SIZE)))


@given(
    node=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=30),
    chunk_size=st.integers(1, SIZE + 5),
    seed=st.integers(0, 99),
)
def test_chunks_and_repeats_change_no_number(node, chunk_size, seed):
    node = torch.tensor(node)
    weight = torch.rand(node.numel(), generator=torch.Generator().manual_seed(seed))
    results = []
    for loss_of in (
        lambda v, o: info_nce_loss(v, o, node, temperature=0.3, chunk_size=chunk_size),
        lambda v, o: naive_loss(v, o, node, 0.3),
    ):
        view, other = (table.requires_grad_() for table in tables(seed).unbind())
        loss = loss_of(view, other)
        # rows weighted unequally, as a wrapper may
        (loss * weight).sum().backward()
        results.append((loss.detach(), view.grad, other.grad))
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-6)


def test_gradient_is_that_of_the_numbers():
    view, other = (
        table.requires_grad_() for table in tables(dtype=torch.float64).unbind()
    )
    node = torch.tensor([3, 0, 3, 39])
    assert torch.autograd.gradcheck(
        lambda v, o: info_nce_loss(v, o, node, chunk_size=7), (view, other)
    )


def test_a_zero_vector_is_finite():
    view, other = (table.clone().requires_grad_() for table in tables().unbind())
    with torch.no_grad():
        view[0], other[0] = 0, 0
    loss = info_nce_loss(view, other, torch.arange(2))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(view.grad).all()
    assert torch.isfinite(other.grad).all()


def test_extreme_temperature_stays_finite():
    view, other = (table.clone().requires_grad_() for table in tables().unbind())
    loss = info_nce_loss(view, other, torch.arange(SIZE), temperature=1e-4)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(view.grad).all()


def test_no_large_tensor_is_made():
    # the logits of all candidates would have 64 x 4096 values
    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    generator = torch.Generator().manual_seed(0)
    view = torch.randn(4096, 4, generator=generator, requires_grad=True)
    other = torch.randn(4096, 4, generator=generator, requires_grad=True)
    with Watch():
        info_nce_loss(view, other, torch.arange(64), chunk_size=128).sum().backward()
    assert max(sizes) <= 4096 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"'temperature' must be positive \(got 0.0\)"),
        ({"temperature": math.nan}, r"'temperature' must be positive \(got nan\)"),
        ({"chunk_size": 0}, r"'chunk_size' must be >= 1 \(got 0\)"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        info_nce_loss(*tables(), torch.arange(2), **options)


# ------------------------------------------------- without the positive below the line


def naive_decoupled_loss(view, other, node, temperature):
    """One exponential at a time, by the formula."""
    view, other = F.normalize(view[node]), F.normalize(other[node])
    losses = []
    for b in range(len(node)):
        similar = (other @ view[b] / temperature).exp()
        losses.append(
            -(similar[b] / (similar[:b].sum() + similar[b + 1 :].sum())).log()
        )
    return torch.stack(losses)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0.2, [-1.464466, -3.535534]), (0.5, [-0.585787, -1.414214])],
)
def test_decoupled_hand_values(temperature, expected):
    view = torch.eye(2)
    other = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    loss = decoupled_info_nce_loss(
        view, other, torch.arange(2), temperature=temperature
    )
    assert loss.tolist() == pytest.approx(expected, abs=1e-6)


@given(
    node=st.lists(st.integers(0, SIZE - 1), min_size=2, max_size=30),
    chunk_size=st.integers(1, 35),
    seed=st.integers(0, 99),
)
def test_decoupled_is_the_naive_loop_repeats_included(node, chunk_size, seed):
    node = torch.tensor(node)
    results = []
    for loss_of, extra in (
        (decoupled_info_nce_loss, {"chunk_size": chunk_size}),
        (naive_decoupled_loss, {}),
    ):
        view, other = (table.requires_grad_() for table in tables(seed).unbind())
        loss = loss_of(view, other, node, temperature=0.5, **extra)
        (loss * torch.arange(1.0, 1 + len(node))).sum().backward()
        results.append((loss.detach(), view.grad, other.grad))
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-5)


def test_decoupled_gradient_is_that_of_the_numbers():
    view, other = (
        table.requires_grad_() for table in tables(dtype=torch.float64).unbind()
    )
    node = torch.tensor([3, 0, 3, 39])
    assert torch.autograd.gradcheck(
        lambda v, o: decoupled_info_nce_loss(v, o, node, chunk_size=2), (view, other)
    )


def test_decoupled_equal_candidates_cost_log_of_all_others():
    view, other = tables()
    same = other[:1].expand(SIZE, -1)
    loss = decoupled_info_nce_loss(view, same, torch.arange(SIZE))
    torch.testing.assert_close(loss, torch.full((SIZE,), math.log(SIZE - 1)))


def test_decoupled_stays_exact_where_the_positive_is_nearly_everything():
    # the positive is e^200 times each of the others: subtracting it would leave nothing
    view = torch.eye(3)
    loss = decoupled_info_nce_loss(view, view, torch.arange(3), temperature=0.005)
    assert loss.tolist() == pytest.approx([math.log(2) - 200] * 3, rel=1e-6)


def test_decoupled_zero_vectors_are_finite():
    view, other = (torch.zeros(3, 4, requires_grad=True) for _ in range(2))
    loss = decoupled_info_nce_loss(view, other, torch.arange(3))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([math.log(2)] * 3)
    assert torch.isfinite(view.grad).all()
    assert torch.isfinite(other.grad).all()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (2, {"temperature": 0.0}, r"'temperature' must be positive \(got 0.0\)"),
        (2, {"chunk_size": 0}, r"'chunk_size' must be >= 1 \(got 0\)"),
        (1, {}, r"'node' must hold at least 2 rows \(got 1\)"),
    ],
)
def test_decoupled_refuses(rows, options, message):
    with pytest.raises(ValueError, match=message):
        decoupled_info_nce_loss(*tables(), torch.arange(rows), **options)
