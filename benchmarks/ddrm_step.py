"""A training step of DDRM against the bare matrix products inside it.

The chain is every product of both networks at the same shapes: forward, gradient of the
input and gradient of the weight; no bias, activation, noise, loss or optimiser.
"""

from itertools import pairwise

import _measure
import torch

from ddrm_pyg import DDRM, DDRMRecommender, Embeddings
from ddrm_pyg.loader import triplet_batches

DIM, HIDDEN, TIME, BATCH_SIZE = 64, (1000, 300, 1000), 10, 2048


def main():
    """Measure."""
    setting = _measure.prepare(__doc__)
    graph = setting.graph
    generator = torch.Generator().manual_seed(0)
    emb = Embeddings(
        torch.randn(graph.num_users, DIM), torch.randn(graph.num_items, DIM)
    )
    model = DDRMRecommender(DDRM(DIM, HIDDEN, time_dim=TIME), emb)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    batch = next(triplet_batches(graph, batch_size=BATCH_SIZE, generator=generator))

    def gradients():
        optimizer.zero_grad()
        loss = next(model.losses(batch, graph, generator=generator))
        loss.mean().backward()

    def step():
        gradients()
        optimizer.step()

    layers = [
        (
            torch.randn(BATCH_SIZE, fan_in),
            torch.randn(fan_out, fan_in),
            torch.randn(BATCH_SIZE, fan_out),
        )
        for fan_in, fan_out in pairwise((2 * DIM + TIME, *HIDDEN, DIM))
    ]

    def chain():
        for _ in ("user", "item"):
            for x, weight, grad in layers:
                x @ weight.T, grad @ weight, grad.T @ x

    sides = {
        "matrix products": chain,
        "loss and backward": gradients,
        "step": step,
    }
    seconds = _measure.alternate(sides, setting.runs)
    ratio = _measure.report(
        "ddrm_step",
        f"DDRM {HIDDEN}, {DIM} wide, batch {BATCH_SIZE:,}",
        setting,
        seconds,
        reference="matrix products",
        ours=("loss and backward", "step"),
    )
    print(f"the step runs at {1 / ratio['step']:.0%} of the rate of its products")


if __name__ == "__main__":
    main()
