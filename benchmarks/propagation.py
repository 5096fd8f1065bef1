"""Training steps of LightGCN and SGL against torch_geometric.nn.LightGCN on every path.

Three layers, 64 wide, BPR on batches of 2,048: forward and backward, no optimiser. All
LightGCNs hold the same weights and see the same batch; their embeddings and gradients
are compared first. SGL contrasts all nodes of two views that are drawn beforehand, as
once per epoch in training; the memory of its step is measured in a step of its own.

The limit of LightGCN: every layer, forward and backward, reads the edges' columns and
weights and all rows, and writes all rows, and multiplies and adds every row once per
edge. Rows are gathered once per edge, mostly from caches: that is counted beside it,
and a copy is not its limit. SGL does so on three graphs, and multiplies a batch's nodes
with all others three times: forward, and for the gradients of both.
"""

from functools import partial

import _measure
import torch
from torch_geometric import nn
from torch_geometric.utils import degree, to_torch_csr_tensor

from ddrm_pyg import SGL, InteractionGraph, LightGCN
from ddrm_pyg.experiments.memory import PeakMemory
from ddrm_pyg.loader import triplet_batches

DIM, NUM_LAYERS, BATCH_SIZE, L2 = 64, 3, 2048, 1e-4
TOLERANCE, TARGET = 1e-5, 3
RECBOLE_SGL, PYG_SPARSE = 586, 136  # ms a step on ML-1M, on one machine
SGL_TARGET = RECBOLE_SGL / 4 / PYG_SPARSE


def main():
    """Compare, then measure."""
    setting = _measure.prepare(__doc__)
    graph = setting.graph
    generator = torch.Generator().manual_seed(0)
    sizes = (graph.num_users, graph.num_items, DIM)
    batch = next(triplet_batches(graph, batch_size=BATCH_SIZE, generator=generator))

    ours = LightGCN(*sizes, num_layers=NUM_LAYERS, l2=2 * L2).to(setting.device)
    sgl = SGL(*sizes, num_layers=NUM_LAYERS).to(setting.device)
    sgl.batches(graph, batch_size=BATCH_SIZE, generator=generator)  # draws views

    def step(model):
        model.zero_grad()
        loss = next(model.losses(batch, graph, generator=generator))
        loss.mean().backward()

    sides = {
        "LightGCN": partial(step, ours),
        "SGL": partial(step, sgl),
    }
    for name, (adjacency, normalize) in adjacencies(graph).items():
        theirs = nn.LightGCN(
            graph.num_users + graph.num_items,
            DIM,
            NUM_LAYERS,
            normalize=normalize,
        )
        weight = torch.cat([ours.user_table, ours.item_table]).detach().clone()
        theirs.embedding.weight = torch.nn.Parameter(weight)
        sides[name] = pyg_step(theirs, adjacency, batch, graph.num_users)
        pair = (sides["LightGCN"], sides[name])
        difference = compare(ours, graph, theirs, adjacency, pair)
        print(f"{name}: embeddings and gradients agree to {difference:.1e}")
    if "PyG, SparseTensor" not in sides:
        print("PyG, SparseTensor: skipped, torch_sparse is not installed")
    with PeakMemory(setting.device) as peak:
        sides["SGL"]()
    print(f"a step of SGL adds {peak.bytes / 2**20:,.0f} MiB\n")
    sides |= _measure.bare_sides(setting.device)
    seconds = _measure.alternate(sides, setting.runs)
    propagated = least_of_propagation(graph)
    ratio = _measure.report(
        "propagation",
        f"Forward and backward ({NUM_LAYERS} layers, {DIM} wide, batch {BATCH_SIZE:,})",
        setting,
        seconds,
        reference="LightGCN",
        ours=("LightGCN", "SGL"),
        sgl_step_mib=round(peak.bytes / 2**20),
        limits={"LightGCN": propagated, "SGL": least_of_sgl(propagated, graph, batch)},
        gathered_mb=round(gathered_bytes(graph) / 1e6),
    )
    rate = gathered_bytes(graph) / _measure.np.median(seconds["LightGCN"])
    print(f"LightGCN gathers rows at {rate / 1e9:.1f} GB/s")
    fastest = min(value for side, value in ratio.items() if side.startswith("PyG"))
    met = "yes" if fastest >= TARGET else "NO"
    print(f"LightGCN at least {TARGET}x faster than PyG's fastest: {met}")
    if "PyG, SparseTensor" in ratio and setting.suffix == "":  # RecBole's is of ML-1M
        share = ratio["SGL"] / ratio["PyG, SparseTensor"]
        met = "yes" if share <= SGL_TARGET else "NO"
        print(
            f"a step of SGL takes {share:.2f} of PyG's LightGCN on SparseTensor, at "
            f"most {SGL_TARGET:.2f} (a quarter of RecBole's SGL): {met}"
        )


def least_of_propagation(graph: InteractionGraph):
    """What all layers must at least do, forward and backward."""
    edges = 2 * graph.num_edges  # both directions
    rows = (graph.num_users + graph.num_items) * DIM * 4
    moved = edges * (4 + 4) + 2 * rows  # column and weight; read and written
    return _measure.Least(2 * NUM_LAYERS * moved, 2 * NUM_LAYERS * edges * 2 * DIM)


def least_of_sgl(propagated, graph: InteractionGraph, batch):
    """The full graph, two views, and InfoNCE of the batch's users and items."""
    pairs = len(batch.user.unique()) * graph.num_users
    pairs += len(batch.pos_item.unique()) * graph.num_items
    contrast = 3 * 2 * DIM * pairs
    return _measure.Least(3 * propagated.bytes, 3 * propagated.flop + contrast)


def gathered_bytes(graph: InteractionGraph):
    """A row for every edge, direction and layer, forward and backward."""
    return 2 * NUM_LAYERS * 2 * graph.num_edges * DIM * 4


def adjacencies(graph: InteractionGraph):
    """Every form of the graph PyG's LightGCN takes, and whether it normalises it."""
    user, item = graph.edge_index
    num_nodes = graph.num_users + graph.num_items
    pair = torch.stack([user, item + graph.num_users])
    edge_index = torch.cat([pair, pair.flip(0)], dim=1)
    scale = degree(edge_index[0], num_nodes).clamp(min=1).rsqrt()
    weight = scale[edge_index].prod(0)
    size = (num_nodes, num_nodes)
    forms = {
        "PyG, edge_index": (edge_index, True),
        "PyG, torch CSR": (to_torch_csr_tensor(edge_index, size=size), True),
        "PyG, torch CSR normalised once": (
            to_torch_csr_tensor(edge_index, weight, size=size),
            False,
        ),
    }
    try:
        from torch_sparse import SparseTensor
    except ImportError:
        return forms
    adj_t = SparseTensor.from_edge_index(edge_index, sparse_sizes=size)
    return forms | {"PyG, SparseTensor": (adj_t, True)}


def pyg_step(model, adjacency, batch, num_users):
    """PyG's documented step: rank positives and negatives, then its own loss."""
    source = torch.cat([batch.user, batch.user])
    target = torch.cat([batch.pos_item, batch.neg_item]) + num_users
    pairs = torch.stack([source, target])
    node = torch.cat([batch.user, target])

    def step():
        model.zero_grad()
        positive, negative = model(adjacency, pairs).chunk(2)
        loss = model.recommendation_loss(positive, negative, node, lambda_reg=L2)
        loss.backward()

    return step


def compare(ours, graph, theirs, adjacency, steps):
    """Run both steps; the largest difference of embeddings and, scaled, gradients."""
    for step in steps:
        step()
    with torch.no_grad():
        ours_emb = torch.cat(ours(graph))
        theirs_emb = theirs.get_embedding(adjacency)
    ours_grad = torch.cat([ours.user_table.grad, ours.item_table.grad])
    theirs_grad = theirs.embedding.weight.grad
    difference = max(
        (ours_emb - theirs_emb).abs().max().item(),
        ((ours_grad - theirs_grad).abs().max() / ours_grad.abs().max()).item(),
    )
    assert difference < TOLERANCE, f"the sides differ by {difference}"
    return difference


if __name__ == "__main__":
    main()
