"""Results made up by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from ddrm_pyg.experiments.cells import Cell, Result
from ddrm_pyg.ranking import Metrics

MakeResult = Callable[..., Result]


@pytest.fixture
def make_result() -> MakeResult:
    """A result whose NDCG@20 is given user by user; the other metrics follow it."""

    def make(
        ndcg: Sequence[float],
        method: str = "mf",
        history: Sequence[dict[str, float]] = (),
        best_epoch: int | None = None,
        coverage: float = 0.5,
    ) -> Result:
        value = torch.tensor(ndcg)
        names = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
        per_user = {name: value / (10 - i) * 7 for i, name in enumerate(names)}
        per_user["ndcg@20"] = value
        per_user["popularity@20"] = 1000 * value
        overall = {"coverage@20": coverage}
        return Result(
            cell=Cell(method),
            folder=Path("nowhere"),
            val={},
            test=Metrics(torch.arange(len(value)), per_user, overall),
            notes={},
            history=list(history),
            best_epoch=best_epoch,
            seconds=0.0,
            peak_memory=0,
            num_parameters=None,
        )

    return make
