"""Approximate lists (extra [ann]) against exact ones: what speed costs in recall.

The items have the structure of a trained model: vectors around centres of very
different lengths. With --embeddings they are a trained model's own. faiss runs on the
CPU here. The limit is the product of every user with the centres and with the items of
the groups that are looked at.
"""

import time

import _measure
import numpy as np
import torch

from ddrm_pyg import Embeddings, InteractionGraph, recommend
from ddrm_pyg.ann import ApproximateIndex, recall_against_exact

DIM, K, CENTRES = 64, 20, 200
PROBES = (1, 2, 4, 8, 16, 32, 64, 128)
USERS = 10_000


def main():
    """Measure."""
    parser = _measure.data_options(
        __doc__, on_cpu="approximate lists are made on the CPU"
    )
    parser.add_argument("--embeddings", help="a file of a trained model (made up)")
    args = parser.parse_args()
    setting = _measure.setting_of(args)
    seen = InteractionGraph.from_data(setting.data, splits=("train", "val"))
    emb = Embeddings.load(args.embeddings) if args.embeddings else made_up(seen)
    user = torch.randperm(seen.num_users)[:USERS]
    begin = time.perf_counter()
    try:
        index = ApproximateIndex(emb.item)
    except ImportError as error:
        print(f"skipped: {error}")
        return
    built = time.perf_counter() - begin
    exact = recommend(emb, user, k=K, exclude=seen)[1]
    sides = {"exact": lambda: recommend(emb, user, k=K, exclude=seen)}
    recall = {"exact": 1.0}
    scores = user.numel() * seen.num_items
    limits = {"exact": _measure.Least(8 * scores, 2 * DIM * scores)}
    for probes in (n for n in PROBES if n <= index.num_groups):
        name = f"{probes} of {index.num_groups} groups"
        options = {"k": K, "exclude": seen, "num_probes": probes}
        lists = index.recommend(emb, user, **options)[1]
        recall[name] = round(recall_against_exact(lists, exact, emb.num_items), 4)
        sides[name] = lambda options=options: index.recommend(emb, user, **options)
        scores = user.numel() * index.num_groups
        scores += looked_at(index, emb.user[user], probes)
        limits[name] = _measure.Least(flop=2 * DIM * scores)
    names = tuple(sides)
    sides |= _measure.bare_sides("cpu")
    seconds = _measure.alternate(sides, setting.runs)
    _measure.report(
        "ann",
        f"Top {K} of {emb.num_items:,} items for {user.numel():,} users",
        setting,
        seconds,
        reference="exact",
        ours=names,
        limits=limits,
        recall=recall,
        seconds_to_build=round(built, 2),
    )
    for name, value in recall.items():
        print(f"{name}: {value:.1%} of the exact lists")
    print(f"built in {built:.1f} s")
    plot(setting, seconds, recall)


def looked_at(index, query, probes):
    """Items that users are compared with, all users together."""
    groups = index._index.quantizer.search(query.numpy(), probes)[1]
    lists = index._index.invlists
    size = np.array([lists.list_size(group) for group in range(index.num_groups)])
    return int(size[groups].sum())


def made_up(graph):
    """Draw vectors around centres; popular items are longer."""
    centre = torch.randn(CENTRES, DIM)
    tables = []
    for size in (graph.num_users, graph.num_items):
        own = centre[torch.randint(CENTRES, (size,))]
        tables.append(own + torch.randn(size, DIM))
    length = graph.degree("item").float().add(1).log().unsqueeze(1)
    return Embeddings(tables[0], tables[1] * (0.2 + length / length.max()))


def plot(setting, seconds, recall):
    """Draw recall over users per second."""
    figure, axes = _measure.plt.subplots(figsize=(6, 3.6), layout="constrained")
    rate = {
        n: min(USERS, setting.graph.num_users) / np.median(seconds[n]) for n in recall
    }
    names = [name for name in recall if name != "exact"]
    axes.plot([rate[n] for n in names], [recall[n] for n in names], "-o", ms=4)
    axes.plot(rate["exact"], 1, "D", color="0.3")
    axes.annotate(" exact", (rate["exact"], 1), va="center", fontsize=8)
    for name in names:
        probes = name.split()[0]
        axes.annotate(probes, (rate[name], recall[name] - 0.06), fontsize=7, ha="right")
    axes.set(
        xscale="log",
        xlabel="users per second",
        ylabel=f"share of the exact top {K}, by groups looked at",
    )
    axes.set_title(
        f"{setting.source}, {setting.threads} threads", loc="left", fontsize=9
    )
    axes.spines[["top", "right"]].set_visible(False)
    with _measure.atomic_path(
        _measure.RESULTS / f"ann_recall{setting.suffix}.png"
    ) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


if __name__ == "__main__":
    main()
