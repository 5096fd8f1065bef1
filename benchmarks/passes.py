"""Test and validation metrics of one trained DDRM against its passes at inference.

The published walk beside skips of 1, 2, 3, 6, 12 and 31 passes over the same schedule,
and one pass without any noise. The default is the fewest passes that keep every
validation metric at .995 of the published walk, with a fifth of its passes or fewer.
"""

from _study import METRICS, Study

from ddrm_pyg.experiments.cells import Cell

PASSES = (1, 2, 3, 6, 12, 31)
SHARE, FEWER = 0.995, 5


def main():
    """Measure."""
    study = Study("passes", __doc__)
    chosen = {}
    for backend in study.backends:
        trained = study.ddrm(backend)
        model = trained[0].model
        steps = model["num_train_timesteps"]
        published = model.get("num_inference_steps") or steps
        full = study.add(trained, backend=backend, passes=published, walk="published")
        rows = []
        once = [Cell("one_pass", base=cell) for cell in trained]
        rows.append(study.add(once, backend=backend, passes=0.5, walk="no noise"))
        for passes in (n for n in PASSES if n <= steps):
            told = {"sampler": "skip", "num_inference_steps": passes}
            again = [Cell("resampled", 0, told, cell) for cell in trained]
            rows.append(study.add(again, backend=backend, passes=passes, walk="skip"))
        enough = [
            row
            for row in rows
            if row["passes"] * FEWER <= published and kept(row, full, "val") >= SHARE
        ]
        for row in rows:
            row["kept on validation"] = round(kept(row, full, "val"), 4)
            row["kept on test"] = round(kept(row, full, "test"), 4)
        if enough:
            best = enough[0]
            chosen[backend] = {k: best[k] for k in ("passes", "walk", "kept on test")}
    study.rows.sort(key=lambda row: (row["backend"], row["passes"]))
    study.keep(default=chosen)
    study.draw_curves("passes")
    print(f"\nfewest passes that keep {SHARE} of all validation metrics: {chosen}")


def kept(row, full, split):
    """The smallest ratio to the published walk over the four metrics."""
    return min(row[split][metric] / full[split][metric] for metric in METRICS)


if __name__ == "__main__":
    main()
