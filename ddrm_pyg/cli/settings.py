"""``ddrm-pyg settings``: the stored settings, read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ddrm_pyg.checks import nearest
from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._command import PLAIN, Group, add

FOLDER = Path(__file__).parents[1] / "experiments" / "settings"
"""One JSON file for each name that ``--settings`` knows."""


def app() -> typer.Typer:
    """List the stored settings, or show some."""
    group = typer.Typer(help=app.__doc__, cls=Group, **PLAIN, add_completion=False)
    add(group, "list", list_settings, ["ddrm-pyg settings list"])
    add(group, "show", show, ["ddrm-pyg settings show ddrm_future > mine.json"])
    return group


def list_settings(as_json: options.Json = False) -> None:
    """List names, methods and where each comes from."""
    settings = {name: _read(name) for name in _names()}
    if as_json:
        print(json.dumps({"settings": settings}))
        return
    width = max(map(len, settings))
    for name, record in settings.items():
        print(f"{name:{width}}  {_first_clause(record['about'])}")


def show(
    name: Annotated[str, typer.Argument(help="A name that `settings list` gives.")],
    as_json: options.Json = False,
) -> None:
    """Print settings as the JSON that --settings takes."""
    names = _names()
    if name not in names:
        raise ValueError(
            f"'name' must be a name that 'ddrm-pyg settings list' gives "
            f"(got '{name}'{nearest(name, names)})"
        )
    print(json.dumps(_read(name), indent=None if as_json else 1))


def _names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def _first_clause(text: str) -> str:
    return text.partition(";")[0]
