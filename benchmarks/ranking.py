"""Full ranking of all users against the bare products behind it.

The bare loop goes over the same chunks of users: product, known pairs to -inf by flat
positions found beforehand, topk. It measures nothing and checks nothing. A few users
know thousands of items. "dense" is what torch_geometric.nn.LightGCN.recommend does:
one product, one topk, no mask; where its scores do not fit into memory it is left out.
The memory of each side is measured in a run of its own.
"""

import _measure
import torch

from ddrm_pyg import Embeddings, InteractionGraph, evaluate, recommend
from ddrm_pyg.experiments.memory import PeakMemory
from ddrm_pyg.ranking import recommend_chunks

DIM, K = 64, 20
HEAVY_USERS, THEIR_ITEMS = 20, 5_000
DENSE_BYTES = 1 << 30
TARGET, MEMORY = 1.5, 3e9


def main():
    """Compare, then measure."""
    setting = _measure.prepare(__doc__)
    data, graph = setting.data, setting.graph
    emb = Embeddings(
        torch.randn(graph.num_users, DIM, device=setting.device),
        torch.randn(graph.num_items, DIM, device=setting.device),
    )
    seen = with_heavy_users(InteractionGraph.from_data(data, splits=("train", "val")))
    user = InteractionGraph.from_data(data, splits=("test",)).degree("user")
    user = user.nonzero().flatten()
    chunks = [
        (chunk, seen_positions(seen, chunk).to(setting.device))
        for chunk, _, _ in recommend_chunks(emb, user, k=K, exclude=seen)
    ]

    def bare():
        best = []
        for chunk, position in chunks:
            scores = emb.user[chunk] @ emb.item.T
            scores.view(-1)[position] = float("-inf")
            best.append(scores.topk(K, dim=1).indices)
        return torch.cat(best)

    check(emb, user, bare(), recommend(emb, user, k=K, exclude=seen)[1])
    sides = {
        "bare product, mask, topk": bare,
        "evaluate": lambda: evaluate(emb, data, k=(10, K), exclude=seen),
        "recommend": lambda: recommend(emb, user, k=K, exclude=seen),
    }
    if 4 * user.numel() * graph.num_items <= DENSE_BYTES:
        sides["PyG recommend, dense, no mask"] = lambda: (
            emb.user[user] @ emb.item.T
        ).topk(K)
    peaks = {}
    for name, side in sides.items():
        with PeakMemory(setting.device) as peak:
            side()
        peaks[name] = round(peak.bytes / 2**20)
        print(f"{name}: {peaks[name]:,} MiB")
    print()
    scores = user.numel() * graph.num_items
    # every score is written once and read once by the choice of the best
    least = _measure.Least(8 * scores, 2 * DIM * scores)
    sides |= _measure.bare_sides(setting.device)
    ratio = _measure.report(
        "ranking",
        f"Top {K} of {graph.num_items:,} items for {user.numel():,} users",
        setting,
        _measure.alternate(sides, setting.runs, warm_up=0),
        reference="bare product, mask, topk",
        ours=("evaluate", "recommend"),
        limits=dict.fromkeys(peaks, least),
        peak_mib=peaks,
    )
    slowest = max(ratio["evaluate"], ratio["recommend"])
    largest = max(peaks["evaluate"], peaks["recommend"]) * 2**20
    met = slowest <= TARGET and largest <= MEMORY
    print(
        f"evaluate and recommend at most {TARGET}x the bare loop, in at most "
        f"{MEMORY / 1e9:.0f} GB: {'yes' if met else 'NO'}"
    )


def check(emb, user, expected, listed):
    """Both find the same items; where two score alike, either may stand first."""
    other = (expected != listed.to(expected.device)).any(1).nonzero().flatten()
    vector = emb.user[user[other]].double().unsqueeze(1)
    ours, theirs = (
        (vector * emb.item[items[other].to(emb.item.device)].double()).sum(-1)
        for items in (listed, expected)
    )
    # what float32 cannot tell apart
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=0)
    print(f"{other.numel():,} of {user.numel():,} lists differ, by ties")


def with_heavy_users(seen):
    """Let the first users know thousands of items."""
    count = min(THEIR_ITEMS, seen.num_items // 2)
    item = torch.stack(
        [torch.randperm(seen.num_items)[:count] for _ in range(HEAVY_USERS)]
    )
    user = torch.arange(HEAVY_USERS).repeat_interleave(count)
    more = torch.stack([user, item.flatten()])
    pairs = torch.cat([seen.edge_index, more], dim=1)
    return InteractionGraph(pairs, seen.num_users, seen.num_items).without_repeats()


def seen_positions(seen, user):
    """Flat positions of known pairs in the scores of some users."""
    row, item = seen.rows(user)
    return row * seen.num_items + item


if __name__ == "__main__":
    main()
