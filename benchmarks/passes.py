"""Test and validation metrics of one trained DDRM against its passes at inference.

The published walk beside skips of 1, 2, 3, 6, 12 and 31 passes over the same schedule,
and one pass without any noise (drawn at 0.5). Of the walks with a fifth of the
published passes or fewer, the one is chosen whose smallest ratio to the published walk,
over backends and validation metrics, is the largest; N passes are a fifth where N is
more. Of walks that tie, the one with more passes is taken, which is nearer to the
published one. The package's default is what ML-1M chooses.
"""

from _study import METRICS, Study

from ddrm_pyg.experiments.cells import Cell

PASSES = (1, 2, 3, 6, 12, 31)
FEWER, TIE = 5, 0.002
TICKS = {0.5: "1, no\nnoise"}


def main():
    """Measure."""
    study = Study("passes", __doc__)
    measured = [measure(study, backend) for backend in study.backends]
    most = max(fifth for _, fifth in measured)
    names = ["no noise", *(n for n in PASSES if n <= most)]

    def least(name, split):
        walks = (rows[min(name, f) if name in PASSES else name] for rows, f in measured)
        return min(row[f"kept on {split}"] for row in walks)

    worst = {
        split: {str(name): least(name, split) for name in names}
        for split in ("val", "test")
    }
    study.rows.sort(key=lambda row: (row["backend"], row["passes"]))
    study.keep(smallest_ratio=worst, chosen_by_validation=best(worst["val"]))
    walked = sorted({row["passes"] for row in study.rows})
    study.draw_curves("passes", ticks={n: TICKS.get(n, n) for n in walked})
    print("\nsmallest ratio to the published walk:", worst)
    print(f"chosen by validation: {best(worst['val'])}")


def measure(study, backend):
    """Every walk of a backend's DDRM, and a fifth of the published passes."""
    trained = study.ddrm(backend)
    model = trained[0].model
    published = model["num_train_timesteps"]
    if model["sampler"] == "posterior":
        published = model["num_inference_steps"]
    fifth = max(1, published // FEWER)

    def walked(sampler, passes, walk):
        settings = {"sampler": sampler, "num_inference_steps": passes}
        again = [Cell("resampled", 0, settings, base=cell) for cell in trained]
        return study.add(again, backend=backend, passes=passes, walk=walk)

    full = walked("posterior", published, "published")
    once = [Cell("one_pass", base=cell) for cell in trained]
    rows = {"no noise": study.add(once, backend=backend, passes=0.5, walk="once")}
    for passes in sorted({*PASSES, fifth}):
        if passes <= model["num_start_steps"]:
            rows[passes] = walked("skip", passes, "skip")
    for row in rows.values():
        for split in ("val", "test"):
            row[f"kept on {split}"] = round(float(kept(row, full, split)), 4)
    return rows, fifth


def best(least):
    """The walk with the most passes of those whose smallest ratio is the largest."""
    largest = max(least.values())
    return [name for name, share in least.items() if share > largest - TIE][-1]


def kept(row, full, split):
    """The smallest ratio to the published walk over the four metrics."""
    return min(row[split][metric] / full[split][metric] for metric in METRICS)


if __name__ == "__main__":
    main()
