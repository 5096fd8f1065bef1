"""What ``run`` and ``denoise`` share: run the main job, print it, write it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.cli._folder import CONFIG, EMBEDDINGS, FINISHED, HELD, KEYS, claim
from ddrm_pyg.cli._output import (
    in_csv,
    print_json,
    print_results,
    write_ids,
    write_recommendations,
)
from ddrm_pyg.cli._report import REPORT, write_report
from ddrm_pyg.cli._start import log_memory
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import CELLS, Cell, rows_for
from ddrm_pyg.experiments.plots import (
    plot_panels,
    run_panels,
    to_pictures,
    write_png,
)
from ddrm_pyg.experiments.plug_in import (
    HINTS,
    METRIC,
    Row,
    Verdict,
    as_record,
    as_tables,
    check_order,
    pick,
    plug_in,
)
from ddrm_pyg.experiments.report import NextSteps
from ddrm_pyg.experiments.runner import Runner, fingerprint
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.experiments.tables import counted, metric_title
from ddrm_pyg.files import hash_file, write_json
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ids import raw_ids
from ddrm_pyg.ranking import recommend_chunks

LIST_LENGTH = 20
"""Recommendations written for every user."""

FILES = {
    "recommendations.csv": f"{LIST_LENGTH} items for every user, in your own ids, by "
    "the row that is best on validation",
    EMBEDDINGS: "vectors of the best row that has any",
    "ids.csv": "which row of the vectors is whose",
    FINISHED: "every row of the table, with its training curve",
    "curves.png": "the plots of this page",
    CONFIG: "everything that defines the run",
    CELLS: "trainings, which the same command takes up again",
}
"""What is left in the folder, beside the report."""


def execute(
    source: Source,
    data: HeteroData,
    backend: Cell,
    last: Cell | None,
    out: Path,
    *,
    device: str | None,
    overwrite: bool,
    safe_csv: bool,
    as_json: bool,
) -> None:
    """Run the main job and leave its results in a folder.

    Args:
        source: Where the data come from.
        data: What was loaded from there.
        backend: A backend or given embeddings.
        last: What denoises, see :func:`ddrm_pyg.experiments.cells.rows_for`.
        out: Folder of the results.
        device: Where to train.
        overwrite: Replace what another run left in ``out``.
        safe_csv: Write ids that a spreadsheet would run with a ``'`` before them.
        as_json: Print JSON on stdout instead of the table.

    Raises:
        ValueError: ``out`` holds a run with another configuration, or anything else;
            or nothing tells an order that is to be read.
    """
    check_order(data, [last or backend])
    cells = rows_for(backend, last).values()
    log_memory(cells, InteractionGraph.from_data(data))
    begin = time.perf_counter()
    values = (
        source.located().record(),
        fingerprint(data),
        asdict(backend),
        last and asdict(last),
    )
    config = dict(zip(KEYS, values, strict=True))
    claim(out, config, finished=FINISHED, overwrite=overwrite)
    runner = Runner(data, out / CELLS, device=device, progress=not as_json)
    rows, verdict = plug_in(runner, backend, last)
    winner = pick(rows)
    with_vectors = pick([row for row in rows if not row.is_yardstick])
    record = {
        **(verdict.record() if verdict else {"verdict": None}),
        **dict(zip(HELD, (winner.name, with_vectors.name), strict=True)),
    }
    methods = " and ".join(cell.method for cell in (backend, last) if cell)
    after = next_steps(source, out, rows, verdict)
    _report(out, f"{source.name}: {methods}", rows, verdict, after, config)
    _write(out, runner, rows, record, safe_csv=safe_csv)
    if as_json:
        print_json({"rows": [as_record(row) for row in rows], **record})
        return
    print_results(
        as_tables(rows),
        [str(verdict)] if verdict else [],
        [
            *what_else(rows),
            f"written to {out} in {time.perf_counter() - begin:.0f} s; see {REPORT}",
            after.text(),
        ],
    )


def next_steps(
    source: Source, out: Path, rows: Sequence[Row], verdict: Verdict | None
) -> NextSteps:
    """What to do with a run: take lists, and look further where DDRM is no help."""
    row = _other_row(rows, verdict)
    recommend = shlex.join(["ddrm-pyg", "recommend", str(out), "--row", row])
    commands = {f"lists by '{row}'": recommend}
    if verdict and verdict.word != "helps" and not verdict.better:
        audit = ["ddrm-pyg", "audit", *source.words()]
        commands["clicks that look least like the rest"] = shlex.join(audit)
    else:
        compare = ["ddrm-pyg", "compare", *source.words()]
        commands["more methods on the same clicks"] = shlex.join(compare)
    return NextSteps(commands, FILES, HINTS[verdict.word] if verdict else ())


def _other_row(rows: Sequence[Row], verdict: Verdict | None) -> str:
    """The row that one may want beside what the files hold."""
    held = pick(rows).name
    judged = (*verdict.ahead, verdict.rival, verdict.name) if verdict else ()
    others = [row for row in rows if row.name != held]
    return next((name for name in judged if name != held), pick(others).name)


def what_else(rows: Sequence[Row]) -> list[str]:
    """Say what the files hold, and what validation picked."""
    picked = [f"{row.name}: {_picked(row)}" for row in rows if _picked(row)]
    return [*contents_of(rows), *picked, *_epochs(rows)]


def _epochs(rows: Sequence[Row]) -> list[str]:
    """Say what picked the epochs, where that is not what picked the row."""
    metrics = {
        str(row.result.cell.fit["metric"])
        for row in rows
        if row.result.best_epoch is not None
    }
    names = " and ".join(map(metric_title, sorted(metrics - {METRIC})))
    if not names:
        return []
    return [f"epochs are picked by validation {names}, rows by {metric_title(METRIC)}"]


def _picked(row: Row) -> str:
    """Say what validation picked for a row's backend, if anything."""
    notes = row.result.notes
    for name, unit in (("num_layers", "layer"), ("embedding_dim", "number")):
        if (count := notes.get(name)) is not None:
            by = next(key.split()[1] for key in notes if key.startswith("val "))
            where = " a vector" * (name == "embedding_dim")
            what = f"{counted(count, unit)}{where}"
            return f"{what}, picked by validation {metric_title(by)}"
    return ""


def contents_of(rows: Sequence[Row]) -> list[str]:
    """Say which row's the files are, and why."""
    winner = pick(rows)
    with_vectors = pick([row for row in rows if not row.is_yardstick])
    value = winner.result.val.get(METRIC)
    why = (
        "there is no validation to pick by"
        if value is None
        else f"best on validation ({metric_title(METRIC)} {value:.4f})"
    )
    if winner is with_vectors:
        return [f"the files hold '{winner.name}': {why}"]
    return [
        f"the lists are those of '{winner.name}': {why}",
        f"{EMBEDDINGS} holds '{with_vectors.name}', the best that has vectors",
    ]


def _report(
    out: Path,
    title: str,
    rows: list[Row],
    verdict: Verdict | None,
    after: NextSteps,
    config: dict[str, Any],
) -> None:
    height = 1.6 + 0.3 * len(rows)
    write_report(
        out,
        title,
        [verdict.headline, verdict.advice]
        if verdict
        else ["nothing denoises here: no verdict"],
        [*(verdict.reasons if verdict else ()), *contents_of(rows)],
        after,
        as_tables(rows),
        to_pictures(run_panels(rows), height),
        config,
        _epochs(rows),
    )


def _write(
    out: Path,
    runner: Runner,
    rows: list[Row],
    record: dict[str, Any],
    *,
    safe_csv: bool,
) -> None:
    cells = {row.name: row.result.cell for row in rows}
    best, vectors = (runner.scorer(cells[record[name]]) for name in HELD)
    assert isinstance(vectors, Embeddings)
    vectors.save(out / EMBEDDINGS)
    data = runner.data
    write_png(out / "curves.png", plot_panels(run_panels(rows), (11, 4.2)))
    ids = {
        kind: in_csv(raw_ids(data, kind), safe=safe_csv) for kind in ("user", "item")
    }
    write_ids(out / "ids.csv", ids)
    seen = InteractionGraph.from_data(data, splits=("train", "val", "test"))
    users = torch.arange(seen.num_users)
    chunks = recommend_chunks(best, users, k=LIST_LENGTH, exclude=seen)
    write_recommendations(out / "recommendations.csv", chunks, ids["user"], ids["item"])
    records = [
        {
            **as_record(row),
            "val": row.result.val,
            "best_epoch": row.result.best_epoch,
            "history": row.result.history,
            "notes": row.result.notes,
            "seconds": row.result.seconds,
        }
        for row in rows
    ]
    hashes = {EMBEDDINGS: hash_file(out / EMBEDDINGS)}
    write_json(out / FINISHED, {**record, "hashes": hashes, "rows": records})
