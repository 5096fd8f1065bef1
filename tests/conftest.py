"""Graphs and results that the tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.ranking import Metrics
from ddrm_pyg.typing import Scorer

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: a thread each
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start

settings.register_profile(
    "ddrm_pyg", deadline=None, max_examples=40, derandomize=True, database=None
)
settings.load_profile("ddrm_pyg")


def pytest_collection_finish() -> None:
    """Spare collections of garbage what is imported: 0.25 s at every training."""
    gc.freeze()


@st.composite
def interaction_graphs(draw: st.DrawFn) -> InteractionGraph:
    """Small graphs in any edge order: lonely nodes, repeated pairs, no edge at all."""
    num_users = draw(st.integers(1, 5))
    num_items = draw(st.integers(1, 6))
    pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    pairs = draw(st.lists(pair, max_size=20))
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
    return InteractionGraph(edge_index, num_users, num_items)


st.register_type_strategy(InteractionGraph, interaction_graphs())


@pytest.fixture
def golden() -> Callable[[str], str]:
    """Read a text that people see, as it is kept in ``tests/golden``."""

    def read(name: str) -> str:
        return (Path(__file__).parent / "golden" / name).read_text(encoding="utf-8")

    return read


@pytest.fixture
def data() -> HeteroData:
    """Three users and four items: user 2 and item 3 only occur in held-out pairs."""
    data = HeteroData()
    data["user"].num_nodes = 3
    data["item"].num_nodes = 4
    data[EDGE].edge_index = torch.tensor([[1, 0, 0], [2, 1, 0]])
    data[EDGE].val_edge_label_index = torch.tensor([[0], [3]])
    data[EDGE].test_edge_label_index = torch.tensor([[1, 2], [0, 3]])
    return data


@pytest.fixture
def path_graph() -> InteractionGraph:
    """u0-i0, u0-i1, u1-i1: small enough to propagate by hand."""
    return InteractionGraph(torch.tensor([[0, 0, 1], [0, 1, 1]]), 2, 2)


@pytest.fixture
def share_above() -> Callable[[Scorer, InteractionGraph], float]:
    """Share of all pairs of a click and another pair in which the click scores more."""

    def share(scorer: Scorer, graph: InteractionGraph) -> float:
        scores = scorer.scores(torch.arange(graph.num_users))
        clicked = torch.zeros_like(scores, dtype=torch.bool)
        clicked[tuple(graph.edge_index)] = True
        above = scores[clicked].unsqueeze(1) > scores[~clicked]
        return float(above.float().mean())

    return share


@pytest.fixture
def agrees(request: pytest.FixtureRequest) -> Callable[[Any, Any], None]:
    """Compare numbers to as many digits as the test's fidelity mark promises."""
    mark = request.node.get_closest_marker("fidelity")
    tolerance = 10.0 ** -mark.kwargs["digits"]

    def check(ours: Any, expected: Any) -> None:
        ours, expected = (
            torch.as_tensor(x).detach().double() for x in (ours, expected)
        )
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)

    return check


@dataclass(frozen=True)
class Checkerboard:
    """Users and items of two colours: everyone owns the own colour but the diagonal.

    The item withheld from a user is the only unseen one of the user's colour, so a
    model that has understood the world puts it first.
    """

    graph: InteractionGraph
    withheld: Tensor

    def first_choice(self, scorer: Scorer) -> Tensor:
        """Return the best unseen item of every user."""
        scores = scorer.scores(torch.arange(self.graph.num_users)).detach().clone()
        scores[tuple(self.graph.edge_index)] = -torch.inf
        return scores.argmax(1)


@pytest.fixture
def checkerboard() -> Checkerboard:
    """Twelve users and twelve items."""
    node = torch.arange(12)
    same_colour = node.unsqueeze(1) % 2 == node % 2
    own = same_colour & ~torch.eye(12, dtype=torch.bool)
    return Checkerboard(InteractionGraph(own.nonzero().T, 12, 12), node)


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
