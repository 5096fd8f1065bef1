"""``ddrm-pyg settings``: the stored settings, read without torch."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from ddrm_pyg.cli._command import PLAIN, add

FOLDER = Path(__file__).parents[1] / "experiments" / "settings"
"""One JSON file for each name that ``--settings`` knows."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
"""As in ``_options``, which imports torch."""


def app() -> typer.Typer:
    """List the stored settings, or show some."""
    group = typer.Typer(help=app.__doc__, **PLAIN, add_completion=False)
    add(group, "list", list_settings, ["ddrm-pyg settings list"])
    add(group, "show", show, ["ddrm-pyg settings show ddrm_future > mine.json"])
    return group


def list_settings(as_json: Json = False) -> None:
    """List names, methods and where each comes from."""
    stored = {path.stem: _read(path) for path in sorted(FOLDER.glob("*.json"))}
    if as_json:
        print(json.dumps({"settings": stored}))
        return
    width = max(map(len, stored))
    for name, record in stored.items():
        print(f"{name:{width}}  {_first_clause(record['about'])}")


def show(
    name: Annotated[str, typer.Argument(help="A name that `settings list` gives.")],
    as_json: Json = False,
) -> None:
    """Print settings as the JSON that --settings takes."""
    path = FOLDER / f"{name}.json"
    known = {stored.stem for stored in FOLDER.glob("*.json")}
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"'name' must be one that `settings list` gives (got '{name}'{hint})"
        )
    print(json.dumps(_read(path), indent=None if as_json else 1))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def _first_clause(text: str) -> str:
    return text.partition(";")[0]
