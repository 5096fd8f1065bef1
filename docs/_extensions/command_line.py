"""The directive ``command-line``: every command, read off the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.core import TyperGroup

from ddrm_pyg.cli import app


class CommandLine(SphinxDirective):
    """Writes a section per command: what it does, its usage and its options."""

    def run(self) -> list[nodes.Node]:
        """Parse the reference as if it stood on the page."""
        group = typer.main.get_command(app())
        text = "\n".join(_lines(group, "ddrm-pyg"))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _lines(command: Any, name: str) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    yield f"## {name}\n"
    yield f"{(command.help or '').strip()}\n"
    yield f"```text\n{command.get_usage(context)}\n```\n"
    rows = [parameter.get_help_record(context) for parameter in command.params]
    rows = [row for row in rows if row]
    if rows:
        yield "```{list-table}\n:header-rows: 1\n:widths: 40 60\n"
        yield "* - option\n  - meaning"
        for option, meaning in rows:
            yield f"* - `{option}`\n  - {meaning.replace('*', chr(92) + '*')}"
        yield "```\n"
    if isinstance(command, TyperGroup):
        for child in command.list_commands(context):
            yield from _lines(command.get_command(context, child), f"{name} {child}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
