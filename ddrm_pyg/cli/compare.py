"""``ddrm-pyg compare``: many methods on one data set, in honest tables."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._folder import CONFIG, check_free, claim
from ddrm_pyg.cli._report import COMMAND, REPORT, write_report
from ddrm_pyg.experiments.cells import CELLS, Cell
from ddrm_pyg.experiments.methods import FIRST_LOOK, each_once, names_of, yardsticks
from ddrm_pyg.experiments.settings import cell_for
from ddrm_pyg.files import write_json

if TYPE_CHECKING:
    from ddrm_pyg.experiments.compare import Comparison
    from ddrm_pyg.experiments.report import NextSteps
    from ddrm_pyg.experiments.sources import Source

KEYS = ("source", "fingerprint")
"""What the config of a comparison says."""

FINISHED = "compare.json"
VALUES = "compare.csv"
PLOT = "compare.png"

FILES = {
    VALUES: "the table, with every measure",
    FINISHED: "the same and the verdict, for programs",
    PLOT: "the plots of this page",
    CONFIG: "which data they are",
    CELLS: "trainings, which the same command takes up again",
}
"""What is left in the folder, beside the report."""

HINTS = (
    "A row that is not above the best yardstick costs more and gives no more.",
    "More seeds (--seeds 3) tell chance apart; they, and more methods, are added to "
    "the same folder.",
)
"""What else helps with a comparison."""

LISTS = {"first": lambda: FIRST_LOOK, "all": each_once}
"""What ``--methods`` takes in place of names."""

EXAMPLES = (
    "ddrm-pyg compare --data clicks.csv --user uid --item sku --time ts",
    "ddrm-pyg compare --data ml-1m --methods mf,mf+ddrm --seeds 3 --out runs/compared",
)
"""Shown below the help."""


@options.takes_source(options.SourceCommand)
def command(
    context: typer.Context,
    methods: Annotated[
        str,
        typer.Option(
            help="Names with commas between them, such as mf,lightgcn+ddrm,diffrec; "
            "popularity, item_knn and ease are always there, and with +recency where "
            "times tell the order. 'first' is a first look, minutes on small data; "
            "'all' is every method once, what cleans or denoises around LightGCN."
        ),
    ] = "first",
    settings_of: options.SettingsOf = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per trained method.")] = 1,
    seed: options.Seed = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of every training at most.")
    ] = None,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Run many methods on one data set and test them against the best yardstick.

    What reads the order of clicks has a table and yardsticks of its own. Interrupted,
    it goes on with the method that was not finished; methods and seeds may be added
    later to the same folder. Without --settings-of, trainings are quick ones for small
    data.
    """
    source = options.source_of(context)
    out = out or Path("runs") / f"compare-{source.name}"
    check_free(out, KEYS, source=source, overwrite=overwrite)
    names = LISTS[methods]() if methods in LISTS else options.split(methods) or [""]
    cells = {
        name: _cells(name, range(seed, seed + seeds), settings_of, epochs)
        for name in names
        if name not in names_of("yardstick")
    }
    from ddrm_pyg.cli._output import print_json, print_results
    from ddrm_pyg.cli._start import begin, log_memory
    from ddrm_pyg.experiments.compare import (
        as_tables,
        cannot_say,
        compare,
        verdict,
        with_default_ddrm,
    )
    from ddrm_pyg.experiments.runner import Runner, fingerprint
    from ddrm_pyg.graph.interaction_graph import InteractionGraph

    data = begin(source, device)
    methods_here = with_default_ddrm(cells, data, epochs=epochs)
    firsts = [*map(Cell, yardsticks()), *(c[0] for c in methods_here.values())]
    log_memory(firsts, InteractionGraph.from_data(data))
    values = source.located().record(), fingerprint(data)
    config = dict(zip(KEYS, values, strict=True))
    claim(out, config, finished=FINISHED, overwrite=overwrite)
    runner = Runner(data, out / CELLS, device=device, progress=not as_json)
    rows = compare(runner, methods_here)
    silent = cannot_say(data)
    record: dict[str, Any] = {
        "rows": [row.record() for row in rows],
        "verdict": verdict(rows),
        "cannot_say": silent,
    }
    after = _next_steps(source, methods)
    _report(out, source.name, rows, record, after, config)
    _write(out, rows, record)
    if as_json:
        print_json(record)
        return
    print_results(
        as_tables(rows),
        _in_words(record["verdict"]),
        [
            *(f"cannot be said here: {sentence}" for sentence in silent),
            f"written to {out}; see {REPORT}",
            after.text(),
        ],
    )


def _cells(
    name: str, seeds: range, variant: str | None, epochs: int | None
) -> list[Cell]:
    return [cell_for(name, seed=seed, variant=variant, epochs=epochs) for seed in seeds]


def _next_steps(source: Source, methods: str) -> NextSteps:
    from ddrm_pyg.experiments.report import NextSteps

    run = ["ddrm-pyg", "run", *source.words(), "--backend", "NAME"]
    commands = {"lists and vectors, by a backend and DDRM": shlex.join(run)}
    if methods == "first":
        names = ", ".join(_left_out())
        commands[f"not here: {names}; with them"] = f"{COMMAND.get()} --methods all"
    return NextSteps(commands, FILES, HINTS)


def _left_out() -> list[str]:
    """Name what a first look does not hold."""
    here = {*FIRST_LOOK, *names_of("yardstick")}
    return [name for name in each_once() if name not in here]


def _in_words(words: dict[str, Any]) -> list[str]:
    """The verdict, a sentence each: what is above, what is below, what follows."""
    aware = words["order_aware"]
    blocks = {"order-free: ": words, "order-aware: ": aware} if aware else {"": words}
    said = [text for head, block in blocks.items() for text in _of_block(head, block)]
    return [
        *said,
        "above and below: NDCG@20, paired t-test over users, Holm-corrected p < .01, "
        "at least 1 %",
    ]


def _of_block(head: str, words: dict[str, Any]) -> list[str]:
    above, below = (
        ", ".join(map(repr, words[word])) or "nothing" for word in ("above", "below")
    )
    yardstick = words["yardstick"]
    return [
        f"{head}above '{yardstick}', the best yardstick: {above}",
        f"{head}below it: {below}",
        f"{head}take the cheapest that is above it"
        if words["above"]
        else f"{head}take '{yardstick}': nothing is above it, and it is cheap",
    ]


def _report(
    out: Path,
    name: str,
    rows: list[Comparison],
    record: dict[str, Any],
    after: NextSteps,
    config: dict[str, Any],
) -> None:
    from ddrm_pyg.experiments.compare import as_tables
    from ddrm_pyg.experiments.plots import comparison_panels, to_pictures

    headline, *meaning = _in_words(record["verdict"])
    silent = [f"cannot be said here: {text}" for text in record["cannot_say"]]
    write_report(
        out,
        f"{name}: a comparison",
        [headline],
        [*meaning, *silent],
        after,
        as_tables(rows),
        to_pictures(comparison_panels(rows), 1.2 + 0.28 * len(rows)),
        config | {"cells": {row.name: asdict(row.results[0].cell) for row in rows}},
    )


def _write(out: Path, rows: list[Comparison], record: dict[str, Any]) -> None:
    from ddrm_pyg.cli._output import write_csv
    from ddrm_pyg.experiments.compare import to_frame
    from ddrm_pyg.experiments.plots import comparison_panels, plot_panels, write_png

    size = (11, 1.2 + 0.28 * len(rows))
    write_png(out / PLOT, plot_panels(comparison_panels(rows), size))
    write_csv(out / VALUES, to_frame(rows), index=True)
    write_json(out / FINISHED, record)
