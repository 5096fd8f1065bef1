"""``ddrm-pyg recommend``: lists for known users, or for new ones by their history."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._folder import read_run
from ddrm_pyg.experiments.cells import is_order_aware, why_not_new
from ddrm_pyg.experiments.sources import Source

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import HeteroData

    from ddrm_pyg.cli._finished import FinishedRun
    from ddrm_pyg.cli._output import Chunks
    from ddrm_pyg.graph.interaction_graph import InteractionGraph

logger = logging.getLogger("ddrm_pyg")

_NEW = "'--history'"

NAMED = 3
"""Unknown items that are named; the others are counted."""


EXAMPLES = (
    "ddrm-pyg recommend runs/mine --user u17 -k 5",
    "ddrm-pyg recommend runs/mine --history new_users.csv --out lists.parquet",
    "ddrm-pyg recommend runs/mine --row ease",
)
"""Shown below the help."""


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    user: Annotated[
        list[str] | None, typer.Option(help="Ids of known users; all if none is given.")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="Table of new users, with columns as in the run's data."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="List length.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="CSV or .parquet to write; else stdout.")
    ] = None,
    row: options.Row = None,
    safe_csv: options.SafeCsv = False,
    as_json: options.Json = False,
) -> None:
    """List the best unseen items, in your own ids."""
    if user and history:
        raise ValueError("'--user' and '--history' exclude each other (got both)")
    options.check_there(history)
    record = read_run(run)
    if history is None:
        record.cell(row or record.winner)
    else:
        record.check_row(row or record.with_vectors, _NEW, why_not_new)
    from ddrm_pyg.cli._finished import open_run
    from ddrm_pyg.cli._output import (
        check_safe_csv,
        in_csv,
        lists,
        print_json,
        write_recommendations,
    )
    from ddrm_pyg.ids import raw_ids

    is_csv = out.suffix != ".parquet" if out else not as_json
    check_safe_csv(safe_csv, is_csv, out or "--json")
    opened = open_run(run)
    item_ids = raw_ids(opened.data, "item")
    if history is None:
        user_ids = raw_ids(opened.data, "user")
        chunks = _of_users(opened, row or opened.winner, user_ids, user, k)
    else:
        chunks, user_ids = _new(opened, row, item_ids, history, k)
    if as_json:
        chunks = list(chunks)
        records = [
            {"user": user_ids[number], "item": items, "score": scores}
            for number, items, scores in lists(chunks, item_ids)
        ]
        print_json({"recommendations": records})
    if out or not as_json:
        ids = (in_csv(names, safe=safe_csv) for names in (user_ids, item_ids))
        write_recommendations(out, chunks, *ids)


def _of_users(
    run: FinishedRun, row: str, user_ids: list[Any], wanted: list[str] | None, k: int
) -> Chunks:
    import torch

    from ddrm_pyg.graph.interaction_graph import InteractionGraph
    from ddrm_pyg.ranking import recommend_chunks

    rows = torch.arange(len(user_ids))
    if wanted:
        row_of = {str(name): row for row, name in enumerate(user_ids)}
        unknown = [name for name in wanted if name not in row_of]
        if unknown:
            raise ValueError(
                f"'--user' must be in the data (got {unknown[0]}); new users need "
                "--history"
            )
        rows = torch.tensor([row_of[name] for name in wanted])
    seen = InteractionGraph.from_data(run.data, splits=("train", "val", "test"))
    return recommend_chunks(run.scorer(row), rows, k=k, exclude=seen)


def _new(
    run: FinishedRun, row: str | None, item_ids: list[Any], file: Path, k: int
) -> tuple[Chunks, list[Any]]:
    import torch

    from ddrm_pyg.cli._finished import reader_of
    from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
    from ddrm_pyg.ids import raw_ids
    from ddrm_pyg.ranking import recommend_chunks

    row = _row_for_new(run, row)
    reader = reader_of(run, row, _NEW)
    read = _read_history(file, run.source)
    row_of = {str(name): place for place, name in enumerate(item_ids)}
    place = torch.tensor([row_of.get(str(name), -1) for name in raw_ids(read, "item")])
    user, item = read[EDGE].edge_index[:, _from_first_to_last(read)]
    item = place[item]
    in_run = item >= 0
    unknown = [n for n in raw_ids(read, "item") if str(n) not in row_of]
    if unknown:
        logger.warning(
            "%s: %d of %d interactions are with items that the run does not know; "
            "left out: %s%s",
            file,
            int((~in_run).sum()),
            len(in_run),
            ", ".join(map(repr, unknown[:NAMED])),
            f" and {len(unknown) - NAMED} more" * (len(unknown) > NAMED),
        )
    user_ids = raw_ids(read, "user")
    pairs = torch.stack([user, item])[:, in_run]
    history = InteractionGraph(pairs, len(user_ids), len(item_ids))
    _say_blank(file, history, run.runner.graph)
    if "edge_time" not in read[EDGE] and is_order_aware(run.cell(row)):
        logger.warning("%s: no times, the rows are taken in their order", file)
    rows = torch.arange(history.num_users)
    return recommend_chunks(reader(history), rows, k=k, exclude=history), user_ids


def _say_blank(file: Path, history: InteractionGraph, train: InteractionGraph) -> None:
    """Say how many people have nothing in their history that train has."""
    import torch

    user, item = history.edge_index
    has_vector = torch.zeros(history.num_users, dtype=torch.bool)
    has_vector[user[train.degree("item").cpu()[item] > 0]] = True
    count = int((~has_vector).sum())
    if count:
        logger.warning(
            "%s: %d of %d people have no item in their history that train has: their "
            "lists tell no more than those for no history at all",
            file,
            count,
            history.num_users,
        )


def _from_first_to_last(read: HeteroData) -> Tensor:
    """Order histories by time where it is known.

    A whole session may have one moment: rows of equal times keep their order.
    """
    import torch

    from ddrm_pyg.graph.interaction_graph import EDGE

    count = read[EDGE].edge_index.size(1)
    return read[EDGE].get("edge_time", torch.arange(count)).argsort(stable=True)


def _row_for_new(run: FinishedRun, row: str | None) -> str:
    """The row that ranks for new users: the best that has vectors, if none is asked."""
    if row is None and run.winner != run.with_vectors:
        logger.warning(
            "'%s' won, but has no vectors for new users: '%s' ranks",
            *(run.winner, run.with_vectors),
        )
    return row or run.with_vectors


def _read_history(file: Path, source: Source) -> HeteroData:
    """Read a table whose columns are called as in the run's data, or by default."""
    from ddrm_pyg.datasets.readers import load_interactions

    own: dict[str, Any] = {"user": source.user, "item": source.item}
    time: Literal[False] | None = None if source.time is not False else False
    read = partial(load_interactions, file, rating=False, split=False)
    try:
        return read(**own, time=source.time)
    except ValueError as error:  # whose advice are options that are not there here
        problem, _, advice = str(error).partition("; --")
        if not advice.startswith((*own, "time")):
            raise ValueError(problem) from None
        for columns in (own, {}):
            with suppress(ValueError):
                return read(**columns, time=time)
        names = " and ".join(repr(name) for name in own.values())
        raise ValueError(
            f"{problem}; '--history' must have the columns {names}, as the run's "
            "data, or 'user' and 'item'"
        ) from None
