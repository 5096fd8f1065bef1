"""A training step of DDRM against the bare matrix products inside it.

The chain is every product of both networks at the same shapes: forward, gradient of the
input and gradient of the weight; no bias, activation, noise, loss or optimiser. Beside
it the step under bf16 where the device has units for it, and with the loss under
torch.compile where that works.
"""

from itertools import pairwise

import _measure
import torch

from ddrm_pyg import DDRM, DDRMRecommender, Embeddings
from ddrm_pyg.loader import triplet_batches

DIM, HIDDEN, TIME, BATCH_SIZE = 64, (1000, 300, 1000), 10, 2048
RATE = 0.7


def main():
    """Measure."""
    setting = _measure.prepare(__doc__)
    graph, device = setting.graph, setting.device
    generator = torch.Generator().manual_seed(0)
    emb = Embeddings(
        torch.randn(graph.num_users, DIM), torch.randn(graph.num_items, DIM)
    )
    model = DDRMRecommender(DDRM(DIM, HIDDEN, time_dim=TIME), emb).to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    drawn = next(triplet_batches(graph, batch_size=BATCH_SIZE, generator=generator))
    batch = type(drawn)(*(rows.to(device) for rows in drawn))

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

    # torch's own generator: a graph cannot hold one that it is given
    vectors = (emb.user[drawn.user], emb.item[drawn.pos_item], emb.item[drawn.neg_item])
    vectors = tuple(rows.to(device) for rows in vectors)
    compiled = torch.compile(lambda: model.ddrm.loss(*vectors))

    def step_compiled():
        optimizer.zero_grad()
        compiled().mean().backward()
        optimizer.step()

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

    sides = {"matrix products": chain, "loss and backward": gradients, "step": step}
    if device == "cpu" and not torch.cpu._is_avx512_bf16_supported():
        print("step, bf16: skipped, this CPU has no bf16 units")
    else:
        sides["step, bf16"] = step_in_bf16
    try:
        step_compiled()
        sides["step, compiled"] = step_compiled
    except Exception as error:  # the compilers that it needs are many
        print(f"step, compiled: skipped, {type(error).__name__}")
    seconds = _measure.alternate(sides, setting.runs)
    products = 3 * sum(2 * x.numel() * weight.size(0) for x, weight, _ in layers) * 2
    ratio = _measure.report(
        "ddrm_step",
        f"DDRM {HIDDEN}, {DIM} wide, batch {BATCH_SIZE:,}",
        setting,
        seconds,
        reference="matrix products",
        ours=("loss and backward", "step", "step, bf16", "step, compiled"),
        products_gflop=round(products / 1e9, 1),
    )
    rate = 1 / ratio["step"]
    met = "yes" if rate >= RATE else "NO"
    print(f"the step runs at {rate:.0%} of the rate of its products")
    print(f"at least {RATE:.0%}: {met}")


if __name__ == "__main__":
    main()
