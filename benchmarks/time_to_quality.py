"""Validation Recall@20 against the processor seconds that training takes, by method.

Curves are those of `fit`, one seed. Cells are kept under --out and never trained twice;
a training that was stopped counts as far as it went. An epoch's seconds are those of
drawing its batches, and its steps times the median of a few, measured here for every
method in this process; validation is left out. What a method starts from counts before
its first epoch: a closed form as it is solved here, a training with all its epochs.

With --peer, another library's SASRec joins the rows that are kept, and none of ours is
run. It trains in an environment of its own (_peers.py says how to make it), by the
interpreter --python, and counts its own processor seconds; what it leaves every other
epoch is scored by this package.

    python benchmarks/time_to_quality.py --data ml-1m/natural --variant ml-1m --out runs
"""

import json
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import _measure
import _peers
import numpy as np
import torch

from ddrm_pyg import evaluate
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import resolve
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import cell_for, denoised, load_settings
from ddrm_pyg.transforms import TemporalSplit

METRIC, STEPS = "recall@20", 8
EVERY = 2  # epochs of a peer
PEER_STYLE = {
    peer.row: {"ls": ls, "color": "0.3"}
    for peer, ls in zip(_peers.PEERS.values(), ("--", ":"), strict=True)
}
FUTURE = load_settings("ddrm_future", "ddrm")


class BuiltError(Exception):
    """Ends a cell's work where its training would begin."""


def cells(variant, width):
    """Row name to cell."""
    plain = {
        name: cell_for(method, variant=variant)
        for name, method in {
            "LightGCN": "lightgcn",
            "SGL": "sgl",
            "MultiVAE": "multivae",
            "DiffRec": "diffrec",
            "SASRec": "sasrec",
        }.items()
    }
    svd = Cell("svd", model={"embedding_dim": width})
    published = denoised(plain["LightGCN"], "ddrm", settings="ddrm_lightgcn_ml-1m")
    published = replace(published, fit={**published.fit, "epochs": 12})
    return plain | {
        "LightGCN + DDRM, as published": published,
        "SVD + DDRM, from the past": Cell(
            "ddrm", 0, FUTURE["model"], FUTURE["fit"], svd
        ),
    }


def history(runner, cell):
    """The records of a training, one per epoch; trained here if it never was."""
    log = runner.cell_folder(cell) / "log.jsonl"
    if not log.exists():
        runner.run(cell)
    return [json.loads(line) for line in log.read_text().splitlines()]


def epoch_seconds(runner, cell):
    """Processor seconds of an epoch: its batches, and all its steps by a few."""
    built = []

    def build(model):
        built.append(model)
        raise BuiltError

    work = replace(runner.work(cell), fit=build)
    try:
        resolve(work.method.run)(work)
    except BuiltError:
        (model,) = built
    draw = torch.Generator().manual_seed(0)
    options = {"batch_size": cell.fit["batch_size"], "generator": draw}
    begin = time.process_time()
    count = sum(1 for _ in model.batches(runner.graph, **options))
    drawn = time.process_time() - begin
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model.train()
    seconds = []
    for batch in islice(model.batches(runner.graph, **options), STEPS):
        begin = time.process_time()
        for loss in model.losses(batch, runner.graph, generator=draw):
            optimizer.zero_grad(set_to_none=True)
            loss.mean().backward()
            optimizer.step()
        seconds.append(time.process_time() - begin)
    return drawn + count * float(np.median(seconds))


def solve_seconds(runner, cell):
    """Processor seconds of a closed form."""
    begin = time.process_time()
    resolve(runner.work(cell).method.run)(runner.work(cell))
    return time.process_time() - begin


def measure(runner, cell, begin):
    """A cell's curve, after the seconds of what it starts from."""
    records, each = history(runner, cell), epoch_seconds(runner, cell)
    points = [
        (round(begin + each * r["epoch"], 1), round(r[METRIC], 5))
        for r in records
        if METRIC in r
    ]
    return row_of(points, each, len(records), begin)


def row_of(points, each, epochs, begin=0.0):
    """What is kept of a method."""
    return {
        "seconds before": round(begin, 1),
        "seconds of an epoch": round(each, 2),
        "epochs": epochs,
        "best": max(value for _, value in points),
        "curve": points,
    }


def measure_peer(peer, data, folder, args):
    """The curve of another library's SASRec."""
    curve = _peers.train(peer, args.python, data, folder, args.peer_epochs, EVERY)
    points = [
        (round(p.seconds, 1), round(evaluate(p.emb, data, split="val")[METRIC], 5))
        for p in curve
    ]
    return row_of(points, curve[-1].seconds / curve[-1].epoch, curve[-1].epoch)


def before(runner, cell, rows):
    """Processor seconds of what a cell starts from."""
    if cell.base is None:
        return 0.0
    if cell.base.method == "svd":
        return solve_seconds(runner, cell.base)
    trained = rows["LightGCN"]
    return trained["epochs"] * trained["seconds of an epoch"]


def measure_ours(runner, args):
    """Our rows; trains what was not yet."""
    rows = {}
    for row, cell in cells(args.variant, args.width).items():
        rows[row] = measure(runner, cell, before(runner, cell, rows))
        shown = {key: value for key, value in rows[row].items() if key != "curve"}
        print(f"{row:30} {shown}", flush=True)
    return rows


def main():
    """Measure ours or the peer, and keep."""
    parser = _measure.options(__doc__, rounds=False)
    parser.add_argument("--data", required=True, help="lists, or a table to split")
    parser.add_argument("--variant", help="prefer settings stored for a data set")
    parser.add_argument("--out", type=Path, required=True, help="where cells are kept")
    parser.add_argument("--width", type=int, default=512, help="of SVD (512)")
    parser.add_argument("--peer", choices=_peers.PEERS, help="another library's SASRec")
    parser.add_argument("--python", help="the interpreter that has the peer's library")
    parser.add_argument("--peer-epochs", type=int, default=8, help="of the peer (8)")
    args = parser.parse_args()
    if args.peer and not args.python:
        parser.error("'--peer' is trained by an interpreter of its own: add '--python'")
    _measure.choose(args)
    name, data = _measure.load_thinned(args.data, TemporalSplit())
    kept = f"time_to_quality_{name}{_measure.suffix_of(args)}"
    if args.peer:
        record = json.loads((_measure.RESULTS / f"{kept}.json").read_text())
        peer, folder = _peers.PEERS[args.peer], args.out / f"{args.peer}-{name}"
        values = measure_peer(peer, data, folder, args)
        print(peer.row, values)
        record["rows"][peer.row] = values
    else:
        runner = Runner(data, args.out / name, device=args.device, progress=False)
        record = {
            "benchmark": "time_to_quality",
            "data": name,
            "threads": torch.get_num_threads(),
            "device": _measure.device_name(args.device),
            "torch": torch.__version__,
            "rows": measure_ours(runner, args),
        }
    _measure.keep(kept, record)
    draw(kept, name, record["rows"])


def draw(kept, name, rows):
    """Validation Recall@20 over processor seconds, a line for each method."""
    figure, axes = _measure.plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for row, values in rows.items():
        ours = "DDRM" in row
        style = {"lw": 2.2 if ours else 1.2, "marker": "o", "ms": 3, "label": row}
        style |= PEER_STYLE.get(row, {})
        axes.plot(*zip(*values["curve"], strict=True), **style)
    axes.set(
        xscale="log",
        xlabel="processor seconds of training, all that it starts from included",
        ylabel="validation Recall@20",
        title=name,
    )
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    path = _measure.RESULTS / f"{kept}.png"
    with _measure.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    _measure.plt.close(figure)


if __name__ == "__main__":
    main()
