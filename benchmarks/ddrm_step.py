"""A training step of DDRM against the bare matrix products inside it.

The chain is every product of both networks at the same shapes: forward, gradient of the
input and gradient of the weight; no bias, activation, noise, loss or optimiser. Beside
it the step under bf16 where the device has units for it, and with the loss of given
vectors under torch.compile where that works.
"""

from itertools import pairwise

import _measure
import torch

from ddrm_pyg import DDRM, DDRMRecommender, Embeddings
from ddrm_pyg.experiments.memory import has_bf16
from ddrm_pyg.loader import triplet_batches

DIM, HIDDEN, TIME, BATCH_SIZE = 64, (1000, 300, 1000), 10, 2048
RATE = 0.7


def main():
    """Measure."""
    setting = _measure.prepare(__doc__)
    graph, device = setting.graph, setting.device
    generator = torch.Generator().manual_seed(0)
    emb = Embeddings(
        torch.randn(graph.num_users, DIM, device=device),
        torch.randn(graph.num_items, DIM, device=device),
    )
    model = DDRMRecommender(DDRM(DIM, HIDDEN, time_dim=TIME), emb).to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    batch = next(triplet_batches(graph, batch_size=BATCH_SIZE, generator=generator))

    def gradients():
        optimizer.zero_grad()
        loss = next(model.losses(batch, graph, generator=generator))
        loss.mean().backward()

    def step():
        gradients()
        optimizer.step()

    def step_in_bf16():
        with torch.autocast(device, torch.bfloat16):
            optimizer.zero_grad()
            loss = next(model.losses(batch, graph, generator=generator))
        loss.float().mean().backward()
        optimizer.step()

    # torch's own generator: a compiled graph cannot hold one that it is given
    vectors = (emb.user[batch.user], emb.item[batch.pos_item], emb.item[batch.neg_item])

    def eager():
        return model.ddrm.loss(*vectors)

    def step_of(loss):
        optimizer.zero_grad()
        loss().mean().backward()
        optimizer.step()

    compiled = torch.compile(eager)

    chain, gflop = products(device)
    sides = {"matrix products": chain, "loss and backward": gradients, "step": step}
    if not has_bf16(device):
        print("step, bf16: skipped, the device has no bf16 units")
    else:
        sides["step, bf16"] = step_in_bf16
    try:
        step_of(compiled)
        sides["step on given vectors"] = lambda: step_of(eager)
        sides["the same, compiled"] = lambda: step_of(compiled)
    except Exception as error:  # the compilers that it needs are many
        print(f"compiled: skipped, {type(error).__name__}")
    sides |= _measure.bare_sides(device)
    seconds = _measure.alternate(sides, setting.runs)
    least = _measure.Least(flop=gflop * 1e9)
    ratio = _measure.report(
        "ddrm_step",
        f"DDRM {HIDDEN}, {DIM} wide, batch {BATCH_SIZE:,}",
        setting,
        seconds,
        reference="matrix products",
        ours=("loss and backward", "step", "step, bf16", "the same, compiled"),
        limits={"matrix products": least, "step": least},
        products_gflop=round(gflop, 1),
    )
    rate = 1 / ratio["step"]
    met = "yes" if rate >= RATE else "NO"
    print(f"the step runs at {rate:.0%} of the rate of its products")
    print(f"at least {RATE:.0%}: {met}")


def products(device):
    """Make the chain of both networks, and count its floating-point operations."""
    layers = [
        (
            torch.randn(BATCH_SIZE, fan_in, device=device),
            torch.randn(fan_out, fan_in, device=device),
            torch.randn(BATCH_SIZE, fan_out, device=device),
        )
        for fan_in, fan_out in pairwise((2 * DIM + TIME, *HIDDEN, DIM))
    ]

    def chain():
        for _ in ("user", "item"):
            for x, weight, grad in layers:
                x @ weight.T, grad @ weight, grad.T @ x

    one = sum(2 * x.numel() * weight.size(0) for x, weight, _ in layers)
    return chain, 2 * 3 * one / 1e9


if __name__ == "__main__":
    main()
