"""What DDRM adds over its own start, and over simple models with the same start.

Two blocks that are never mixed. Order-free: a user's items weigh alike, or by their
agreement with the rest. Order-aware: they weigh by recency, exp(-r / tau), tau chosen
by validation NDCG@20 for every row on its own. Rows: item cosine and EASE; for every
backend its own vectors, the history mean, one pass of DDRM as published, and of DDRM
trained from the history that inference starts from, with the weights that validation
picked for the published one.
"""

import _measure
from _study import METRICS, Study

from ddrm_pyg.experiments.cells import Cell

TAUS = (2, 5, 20, 100)
AGREEMENT = {"kind": "agreement"}


def main():
    """Train and measure."""
    study = Study("start", __doc__)
    free = {"equal": None, "agreement": AGREEMENT}
    aware = {f"tau {tau}": {"kind": "recency", "tau": tau} for tau in TAUS}
    for backend in study.backends:
        study.add(study.backend(backend), row=backend, block="order-free", weight="")
    for block, weights in (("order-free", free), ("order-aware", aware)):
        for row, make in lines(study).items():
            results = [
                study.add(make(weighting), row=row, block=block, weight=name)
                for name, weighting in weights.items()
            ]
            pick(results)
            if row.endswith("one pass"):
                backend = row.split("+")[0]
                weighting = weights[max(results, key=value)["weight"]]
                trained = study.ddrm(
                    backend, **history(weighting), train_start="history"
                )
                name = max(results, key=value)["weight"]
                facts = {"block": block, "weight": name}
                row = f"{backend}+ddrm trained from the start"
                pick([study.add(once(trained, weighting), row=row, **facts)])
    study.keep()
    draw(study)
    print("\npicked by validation, test:")
    for block in ("order-free", "order-aware"):
        print(block)
        for row in (r for r in study.rows if r["block"] == block and r.get("picked")):
            shown = "  ".join(f"{row['test'][m]:.4f}" for m in METRICS)
            print(f"  {row['row']:40} {row['weight']:10} {shown}")


def lines(study):
    """What makes the cells of each row, given the weights of the history."""
    base = study.backend("lightgcn")[0]
    cells = {
        "item_knn": lambda weighting: [yardstick("item_knn", weighting, base)],
        "ease": lambda weighting: [yardstick("ease", weighting, base)],
    }
    for name in study.backends:
        plain, trained = study.backend(name), study.ddrm(name)
        cells[f"{name} history mean"] = lambda weighting, plain=plain: [
            Cell("history_mean", model=history(weighting), base=cell) for cell in plain
        ]
        cells[f"{name}+ddrm one pass"] = lambda weighting, trained=trained: once(
            trained, weighting
        )
    return cells


def yardstick(method, weighting, base):
    """A closed form; agreement is that of LightGCN's vectors."""
    agreed = weighting is AGREEMENT
    return Cell(method, model=history(weighting), base=base if agreed else None)


def once(trained, weighting):
    """One pass of a trained DDRM."""
    return [Cell("one_pass", model=history(weighting), base=cell) for cell in trained]


def history(weighting):
    """The setting of a cell."""
    return {"history": weighting} if weighting else {}


def pick(rows):
    """Mark the row that validation likes best."""
    max(rows, key=value)["picked"] = True


def value(row):
    """What validation picks by."""
    return row["val"]["ndcg@20"]


def draw(study):
    """Draw the picked rows of both blocks side by side."""
    shape = {"figsize": (11, 0.4 * 12 + 1), "layout": "constrained"}
    figure, panels = _measure.plt.subplots(1, 2, **shape)
    for axes, block in zip(panels, ("order-free", "order-aware"), strict=True):
        rows = [
            r
            for r in study.rows
            if r["block"] == block and (r.get("picked") or not r["weight"])
        ]
        names = [f"{r['row']} {r['weight']}" for r in rows]
        values = [r["test"]["ndcg@20"] for r in rows]
        errors = [r["test sd"]["ndcg@20"] for r in rows]
        axes.barh(names, values, xerr=errors, color="C0", alpha=0.6)
        axes.invert_yaxis()
        axes.set_title(f"{block}, test NDCG@20", loc="left", fontsize=10)
        axes.tick_params(labelsize=8)
    study.save(figure)


if __name__ == "__main__":
    main()
