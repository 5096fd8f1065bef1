"""``ddrm-pyg reproduce``: a table or a figure of the paper, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.experiments.cells import Cell, seed_of
from ddrm_pyg.experiments.settings import paper_name

if TYPE_CHECKING:
    from ddrm_pyg.paper.execute import Job
    from ddrm_pyg.paper.results import Reproduction

EXAMPLES = (
    "ddrm-pyg reproduce table2 --data ml-1m --dry-run",
    "ddrm-pyg reproduce figure3 --data ml-1m-clean --out runs/paper",
)
"""Shown below the help."""


@options.takes_source(options.NamedSourceCommand)
def command(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            help="One of table1, table2, table3, figure3, figure4, figure5, figure6.",
            show_default=False,
        ),
    ],
    rows: Annotated[
        str,
        typer.Option(
            help="Rows with commas between them; patterns such as 'mf*'. Only a row "
            "whose backend is shown, too, has stars."
        ),
    ] = "",
    backends: Annotated[
        str,
        typer.Option(
            help="Instead of the paper's backends: mf, lightgcn, sgl, with commas."
        ),
    ] = "",
    settings_of: options.SettingsOf = None,
    ddrm_settings: Annotated[
        str | None,
        typer.Option(
            help="Settings of DDRM that replace the published, one by one: a stored "
            "name or a JSON file."
        ),
    ] = None,
    validation: Annotated[
        Literal["both", "noisy", "liked"],
        typer.Option(help="Which validation sets select, where both are known."),
    ] = "both",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per trained method.")] = 3,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of every training at most.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Minutes after which no new cell is started."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells, done and to do.")
    ] = False,
    latex: Annotated[
        bool, typer.Option("--latex", help="Write the tables for LaTeX, too.")
    ] = False,
    docs: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder that also keeps the small results."),
    ] = None,
    device: options.Device = None,
    out: options.Out = None,
    as_json: options.Json = False,
) -> None:
    """Reproduce a table or figure of the paper beside its numbers and the yardsticks.

    Each cell (method, seed, data) is run once and kept in --out: stop it anywhere, and
    the same command goes on. What has not been run stays empty.
    """
    source = options.source_of(context)
    if docs is not None and epochs is not None:
        raise ValueError("'--docs' keeps full trainings: must be without '--epochs'")
    out = out or Path("runs") / f"reproduce-{source.name}"
    from ddrm_pyg.cli._start import announce, log_memory
    from ddrm_pyg.paper.docs import keep
    from ddrm_pyg.paper.execute import Benches, carry_out, collect, jobs, preview
    from ddrm_pyg.paper.outline import AS_IS, Plan, Request, has_labels
    from ddrm_pyg.paper.page import to_plot, write
    from ddrm_pyg.paper.results import kept_cells, measure

    plan = Plan(
        settings_of or paper_name(source),
        range(seeds),
        epochs,
        backends=options.split(backends),
        ddrm_settings=ddrm_settings,
    )
    request = Request(what, source, plan, options.split(rows), validation)
    request.check()
    announce(source, device)
    if dry_run:
        _print_jobs(preview(request, out), as_json)
        return
    benches = Benches(source, out, device=device, progress=not as_json)
    blocks = request.blocks(has_labels(benches[AS_IS].data))
    todo = jobs(blocks)
    log_memory([job.cell for job in todo], benches[AS_IS].graph)
    failed = carry_out(todo, benches, budget)
    results = [[collect(line, benches, failed) for line in b.lines] for b in blocks]
    reproduction = measure(request, blocks, results, benches)
    plot = to_plot(reproduction)
    write(out, reproduction, plot, latex=latex)
    if docs is not None:
        keep(docs, reproduction, kept_cells(request, blocks, results), plot)
    _print(reproduction, out, as_json)


def _print_jobs(todo: list[tuple[Job, bool]], as_json: bool) -> None:
    from ddrm_pyg.cli._output import print_json

    records = [
        {
            "line": job.line,
            "cell": _label(job.cell),
            "seed": seed_of(job.cell),
            "condition": job.condition.name,
            "done": done,
        }
        for job, done in todo
    ]
    if as_json:
        print_json({"cells": records})
        return
    for record in records:
        seed = "" if record["seed"] is None else f", seed {record['seed']}"
        word = "done " if record["done"] else "to do"
        print(
            f"{word}  {record['line']}: {record['cell']}{seed}, {record['condition']}"
        )
    done = sum(done for _, done in todo)
    print(f"{done} of {len(todo)} cells are done" if todo else "nothing to train")


def _label(cell: Cell) -> str:
    return f"{cell.method} on {_label(cell.base)}" if cell.base else cell.method


def _print(reproduction: Reproduction, out: Path, as_json: bool) -> None:
    from ddrm_pyg.cli._output import print_json
    from ddrm_pyg.paper.page import tables

    if as_json:
        print_json(reproduction.to_json())
        return
    for table in tables(reproduction):
        print(table.text(), end="\n\n")
    print(f"written to {out}; see {reproduction.what}.html")
