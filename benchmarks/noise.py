"""Test and validation metrics of DDRM against its noise scale, trained at each.

The scale published for each backend times 1, 3, 10, 30 and 100, whatever the networks
of --ddrm-settings; everything else as they say.
"""

from _study import Study

from ddrm_pyg.experiments.settings import load_settings, shipped_name

FACTORS = (1, 3, 10, 30, 100)


def main():
    """Train and measure."""
    study = Study("noise", __doc__)
    for backend in study.backends:
        name = shipped_name("ddrm", study.args.settings_of, backend)
        scale = load_settings(name, "ddrm")["model"]["noise_scale"]
        for factor in FACTORS:
            cells = study.ddrm(backend, noise_scale=scale * factor)
            facts = {
                "backend": backend,
                "factor": factor,
                "noise_scale": scale * factor,
            }
            study.add(cells, **facts)
    chosen = {}
    for backend in study.backends:
        rows = [row for row in study.rows if row["backend"] == backend]
        best = max(rows, key=lambda row: row["val"]["ndcg@20"])
        chosen[backend] = best["factor"]
    study.keep(picked_by_validation=chosen)
    study.draw_curves("factor")
    print(f"\nfactor with the best validation NDCG@20: {chosen}")


if __name__ == "__main__":
    main()
