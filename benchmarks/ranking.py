"""Full ranking of all users against the bare products behind it.

The bare loop goes over the same chunks of users: product, known pairs to -inf by flat
positions found beforehand, topk. It measures nothing and checks nothing. "dense" is
what torch_geometric.nn.LightGCN.recommend does: one product, one topk, no mask.
"""

import _measure
import torch

from ddrm_pyg import Embeddings, InteractionGraph, evaluate, recommend
from ddrm_pyg.ranking import recommend_chunks

DIM, K = 64, 20
TARGET = 1.5


def main():
    """Compare, then measure."""
    setting = _measure.prepare(__doc__)
    data, graph = setting.data, setting.graph
    emb = Embeddings(
        torch.randn(graph.num_users, DIM), torch.randn(graph.num_items, DIM)
    )
    known = InteractionGraph.from_data(data, splits=("train", "val"))
    user = InteractionGraph.from_data(data, splits=("test",)).degree("user")
    user = user.nonzero().flatten()
    chunks = [
        (chunk, known_positions(known, chunk))
        for chunk, _, _ in recommend_chunks(emb, user, k=K, exclude=known)
    ]

    def bare():
        best = []
        for chunk, position in chunks:
            scores = emb.user[chunk] @ emb.item.T
            scores.view(-1)[position] = float("-inf")
            best.append(scores.topk(K, dim=1).indices)
        return torch.cat(best)

    assert torch.equal(bare(), recommend(emb, user, k=K, exclude=known)[1])
    sides = {
        "bare product, mask, topk": bare,
        "evaluate": lambda: evaluate(emb, data, k=(10, K)),
        "evaluate, known pairs given": lambda: evaluate(
            emb, data, k=(10, K), exclude=known
        ),
        "recommend": lambda: recommend(emb, user, k=K, exclude=known),
        "PyG recommend, dense, no mask": lambda: (emb.user[user] @ emb.item.T).topk(K),
    }
    seconds = _measure.alternate(sides, setting.runs)
    ratio = _measure.report(
        "ranking",
        f"Top {K} of {graph.num_items:,} items for {user.numel():,} users",
        setting,
        seconds,
        reference="bare product, mask, topk",
        ours=("evaluate", "evaluate, known pairs given", "recommend"),
        target=f"evaluate <= {TARGET}",
    )
    met = ratio["evaluate"] <= TARGET
    print(f"evaluate at most {TARGET}x the bare loop: {'yes' if met else 'NO'}")


def known_positions(known, user):
    """Flat positions of known pairs in the scores of some users."""
    row, item = known.rows(user)
    return row * known.num_items + item


if __name__ == "__main__":
    main()
