"""An epoch of triplets against a bare random draw and against a Python loop.

The bare draw fills three index tensors per batch by torch.randint and knows nothing of
the graph. The loop draws 2,000 triplets as textbooks do, scaled up to an epoch.
"""

import random

import _measure
import torch

from ddrm_pyg.loader import triplet_batches

BATCH_SIZE, LOOPED = 2048, 2000


def main():
    """Measure."""
    setting = _measure.prepare(__doc__)
    graph = setting.graph
    generator = torch.Generator().manual_seed(0)

    def epoch(users):
        for _ in triplet_batches(
            graph, batch_size=BATCH_SIZE, generator=generator, users=users
        ):
            pass

    def bare():
        for start in range(0, graph.num_edges, BATCH_SIZE):
            size = (min(BATCH_SIZE, graph.num_edges - start),)
            for high in (graph.num_users, graph.num_items, graph.num_items):
                torch.randint(high, size, generator=generator).to(setting.device)

    items = [[] for _ in range(graph.num_users)]
    for user, item in graph.edge_index.T.tolist():
        items[user].append(item)
    owned = [set(row) for row in items]
    active = [user for user, row in enumerate(items) if 0 < len(row) < graph.num_items]
    dice = random.Random(0)

    def loop():
        for _ in range(LOOPED):
            user = dice.choice(active)
            dice.choice(items[user])
            while dice.randrange(graph.num_items) in owned[user]:
                pass

    sides = {
        "triplet_batches, interactions": lambda: epoch("interactions"),
        "triplet_batches, uniform users": lambda: epoch("uniform"),
        "three torch.randint": bare,
        "Python loop, scaled": loop,
    }
    seconds = _measure.alternate(sides, setting.runs)
    seconds["Python loop, scaled"] *= graph.num_edges / LOOPED
    _measure.report(
        "sampling",
        f"An epoch of {graph.num_edges:,} triplets in batches of {BATCH_SIZE:,}",
        setting,
        seconds,
        reference="three torch.randint",
        ours=("triplet_batches, interactions", "triplet_batches, uniform users"),
    )


if __name__ == "__main__":
    main()
