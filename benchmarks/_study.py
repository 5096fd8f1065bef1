"""What the studies of DDRM share: cells on a data set, over seeds, as one table.

Trained cells are kept under --out and never trained twice; stop a study anywhere and
the same command goes on.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path

import _measure
import numpy as np
import torch

from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import cell_for, denoised
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.ranking import METRICS

BACKENDS = ("mf", "lightgcn", "sgl")


class Study:
    """The options, the data and the rows of a study."""

    def __init__(self, name, description):
        parser = _measure.options(description, rounds=False)
        parser.add_argument("--data", default="synthetic", help="(synthetic)")
        parser.add_argument("--rating", help="column of ratings, in a table")
        parser.add_argument("--time", help="column of times, in a table")
        parser.add_argument("--user", default="user", help="column of users")
        parser.add_argument("--item", default="item", help="column of items")
        parser.add_argument("--liked-from", type=float, help="lower ratings are noise")
        parser.add_argument("--settings-of", help="prefer those stored for a data set")
        parser.add_argument("--ddrm-settings", help="DDRM's: a name or a file")
        parser.add_argument("--backends", default=",".join(BACKENDS))
        parser.add_argument("--seeds", type=int, default=3)
        parser.add_argument(
            "--out", default="runs/studies", help="where cells are kept"
        )
        self.args = args = parser.parse_args()
        logging.basicConfig(format="%(message)s", level=logging.INFO)
        _measure.choose(args)
        names = ("data", "user", "item", "rating", "time", "liked_from")
        self.source = Source(**{n: getattr(args, n) for n in names})
        cells = Path(args.out) / "cells"
        self.runner = Runner(self.source.load(), cells, device=args.device)
        if not self.runner.has_validation:
            parser.error("--data must have a validation split: it picks")
        self.backends = args.backends.split(",")
        self.name = f"{name}_{self.source.name}{_measure.suffix_of(args)}"
        self.rows = []

    def backend(self, name):
        """The cells of a backend, one per seed."""
        options = {"variant": self.args.settings_of}
        return [cell_for(name, seed=seed, **options) for seed in range(self.args.seeds)]

    def ddrm(self, name, **changed):
        """The cells of DDRM on a backend, with other arguments."""
        options = {
            "settings": self.args.ddrm_settings,
            "variant": self.args.settings_of,
        }
        cells = [denoised(base, "ddrm", **options) for base in self.backend(name)]
        return [replace(cell, model={**cell.model, **changed}) for cell in cells]

    def add(self, cells, **facts):
        """Run the cells of a row; keep its means and deviations over seeds."""
        results = [self.runner.run(cell) for cell in cells]
        row = {**facts, "seeds": len(cells)}
        for split in ("val", "test"):
            values = np.array(
                [[getattr(r, split)[metric] for metric in METRICS] for r in results]
            )
            spread = values.std(0, ddof=1) if len(cells) > 1 else np.zeros(len(METRICS))
            row[split] = dict(zip(METRICS, values.mean(0).round(5), strict=True))
            row[f"{split} sd"] = dict(zip(METRICS, spread.round(5), strict=True))
        self.rows.append(row)
        shown = "  ".join(f"{row['test'][metric]:.4f}" for metric in METRICS)
        picked = f"{row['val']['ndcg@20']:.4f}"
        print(f"{facts}\n    test {shown}   validation N@20 {picked}", flush=True)
        return row

    def keep(self, **facts):
        """Keep rows and facts in results/."""
        left = ("out", "data", "on_cpu")
        asked = {k: v for k, v in vars(self.args).items() if k not in left}
        header = {
            "benchmark": self.name,
            "options": asked,
            "fingerprint": self.runner.fingerprint,
            "threads": torch.get_num_threads(),
            "device": _measure.device_name(self.args.device),
            "torch": torch.__version__,
            **facts,
        }
        print("\n" + json.dumps(header, default=float))
        record = {**header, "rows": self.rows}
        _measure.keep(self.name, json.loads(json.dumps(record, default=float)))

    def save(self, figure):
        """Keep a plot beside them."""
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        path = _measure.RESULTS / f"{self.name}.png"
        with _measure.atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110, format="png")

    def draw_curves(self, axis, log_x=True, ticks=None):
        """Draw validation and test NDCG@20 and Recall@20 over an axis.

        ``ticks`` says where its marks are and what they are called.
        """
        shape = {"figsize": (10, 6), "layout": "constrained"}
        figure, panels = _measure.plt.subplots(2, 2, **shape)
        for row, metric in zip(panels, ("ndcg@20", "recall@20"), strict=True):
            for axes, split in zip(row, ("val", "test"), strict=True):
                for i, backend in enumerate(self.backends):
                    points = [r for r in self.rows if r["backend"] == backend]
                    x = [r[axis] for r in points]
                    y = [r[split][metric] for r in points]
                    error = [r[f"{split} sd"][metric] for r in points]
                    axes.errorbar(x, y, error, fmt="-o", ms=4, color=f"C{i}")
                    axes.lines[-1].set_label(backend)
                axes.set_title(f"{split} {metric}", loc="left", fontsize=10)
                axes.set_xlabel(axis)
                if log_x:
                    axes.set_xscale("log")
                if ticks:
                    axes.set_xticks(list(ticks), list(ticks.values()), minor=False)
                    axes.set_xticks([], minor=True)
                axes.grid(alpha=0.3)
        figure.axes[0].legend(
            [line for line in figure.axes[0].lines if line.get_marker() == "o"],
            self.backends,
            frameon=False,
            fontsize=8,
        )
        self.save(figure)
