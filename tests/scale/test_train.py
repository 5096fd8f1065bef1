"""Training on shards learns, goes on, and is one job in several processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.scale.train import train

QUICK = {"batch_size": 4096, "lr": 1e-2}


def make(seed=0):
    torch.manual_seed(seed)
    return DDRM(10, (8,), num_train_timesteps=3)


def same(one, other):
    return all(
        torch.equal(value, other.state_dict()[name])
        for name, value in one.state_dict().items()
    )


def test_the_loss_falls_and_validation_is_that_of_the_whole(tmp_path, made):
    ddrm = make()
    history = train(made.world, ddrm, tmp_path / "out", epochs=3, **QUICK)
    assert history[-1]["loss"] < history[0]["loss"]
    best = max(history, key=lambda record: record["recall@20"])
    graph = InteractionGraph.from_data(made.data)
    mean = graph.history_mean(made.emb.item)
    ideal = ddrm.generate(mean, made.emb.user, noise=torch.zeros_like(mean))
    whole = evaluate(Embeddings(ideal, made.emb.item), made.data, split="val")
    assert best["recall@20"] == pytest.approx(whole["recall@20"], abs=1e-9)
    assert same(DDRM.from_pretrained(tmp_path / "out" / "ddrm"), ddrm)
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history


def test_a_run_that_was_stopped_ends_with_the_bits_of_a_straight_one(tmp_path, made):
    straight, stopped, on = make(), make(), make(seed=5)
    train(made.world, straight, tmp_path / "a", epochs=2, **QUICK)
    train(made.world, stopped, tmp_path / "b", epochs=1, **QUICK)
    history = train(made.world, on, tmp_path / "b", epochs=2, **QUICK)
    assert [record["epoch"] for record in history] == [1, 2]
    assert same(on, straight)
    with pytest.raises(ValueError, match="must be new or hold this run"):
        train(made.world, make(), tmp_path / "b", epochs=2, **QUICK, seed=1)


def test_a_folder_in_use_is_left_alone(tmp_path, made):
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="must be a new folder or an empty one"):
        train(made.world, make(), tmp_path, epochs=1)
    assert os.listdir(tmp_path) == ["mine"]


def launch(made, out, epochs, count):
    """Start as many processes as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "ddrm_pyg", "train", "--world", made.world.folder]
    words += ["--out", out, "--epochs", epochs, "--hidden", "8", "--steps", "3"]
    words += ["--batch-size", "4096", "--lr", "0.01", "--json"]
    shared = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = []
    for rank in range(count):
        own = {"RANK": rank, "LOCAL_RANK": rank, **shared}
        environment = {**os.environ, **{k: str(v) for k, v in own.items()}}
        children.append(
            subprocess.Popen(
                list(map(str, words)),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    answers = [child.communicate(timeout=240) for child in children]
    assert [child.returncode for child in children] == [0] * count, answers
    (first, _), *others = answers
    assert [out for out, _ in others] == [""] * (count - 1)
    return json.loads(first)["history"]


def test_two_processes_do_one_job_and_one_goes_on(tmp_path, made):
    two = launch(made, tmp_path / "two", 1, 2)
    one = launch(made, tmp_path / "one", 1, 1)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=0.05)
    assert two[0]["recall@20"] == pytest.approx(one[0]["recall@20"], abs=0.05)
    again = launch(made, tmp_path / "again", 1, 2)
    weights = [
        load_file(tmp_path / name / "ddrm" / "model.safetensors")
        for name in ("two", "again")
    ]
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    assert again == two
    on = launch(made, tmp_path / "two", 2, 1)
    assert on[0] == two[0]
    assert [record["epoch"] for record in on] == [1, 2]
