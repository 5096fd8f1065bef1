"""``ddrm-pyg train``: a DDRM on a world, also under torchrun."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._output import print_json
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.scale.train import METRIC, WEIGHTS, launched, train
from ddrm_pyg.scale.world import World

EXAMPLES = (
    "ddrm-pyg train --world world --out trained",
    "torchrun --nproc-per-node 2 -m ddrm_pyg train --world world --out trained",
)
"""Shown below the help."""


def command(
    world: Annotated[Path, typer.Option(help="What 'shard' wrote, with embeddings.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the results.")],
    hidden: Annotated[
        str, typer.Option(help="Hidden widths of the networks.")
    ] = "1000,300,1000",
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of the forward process.")
    ] = 50,
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
    """Train DDRM on a world, in one process or in those that torchrun starts."""
    widths = _widths(hidden)
    with launched():
        opened = World.open(world)
        torch.manual_seed(seed)
        ddrm = DDRM(opened.item_emb().size(1), widths, num_train_timesteps=steps)
        history = train(
            opened,
            ddrm,
            out,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            patience=patience,
        )
        first = not torch.distributed.is_initialized() or (
            torch.distributed.get_rank() == 0
        )
    if not first:
        return
    best = max(history, key=lambda record: record[METRIC])
    if as_json:
        print_json({"out": str(out), "best": best, "history": history})
        return
    print(f"epoch {best['epoch']}: {METRIC} {best[METRIC]:.4f}, see {out / WEIGHTS}")


def _widths(words: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in options.split(words))
    except ValueError:
        raise ValueError(
            f"'--hidden' must be whole numbers like 1000,300 (got '{words}')"
        ) from None
