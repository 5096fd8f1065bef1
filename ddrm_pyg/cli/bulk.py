"""``ddrm-pyg bulk``: lists for every user of a world, shard by shard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ddrm_pyg.cli import _options as options

EXAMPLES = (
    "ddrm-pyg bulk world --weights trained/ddrm --out lists",
    "ddrm-pyg bulk world --weights trained/ddrm --out today --history 'since/*.csv'",
)
"""Shown below the help."""


def command(
    world: Annotated[Path, typer.Argument(help="What 'shard' wrote, with embeddings.")],
    weights: Annotated[
        Path, typer.Option(help="Folder of a trained DDRM (save_pretrained).")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the lists.")],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="List length.")] = 20,
    shards: Annotated[
        str | None, typer.Option(help="Some shards, from-to: 3-7; all if not given.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or a Ray cluster.")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Actors of a Ray cluster.")] = 1,
    probes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Groups of items looked at: approximate lists ([ann])."
        ),
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            help="What happened since: tables or patterns such as 'since/*.parquet', "
            "with users and items of the world or new ones."
        ),
    ] = None,
    user: Annotated[str, typer.Option(help="Column of users there.")] = "user",
    item: Annotated[str, typer.Option(help="Column of items there.")] = "item",
    item_emb: Annotated[
        Path | None,
        typer.Option(
            help="Vectors of new items by 'id', .csv or .parquet; those whom none is "
            "given get the mean direction of their users."
        ),
    ] = None,
    memory: options.Memory = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Denoise and rank for every user of a world; finished shards are kept."""
    if item_emb and not history:
        raise ValueError(f"'--item-emb' must come with '--history' (got {item_emb})")
    chosen = _chosen(shards)
    tables = tuple(path.resolve() for path in options.matches(history or ()))
    options.check_there(world, weights, item_emb, *tables)
    from ddrm_pyg.cli._output import print_json
    from ddrm_pyg.scale import local, ray
    from ddrm_pyg.scale.append import History
    from ddrm_pyg.scale.rows import MEMORY
    from ddrm_pyg.scale.worker import Job

    since = None
    if history:
        vectors = item_emb and item_emb.resolve()
        since = History(tables, user, item, vectors, memory or MEMORY)
    folders = (world.resolve(), weights.resolve(), out.resolve())
    job = Job(*folders, k, seed, probes, since)
    if engine == "ray":
        count = ray.run(job, chosen, num_workers=workers)
    else:
        count = local.run(job, chosen, progress=not as_json)
    num_shards = job.grown().num_shards if chosen is None else len(chosen)
    record = {"users": count, "shards": num_shards, "out": str(out)}
    if as_json:
        print_json(record)
        return
    print(f"{count} users now, {num_shards} shards in {out}")


def _chosen(words: str | None) -> range | None:
    """Read ``3-7`` or ``3``; None is all."""
    if words is None:
        return None
    first, dash, last = words.partition("-")
    try:
        chosen = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        chosen = range(0)
    if not chosen:
        raise ValueError(f"'--shards' must be like 3-7 or 3 (got '{words}')")
    return chosen
