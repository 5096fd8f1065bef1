"""A long command says first what it has and what it will take."""

from __future__ import annotations

import json

import pytest
import torch

from ddrm_pyg.cli._start import begin
from ddrm_pyg.experiments import memory
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.experiments.tables import counted


def test_says_what_there_is_and_what_is_needed(call, words, tmp_path):
    answer = call(*words, "--out", tmp_path / "run")
    assert answer.code == 0
    lines = answer.err.splitlines()
    assert lines[0].startswith(
        f"{counted(torch.get_num_threads(), 'thread')}, device cpu"
    )
    assert lines[0].endswith("free; reading clicks takes about 1 MiB")
    (at,) = (i for i, line in enumerate(lines) if line.startswith("clicks: 20 users"))
    assert lines[at + 1].startswith("training takes about ")
    assert "(ddrm), ranking " in lines[at + 1]  # 24 items: no backend takes as much


@pytest.fixture
def little_memory(monkeypatch, tmp_path):
    """Room for the yardsticks that hold no pairs of items, and nothing else."""
    monkeypatch.setattr(memory, "free_memory", lambda _: 1 << 20)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("little_memory")
def test_a_yardstick_that_does_not_fit_is_left_out_and_a_backend_is_refused(call):
    answer = call("run", "--backend", "lightgcn", "--out", "run")
    assert answer.code == 2
    assert "ease is left out: ease on 2000 users and 1500 items needs" in answer.err
    last = answer.err.splitlines()[-1]
    assert last.startswith("ddrm-pyg: error: lightgcn on 2000 users and 1500 items")
    assert last.endswith(
        "are free: lower 'batch_size' or 'embedding_dim' or 'num_layers'"
    )


@pytest.mark.usefixtures("little_memory")
def test_a_method_that_does_not_fit_is_left_out_of_a_comparison(call):
    answer = call("compare", "--methods", "mf", "--out", "compare", "--json")
    assert answer.code == 0
    assert "mf is left out: mf on 2000 users" in answer.err
    assert [row["name"] for row in json.loads(answer.out)["rows"]] == ["popularity"]


def test_says_how_many_of_each_split_are_noise(tmp_path, caplog):
    caplog.set_level("INFO", logger="ddrm_pyg")
    path = tmp_path / "rated.csv"
    ratings = [5, 5, 1, 5, 5, 1, 5, 5]  # two are no likes, the later in validation
    rows = (f"u,i{t},{rating},{t}\n" for t, rating in enumerate(ratings))
    path.write_text("user,item,rating,time\n" + "".join(rows))
    begin(Source(str(path), liked_from=4, ratios=(0.5, 0.25, 0.25)), None)
    assert (
        "rated: 1 user, 8 items, 4 / 2 / 2 train, validation and test interactions, "
        "of which 1 / 1 / 0 are noise" in caplog.text
    )
