"""``ddrm-pyg serve``: an export behind HTTP. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = ("ddrm-pyg serve exported --port 8000",)
"""Shown below the help."""


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What 'export' wrote as ONNX.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine's.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")
    ] = 8000,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads that compute one answer.")
    ] = 1,
    max_history: Annotated[
        int, typer.Option(min=1, help="Ids of one history at most; else status 413.")
    ] = 1000,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Lists of one request at most; else status 413.")
    ] = 256,
    drain: Annotated[
        float,
        typer.Option(min=0, help="Seconds unhealthy but answering, before it stops."),
    ] = 1.0,
) -> None:
    """Answer with lists over HTTP until told to stop; SIGHUP loads the export anew."""
    from ddrm_pyg.serving.app import Limits, Service, run

    limits = Limits(history=max_history, batch=max_batch)
    run(Service(folder, limits, threads), host, port, drain)
