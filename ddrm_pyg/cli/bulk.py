"""``ddrm-pyg bulk``: lists for every user of a world, shard by shard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._output import print_json
from ddrm_pyg.scale import local, ray
from ddrm_pyg.scale.worker import Job
from ddrm_pyg.scale.world import World

EXAMPLES = ("ddrm-pyg bulk world --weights trained --out lists",)
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
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Denoise and rank for every user of a world; finished shards are kept."""
    job = Job(world.resolve(), weights.resolve(), out.resolve(), k, seed, probes)
    chosen = _chosen(shards, World.open(world).num_shards)
    if engine == "ray":
        count = ray.run(job, chosen, num_workers=workers)
    else:
        count = local.run(job, chosen, progress=not as_json)
    record = {"users": count, "shards": len(chosen), "out": str(out)}
    if as_json:
        print_json(record)
        return
    print(f"{count} users now, {len(chosen)} shards in {out}")


def _chosen(words: str | None, count: int) -> list[int]:
    """Read ``3-7`` or ``3``."""
    if words is None:
        return list(range(count))
    first, dash, last = words.partition("-")
    try:
        chosen = list(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        chosen = []
    if not chosen or chosen[-1] >= count or chosen[0] < 0:
        raise ValueError(f"'--shards' must be within 0-{count - 1} (got '{words}')")
    return chosen
