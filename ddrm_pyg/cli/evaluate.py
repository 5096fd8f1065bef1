"""``ddrm-pyg evaluate``: full ranking of given embeddings."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from ddrm_pyg.cli import _options as options

EXAMPLES = (
    "ddrm-pyg evaluate --data clicks.csv --embeddings vectors.npz",
    "ddrm-pyg evaluate --data ml-1m --embeddings vectors.npz --split val --json",
)
"""Shown below the help."""


@options.takes_source(options.NamedSourceCommand)
def command(
    context: typer.Context,
    embeddings: options.Embeddings = None,
    user_emb: options.UserEmb = None,
    item_emb: options.ItemEmb = None,
    user_ids: options.UserIds = None,
    item_ids: options.ItemIds = None,
    num_layers: options.NumLayers = 0,
    combine: options.Combine = "mean",
    split: Annotated[
        Literal["val", "test"], typer.Option(help="Pairs that must be found.")
    ] = "test",
    as_json: options.Json = False,
) -> None:
    """Rank all items by given embeddings and print the metrics."""
    source = options.source_of(context)
    files = options.vector_files(
        embeddings,
        {"user": user_emb, "item": item_emb},
        {"user": user_ids, "item": item_ids},
    )
    from ddrm_pyg.cli._output import print_json
    from ddrm_pyg.experiments.work import load_vectors
    from ddrm_pyg.graph.interaction_graph import InteractionGraph
    from ddrm_pyg.nn.conv import light_propagate
    from ddrm_pyg.ranking import evaluate

    loaded = source.load()
    graph = InteractionGraph.from_data(loaded)
    tables = load_vectors(files, loaded)
    scorer = light_propagate(tables, graph, num_layers, combine)
    metrics = evaluate(scorer, loaded, split=split, progress=sys.stderr.isatty())
    if as_json:
        print_json(dict(metrics))
        return
    for name, value in metrics.items():
        print(f"{name:<15}{value:10.4f}")
