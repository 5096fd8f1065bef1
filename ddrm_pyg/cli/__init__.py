"""The command line: ``ddrm-pyg COMMAND``, one thin file per command."""

from __future__ import annotations

import ast
import io
import logging
import os
import re
import shlex
import sys
from contextvars import copy_context
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import CompletionItem, TyperGroup

from ddrm_pyg.checks import nearest, nearest_path
from ddrm_pyg.cli._command import PLAIN, add
from ddrm_pyg.cli._report import COMMAND
from ddrm_pyg.messages import ASSUMED

_INTERRUPTED = 130

logger = logging.getLogger("ddrm_pyg")


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
    _print_anything()
    logging.basicConfig(stream=sys.stderr, format="%(message)s", force=True)
    logger.setLevel(logging.INFO)
    ASSUMED.setLevel(logging.NOTSET)
    words = sys.argv[1:] if arguments is None else arguments
    COMMAND.set(shlex.join(["ddrm-pyg", *words]))
    try:
        result = copy_context().run(
            app(),
            args=words or ["--help"],
            prog_name="ddrm-pyg",
            standalone_mode=False,
        )
    except (typer.Abort, KeyboardInterrupt):
        result = _INTERRUPTED
    except typer.TyperException as error:
        return _fail(_with_nearest(_refusal(error)))
    except (ValueError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        return _fail(_message(error))
    if result == _INTERRUPTED:  # typer's word for it, too
        goes_on = words and words[0] in RESUMED
        hint = "; the same command goes on from here" if goes_on else ""
        print(f"ddrm-pyg: interrupted{hint}", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _print_anything() -> None:
    """Let no terminal refuse an id: escapes there, UTF-8 in files and pipes."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8")


COMMANDS = (
    *("run", "compare", "reproduce", "evaluate", "denoise", "recommend"),
    *("export", "serve", "shard", "train", "bulk", "tune", "audit", "clean"),
    *("settings", "doctor", "data"),
)
"""Files of this folder, in the order of the help: a function ``command`` and its
``EXAMPLES`` each, or a function ``app`` that makes a group of commands."""

RESUMED = (
    *("run", "compare", "reproduce", "denoise", "train", "bulk", "tune"),
    *("audit", "clean"),
)
"""What keeps all that it has finished, and goes on where it was stopped."""


class Commands(TyperGroup):
    """Imports a command once it is called: what only prints does without torch."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{cmd_name}")
        if hasattr(module, "app"):
            return typer.main.get_command(module.app())
        single = typer.Typer(**PLAIN, add_completion=False)
        add(single, cmd_name, module.command, module.EXAMPLES)
        return typer.main.get_command(single)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the names of commands, without importing them."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        items = [CompletionItem(name, help=_summary(name)) for name in names]
        return items + super(TyperGroup, self).shell_complete(ctx, incomplete)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands with their summaries, read from their files."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name)) for name in COMMANDS])


def _summary(name: str) -> str:
    """Read the first line that a command says of itself, without importing it."""
    path = Path(__file__).with_name(f"{name}.py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name in ("command", "app"):
            return (ast.get_docstring(node) or "").partition("\n")[0]
    raise LookupError(f"{path}: no function 'command' or 'app'")


def app() -> typer.Typer:
    """Build the whole command line."""
    program = typer.Typer(
        name="ddrm-pyg",
        help="Recommenders that survive noisy clicks.",
        cls=Commands,
        **PLAIN,
    )

    @program.callback()
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

    return program


def _refuse_several_processes(command: str | None) -> None:
    """Stop where a launcher such as torchrun would do the same job several times."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1" and command != "train":
        raise ValueError(f"'{command}' runs in one process (got WORLD_SIZE={count})")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ddrm-pyg {metadata.version('ddrm_pyg')}")
        raise typer.Exit


def _refusal(error: typer.TyperException) -> str:
    """What typer refuses, with the value that was typed, or what was meant."""
    if possibilities := getattr(error, "possibilities", None):
        return f"{error.message}; did you mean '{possibilities[0]}'?"
    message = error.format_message()
    reasons = getattr(error.__cause__, "errors", None)  # pydantic's
    value = reasons()[0]["input"] if reasons else None
    says_it = value is None or repr(value) in message
    return message if says_it else f"{message} (got {value!r})"


def _with_nearest(message: str) -> str:
    """Suggest what was probably meant before all choices of an option are listed."""
    refused = re.fullmatch(r"(.*'(.*)') is not (one of (.*))", message)
    if refused is None:
        return message
    start, word, rule, choices = refused.groups()
    meant = nearest(word, re.findall(r"'([^']*)'", choices))
    return f"{start}{meant} It must be {rule}" if meant else message


def _message(error: Exception) -> str:
    """What went wrong; of the system's errors, the file first and no number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        problem = f"{error.strerror[0].lower()}{error.strerror[1:]}"
        missing = isinstance(error, FileNotFoundError)
        hint = nearest_path(error.filename) if missing else ""
        return f"{error.filename}: {problem}{hint}"
    if isinstance(error, MemoryError) and not error.args:
        return "out of memory, and Python does not say what for"
    return str(error)


def _fail(message: str) -> int:
    logger.debug("", exc_info=True)
    line = " ".join(message.replace("Value error, ", "").split())
    print(f"ddrm-pyg: error: {line}", file=sys.stderr)
    return 2
