"""The command line: ``ddrm-pyg COMMAND``, one thin file per command."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from importlib import metadata
from typing import Annotated

import typer

from ddrm_pyg.cli._report import COMMAND

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    Anything a user can cause (a wrong option, a bad file, a missing path) ends in one
    line on stderr and status 2; an interrupt in status 130.

    Args:
        arguments: Words after ``ddrm-pyg``; those of the process if None.
    """
    # before torch is imported: idle OpenMP threads that spin make every step many
    # times slower as soon as another process runs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(stream=sys.stderr, format="%(message)s", force=True)
    logging.getLogger("ddrm_pyg").setLevel(logging.INFO)
    words = sys.argv[1:] if arguments is None else arguments
    COMMAND.set(shlex.join(["ddrm-pyg", *words]))
    try:
        result = _app()(
            args=words or ["--help"], prog_name="ddrm-pyg", standalone_mode=False
        )
    except (typer.Abort, KeyboardInterrupt):
        result = _INTERRUPTED
    except typer.TyperException as error:
        return _fail(error.format_message())
    except (ValueError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        return _fail(str(error))
    if result == _INTERRUPTED:  # typer's word for it, too
        print("ddrm-pyg: interrupted", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _app() -> typer.Typer:
    from ddrm_pyg.cli import (
        audit,
        clean,
        compare,
        data,
        denoise,
        doctor,
        evaluate,
        recommend,
        reproduce,
        run,
        tune,
    )

    app = typer.Typer(
        name="ddrm-pyg",
        help="Recommenders that survive noisy clicks.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )

    @app.callback()
    def options(
        context: typer.Context,
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                help="Print the version and exit.",
                is_eager=True,
                callback=_print_version,
            ),
        ] = False,
    ) -> None:
        _refuse_several_processes(context.invoked_subcommand)

    commands = (
        *(run, compare, reproduce, evaluate, denoise, recommend),
        *(tune, audit, clean, doctor),
    )
    for command in commands:
        app.command(command.__name__.rpartition(".")[2])(command.command)
    app.add_typer(data.app(), name="data")
    return app


def _refuse_several_processes(command: str | None) -> None:
    """Stop where a launcher such as torchrun would do the same job several times."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1":
        raise ValueError(f"'{command}' runs in one process (got WORLD_SIZE={count})")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ddrm-pyg {metadata.version('ddrm_pyg')}")
        raise typer.Exit


def _fail(message: str) -> int:
    line = " ".join(message.replace("Value error, ", "").split())
    print(f"ddrm-pyg: error: {line}", file=sys.stderr)
    return 2
