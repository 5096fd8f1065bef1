"""``ddrm-pyg recommend``: lists for known users, or for new ones by their history."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch_geometric.data import HeteroData

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._finished import fold_in, from_past, open_run
from ddrm_pyg.cli._output import (
    Chunks,
    lists,
    print_json,
    write_recommendations,
)
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.ids import raw_ids
from ddrm_pyg.ranking import recommend_chunks

logger = logging.getLogger("ddrm_pyg")


EXAMPLES = (
    "ddrm-pyg recommend runs/mine --user u17 -k 5",
    "ddrm-pyg recommend runs/mine --history new_users.csv --out lists.parquet",
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
    as_json: options.Json = False,
) -> None:
    """List the best unseen items, in your own ids."""
    if user and history:
        raise ValueError("'--user' and '--history' exclude each other (got both)")
    data, runner, config = open_run(run)
    item_ids = raw_ids(data, "item")
    if history is None:
        user_ids = raw_ids(data, "user")
        chunks = _of_users(run, data, user_ids, user, k)
    else:
        chunks, user_ids = _new(runner, config, item_ids, history, k)
    if as_json:
        chunks = list(chunks)
        records = [
            {"user": user_ids[row], "item": items, "score": scores}
            for row, items, scores in lists(chunks, item_ids)
        ]
        print_json({"recommendations": records})
    if out or not as_json:
        write_recommendations(out, chunks, user_ids, item_ids)


def _of_users(
    run: Path, data: HeteroData, user_ids: list[Any], wanted: list[str] | None, k: int
) -> Chunks:
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
    emb = Embeddings.load(run / "embeddings.safetensors")
    seen = InteractionGraph.from_data(data, splits=("train", "val", "test"))
    return recommend_chunks(emb, rows, k=k, exclude=seen)


def _new(
    runner: Runner, config: dict[str, Any], item_ids: list[Any], file: Path, k: int
) -> tuple[Chunks, list[Any]]:
    read = _read_history(file, config["source"])
    row_of = {str(name): row for row, name in enumerate(item_ids)}
    row = torch.tensor([row_of.get(str(name), -1) for name in raw_ids(read, "item")])
    pairs = InteractionGraph.from_data(read)
    user, item = pairs.edge_index[0], row[pairs.edge_index[1]]
    in_run = item >= 0
    if not bool(in_run.all()):
        logger.warning(
            "%s: %d of %d interactions are with items that the run does not know; "
            "left out",
            file,
            int((~in_run).sum()),
            len(in_run),
        )
    history = InteractionGraph(
        torch.stack([user, item])[:, in_run], pairs.num_users, len(item_ids)
    )
    recommender = from_past(runner, config, "'--history'")
    if recommender is not None:
        time = read[EDGE].get("edge_time")
        if time is None:
            logger.warning("%s: no times, the rows are taken in their order", file)
        ordered = UserSequences.from_graph(
            history, None if time is None else time[in_run]
        )
        emb = recommender.rank(ordered)
        rows = torch.arange(history.num_users)
        lists = recommend_chunks(emb, rows, k=k, exclude=history)
        return lists, raw_ids(read, "user")
    ddrm, items, mean_item = fold_in(runner, config, "'--history'")
    ideal = history.history_mean(items, fallback=mean_item)
    if ddrm is not None:
        # without noise: a list depends on its user alone, wherever it is made
        ideal = ddrm.generate(ideal, noise=torch.zeros_like(ideal))
    chunks = recommend_chunks(
        Embeddings(ideal, items), torch.arange(len(ideal)), k=k, exclude=history
    )
    return chunks, raw_ids(read, "user")


def _read_history(file: Path, source: dict[str, Any]) -> HeteroData:
    """Read a table whose columns are called as in the run's data, or user and item."""
    columns = {kind: source[kind] for kind in ("user", "item")}
    try:
        return load_interactions(file, **columns, split=False)
    except ValueError as error:
        with suppress(ValueError):
            return load_interactions(file, split=False)
        names = " and ".join(repr(name) for name in columns.values())
        problem, advice, _ = str(error).partition("; --")
        if not advice:
            raise
        raise ValueError(  # there are no options for columns here
            f"{problem}; '--history' must have the columns {names}, as the run's "
            "data, or 'user' and 'item'"
        ) from None
