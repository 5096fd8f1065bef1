"""``ddrm-pyg audit``: which train interactions look like noise."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._folder import CONFIG, check_free, claim
from ddrm_pyg.cli._report import REPORT, write_report
from ddrm_pyg.experiments.cells import CELLS
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.files import write_json

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from ddrm_pyg.experiments.report import NextSteps
    from ddrm_pyg.experiments.tables import Table
    from ddrm_pyg.noise_audit import Estimate, NoiseAudit

KINDS = ("user", "item")

KEYS = ("source", "fingerprint", "backend", "weights", "seed")
"""What the config of an audit says."""

FINISHED = "audit.json"
SCORES = "audit.csv"
PLOT = "audit.png"

FILES = {
    SCORES: "every train interaction in your own ids, with its score and signals",
    FINISHED: "what was measured, for programs",
    PLOT: "the plots of this page",
    CONFIG: "everything that defines the audit",
    CELLS: "trainings, which the same command takes up again",
}
"""What is left in the folder, beside the report; the plot where there are labels."""

CANNOT_SAY = [
    "how well the score finds noise, or which signal does: there are no ratings or "
    "noise labels of both kinds",
    "how much noise there is: a score is a rank among these interactions, not a chance "
    "of being noise",
]
"""The claims that data without labels do not allow."""

ADVICE = "Look at the noisiest before any is dropped."

HINTS = (
    "A score is a rank among these clicks: it does not say how many are noise.",
    "Whether a copy without the noisiest ranks better is another question: 'clean' "
    "trains on both and compares.",
)
"""What else helps with an audit."""

Backend = Annotated[
    options.PairwiseName,
    typer.Option(help="Model that the signals of a training come from."),
]
Weights = Annotated[
    Literal["fixed", "injected"],
    typer.Option(
        help="How signals are combined: by fixed weights, or by those that best find "
        "random pairs which are injected for the purpose (twice the time)."
    ),
]


EXAMPLES = ("ddrm-pyg audit --data clicks.csv --user uid --item sku --out runs/audit",)
"""Shown below the help."""


@options.takes_source(options.SourceCommand)
def command(
    context: typer.Context,
    backend: Backend = "lightgcn",
    weights: Weights = "fixed",
    seed: options.Seed = 0,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    safe_csv: options.SafeCsv = False,
    as_json: options.Json = False,
) -> None:
    """Score every train interaction by how much it looks like noise.

    No score reads ratings, labels or held-out pairs. Labels, where there are any,
    measure how well the scores find noise.
    """
    source = options.source_of(context)
    out = out or Path("runs") / f"audit-{source.name}"
    check_free(out, KEYS, source=source, overwrite=overwrite)
    from ddrm_pyg.cli._output import print_json, print_results
    from ddrm_pyg.cli._start import begin
    from ddrm_pyg.experiments.audit import (
        as_record,
        combine,
        compute_signals,
        headline,
        injected_weights,
        signals_cell,
    )
    from ddrm_pyg.experiments.runner import fingerprint

    data = begin(source, device, [signals_cell(backend)])
    values = (source.located().record(), fingerprint(data), backend, weights, seed)
    config = dict(zip(KEYS, values, strict=True))
    claim(out, config, finished=FINISHED, overwrite=overwrite)
    settings: dict[str, Any] = {
        "backend": backend,
        "seed": seed,
        "folder": out / CELLS,
        "device": device,
        "progress": not as_json,
    }
    signals = compute_signals(data, **settings)
    shares = injected_weights(data, **settings) if weights == "injected" else None
    scores = combine(signals, data, shares, seed=seed)
    record = as_record(scores) | {"cannot_say": [] if scores.measures else CANNOT_SAY}
    words = _in_words(scores, record["cannot_say"])
    after = _next_steps(source, scores)
    tables = _write(out, source, data, scores, words, after, safe_csv=safe_csv)
    write_json(out / FINISHED, record)
    if as_json:
        print_json(record)
        return
    print(headline(scores) + "\n")
    print_results(
        [table for table in tables if table.columns],
        [*words, ADVICE],
        [f"written to {out}; see {REPORT}", after.text()],
    )


def _gain(gain: Estimate, best_signal: str | None) -> str:
    beside = f"the AUROC of the score less that of its best signal, '{best_signal}'"
    return f"{beside}: {_signed(gain)}"


def _in_words(audit: NoiseAudit, silent: list[str]) -> list[str]:
    """What was measured, and what cannot be said."""
    return [
        *([_gain(audit.gain, audit.best_signal)] if audit.gain else []),
        *(f"cannot be said here: {sentence}" for sentence in silent),
    ]


def _next_steps(source: Source, audit: NoiseAudit) -> NextSteps:
    from ddrm_pyg.experiments.report import NextSteps

    copy = ["--out", f"{source.name}-clean"]
    clean = shlex.join(["ddrm-pyg", "clean", *source.words(), *copy])
    files = FILES if audit.measures else {k: v for k, v in FILES.items() if k != PLOT}
    commands = {"a copy without the noisiest, and what it is worth": clean}
    # without labels the first stands above, with what cannot be said
    return NextSteps(commands, files, HINTS if audit.measures else HINTS[1:])


def _write(
    out: Path,
    source: Source,
    data: HeteroData,
    audit: NoiseAudit,
    words: list[str],
    after: NextSteps,
    *,
    safe_csv: bool,
) -> list[Table]:
    """Write the scores and the page; the tables that are on it."""
    from ddrm_pyg.cli._output import in_csv, write_csv
    from ddrm_pyg.experiments.audit import (
        as_table,
        count_table,
        headline,
        noisiest_table,
        to_frame,
    )
    from ddrm_pyg.ids import raw_ids

    frame = to_frame(audit, data, {kind: raw_ids(data, kind) for kind in KINDS})
    ids = {kind: in_csv(frame[kind].tolist(), safe=safe_csv) for kind in KINDS}
    write_csv(out / SCORES, frame.assign(**ids), float_format="%.6g")
    tables = [
        as_table(audit),
        noisiest_table(audit, frame),
        *(count_table(frame, kind) for kind in KINDS),
    ]
    write_report(
        out,
        f"{source.name}: a noise audit",
        [headline(audit), ADVICE],
        words,
        after,
        tables,
        _pictures(out, data, audit),
        {"source": asdict(source), "weights": audit.weights},
    )
    return tables


def _pictures(out: Path, data: HeteroData, audit: NoiseAudit) -> dict[str, bytes]:
    """Draw how well the scores find noise, in a file and for the page."""
    if not audit.measures:
        return {}
    from ddrm_pyg.experiments.plots import (
        audit_panels,
        plot_panels,
        to_pictures,
        write_png,
    )
    from ddrm_pyg.graph.interaction_graph import EDGE

    panels = audit_panels(audit, data[EDGE].edge_is_noise)
    write_png(out / PLOT, plot_panels(panels, (11, 4.4)))
    return to_pictures(panels, 4.0)


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"
