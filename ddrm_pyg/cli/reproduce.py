"""``ddrm-pyg reproduce``: a table or a figure of the paper, cell by cell."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._output import print_json
from ddrm_pyg.cli._start import announce, tell_needs
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.paper.arrange import TARGETS, arrange, pick
from ddrm_pyg.experiments.paper.committed import keep
from ddrm_pyg.experiments.paper.conditions import (
    GIVEN,
    has_labels,
    paper_name,
)
from ddrm_pyg.experiments.paper.execute import (
    Benches,
    Job,
    carry_out,
    collect,
    fingerprints,
    is_done,
    jobs,
    seed_of,
)
from ddrm_pyg.experiments.paper.figures import draw
from ddrm_pyg.experiments.paper.pages import tables, to_html, to_latex, to_markdown
from ddrm_pyg.experiments.paper.plans import Block, Plan
from ddrm_pyg.experiments.paper.record import as_record
from ddrm_pyg.experiments.paper.sheets import as_text
from ddrm_pyg.experiments.paper.tables import cell_records
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.sources import NAMED, Source, nearest
from ddrm_pyg.files import atomic_path, write_json, write_text

logger = logging.getLogger("ddrm_pyg")


@options.takes_source
def command(
    source: Source,
    what: Annotated[
        str, typer.Argument(help=f"One of {', '.join(TARGETS)}.", show_default=False)
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
    out = out or Path("runs") / f"reproduce-{source.name}"
    variant = settings_of or paper_name(source)
    asked: dict[str, Any] = {"--rows": rows, "--backends": backends}
    asked |= {"--settings-of": settings_of, "--ddrm-settings": ddrm_settings}
    asked |= {"--epochs": epochs}
    asked |= {"--seeds": seeds} if what != "table1" else {}
    asked |= {"--validation": validation} if validation != "both" else {}
    if docs is not None and epochs is not None:
        raise ValueError("'--docs' keeps full trainings: must be without '--epochs'")
    plan = Plan(
        variant,
        range(seeds),
        epochs,
        backends=options.split(backends),
        ddrm_settings=ddrm_settings,
    )

    def blocks_of(labelled: bool) -> list[Block]:
        arranged = arrange(what, replace(plan, labelled=labelled))
        return pick(arranged, options.split(rows))

    blocks_of(labelled=True)  # refuses before anything is loaded
    announce(source, device)
    if dry_run:
        _list_cells(source, out, blocks_of, validation, as_json)
        return
    benches = Benches(source, out, device=device, progress=not as_json)
    blocks = _selected(blocks_of(has_labels(benches[GIVEN].data)), validation)
    todo = jobs(blocks)
    tell_needs([job.cell for job in todo], benches[GIVEN].graph)
    failed = carry_out(todo, benches, budget)
    found = [[collect(line, benches, failed) for line in b.lines] for b in blocks]
    words = _command(what, source, asked)
    record = as_record(what, plan, blocks, found, benches, words)
    plot = _plot(record)
    _write(out, record, plot, latex)
    if docs is not None:
        pairs = zip(blocks, found, strict=True)
        cells = [
            cell
            for pair in pairs
            for cell in cell_records(*pair, source, ddrm_settings)
        ]
        keep(docs, record, cells, plot)
    _print(record, out, as_json)


def _list_cells(
    source: Source,
    out: Path,
    blocks_of: Callable[[bool], list[Block]],
    validation: str,
    as_json: bool,
) -> None:
    """Say which cells there are and which are done, without the data if need be."""
    by_name = source.data in NAMED and paper_name(source) is not None
    absent = source.data not in NAMED and not Path(source.data).exists()
    if by_name or absent:
        source.check()
        labelled = not source.name.endswith("-clean")  # as far as a name tells
    else:
        labelled = has_labels(source.load())
    todo = jobs(_selected(blocks_of(labelled), validation))
    if absent:
        meant = nearest(source.data, NAMED)
        told = "%s is not there%s; this is what would be run"
        logger.warning(told, source.data, meant)
    known = fingerprints(out) if by_name or absent else _look(source, todo)
    _print_jobs(todo, [is_done(job, out, known) for job in todo], as_json)


def _selected(blocks: list[Block], validation: str) -> list[Block]:
    """Keep what is selected on one of the validation sets."""
    if validation == "both":
        return blocks
    told = f"{validation} validation"
    kept = [b for b in blocks if b.lines[0].condition.selected_on == told]
    if blocks and not kept:
        raise ValueError(
            f"'--validation' must be one that the data and the table have "
            f"(got '{validation}')"
        )
    return kept


def _look(source: Source, todo: list[Job]) -> dict[str, str]:
    """Hash data that are at hand; nothing is written."""
    found = {}
    for condition in dict.fromkeys(job.condition for job in todo):
        try:
            data, hidden = condition.load(source)
        except ValueError as error:
            logger.warning("%s: %s", condition.name, error)
        else:
            found[condition.name] = Runner(data, "", exclude=hidden).fingerprint
    return found


def _command(what: str, source: Source, asked: dict[str, Any]) -> str:
    words = ["ddrm-pyg", "reproduce", what, "--data", source.data]
    told = asdict(source)
    columns = {k: v for k, v in told.items() if v != getattr(Source(), k)}
    if source.ratios != Source().ratios:
        columns["ratios"] = ",".join(f"{share:g}" for share in source.ratios)
    columns.pop("data", None)
    asked = {f"--{k.replace('_', '-')}": v for k, v in columns.items()} | asked
    for name, value in asked.items():
        words += [] if value in (None, "", False) else [name, str(value)]
    return shlex.join(words)


def _print_jobs(todo: list[Job], done: list[bool], as_json: bool) -> None:
    records = [
        {
            "line": job.line,
            "cell": _label(job.cell),
            "seed": seed_of(job.cell),
            "condition": job.condition.name,
            "done": is_there,
        }
        for job, is_there in zip(todo, done, strict=True)
    ]
    if as_json:
        print_json({"cells": records})
        return
    for told in records:
        seed = "" if told["seed"] is None else f", seed {told['seed']}"
        word = "done " if told["done"] else "to do"
        print(f"{word}  {told['line']}: {told['cell']}{seed}, {told['condition']}")
    print(f"{sum(done)} of {len(done)} cells are done" if done else "nothing to train")


def _label(cell: Cell) -> str:
    return f"{cell.method} on {_label(cell.base)}" if cell.base else cell.method


def _plot(record: dict[str, Any]) -> bytes | None:
    """Draw the blocks of which something has been run."""
    shown = [b for b in record["blocks"] if any(line["run"] for line in b["lines"])]
    return draw(shown) if shown else None


def _write(out: Path, record: dict[str, Any], plot: bytes | None, latex: bool) -> None:
    name = record["what"]
    if plot is not None:
        with atomic_path(out / f"{name}.png") as temporary:
            temporary.write_bytes(plot)
    texts = {
        ".html": to_html(record, plot),
        ".md": to_markdown(record, f"{name}.png" if plot else None),
        **({".tex": to_latex(record)} if latex else {}),
    }
    for suffix, text in texts.items():
        write_text(out / f"{name}{suffix}", text)
    write_json(out / f"{name}.json", record)


def _print(record: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        print_json(record)
        return
    for table, words in tables(record):
        print("\n".join([as_text(table), *words]), end="\n\n")
    print(f"written to {out}; see {record['what']}.html")
