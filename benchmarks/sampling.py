"""An epoch of triplets against a bare random draw and against a Python loop.

The bare draw fills three index tensors per batch by torch.randint and knows nothing of
the graph. The loop draws 2,000 triplets as textbooks do, scaled up to an epoch. The
limit are the bare calls: an order, rows of both columns, draws, and their search among
the sorted pairs. A table of all pairs would be looked up faster, and be as large as
users times items.
"""

import random

import _measure
import torch

from ddrm_pyg.loader import triplet_batches

BATCH_SIZE, LOOPED, DRAWN = 2048, 2000, 1 << 16
BARE = "order, rows, draws and search"


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

    sides = {
        "triplet_batches, interactions": lambda: epoch("interactions"),
        "triplet_batches, uniform users": lambda: epoch("uniform"),
        BARE: bare_calls(setting, generator),
        "three torch.randint": bare,
        "Python loop, scaled": python_loop(graph),
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
        limits={"triplet_batches, interactions": BARE},
    )


def bare_calls(setting, generator):
    """What must be called, on what is made beforehand."""
    graph = setting.graph
    keys = (graph.edge_index[0] * graph.num_items + graph.edge_index[1]).sort().values

    def calls():
        order = torch.randperm(graph.num_edges, generator=generator)
        for chosen in order.to(setting.device).split(DRAWN):
            user = graph.edge_index[:, chosen][0]
            drawn = torch.randint(graph.num_items, chosen.shape, generator=generator)
            torch.searchsorted(keys, user * graph.num_items + drawn.to(user.device))

    return calls


def python_loop(graph):
    """A part of an epoch as textbooks draw it."""
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

    return loop


if __name__ == "__main__":
    main()
