"""What DDRM adds over its own start, and over simple models with the same start.

Two blocks that are never mixed. Order-free: a user's items weigh alike, or by their
agreement with the rest. Order-aware: they weigh by recency, exp(-r / tau), tau chosen
by validation NDCG@20 for every row on its own. Rows: item cosine and EASE; for every
backend its own vectors, the history mean, one pass of DDRM as published, and of DDRM
trained from the history that inference starts from, with the weights that validation
picked for the published one.
"""

from _measure import plt
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
            found = [
                study.add(make(told), row=row, block=block, weight=name)
                for name, told in weights.items()
            ]
            pick(found)
            if row.endswith("one pass"):
                backend = row.split("+")[0]
                told = weights[max(found, key=value)["weight"]]
                trained = study.ddrm(backend, **history(told), train_start="history")
                name = max(found, key=value)["weight"]
                facts = {"block": block, "weight": name}
                row = f"{backend}+ddrm trained from the start"
                pick([study.add(once(trained, told), row=row, **facts)])
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
    found = {
        "item_knn": lambda told: [yardstick("item_knn", told, base)],
        "ease": lambda told: [yardstick("ease", told, base)],
    }
    for name in study.backends:
        plain, trained = study.backend(name), study.ddrm(name)
        found[f"{name} history mean"] = lambda told, plain=plain: [
            Cell("history_mean", model=history(told), base=cell) for cell in plain
        ]
        found[f"{name}+ddrm one pass"] = lambda told, trained=trained: once(
            trained, told
        )
    return found


def yardstick(method, told, base):
    """A closed form; agreement is that of LightGCN's vectors."""
    agreed = told is AGREEMENT
    return Cell(method, model=history(told), base=base if agreed else None)


def once(trained, told):
    """One pass of a trained DDRM."""
    return [Cell("one_pass", model=history(told), base=cell) for cell in trained]


def history(told):
    """The setting of a cell."""
    return {"history": told} if told else {}


def pick(rows):
    """Mark the row that validation likes best."""
    max(rows, key=value)["picked"] = True


def value(row):
    """What validation picks by."""
    return row["val"]["ndcg@20"]


def draw(study):
    """Draw the picked rows of both blocks side by side."""
    shape = {"figsize": (11, 0.4 * 12 + 1), "layout": "constrained"}
    figure, panels = plt.subplots(1, 2, **shape)
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
