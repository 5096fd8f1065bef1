"""Training on shards learns, goes on, and is one job in several processes."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.scale.train import generator_of, train

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


def test_streams_differ_in_every_number():
    """A seed beyond 32 bits would have lost its upper part."""
    streams = [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1), (1 << 31, 1, 0)]
    drawn = {torch.randint(1 << 40, (), generator=generator_of(*n)) for n in streams}
    assert len({int(value) for value in drawn}) == len(streams)


def test_a_seed_decides_batches_and_noise(tmp_path, made):
    losses = [
        train(made.world, make(), tmp_path / str(n), epochs=1, seed=n, **QUICK)
        for n in range(2)
    ]
    assert losses[0] != losses[1]


def broken_checkpoints():
    """Changes of a checkpoint's record, after which it is none."""
    parts = ("settings", "state", "best", "model", "optimizer")
    for part in parts:
        yield lambda record, part=part: record.pop(part)
        for value in (None, {}, 3):
            yield lambda record, part=part, value=value: record.update({part: value})
    yield lambda record: record["state"].pop("epoch")
    yield lambda record: record["state"]["history"].clear()
    yield lambda record: record["best"].clear()


def test_a_damaged_checkpoint_is_named_and_changes_no_model(tmp_path, made):
    train(made.world, make(), tmp_path, epochs=1, **QUICK)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()

    def refused():
        ddrm = make(seed=5)
        with pytest.raises(ValueError, match=r"checkpoint\.pt|must be new or hold"):
            train(made.world, ddrm, tmp_path, epochs=2, **QUICK)
        assert same(ddrm, make(seed=5))

    for content in (b"", b"{}", b"null", whole[:1000]):
        path.write_bytes(content)
        refused()
    for damage in broken_checkpoints():
        path.write_bytes(whole)
        record = torch.load(path, weights_only=True)
        damage(record)
        torch.save(record, path)
        refused()
    for record in ({}, [], None, torch.zeros(2)):
        torch.save(record, path)
        refused()


def test_a_folder_in_use_is_left_alone(tmp_path, made):
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="must be a new folder or an empty one"):
        train(made.world, make(), tmp_path, epochs=1)
    assert os.listdir(tmp_path) == ["mine"]


@pytest.mark.slow
def test_two_processes_do_one_job_and_one_goes_on(tmp_path, made, launch):
    words = ["--world", made.world.folder, "--hidden", "8", "--steps", "3"]
    words += ["--batch-size", "4096", "--lr", "0.01"]
    two = launch(2, *words, "--out", tmp_path / "two", "--epochs", 1)
    one = launch(1, *words, "--out", tmp_path / "one", "--epochs", 1)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=0.05)
    assert two[0]["recall@20"] == pytest.approx(one[0]["recall@20"], abs=0.05)
    again = launch(2, *words, "--out", tmp_path / "again", "--epochs", 1)
    weights = [
        load_file(tmp_path / name / "ddrm" / "model.safetensors")
        for name in ("two", "again")
    ]
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    assert again == two
    on = launch(1, *words, "--out", tmp_path / "two", "--epochs", 2)
    assert on[0] == two[0]
    assert [record["epoch"] for record in on] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ddrm", "mf"])
def test_of_two_processes_one_is_killed(tmp_path, made, bare, start, launch, method):
    """The other ends in a line; both go on from the last checkpoint."""
    world = made.world if method == "ddrm" else bare
    words = ["--world", world.folder, "--method", method, "--patience", 500]
    words += ["--hidden", "8", "--steps", "3"] if method == "ddrm" else ["--dim", 6]
    words += ["--batch-size", "4096", "--out", tmp_path / "out"]
    launch(2, *words, "--epochs", 1)
    rest, killed = start(2, *words, "--epochs", 500)
    log = tmp_path / "out" / "log.jsonl"
    deadline = time.monotonic() + 200
    while len(log.read_text().splitlines()) < 3 and time.monotonic() < deadline:
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    _, error = rest.communicate(timeout=200)
    killed.communicate()
    assert rest.returncode == 2, error
    said = [line for line in error.splitlines() if line.startswith("ddrm-pyg: error")]
    (gone,) = said  # torch may warn after it
    assert "another process of this training is gone" in gone
    assert "Traceback" not in error
    epochs = len(log.read_text().splitlines()) + 1
    on = launch(2, *words, "--epochs", epochs)
    assert [record["epoch"] for record in on] == [*range(1, epochs + 1)]
