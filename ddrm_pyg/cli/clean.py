"""``ddrm-pyg clean``: a copy without the noisiest interactions, and its worth."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._folder import CONFIG, check_free, claim
from ddrm_pyg.cli._report import REPORT, write_report
from ddrm_pyg.experiments.cells import CELLS
from ddrm_pyg.experiments.settings import cell_for
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.files import write_json

if TYPE_CHECKING:
    from ddrm_pyg.experiments.report import NextSteps
    from ddrm_pyg.experiments.work import Result

KINDS = ("user", "item")


EXAMPLES = ("ddrm-pyg clean --data clicks.csv --user uid --item sku --out runs/clean",)
"""Shown below the help."""


@options.takes_source(options.NamedSourceCommand)
def command(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            help="The copy: a table (.csv, .tsv, .jsonl, .inter, .parquet) of your own "
            "ids, or a folder, which keeps the split."
        ),
    ],
    drop: Annotated[
        float, typer.Option(help="Share of train interactions to drop, in (0, 1).")
    ] = 0.05,
    backend: Annotated[
        options.BackendName,
        typer.Option(
            help="Model retrained to see the effect; the signals are LightGCN's."
        ),
    ] = "lightgcn",
    backend_settings: options.BackendSettings = None,
    epochs: options.BackendEpochs = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder of signals and trainings; continued if it exists.",
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    safe_csv: options.SafeCsv = False,
    as_json: options.Json = False,
) -> None:
    """Write a copy without the noisiest interactions, and report what it is worth.

    The backend is trained on the data as they are, on the copy, and after dropping as
    much at random and of the rarest items. Validation and test are the same for all.
    """
    source = options.source_of(context)
    if not 0 < drop < 1:
        raise ValueError(f"'--drop' must lie in (0, 1) (got {drop})")
    if out.exists():
        raise ValueError(f"'--out' must be new (got {out})")
    runs = runs or Path("runs") / f"clean-{source.name}"
    check_free(runs, ["fingerprint"], "--runs")
    from ddrm_pyg.cli._output import (
        check_safe_csv,
        print_json,
        print_results,
        with_ids_in_csv,
        write_ids,
    )
    from ddrm_pyg.cli._start import begin
    from ddrm_pyg.datasets.writers import is_csv, save_interactions, table_writer
    from ddrm_pyg.experiments.audit import combine, compute_signals, signals_cell
    from ddrm_pyg.experiments.clean import (
        CLEANED,
        as_records,
        as_table,
        choices,
        headline,
        retrain,
        without,
    )
    from ddrm_pyg.experiments.plots import cleaning_panels, to_pictures
    from ddrm_pyg.experiments.runner import fingerprint
    from ddrm_pyg.graph.interaction_graph import InteractionGraph
    from ddrm_pyg.ids import raw_ids

    is_folder = table_writer(out) is None  # refuses what it cannot write
    check_safe_csv(safe_csv, is_folder or is_csv(out), out)
    cell = cell_for(backend, seed=seed, settings=backend_settings, epochs=epochs)
    data = begin(source, device, [cell, signals_cell()])
    claim(runs, {"fingerprint": fingerprint(data)}, option="--runs")
    where: dict[str, Any] = {"device": device, "progress": not as_json}
    signals = compute_signals(data, seed=seed, folder=runs / CELLS, **where)
    scores = combine(signals, data, seed=seed)
    graph = InteractionGraph.from_data(data)
    drops = choices(scores.score, graph, drop, seed=seed)
    results = retrain(data, drops, cell, runs / CELLS, **where)
    rows = as_records(results, drops, data)
    record = {"out": str(out), "drop": drop, "rows": rows}
    advice, step = _advice(results, source, out)
    kept = f"clean-{backend}-{drop:g}-seed{seed}.json"
    after = _next_steps(step, out, runs / kept)
    write_report(
        runs,
        f"{source.name} without its noisiest {100 * drop:g} %",
        [headline(rows), advice],
        [],
        after,
        [as_table(rows)],
        to_pictures(cleaning_panels(results), 2.6),
        {"source": asdict(source), "drop": drop, "cell": asdict(cell)},
    )
    write_json(runs / kept, record)
    # last, so that the same command goes on if it is stopped before
    data = with_ids_in_csv(data, safe=safe_csv)
    save_interactions(without(data, drops[CLEANED]), out)
    if is_folder:
        write_ids(out / "ids.csv", {kind: raw_ids(data, kind) for kind in KINDS})
    if as_json:
        print_json(record)
        return
    print_results(
        [as_table(rows)],
        [headline(rows), advice],
        [f"written to {out}; see {runs / REPORT}", after.text()],
    )


def _next_steps(step: tuple[str, Source], out: Path, record: Path) -> NextSteps:
    from ddrm_pyg.experiments.report import NextSteps

    what, source = step
    command = shlex.join(["ddrm-pyg", "run", *source.words()])
    files = {
        str(out): "the copy",
        str(record): "what was measured, for programs",
        str(record.with_name(CONFIG)): "which data they are",
        str(record.with_name(CELLS)): "trainings, which the same command takes up "
        "again",
    }
    return NextSteps({what: command}, files)


def _advice(
    results: Mapping[str, Result], source: Source, out: Path
) -> tuple[str, tuple[str, Source]]:
    """What to do with the copy, and which data to go on with."""
    from ddrm_pyg.datasets.writers import table_writer
    from ddrm_pyg.experiments.clean import is_worth

    if is_worth(results):
        copy = Source(str(out))
        if table_writer(out):  # a folder keeps its split and its labels
            copy = replace(
                copy,
                liked_from=source.liked_from,
                ratios=source.ratios,
                split=source.split,
            )
        advice = "Take the copy: it is above 'plain' and above 'random'."
        return advice, ("train and denoise on the copy", copy)
    advice = (
        "Keep the data as they are: the copy is not significantly above both 'plain' "
        "and 'random', and what differs is chance, or the number of clicks."
    )
    return advice, ("train and denoise on the data as they are", source)
