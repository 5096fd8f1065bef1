"""Lines as they are measured, made up by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ddrm_pyg.paper.results import BlockResult, LineResult, Reproduction
from ddrm_pyg.ranking import METRICS

MakeLine = Callable[..., LineResult]


@pytest.fixture
def make_line() -> MakeLine:
    """A line with the same value for all metrics, of each seed."""

    def make(name: str, *values: float, **fields: Any) -> LineResult:
        paper = fields.pop("paper", None)
        defaults = {
            "asked": 3,
            "seeds": list(range(len(values))),
            "values": {metric: list(values) for metric in METRICS} if values else {},
            "paper": {} if paper is None else dict.fromkeys(METRICS, paper),
        }
        return LineResult(name, **{**defaults, **fields})

    return make


@pytest.fixture
def make_table() -> Callable[..., Reproduction]:
    """A table of some blocks."""

    def make(*blocks: BlockResult, **fields: Any) -> Reproduction:
        defaults = {
            "what": "table2",
            "data": "a world",
            "settings": None,
            "ddrm_settings": None,
            "command": "ddrm-pyg reproduce table2 --data 'a world'",
            "versions": {"torch": "2.9"},
            "statistics": None,
            "fingerprints": {"noisy validation": "abc" * 10},
        }
        return Reproduction(**{**defaults, "blocks": list(blocks), **fields})

    return make
