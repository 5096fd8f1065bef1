"""Keep results that are small enough for the repository, and one page from them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ddrm_pyg.files import atomic_path, read_json, undamaged, write_json, write_text
from ddrm_pyg.paper.outline import TARGETS
from ddrm_pyg.paper.page import to_markdown
from ddrm_pyg.paper.results import BlockResult, KeptCell, Reproduction

RESULTS = "results"
"""A cell per file: method, data, seed, selection and the four metrics."""

PLOTS = "plots"
"""A picture per table or figure of which something has been run."""

TABLES = "tables"
"""A table or figure per file: what was measured of its lines, tests included."""

PAGE = "results.md"

_HEAD = """# Results

**[Findings](findings.md) sum up; here is every table, the paper's numbers beside.**
Written by `ddrm-pyg reproduce ... --docs docs` from [`tables/`](tables); the cells are
files of their own in [`results/`](results). A place that has not been run is empty; it
is never filled from the paper. The authors publish the split `ml-1m/natural`.
"""


def keep(
    docs: Path,
    reproduction: Reproduction,
    cells: Iterable[KeptCell],
    plot: bytes | None = None,
) -> None:
    """Add what was reproduced to a folder, and write its page again.

    Args:
        docs: The folder.
        reproduction: What was measured.
        cells: From :func:`ddrm_pyg.paper.results.kept_cells`.
        plot: A PNG.

    Raises:
        ValueError: Lines or results that are kept there would be lost, or are of other
            data or another DDRM.
    """
    path = docs / TABLES / f"{_name(reproduction)}.json"
    if path.exists():
        kept = _read(path)
        _check_same(path, kept, reproduction)
        _check_nothing_lost(path, kept, reproduction)
    for cell in cells:
        name = f"{cell.method}-seed{cell.seed}-{cell.selected_on}"
        name = cell.method if cell.seed is None else name
        write_json(_cell_path(docs, cell.data, name), cell._asdict())
    blocks = [_without_settings(block) for block in reproduction.blocks]
    write_json(path, replace(reproduction, blocks=blocks).to_json())
    if plot is not None:
        with atomic_path(docs / PLOTS / f"{_name(reproduction)}.png") as temporary:
            temporary.write_bytes(plot)
    write_page(docs)


def _cell_path(docs: Path, data: str, name: str) -> Path:
    return docs / RESULTS / _slug(data) / f"{_slug(name)}.json"


def _check_same(path: Path, kept: Reproduction, new: Reproduction) -> None:
    """Refuse a table of another DDRM or of other data, whose cells would be mixed."""
    # a condition that only one has is no contradiction
    both = sorted(kept.fingerprints.keys() & new.fingerprints.keys())
    for name, old, now in (
        ("ddrm_settings", kept.ddrm_settings, new.ddrm_settings),
        (
            "fingerprints",
            {condition: kept.fingerprints[condition] for condition in both},
            {condition: new.fingerprints[condition] for condition in both},
        ),
    ):
        if old != now:
            raise ValueError(
                f"{path}: must have the same {name} ({old} there, got {now}); delete "
                f"it and its cells in '{RESULTS}' first, or keep it in another folder"
            )


def _check_nothing_lost(path: Path, kept: Reproduction, new: Reproduction) -> None:
    now = _runs(new)
    for line, run in _runs(kept).items():
        if now.get(line, -1) < run:
            raise ValueError(
                f"{path}: must not lose lines or results (got {now.get(line, 'none')} "
                f"of {run} of {line}); ask for all rows, backends and validation "
                "sets, with the '--out' that has the results, or delete it first"
            )


def _runs(reproduction: Reproduction) -> dict[str, int]:
    """Count the results behind each line, the empty lines included."""
    return {
        f"'{line.full_name}' in '{block.title}'": line.run
        for block in reproduction.blocks
        for line in block.lines
    }


def _without_settings(block: BlockResult) -> BlockResult:
    """They are in the package, and with them a table is no longer readable."""
    return replace(block, lines=[replace(line, cell=None) for line in block.lines])


def write_page(docs: Path) -> None:
    """Write the page from all tables that are kept."""
    kept = [_read(path) for path in (docs / TABLES).glob("[!.]*.json")]
    order = list(TARGETS)
    kept.sort(key=lambda table: (order.index(table.what), table.data))
    write_text(docs / PAGE, "\n".join([_HEAD, *(_section(docs, x) for x in kept)]))


def _read(path: Path) -> Reproduction:
    with undamaged(path, "not what 'reproduce --docs' writes", "delete it"):
        return Reproduction.from_json(read_json(path))


def _section(docs: Path, reproduction: Reproduction) -> str:
    plot = f"{PLOTS}/{_name(reproduction)}.png"
    return to_markdown(reproduction, plot if (docs / plot).exists() else None)


def _name(reproduction: Reproduction) -> str:
    return f"{_slug(reproduction.data)}-{reproduction.what}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9.+_-]+", "-", name)
