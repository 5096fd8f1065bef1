"""What was reproduced, as one record, which pages and committed files come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddrm_pyg.experiments.paper.conditions import GIVEN, Condition, paper_name
from ddrm_pyg.experiments.paper.execute import Benches, Found
from ddrm_pyg.experiments.paper.plans import Block, Plan
from ddrm_pyg.experiments.paper.table1 import table1
from ddrm_pyg.experiments.paper.tables import block_record
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.stored import load_settings
from ddrm_pyg.extras import versions


def as_record(
    what: str,
    plan: Plan,
    blocks: Sequence[Block],
    found: Sequence[Sequence[Sequence[Found]]],
    benches: Benches,
    command: str,
) -> dict[str, Any]:
    """Measure what there is of a table or figure, for JSON.

    Args:
        what: ``table1`` to ``figure6``.
        plan: What was asked for.
        blocks: Its lines.
        found: What there is of each line of each block, cell by cell.
        benches: The data.
        command: What makes it again.

    Returns:
        ``what``; ``data``, their name; ``settings``, the data set whose settings are
        taken; ``ddrm_settings``, what replaces the published ones, or None;
        ``command``; ``versions``, see :func:`ddrm_pyg.extras.versions`;
        ``statistics``, of Table 1 alone; ``blocks``, see
        :func:`ddrm_pyg.experiments.paper.tables.block_record`; and ``fingerprints`` of
        the data by condition.
    """
    source = benches.source
    conditions = _conditions(blocks)
    return {
        "what": what,
        "data": conditions[0].base(source).name,
        "settings": plan.variant,
        "ddrm_settings": _told(plan.ddrm_settings),
        "command": command,
        "versions": versions(),
        "statistics": table1(source) if what == "table1" else None,
        "blocks": [
            block_record(block, cells, what, paper_name(source, "natural"))
            for block, cells in zip(blocks, found, strict=True)
        ],
        "fingerprints": {
            condition.name: runner.fingerprint
            for condition in conditions
            if isinstance(runner := benches.find(condition), Runner)
        },
    }


def _conditions(blocks: Sequence[Block]) -> list[Condition]:
    """What is done to the data, each once; the data as they are for no line."""
    found = dict.fromkeys(line.condition for b in blocks for line in b.lines)
    return list(found) or [GIVEN]


def _told(ddrm_settings: str | None) -> str | None:
    """What settings say of themselves that replace DDRM's published ones."""
    if ddrm_settings is None:
        return None
    about = load_settings(ddrm_settings, "ddrm").get("about", "settings of a file")
    return f"{Path(ddrm_settings).stem}: {about}"
