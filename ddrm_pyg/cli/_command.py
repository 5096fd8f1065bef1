"""What every command has: how much it says, and examples below its help."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ddrm_pyg.checks import nearest
from ddrm_pyg.messages import ASSUMED

PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
"""How all typer apps print."""

logger = logging.getLogger("ddrm_pyg")


def _say_less(asked: bool) -> None:
    if asked:
        from ddrm_pyg.progress import HIDDEN  # a help needs no bars

        HIDDEN.set(True)
        logger.setLevel(logging.WARNING)
        ASSUMED.setLevel(logging.ERROR)


def _say_more(asked: bool) -> None:
    if asked:
        logger.setLevel(logging.DEBUG)


def _options(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Only results, warnings and errors.",
            callback=_say_less,
            expose_value=False,
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Also the traceback of an error.",
            callback=_say_more,
            expose_value=False,
        ),
    ] = False,
) -> None: ...


def parameters_of(function: Any) -> list[Any]:
    """What typer makes of a function's parameters: options and arguments."""
    app = typer.Typer(**PLAIN, add_completion=False)
    app.command()(function)
    return typer.main.get_command(app).params


class Command(TyperCommand):
    """A command with ``--quiet``, ``--verbose`` and, as its epilog, examples.

    Args:
        *args: As for typer's own class.
        **attrs: The same; ``epilog`` holds a command line on each line.
    """

    def __init__(self, *args: Any, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.params += parameters_of(_options)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """List the examples."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(TyperGroup):
    """Commands of one kind, below a command's name, with whole summaries."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands with the first lines of their helps."""
        lines = {n: str(c.help).splitlines()[0] for n, c in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl([*lines.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find what is called; of anything else, show how a call is written."""
        if args and args[0] not in self.commands:
            command, names = ctx.command_path, list(self.commands)
            example = f"; for example: {command} {names[0]} {shlex.join(args)}"
            raise ValueError(
                f"'{command}' must go on with {' or '.join(map(repr, names))} "
                f"(got '{args[0]}'){nearest(args[0], names) or example}"
            )
        return super().resolve_command(ctx, args)


def add(app: typer.Typer, name: str, command: Any, examples: Sequence[str]) -> None:
    """Add a command to an app.

    Args:
        app: Gets the command.
        name: What is typed.
        command: A function with typer's annotations; a decorator may have left the
            class of its command in ``cls``.
        examples: Whole command lines.
    """
    cls = getattr(command, "cls", Command)
    app.command(name, cls=cls, epilog="\n".join(examples))(command)
