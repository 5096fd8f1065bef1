"""``ddrm-pyg export``: programs that list for any history, to serve elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._folder import KEYS, read_config, read_run
from ddrm_pyg.experiments.cells import why_not_exported

if TYPE_CHECKING:
    from ddrm_pyg.serving.export import Format
    from ddrm_pyg.serving.program import Encode

_PURPOSE = "'export'"

EXAMPLES = (
    "ddrm-pyg export runs/mine --out exported",
    "ddrm-pyg export runs/mine --out exported --format onnx",
)
"""Shown below the help."""


def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Folder of a finished run, a Pipeline or a world."
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="New folder to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="Of a world: folder of the trained DDRM.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", "--k", min=1, help="Longest list; 100 if not given."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="pt2, onnx or both: pt2,onnx.")
    ] = "pt2,onnx",
    row: options.Row = None,
    as_json: options.Json = False,
) -> None:
    """Write programs that turn a history into a list, and what they need."""
    options.check_there(source, weights)
    if read_config(source, KEYS):
        run = read_run(source)
        run.check_row(row or run.with_vectors, _PURPOSE, why_not_exported)
    from ddrm_pyg.cli._output import print_json
    from ddrm_pyg.serving.engine import MANIFEST
    from ddrm_pyg.serving.export import export

    chosen = cast("list[Format]", options.split(formats))
    encode, item_ids = _read(source, weights, row)
    export(out, encode, item_ids=item_ids, k=k, formats=chosen)
    record = {"out": str(out), "num_items": len(item_ids), "formats": chosen}
    if as_json:
        print_json(record)
        return
    print(f"{len(item_ids)} items as {', '.join(chosen)}, see {out / MANIFEST}")


def _read(
    source: Path, weights: Path | None, row: str | None
) -> tuple[Encode, list[str | int]]:
    from ddrm_pyg.pipeline import IDS
    from ddrm_pyg.scale.world import WORLD

    is_world = (source / WORLD).is_file()
    if is_world != (weights is not None):
        raise ValueError("'--weights' belongs to a world, and a world needs it")
    is_pipeline = (source / IDS).is_file()
    if row is not None and (is_world or is_pipeline):
        raise ValueError(f"'--row' must come with a run (got {source})")
    if weights is not None:
        return _of_world(source, weights)
    return _of_pipeline(source) if is_pipeline else _of_run(source, row)


def _of_world(source: Path, weights: Path) -> tuple[Encode, list[str | int]]:
    from ddrm_pyg.graph.interaction_graph import mean_item
    from ddrm_pyg.nn.ddrm import DDRM
    from ddrm_pyg.scale.world import World
    from ddrm_pyg.serving.program import MeanEncode

    world = World.open(source)
    items = world.item_emb()
    mean = mean_item(world.item_degree(), items)
    ids = world.ids("item", 0, world.num_items).tolist()
    return MeanEncode(DDRM.from_pretrained(weights), items, mean), ids


def _of_pipeline(source: Path) -> tuple[Encode, list[str | int]]:
    from ddrm_pyg.nn.ddrm import DDRMRecommender
    from ddrm_pyg.pipeline import Pipeline
    from ddrm_pyg.serving.program import MeanEncode, PastEncode

    pipeline = Pipeline.from_pretrained(source)
    if isinstance(pipeline.ddrm, DDRMRecommender):
        return PastEncode(pipeline.ddrm), pipeline.item_ids
    if pipeline.source is not None:
        raise ValueError(
            "'export' takes DDRM, or a pipeline that reads histories without their "
            f"order (got {source}, which reads them in order)"
        )
    items = pipeline.embeddings.item
    mean = pipeline.seen.mean_item(items)
    return MeanEncode(pipeline.ddrm, items, mean), pipeline.item_ids


def _of_run(source: Path, row: str | None) -> tuple[Encode, list[str | int]]:
    from ddrm_pyg.cli._finished import fold_in, from_past, open_run
    from ddrm_pyg.ids import raw_ids
    from ddrm_pyg.serving.program import MeanEncode, PastEncode

    run = open_run(source)
    row, item_ids = row or run.with_vectors, raw_ids(run.data, "item")
    recommender = from_past(run, row, _PURPOSE)
    if recommender is not None:
        return PastEncode(recommender), item_ids
    return MeanEncode(*fold_in(run, row, _PURPOSE)), item_ids
