"""A world of a few shards, the data it was made of, and a DDRM for it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

if find_spec("duckdb") is None:
    collect_ignore_glob = ["test_*.py"]

from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.ranking import recommend
from ddrm_pyg.scale.ingest import shard
from ddrm_pyg.scale.world import World, cut_embeddings


class Made(NamedTuple):
    """A world and what it must be equal to."""

    world: World
    data: HeteroData
    emb: Embeddings
    ddrm: DDRM
    weights: Path


def build_world(folder, num_users, num_items=40, **options):
    """Users with two to seven pairs each; shards of one block."""
    draw = np.random.default_rng(num_users)
    count = draw.integers(2, 8, num_users)
    user = np.repeat(np.arange(num_users), count)
    item = draw.integers(0, num_items, len(user))
    item[:num_items] = np.arange(num_items)
    time = draw.integers(0, 9, len(user))
    frame = pd.DataFrame({"user": user, "item": item, "time": time})
    frame = frame.sample(frac=1, random_state=0)
    frame.to_csv(folder / "data.csv", index=False)
    world = shard([folder / "data.csv"], folder / "world", rows_per_shard=8192)
    data = load_interactions(folder / "data.csv")
    torch.manual_seed(1)
    emb = Embeddings(torch.randn(num_users, 10), torch.randn(num_items, 10))
    emb.save(folder / "emb.safetensors")
    cut_embeddings(world, folder / "emb.safetensors")
    ddrm = DDRM(
        10, (16,), num_train_timesteps=5, noise_scale=0.5, noise_max=0.7, **options
    ).eval()
    ddrm.save_pretrained(folder / "weights")
    return Made(world, data, emb, ddrm, folder / "weights")


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """Two shards, the second of one user."""
    return build_world(tmp_path_factory.mktemp("world"), 8193)


def whole_lists(made, k, seed):
    """Lists of the whole tables, in this process."""
    graph = InteractionGraph.from_data(made.data)
    generator = torch.Generator().manual_seed(seed)
    denoised = made.ddrm(*made.emb, graph, generator=generator)
    seen = InteractionGraph.from_data(made.data, splits=("train", "val", "test"))
    return recommend(denoised, torch.arange(graph.num_users), k=k, exclude=seen)


def compare_lists(made, job):
    """Fail where the lists of shards are not those of the whole."""
    frames = [pd.read_parquet(job.path(n)) for n in range(made.world.num_shards)]
    frame = pd.concat(frames)
    score, item = whole_lists(made, job.k, job.seed)
    real = item < made.world.num_items
    row = torch.arange(len(item)).unsqueeze(1).expand_as(item)[real]
    assert frame["user"].tolist() == row.tolist()
    assert frame["item"].tolist() == item[real].tolist()
    assert torch.equal(torch.tensor(frame["score"].to_numpy()), score[real])
    assert frame["rank"].min() == 1


@pytest.fixture
def assert_same_lists():
    """Compare the lists of shards with those of the whole."""
    return compare_lists


@pytest.fixture
def make_world():
    """Make another world."""
    return build_world


def start_processes(count, *words):
    """Start ``train`` in as many processes as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = []
    for rank in range(count):
        own = {"RANK": rank, "LOCAL_RANK": rank, **shared}
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "ddrm_pyg", "train", *map(str, words), "--json"],
                env={**os.environ, **{k: str(v) for k, v in own.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return children


def launch_processes(count, *words):
    """Train in several processes; the first's history."""
    children = start_processes(count, *words)
    answers = [child.communicate(timeout=240) for child in children]
    assert [child.returncode for child in children] == [0] * count, answers
    (first, _), *others = answers
    assert [out for out, _ in others] == [""] * (count - 1)
    return json.loads(first)["history"]


@pytest.fixture
def start():
    """Start to train in several processes."""
    return start_processes


@pytest.fixture
def launch():
    """Train in several processes."""
    return launch_processes


@pytest.fixture
def bare(made, tmp_path):
    """A world without vectors."""
    folder = shutil.copytree(made.world.folder, tmp_path / "bare")
    shutil.rmtree(folder / "embeddings")
    return World.open(folder)
