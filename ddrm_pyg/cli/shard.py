"""``ddrm-pyg shard``: tables of any size to a world, or embeddings into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddrm_pyg.cli import _options as options

EXAMPLES = (
    "ddrm-pyg shard 'logs/*.parquet' --out world --user uid --item sku --time ts",
)
"""Shown below the help."""


def command(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Tables or patterns such as 'logs/*.parquet'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="New folder of the world.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Tables to cut: .safetensors, rows by its ids.")
    ] = None,
    world: Annotated[
        Path | None, typer.Option(help="World that --embeddings go to.")
    ] = None,
    user: Annotated[str, typer.Option(help="Column of users.")] = "user",
    item: Annotated[str, typer.Option(help="Column of items.")] = "item",
    time: Annotated[str, typer.Option(help="Column of times.")] = "time",
    no_time: Annotated[
        bool, typer.Option("--no-time", help="Read no times: split at random.")
    ] = False,
    rating: Annotated[str, typer.Option(help="Column of ratings.")] = "rating",
    liked_from: Annotated[
        float | None,
        typer.Option(help="Ratings below this are noise: never in test."),
    ] = None,
    ratios: Annotated[
        str, typer.Option(help="Shares of train, validation and test.")
    ] = "0.7,0.1,0.2",
    split: options.SplitScope = "user",
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of a random split.")
    ] = 0,
    memory: options.Memory = None,
    rows_per_shard: Annotated[
        int | None,
        typer.Option(
            min=1, help="Users of a shard, a multiple of 8192; 1048576 if none."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Cut tables larger than memory into shards of users (needs [duckdb])."""
    if data and out and not (embeddings or world):
        tables, shares = options.matches(data), options.parse_ratios(ratios)
        options.check_there(*tables)
        from ddrm_pyg.scale.ingest import shard
        from ddrm_pyg.scale.rows import MEMORY
        from ddrm_pyg.scale.world import ROWS_PER_SHARD

        made = shard(
            tables,
            out,
            user=user,
            item=item,
            time=not no_time and time,
            rating=rating,
            liked_from=liked_from,
            ratios=shares,
            seed=seed,
            split=split,
            memory=memory or MEMORY,
            rows_per_shard=rows_per_shard or ROWS_PER_SHARD,
        )
    elif embeddings and world and not (data or out):
        options.check_there(world, embeddings)
        from ddrm_pyg.scale.world import World, cut_embeddings

        made = World.open(world)
        cut_embeddings(made, embeddings)
    else:
        raise ValueError("give DATA and '--out', or '--embeddings' and '--world'")
    from ddrm_pyg.cli._output import print_json

    record = {
        "num_users": made.num_users,
        "num_items": made.num_items,
        "num_edges": made.num_edges,
        "num_shards": made.num_shards,
    }
    if as_json:
        print_json(record)
        return
    print(
        f"{made.num_users} users, {made.num_items} items, "
        f"{sum(made.num_edges.values())} pairs in {made.num_shards} shards: "
        f"{made.folder}"
    )
