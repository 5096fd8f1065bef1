"""DDRM trained from the past beside SASRec and the best simple models, both blocks.

Cells of the command line's own runner, so that a stopped study goes on. Everything is
selected by validation: epochs by Recall@20, the recency of simple models by NDCG@20.
Order-free rows read no order at inference; DDRM trained on order never counts as such,
and its order-free start stands on a line of its own. DDRM as published stands on
LightGCN, with the small networks of ``ddrm_quick``; it, LightGCN and T-DiffRec have one
seed.
"""

import json
from pathlib import Path

import _measure
import numpy as np

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import cell_for, denoised, load_settings
from ddrm_pyg.experiments.tables import Row, paired_tests
from ddrm_pyg.transforms import TemporalSplit

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
METRIC = "ndcg@20"
SIMPLE = ("item_knn", "ease", "item_knn+recency", "ease+recency", "svd")
PUBLISHED = "lightgcn+ddrm, as published"
FUTURE = load_settings("ddrm_future", "ddrm")


def past(base, seed, **changed):
    """DDRM trained from the past on a base."""
    return Cell("ddrm", seed, {**FUTURE["model"], **changed}, FUTURE["fit"], base)


def lines(width, seeds):
    """Row name to the cells of its seeds."""
    svd = Cell("svd", model={"embedding_dim": width})
    one = {
        "item_knn": [Cell("item_knn")],
        "ease": [Cell("ease")],
        "item_knn+recency": [Cell("item_knn+recency")],
        "ease+recency": [Cell("ease+recency")],
        "svd": [svd],
    }
    sasrec = load_settings("sasrec", "sasrec")
    states = [Cell("sasrec", n, sasrec["model"], sasrec["fit"]) for n in range(seeds)]
    beside = [denoised(s, "ddrm", settings="ddrm_states_ema") for s in states]
    graph = cell_for("lightgcn", variant="ml-1m")
    published = denoised(graph, "ddrm", settings="ddrm_quick", variant="ml-1m")
    free = [past(svd, seed, scales=[float("inf")]) for seed in range(seeds)]
    aware = [past(svd, seed) for seed in range(seeds)]
    return one | {
        "lightgcn": [graph],
        PUBLISHED: [published],
        "svd+ddrm, order-free start": free,
        "svd+ddrm": aware,
        "tdiffrec": [cell_for("tdiffrec")],
        "sasrec": states,
        "sasrec+ddrm": beside,
    }


def main():
    """Run all cells, print and keep the means over seeds."""
    parser = _measure.options(__doc__, rounds=False)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scope", default="user")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    _measure.choose(options)
    name_of = "future" if options.scope == "user" else "future_global"
    name_of += _measure.suffix_of(options)
    rows = []
    for source in options.data:
        name, data = _measure.load_thinned(source, TemporalSplit(scope=options.scope))
        if options.scope == "global" and not Path(source).is_dir():
            name += ", global"
        folder = options.out / name.replace(", ", "-")
        runner = Runner(data, folder, device=options.device, progress=False)
        done = {}
        for row, cells in lines(options.width, options.seeds).items():
            results = [runner.run(cell) for cell in cells]
            done[row] = Row(row, results)
            test = {m: [round(float(r.test[m]), 5) for r in results] for m in METRICS}
            rows.append(
                {
                    "data": name,
                    "row": row,
                    "val recall@20": [round(r.val["recall@20"], 5) for r in results],
                    "test": test,
                    "seconds": [round(r.seconds, 1) for r in results],
                    "notes": results[0].notes,
                }
            )
            shown = "  ".join(f"{np.mean(test[m]):.4f}" for m in METRICS)
            print(f"{name:24} {row:28} {shown}", flush=True)
        tests = against(done)
        for row in rows:
            if row["data"] == name:
                row["against"] = [test for test in tests if test["row"] == row["row"]]
        path = _measure.RESULTS / f"{name_of}.json"
        path.write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows, _measure.RESULTS / f"{name_of}.png")
    if name_of == "future":
        draw_groups(rows, PICTURES / "future.png")


def against(rows):
    """Test DDRM against the best simple model and SASRec, user by user."""
    best = max((rows[name] for name in SIMPLE), key=lambda row: row.metrics[METRIC])
    pairs = [
        (rows[row], rival)
        for row in ("svd+ddrm", "sasrec+ddrm")
        for rival in (best, rows["sasrec"])
    ]
    tests = paired_tests(*zip(*pairs, strict=True), [METRIC])
    return [
        {
            "row": row.name,
            "rival": rival.name,
            "relative": round(by_metric[METRIC].test.relative, 4),
            "p_holm": by_metric[METRIC].p_holm,
        }
        for (row, rival), by_metric in zip(pairs, tests, strict=True)
    ]


def draw(rows, path):
    """Test NDCG@20 of every row, a panel a data set; DDRM from the past orange."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    figure, panels = _measure.plt.subplots(
        1, len(names), figsize=(4.2 * len(names), 3.4), squeeze=False
    )
    for axes, name in zip(panels[0], names, strict=True):
        shown = [row for row in rows if row["data"] == name][::-1]
        values = [np.mean(row["test"]["ndcg@20"]) for row in shown]
        colours = ["C1" if "+ddrm" in r["row"] else "0.6" for r in shown]
        axes.barh([row["row"] for row in shown], values, color=colours)
        axes.set_title(name)
        axes.set_xlabel("test NDCG@20")
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def draw_groups(rows, path):
    """README's plot: a panel a data set, in letters that a phone can show."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    value = {(r["data"], r["row"]): np.mean(r["test"][METRIC]) for r in rows}
    for name in names:
        value[name, "best simple model"] = max(value[name, row] for row in SIMPLE)
    shown = {
        "sasrec+ddrm": ("SASRec + DDRM", "C1"),
        "svd+ddrm": ("SVD + DDRM", "C1"),
        "sasrec": ("SASRec", "0.6"),
        "best simple model": ("best simple model", "0.6"),
        PUBLISHED: ("DDRM as published", "#fdd0a2"),
    }
    labels, colours = zip(*shown.values(), strict=True)
    size = {"figsize": (5.2, 2 * len(names)), "layout": "constrained"}
    grid = _measure.plt.subplots(len(names), 1, sharex=True, squeeze=False, **size)
    figure, panels = grid
    for axes, name in zip(panels[:, 0], names, strict=True):
        bars = axes.barh(labels, [value[name, row] for row in shown], color=colours)
        axes.bar_label(bars, fmt=lambda v: f"{v:.3f}"[1:], fontsize=12, padding=3)
        axes.set_title(f"{name}: test NDCG@20", fontsize=13, loc="left")
        axes.tick_params("y", labelsize=12)
        axes.tick_params("x", labelbottom=False, length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.margins(x=0.12)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
