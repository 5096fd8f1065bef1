"""The names on the face: typed, lazy, listed, and a word on where the others are.

mypy checks this file with the package (``files`` in pyproject.toml): were a name of the
face ``Any``, its ``assert_type`` would fail, and its ``type: ignore`` be unused.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any, assert_type

import pytest
import torch

import ddrm_pyg
from ddrm_pyg import (
    DDRM,
    MF,
    SGL,
    DDRMRecommender,
    Embeddings,
    InteractionGraph,
    LightGCN,
    evaluate,
    fit,
    load_interactions,
    recommend,
)
from ddrm_pyg.ranking import Metrics
from ddrm_pyg.training import FitResult

FACE = Path(ddrm_pyg.__file__)


def test_names_have_their_types() -> None:
    emb = Embeddings(torch.zeros(2, 4), torch.zeros(3, 4))
    graph = InteractionGraph(torch.tensor([[0, 1], [0, 2]]), 2, 3)
    ddrm = DDRM(embedding_dim=4, hidden_dims=(8,))
    assert_type(emb, Embeddings)
    assert_type(graph, InteractionGraph)
    assert_type(ddrm, DDRM)
    assert_type(DDRMRecommender(ddrm, emb), DDRMRecommender)
    assert_type(MF(2, 3), MF)
    assert_type(LightGCN(2, 3), LightGCN)
    assert_type(SGL(2, 3), SGL)
    assert_type(
        recommend(emb, torch.tensor([0]), k=1), tuple[torch.Tensor, torch.Tensor]
    )


def test_verbs_have_their_types() -> None:
    def never_called(data: Any) -> None:
        assert_type(evaluate(Embeddings.load("x.npz"), data), Metrics)
        assert_type(fit(MF(2, 3), data), FitResult)

    assert callable(never_called)


def test_a_misspelt_argument_is_seen_by_mypy_and_at_run_time() -> None:
    with pytest.raises(TypeError, match="embeding_dim"):
        DDRM(embeding_dim=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="usr"):
        load_interactions("clicks.csv", usr="uid")  # type: ignore[call-arg]


def test_what_is_typed_is_what_is_lazy() -> None:
    typed = {
        alias.asname: node.module
        for node in ast.walk(ast.parse(FACE.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert typed == ddrm_pyg._HOME


def test_dir_shows_the_public_names_only() -> None:
    assert dir(ddrm_pyg) == sorted([*ddrm_pyg.__all__, "__version__"])
    assert all(hasattr(ddrm_pyg, name) for name in dir(ddrm_pyg))


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("EASE", "ddrm_pyg.nn.models"),
        ("DiffRec", "ddrm_pyg.nn.models"),
        ("DeCA", "ddrm_pyg.nn.deca"),
        ("MovieLens1M", "ddrm_pyg.datasets"),
        ("TruncatedLoss", "ddrm_pyg.losses"),
        ("RandomNoise", "ddrm_pyg.transforms"),
        ("check_scorer", "ddrm_pyg.testing"),
    ],
)
def test_names_of_other_modules_are_hinted(name: str, module: str) -> None:
    with pytest.raises(AttributeError, match=f": from {module} import {name}$"):
        getattr(ddrm_pyg, name)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        ddrm_pyg.nothing  # noqa: B018
    assert not hasattr(ddrm_pyg, "__wrapped__")


def test_the_import_is_lazy_and_modules_are_attributes() -> None:
    program = (
        "import sys, ddrm_pyg; dir(ddrm_pyg); hasattr(ddrm_pyg, '_x')\n"
        "assert 'torch' not in sys.modules\n"
        "assert ddrm_pyg.ranking.evaluate is ddrm_pyg.evaluate"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
