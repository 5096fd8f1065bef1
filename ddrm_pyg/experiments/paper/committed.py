"""Keep results that are small enough for the repository, and one page from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddrm_pyg.experiments.paper.pages import TITLES, to_markdown
from ddrm_pyg.experiments.paper.plans import full_name
from ddrm_pyg.files import atomic_path, write_json, write_text

RESULTS = "results"
"""A cell per file: method, data, seed, selection and the four metrics."""

PLOTS = "plots"
"""A picture per table or figure of which something has been run."""

TABLES = "tables"
"""A table or figure per file: what was measured of its lines, tests included."""

PAGE = "results.md"

_HEAD = """# Results

Written by `ddrm-pyg reproduce ... --docs docs`, from the tables in [`tables/`](tables),
whose cells are files of their own in [`results/`](results). A place that has not been
run is empty; it is never filled from the paper. `ml-1m/natural` is the split that the
paper's authors publish; the [README](../README.md) says where.
"""


def keep(
    docs: Path,
    record: dict[str, Any],
    cells: Iterable[dict[str, Any]],
    plot: bytes | None = None,
) -> None:
    """Add what was reproduced to a folder, and write its page again.

    Args:
        docs: The folder.
        record: From :func:`ddrm_pyg.experiments.paper.record.as_record`.
        cells: From :func:`ddrm_pyg.experiments.paper.tables.cell_records`.
        plot: A PNG.

    Raises:
        ValueError: Lines or results that are kept there would be lost, or are of other
            data or another DDRM.
    """
    path = docs / TABLES / f"{_name(record)}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        _check_same(path, kept, record)
        known, found = _runs(kept), _runs(record)
        for line, run in known.items():
            if found.get(line, -1) < run:
                raise ValueError(
                    f"{path}: must not lose lines or results (got "
                    f"{found.get(line, 'none')} of {run} of {line}); ask for all "
                    "rows, backends and validation sets, with the '--out' that has "
                    "the results, or delete it first"
                )
    for cell in cells:
        selected = cell["selected_on"] or ""
        name = f"{cell['method']}-seed{cell['seed']}-{selected}"
        name = name if cell["seed"] is not None else cell["method"]
        write_json(docs / RESULTS / _slug(cell["data"]) / f"{_slug(name)}.json", cell)
    blocks = [
        {**block, "lines": [_without_settings(line) for line in block["lines"]]}
        for block in record["blocks"]
    ]
    write_json(path, {**record, "blocks": blocks})
    if plot is not None:
        with atomic_path(docs / PLOTS / f"{_name(record)}.png") as temporary:
            temporary.write_bytes(plot)
    write_page(docs)


def _check_same(path: Path, kept: dict[str, Any], record: dict[str, Any]) -> None:
    """Refuse a table of another DDRM or of other data, whose cells would be mixed."""
    for name in ("ddrm_settings", "fingerprints"):
        old, new = kept[name], record[name]
        if isinstance(old, dict):  # a condition that only one has is no contradiction
            both = old.keys() & new.keys()
            old, new = ({k: told[k] for k in sorted(both)} for told in (old, new))
        if old != new:
            raise ValueError(
                f"{path}: must have the same {name} ({old} there, got {new}); delete "
                f"it and its cells in '{RESULTS}' first, or keep it in another folder"
            )


def write_page(docs: Path) -> None:
    """Write the page from all tables that are kept."""
    records = [
        json.loads(path.read_text()) for path in (docs / TABLES).glob("[!.]*.json")
    ]
    order = list(TITLES)
    records.sort(key=lambda record: (order.index(record["what"]), record["data"]))
    text = "\n".join([_HEAD, *(_section(docs, record) for record in records)])
    write_text(docs / PAGE, text)


def _section(docs: Path, record: dict[str, Any]) -> str:
    plot = f"{PLOTS}/{_name(record)}.png"
    return to_markdown(record, plot if (docs / plot).exists() else None)


def _name(record: dict[str, Any]) -> str:
    return f"{_slug(record['data'])}-{record['what']}"


def _runs(record: dict[str, Any]) -> dict[str, int]:
    """Count the results behind each line, the empty lines included."""
    return {
        f"'{full_name(line['name'], line['at'])}' in '{block['title']}'": line["run"]
        for block in record["blocks"]
        for line in block["lines"]
    }


def _without_settings(line: dict[str, Any]) -> dict[str, Any]:
    """They are in the package, and with them a table is no longer readable."""
    return {name: value for name, value in line.items() if name != "cell"}


def _slug(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9.+_-]+", "-", name)
