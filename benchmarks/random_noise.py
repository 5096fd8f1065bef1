"""Does DDRM that learns what comes next forgive random noise? Figure 3's data.

A share of train and validation is replaced by pairs that nobody observed. A noisy pair
takes the place in time of the pair that it replaces, so that noise is spread evenly
over every user's history; test stays clean. Beside it stand the rows of Figure 3 that
are kept in docs/results: the backend, the published DDRM (small networks) and R-CE;
on MF the two other losses that clean are trained here.

Cells are those of the command line's own runner, so that a stopped study goes on.
"""

import json
from pathlib import Path

import _measure

from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import cell_for, load_settings
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.transforms import RandomNoise

KEPT = Path(__file__).parents[1] / "docs" / "results"
RATIOS = (0.0, 0.6, 0.4, 0.2)
FUTURE = load_settings("ddrm_future", "ddrm")
CLEANED = {"mf": ("mf+t-ce", "mf+deca")}


def lines(backend, width):
    """Row name to cell: simple models, and DDRM from the past on a backend."""
    if backend == "svd":
        base = Cell("svd", model={"embedding_dim": width})
        simple = ("item_knn", "item_knn+recency", "ease", "ease+recency")
        rows = {name: Cell(name) for name in simple}
    else:
        base = cell_for(backend, seed=0, variant="ml-1m")
        rows = {
            name: cell_for(name, variant="ml-1m") for name in CLEANED.get(backend, ())
        }
    ddrm = Cell("ddrm", 0, FUTURE["model"], FUTURE["fit"], base)
    return rows | {backend: base, f"{backend}+ddrm, what comes next": ddrm}


def kept(ratio):
    """Rows of Figure 3 in docs/results."""
    folder = KEPT / f"ml-1m-clean-random-noise-{ratio:g}"
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        yield f"{record['method']} (Figure 3)", record["metrics"]


def main():
    """Run all cells, print and keep."""
    parser = _measure.options(__doc__, rounds=False)
    parser.add_argument("--data", required=True, help="ML-1M clean, a folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backends", nargs="+", default=["svd"])
    parser.add_argument("--width", type=int, default=256, help="of svd (256)")
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    _measure.choose(options)
    rows = []

    def add(ratio, name, metrics, **facts):
        test = {metric: round(float(metrics[metric]), 5) for metric in METRICS}
        rows.append({"noise": ratio, "row": name, "test": test, **facts})
        shown = "  ".join(f"{value:.4f}" for value in test.values())
        print(f"{ratio:<4g} {name:36} {shown}", flush=True)

    for ratio in RATIOS:
        for name, metrics in kept(ratio):
            add(ratio, name, metrics)
    for backend in options.backends:
        for ratio in RATIOS:
            data = RandomNoise(ratio, seed=0)(load_interactions(options.data))
            folder = options.out / f"{ratio:g}"
            runner = Runner(data, folder, device=options.device, progress=False)
            for name, cell in lines(backend, options.width).items():
                result = runner.run(cell)
                add(ratio, name, result.test, seconds=round(result.seconds, 1))
            record = {"benchmark": "random_noise", "width": options.width, "rows": rows}
            _measure.keep(f"random_noise{_measure.suffix_of(options)}", record)
    draw(rows, _measure.RESULTS / f"random_noise{_measure.suffix_of(options)}.png")


def draw(rows, path):
    """Test NDCG@20 of every row over the share of noise, and what is left of it."""
    figure, panels = _measure.plt.subplots(
        1, 2, figsize=(10, 3.8), layout="constrained"
    )
    for name in dict.fromkeys(row["row"] for row in rows):
        points = sorted(
            (r["noise"], r["test"]["ndcg@20"]) for r in rows if r["row"] == name
        )
        noise, value = zip(*points, strict=True)
        panels[0].plot(noise, value, "-o", ms=3)
        panels[1].plot(noise, [v / value[0] for v in value], "-o", ms=3, label=name)
    panels[0].set(xlabel="share of random noise", title="test NDCG@20")
    panels[1].set(xlabel="share of random noise", title="share of it that is left")
    panels[1].legend(frameon=False, fontsize=6)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
