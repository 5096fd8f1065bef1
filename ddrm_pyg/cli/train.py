"""``ddrm-pyg train``: MF or DDRM on a world, also under torchrun."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ddrm_pyg.cli import _options as options

EXAMPLES = (
    "ddrm-pyg train --world world --out trained",
    "torchrun --nproc-per-node 2 -m ddrm_pyg train --world world --out trained",
)
"""Shown below the help."""


def command(
    world: Annotated[Path, typer.Option(help="What 'shard' wrote.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the results.")],
    method: Annotated[
        Literal["ddrm", "mf"],
        typer.Option(help="DDRM on the world's vectors, or MF, which makes them."),
    ] = "ddrm",
    hidden: Annotated[
        str | None,
        typer.Option(help="Hidden widths of DDRM's networks; 1000,300,1000 if none."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of DDRM's forward process; 50 if none."),
    ] = None,
    dim: Annotated[
        int | None, typer.Option(min=1, help="Width of MF's vectors; 64 if none.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs at most.")] = 20,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Triplets of a batch, of all processes together.")
    ] = 2048,
    lr: Annotated[float, typer.Option(min=1e-12, help="Learning rate.")] = 1e-3,
    patience: Annotated[
        int, typer.Option(min=1, help="Epochs without a new best before it stops.")
    ] = 5,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train MF or DDRM on a world, in one process or in those that torchrun starts."""
    widths = _widths(hidden or "1000,300,1000")
    foreign = {"dim": dim} if method == "ddrm" else {"hidden": hidden, "steps": steps}
    for name, value in foreign.items():
        if value is not None:
            raise ValueError(f"'--{name}' is not for '--method {method}' (got {value})")
    options.check_there(world)
    import torch

    from ddrm_pyg.cli._output import print_json
    from ddrm_pyg.nn.ddrm import DDRM
    from ddrm_pyg.scale.train import METRIC, WEIGHTS, launched, train
    from ddrm_pyg.scale.train_mf import train_mf
    from ddrm_pyg.scale.world import World

    opened = World.open(world)
    fit: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    fit |= {"seed": seed, "patience": patience}
    with launched():
        if method == "mf":
            history = train_mf(opened, out, embedding_dim=dim or 64, **fit)
        else:
            torch.manual_seed(seed)
            width = opened.item_emb().size(1)
            ddrm = DDRM(width, widths, num_train_timesteps=steps or 50)
            history = train(opened, ddrm, out, **fit)
        first = not torch.distributed.is_initialized() or (
            torch.distributed.get_rank() == 0
        )
    if not first:
        return
    best = max(history, key=lambda record: record[METRIC])
    where = out / WEIGHTS if method == "ddrm" else opened.emb_path("item").parent
    if as_json:
        print_json({"out": str(out), "best": best, "history": history})
        return
    print(f"epoch {best['epoch']}: {METRIC} {best[METRIC]:.4f}, see {where}")


def _widths(words: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in options.split(words))
    except ValueError:
        raise ValueError(
            f"'--hidden' must be whole numbers like 1000,300 (got '{words}')"
        ) from None
