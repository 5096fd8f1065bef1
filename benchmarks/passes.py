"""Test and validation metrics of one trained DDRM against its passes at inference.

The published walk beside skips of 1, 2, 3, 6, 12 and 31 passes over the same schedule,
and one pass without any noise (drawn at 0.5). Of the walks with a fifth of the
published passes or fewer, the one is chosen whose smallest ratio to the published walk,
over backends and validation metrics, is the largest.
"""

from _study import METRICS, Study

from ddrm_pyg.experiments.cells import Cell

PASSES = (1, 2, 3, 6, 12, 31)
FEWER = 5


def main():
    """Measure."""
    study = Study("passes", __doc__)
    worst = {"val": {}, "test": {}}
    for backend in study.backends:
        trained = study.ddrm(backend)
        model = trained[0].model
        steps = model["num_train_timesteps"]
        start = model.get("num_start_steps") or steps
        published = steps
        if model.get("sampler") == "posterior":
            published = model.get("num_inference_steps") or steps

        def walked(sampler, passes, walk, trained=trained, backend=backend):
            told = {"sampler": sampler, "num_inference_steps": passes}
            again = [Cell("resampled", 0, told, base=cell) for cell in trained]
            return study.add(again, backend=backend, passes=passes, walk=walk)

        full = walked("posterior", published, "published")
        once = [Cell("one_pass", base=cell) for cell in trained]
        rows = [study.add(once, backend=backend, passes=0.5, walk="no noise")]
        rows += [walked("skip", n, "skip") for n in PASSES if n <= start]
        for row in rows:
            name = row["walk"] if row["walk"] == "no noise" else row["passes"]
            for split, least in worst.items():
                row[f"kept on {split}"] = share = round(
                    float(kept(row, full, split)), 4
                )
                if row["passes"] * FEWER <= published:
                    least.setdefault(name, []).append(share)
    study.rows.sort(key=lambda row: (row["backend"], row["passes"]))
    worst = {
        split: {
            name: min(shares)
            for name, shares in least.items()
            if len(shares) == len(study.backends)  # enough passes for all
        }
        for split, least in worst.items()
    }
    chosen = max(worst["val"], key=worst["val"].get, default=None)
    study.keep(smallest_ratio=worst, chosen_by_validation=chosen)
    study.draw_curves("passes")
    print("\nsmallest ratio to the published walk:", worst)
    print(f"chosen by validation: {chosen}, on test {worst['test'].get(chosen)}")


def kept(row, full, split):
    """The smallest ratio to the published walk over the four metrics."""
    return min(row[split][metric] / full[split][metric] for metric in METRICS)


if __name__ == "__main__":
    main()
