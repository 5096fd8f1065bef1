"""A step of DDRM that learns from the past against the bare matrix products inside it.

The settings are those that `run` has (`ddrm_future`). The chain is every product at the
same shapes: the guide, the network and the scores of all items, each forward and for
the gradients that training needs; no history, noise, activation, softmax or optimiser.
"""

import _measure
import torch

from ddrm_pyg import DDRM, DDRMRecommender, Embeddings
from ddrm_pyg.experiments.settings import load_settings
from ddrm_pyg.graph.interaction_graph import EDGE

FUTURE = load_settings("ddrm_future", "ddrm")
BATCH_SIZE, HIDDEN = FUTURE["fit"]["batch_size"], FUTURE["model"]["hidden_dims"]
RATE = 0.6


def main():
    """Measure."""
    parser = _measure.data_options(__doc__)
    parser.add_argument("--width", type=int, default=512, help="of the vectors (512)")
    args = parser.parse_args()
    setting, dim = _measure.setting_of(args), args.width
    graph, device = setting.graph, setting.device
    generator = torch.Generator(device).manual_seed(0)
    emb = Embeddings(
        torch.randn(graph.num_users, dim, device=device),
        torch.randn(graph.num_items, dim, device=device),
    )
    network = dict(FUTURE["model"])
    model = DDRMRecommender(
        DDRM(dim, **{k: v for k, v in network.items() if k != "train_start"}),
        emb,
        train_start="past",
        edge_time=setting.data[EDGE].edge_time,
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    batch = next(model.batches(graph, batch_size=BATCH_SIZE, generator=generator))

    def gradients():
        optimizer.zero_grad()
        next(model.losses(batch, graph, generator=generator)).mean().backward()

    def step():
        gradients()
        optimizer.step()

    past = model.future.past
    sequences = model.future.sequences(graph)
    chain, gflop = products(past, dim, device)
    sides = {
        "matrix products": chain,
        "reading the histories": lambda: past.sources[0](
            sequences.before(batch.user, batch.cut)
        ),
        "loss and backward": gradients,
        "step": step,
    } | _measure.bare_sides(device)
    least = _measure.Least(flop=gflop * 1e9)
    ratio = _measure.report(
        "past_step",
        f"DDRM from the past, {dim} wide, {HIDDEN}, batch {BATCH_SIZE}",
        setting,
        _measure.alternate(sides, setting.runs),
        reference="matrix products",
        ours=("loss and backward", "step"),
        limits={"matrix products": least, "step": least},
        products_gflop=round(gflop, 2),
        items_read=int(batch.cut.sum()),
    )
    rate = 1 / ratio["step"]
    print(f"the step runs at {rate:.0%} of the rate of its products")
    print(f"at least {RATE:.0%}: {'yes' if rate >= RATE else 'NO'}")


def products(past, dim, device):
    """Make the chain, and count its floating-point operations."""
    inside = 2 * dim + 10  # what is noised, the condition and the step
    layers = [  # rows, weight, and what needs a gradient
        (past.guide.in_features, dim, ("weight",)),
        (inside, HIDDEN[0], ("rows", "weight")),
        (HIDDEN[0], dim, ("rows", "weight")),
        (dim, len(past.item_table), ("rows",)),
    ]
    shapes = [
        (
            torch.randn(BATCH_SIZE, fan_in, device=device),
            torch.randn(fan_out, fan_in, device=device),
            torch.randn(BATCH_SIZE, fan_out, device=device),
            needed,
        )
        for fan_in, fan_out, needed in layers
    ]

    def chain():
        for x, weight, grad, needed in shapes:
            x @ weight.T
            if "rows" in needed:
                grad @ weight
            if "weight" in needed:
                grad.T @ x

    each = (2 * x.numel() * len(w) * (1 + len(need)) for x, w, _, need in shapes)
    return chain, sum(each) / 1e9


if __name__ == "__main__":
    main()
