"""``ddrm-pyg audit``: which train interactions look like noise."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._output import print_json, raw_ids, write_csv
from ddrm_pyg.cli._start import begin
from ddrm_pyg.experiments.audit import (
    as_record,
    as_table,
    combine,
    compute_signals,
    injected_weights,
    to_frame,
)
from ddrm_pyg.experiments.plots import audit_panels, plot_panels, write_png
from ddrm_pyg.experiments.sources import DEFAULT, Source
from ddrm_pyg.experiments.stored import cell_for
from ddrm_pyg.files import write_json
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.noise_audit import Estimate

CANNOT_SAY = [
    "no ratings or noise labels of both kinds: nothing can be said about how well the "
    "score finds noise, or which signal does",
    "a score is a rank among these interactions, not a chance of being noise: nothing "
    "can be said about how much noise there is",
]
"""The claims that data without labels do not allow."""

Backend = Annotated[
    options.BackendName,
    typer.Option(help="Model that the signals of a training come from."),
]
Weights = Annotated[
    Literal["fixed", "injected"],
    typer.Option(
        help="How signals are combined: by fixed weights, or by those that best find "
        "random pairs which are injected for the purpose (twice the time)."
    ),
]


@options.takes_source
def command(
    source: Source = DEFAULT,
    backend: Backend = "lightgcn",
    weights: Weights = "fixed",
    seed: options.Seed = 0,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Score every train interaction by how much it looks like noise.

    No score reads ratings, labels or held-out pairs. Labels, where there are any,
    measure how well the scores find noise.
    """
    if out is not None and not overwrite and out.exists():
        raise ValueError(f"'--out' must be new (got {out}; give --overwrite)")
    data = begin(source, device, [cell_for(f"{backend}+ddrm")])
    told: dict[str, Any] = {
        "backend": backend,
        "seed": seed,
        "device": device,
        "progress": not as_json,
    }
    signals = compute_signals(data, **told)
    shares = injected_weights(data, **told) if weights == "injected" else None
    found = combine(signals, data, shares, seed=seed)
    record = as_record(found) | {"cannot_say": [] if found.measures else CANNOT_SAY}
    if out is not None:
        ids = {kind: raw_ids(data, kind) for kind in ("user", "item")}
        table = to_frame(found, data, ids)
        write_csv(out / "audit.csv", table, float_format="%.6g")
        if found.measures:
            panels = audit_panels(found, data[EDGE].edge_is_noise)
            write_png(out / "audit.png", plot_panels(panels, (11, 4.4)))
        write_json(out / "audit.json", record)
    if as_json:
        print_json(record)
        return
    if found.gain is not None:
        print(as_table(found).text())
        print(
            f"\ncombined less '{found.best_signal}', the best signal: "
            f"{_signed(found.gain)}"
        )
    for sentence in record["cannot_say"]:
        print(f"cannot be said here: {sentence}")
    if out is not None:
        print(f"written to {out}")
    else:
        print("give --out to keep the score of every interaction")


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"
