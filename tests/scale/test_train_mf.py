"""Split tables are those of ``MF``, in any number of processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import triplet_batches
from ddrm_pyg.nn.models import MF
from ddrm_pyg.scale.train import generator_of
from ddrm_pyg.scale.train_mf import SplitTables, train_mf
from ddrm_pyg.scale.world import World

QUICK = {"embedding_dim": 6, "batch_size": 4096, "lr": 1e-2}


def vectors(world):
    """Both tables of a world."""
    users = torch.cat([world.user_emb(n) for n in range(world.num_shards)])
    return torch.cat([users, world.item_emb()])


def copy(world, folder):
    return World.open(shutil.copytree(world.folder, folder))


def plain_mf(world, tables, l2=1e-4):
    """The package's MF with the same initial tables."""
    model = MF(world.num_users, world.num_items, 6, l2=l2)
    with torch.no_grad():
        model.user_table.copy_(tables.user.weight)
        model.item_table.copy_(tables.item.weight)
    return model


def test_an_epoch_is_that_of_a_plain_loop(tmp_path, bare):
    """The same steps by ``MF``: shards in turn, batches of one generator."""
    seed = 7
    model = plain_mf(bare, SplitTables(bare.num_users, bare.num_items, 6, seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = generator_of(seed, 1, 0)
    total = count = 0
    for shard in torch.randperm(bare.num_shards, generator=generator).tolist():
        start, stop = bare.bounds(shard)
        graph = InteractionGraph(bare.edge_index(shard), stop - start, bare.num_items)
        for batch in triplet_batches(graph, batch_size=4096, generator=generator):
            batch = batch._replace(user=batch.user + start)
            (loss,) = model.losses(batch, graph, generator=generator)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            total, count = total + float(loss.detach().sum()), count + len(loss)
    history = train_mf(bare, tmp_path / "out", epochs=1, seed=seed, **QUICK)
    assert history[0]["loss"] == pytest.approx(total / count, rel=1e-6)
    expected = torch.cat([model.user_table, model.item_table]).detach()
    torch.testing.assert_close(vectors(bare), expected)


def test_tables_do_not_depend_on_how_many_rows_are_asked_for():
    whole = SplitTables(20_000, 3, 4, seed=1)
    part = SplitTables(9000, 3, 4, seed=1)
    assert torch.equal(whole.user.weight[:9000], part.user.weight)
    assert torch.equal(whole.item.weight, part.item.weight)
    other = SplitTables(9000, 3, 4, seed=2)
    assert not torch.equal(other.user.weight, part.user.weight)
    assert float(whole.user.weight.detach().std()) == pytest.approx(0.1, rel=0.02)


def test_a_run_that_was_stopped_ends_with_the_bits_of_a_straight_one(tmp_path, bare):
    other = copy(bare, tmp_path / "other")
    straight = train_mf(bare, tmp_path / "a", epochs=3, **QUICK)
    train_mf(other, tmp_path / "b", epochs=1, **QUICK)
    (tmp_path / "b" / "epoch-00002").mkdir()  # half written by who was killed
    assert train_mf(other, tmp_path / "b", epochs=3, **QUICK) == straight
    assert torch.equal(vectors(other), vectors(bare))
    best = max(straight, key=lambda record: record["recall@20"])["epoch"]
    kept = sorted(path.name for path in (tmp_path / "b").glob("epoch-*"))
    assert kept == sorted({f"epoch-{n:05d}" for n in (best, 3)})
    with pytest.raises(ValueError, match="must be new or hold this run"):
        train_mf(other, tmp_path / "b", epochs=3, **QUICK, seed=1)


@pytest.mark.slow
def test_two_processes_hold_half_and_one_goes_on(tmp_path, bare, launch):
    other = copy(bare, tmp_path / "other")
    words = ["--method", "mf", "--dim", 6, "--batch-size", 4096, "--lr", 0.01]
    out = tmp_path / "two"
    two = launch(2, "--world", other.folder, "--out", out, "--epochs", 1, *words)
    rows = []
    for path in sorted((out / "epoch-00001").iterdir()):
        with safe_open(path, "np") as file:
            names = ("user.weight", "user.weight.exp_avg", "item.weight.exp_avg_sq")
            rows.append([file.get_slice(name).get_shape()[0] for name in names])
    assert rows == [[4097, 4097, 20], [4096, 4096, 20]]
    one = train_mf(bare, tmp_path / "one", epochs=1, **QUICK)
    assert two[0] == pytest.approx(one[0], rel=1e-6)
    torch.testing.assert_close(vectors(other), vectors(bare))
    on = train_mf(other, out, epochs=2, **QUICK)
    straight = train_mf(bare, tmp_path / "one", epochs=2, **QUICK)
    assert on[1] == pytest.approx(straight[1], rel=1e-5)
    torch.testing.assert_close(vectors(other), vectors(bare))


def test_vectors_of_something_else_are_left_alone(tmp_path, made):
    with pytest.raises(ValueError, match="'world' must have no vectors yet"):
        train_mf(made.world, tmp_path / "out", epochs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embedding_dim": 0}, r"'embedding_dim' must be >= 1 \(got 0\)"),
        ({"l2": -1.0}, r"'l2' must be >= 0 \(got -1.0\)"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, bare, changed, message):
    with pytest.raises(ValueError, match=message):
        train_mf(bare, tmp_path / "out", **changed)


def test_a_damaged_checkpoint_ends_in_a_line(tmp_path, bare):
    train_mf(bare, tmp_path / "out", epochs=1, **QUICK)
    (path,) = (tmp_path / "out" / "epoch-00001").iterdir()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(OSError, match="epoch-00001: "):
        train_mf(bare, tmp_path / "out", epochs=2, **QUICK)
    path = tmp_path / "out" / "state.json"
    record = json.loads(path.read_text())
    assert record["state"]["epoch"] == 1
    broken = [{}, {**record, "state": {}}, {**record, "steps": None}]
    for text in ("", "[]", "[" * 100_000, *map(json.dumps, broken)):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"state\.json: not a readable"):
            train_mf(bare, tmp_path / "out", epochs=2, **QUICK)


FULL = """
import sys
from resource import RLIMIT_FSIZE, setrlimit
from ddrm_pyg.cli import main
setrlimit(RLIMIT_FSIZE, (65536, 65536))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX")
def test_a_checkpoint_that_cannot_be_written_ends_in_a_line(tmp_path, bare):
    words = ["train", "--method", "mf", "--world", bare.folder, "--dim", 6]
    words += ["--out", tmp_path / "out", "--epochs", 1, "--batch-size", 4096]
    full = subprocess.run(
        [sys.executable, "-c", FULL, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert full.returncode == 2, full.stderr
    assert full.stderr.splitlines()[-1].startswith("ddrm-pyg: error: ")
    assert "epoch-00001" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    assert not bare.emb_path("item").exists()
    fit = {"embedding_dim": 6, "batch_size": 4096}
    on = train_mf(bare, tmp_path / "out", epochs=1, **fit)
    other = copy(bare, tmp_path / "other")
    shutil.rmtree(other.folder / "embeddings")
    assert on == train_mf(other, tmp_path / "straight", epochs=1, **fit)
