"""Time and memory of every stage at 0.1 to 30 million interactions, and their slopes.

Memory is what a stage adds at its peak: models, optimiser and graph included.
Stages: loading a CSV (ids as numbers, split by time, graph included), an epoch of MF
and of LightGCN, an epoch of DDRM, and the top 20 for all users. Users have 60 and
items 120 interactions on average, at every size. Epochs and rankings are a few steps
and some users, scaled up. Each size runs in a process of its own, so that memory is its
own. The slope is that of a straight line through the logarithms: 1 is linear.

A step of LightGCN passes over the whole graph, and one of MF's optimiser over all its
tables, so epochs of equally large batches would be quadratic; batches grow with the
data instead, once there are more than 200 of 2,048 in an epoch. A full
ranking is users times items and therefore quadratic: that is what [ann] is for; its
memory is that of the 2,000 users that were ranked. LightGCN keeps a slope of 1.3, as
its rows leave the caches.

Limits: reading, pandas' parse of the file; training, what Adam must move and the
products and sums of each step; ranking, the bare product. Results of other sizes than
the default ones are kept beside, under the sizes' names.
"""

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import _measure
import numpy as np
import pandas as pd
import torch

from ddrm_pyg import (
    DDRM,
    MF,
    DDRMRecommender,
    Embeddings,
    InteractionGraph,
    LightGCN,
    load_interactions,
    recommend,
)
from ddrm_pyg.experiments.memory import PeakMemory

DIM, K = 64, 20
PER_USER, PER_ITEM = 60, 120
BATCH_SIZE, BATCHES = 2048, 200
STEPS, RANKED = 5, 2_000
SIZES = "0.1,1,3,10,30"
STAGES = ("load", "MF epoch", "LightGCN epoch", "DDRM epoch", "rank all")


def main():
    """Measure."""
    parser = _measure.options(__doc__)
    parser.add_argument("--millions", default=SIZES, help=f"({SIZES})")
    parser.add_argument("--one", type=float, help=_measure.argparse.SUPPRESS)
    args = parser.parse_args()
    _measure.choose(args)
    if args.one:
        logging.disable(logging.WARNING)
        print(json.dumps(measure(round(args.one * 1e6), args.device)))
        return
    records = []
    for millions in args.millions.split(","):
        words = [sys.executable, __file__, "--one", millions, "--device", args.device]
        if args.threads:
            words += ["--threads", str(args.threads)]
        answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        records.append(json.loads(answer.stdout.splitlines()[-1]))
        print(records[-1], flush=True)
    report(records, args)


def measure(size, device):
    """Run all stages at one size."""
    record = {"interactions": size, "seconds": {}, "peak_mib": {}}
    clock = _measure.clock_of(torch.get_num_threads())
    limits = {"load": "pandas.read_csv"}

    def stage(name, work, share=1.0, where=device):
        with PeakMemory(where) as peak:
            begin = clock()
            result = work()
            _measure.finish()
            seconds = (clock() - begin) / share
        record["seconds"][name] = round(seconds, 3)
        record["peak_mib"][name] = round(peak.bytes / 2**20)
        return result

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.csv"
        write_clicks(path, size)
        begin = clock()
        pd.read_csv(path)
        record["pandas_seconds"] = round(clock() - begin, 3)
        data = stage("load", lambda: load(path), where="cpu")
    graph = InteractionGraph.from_data(data).to(device)
    sizes = (graph.num_users, graph.num_items)
    record |= {"num_users": sizes[0], "num_items": sizes[1], "train": graph.num_edges}
    emb = Embeddings(*(torch.randn(count, DIM, device=device) for count in sizes))
    large = max(BATCH_SIZE, graph.num_edges // BATCHES)
    for name, build, batch_size in (
        ("MF epoch", lambda: MF(*sizes, DIM), large),
        ("LightGCN epoch", lambda: LightGCN(*sizes, DIM), large),
        ("DDRM epoch", lambda: DDRMRecommender(DDRM(DIM), emb), BATCH_SIZE),
    ):
        model = build().to(device)
        limits[name] = least(name, model, graph, batch_size)
        with PeakMemory(device) as peak:
            seconds = epoch(model, graph, batch_size, clock)
        record["seconds"][name] = round(seconds, 3)
        record["peak_mib"][name] = round(peak.bytes / 2**20)
    user = torch.arange(min(RANKED, sizes[0]))
    share = user.numel() / sizes[0]
    seen = InteractionGraph.from_data(data, splits=("train", "val"))
    seen.rows(user[:1])
    stage("rank all", lambda: recommend(emb, user, k=K, exclude=seen), share)
    scores = sizes[0] * sizes[1]
    limits["rank all"] = _measure.Least(8 * scores, 2 * DIM * scores)
    seconds = {**record["seconds"], "pandas.read_csv": record["pandas_seconds"]}
    return record | {"limits": _measure.shares_once(limits, seconds, device)}


def least(name, model, graph, batch_size):
    """What an epoch must at least do."""
    steps, flop = graph.num_edges / batch_size, 0.0
    if name == "LightGCN epoch":  # every layer, both directions, and their gradients
        flop = 2 * model.num_layers * 2 * graph.num_edges * 2 * DIM
    if name == "DDRM epoch":
        flop = batch_size * _measure.flop_of_row(model.ddrm)
    return _measure.least_of_steps(model, steps, flop=flop)


def load(path):
    """Load, with the graph's blocks."""
    data = load_interactions(path, time="time")
    graph = InteractionGraph.from_data(data)
    graph.adj(), graph.adj_t()
    return data


def epoch(model, graph, batch_size, clock):
    """Time a few steps, scaled up to an epoch.

    The first is not counted: it sorts the graph and makes the optimiser's state, which
    is done once and not in every epoch.
    """
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    train = steps(model, optimizer, graph, batch_size)
    next(train)
    count = max(min(STEPS, graph.num_edges // batch_size - 1), 1)
    begin = clock()
    for _ in range(count):
        next(train)
    _measure.finish()
    return (clock() - begin) * graph.num_edges / (count * batch_size)


def steps(model, optimizer, graph, batch_size):
    """Train, a step at a time."""
    generator = torch.Generator().manual_seed(0)
    while True:
        batches = model.batches(graph, batch_size=batch_size, generator=generator)
        for batch in batches:
            for loss in model.losses(batch, graph, generator=generator):
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()
            yield


def write_clicks(path, size):
    """Write a CSV of distinct pairs with skewed users and items, by user."""
    random = np.random.default_rng(0)
    users, items = size // PER_USER, size // PER_ITEM
    activity = random.lognormal(0, 0.8, users)
    fame = random.pareto(1.5, items) + 0.2
    key = np.empty(0, np.int64)
    while len(key) < size:
        more = round(1.1 * (size - len(key))) + 100
        user = np.searchsorted(
            np.cumsum(activity / activity.sum()), random.random(more)
        )
        item = np.searchsorted(np.cumsum(fame / fame.sum()), random.random(more))
        drawn = user.clip(max=users - 1) * items + item.clip(max=items - 1)
        key = np.unique(np.concatenate([key, drawn]))
    key = np.sort(random.choice(key, size, replace=False, shuffle=False))
    user, item = np.divmod(key, items)
    time_ = random.integers(956_703_932, 1_046_454_590, size)
    frame = pd.DataFrame({"user": user, "item": item, "time": time_})
    frame.to_csv(path, index=False)


def report(records, args):
    """Print the table and the slopes; keep them and a plot."""
    size = np.array([record["interactions"] for record in records])
    slopes = {"seconds": {}, "peak_mib": {}}
    for kind in slopes:
        for stage in STAGES:
            value = np.array([max(record[kind][stage], 1e-3) for record in records])
            if len(size) > 1:
                slope = np.polyfit(np.log(size), np.log(value), 1)[0]
                slopes[kind][stage] = round(float(slope), 2)
    width = max(map(len, STAGES))
    for kind in slopes:
        heads = "".join(f"{s / 1e6:>9g} M" for s in size)
        print(f"\n{kind:{width}}{heads}    slope")
        for stage in STAGES:
            values = "".join(f"{record[kind][stage]:>11,}" for record in records)
            print(f"{stage:{width}}{values}{slopes[kind].get(stage, 0):>9}")
    name = f"scale{_measure.suffix_of(args)}"
    name += "" if args.millions == SIZES else f"_{args.millions.replace(',', '-')}"
    threads = torch.get_num_threads()
    facts = {"threads": threads, "device": _measure.device_name(args.device)}
    record = {"benchmark": "scale", **facts, "slopes": slopes, "sizes": records}
    print("\n" + json.dumps(record))
    _measure.keep(name, record)
    figure, panels = _measure.plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    labels = {"seconds": "seconds", "peak_mib": "memory added at the peak, MiB"}
    for axes, (kind, label) in zip(panels, labels.items(), strict=True):
        for stage in STAGES:
            slope = slopes[kind].get(stage)
            value = [max(record[kind][stage], 1e-3) for record in records]
            axes.plot(size, value, "-o", ms=4, label=f"{stage} (slope {slope})")
        axes.set(xscale="log", yscale="log", xlabel="interactions", ylabel=label)
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{threads} threads, {facts['device']}", fontsize=9)
    with _measure.atomic_path(_measure.RESULTS / f"{name}.png") as temporary:
        figure.savefig(temporary, dpi=120, format="png")


if __name__ == "__main__":
    main()
