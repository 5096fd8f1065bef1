"""Lists of shards are those of the whole, to the bit."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.scale.append import History
from ddrm_pyg.scale.worker import Job, ShardWorker


@pytest.mark.parametrize("options", [{}, {"num_start_steps": 0}, {"start": "noise"}])
@pytest.mark.parametrize("num_users", [50, 8191, 8192, 8193])
def test_shards_have_the_bits_of_the_whole(
    tmp_path, make_world, num_users, options, assert_same_lists
):
    made = make_world(tmp_path, num_users, **options)
    job = Job(made.world.folder, made.weights, tmp_path / "out", k=5, seed=3)
    worker = ShardWorker(job)
    sizes = [worker(n) for n in reversed(range(made.world.num_shards))]
    assert sum(sizes) == num_users
    assert_same_lists(made, job)


def test_users_without_histories(tmp_path, made, assert_same_lists):
    """The last shard loses its train pairs, and so does the whole."""
    folder = shutil.copytree(made.world.folder, tmp_path / "world")
    path = folder / "train" / "user-00001.parquet"
    pd.read_parquet(path)[:0].to_parquet(path)
    data = made.data.clone()
    store = data["user", "interacts", "item"]
    own = store.edge_index[0] == 8192
    store.edge_index = store.edge_index[:, ~own]
    degree = torch.bincount(store.edge_index[1], minlength=40)
    save_file({"item_degree": degree}, folder / "item_degree.safetensors")
    job = Job(folder, made.weights, tmp_path / "out", k=40)
    worker = ShardWorker(job)
    for shard in range(2):
        worker(shard)
    assert_same_lists(made._replace(data=data), job)


def test_a_shard_done_again_is_the_same_file(tmp_path, made):
    job = Job(made.world.folder, made.weights, tmp_path / "out")
    worker = ShardWorker(job)
    worker(1)
    before = job.path(1).read_bytes()
    job.path(1).unlink()
    assert ShardWorker(job)(1) == 1
    assert job.path(1).read_bytes() == before
    assert [path.name for path in job.out.iterdir()] == ["user-00001.parquet"]


def test_a_failure_leaves_no_list(tmp_path, made, monkeypatch):
    job = Job(made.world.folder, made.weights, tmp_path / "out")
    worker = ShardWorker(job)
    monkeypatch.setattr("ddrm_pyg.scale.worker.connect", None)
    with pytest.raises(TypeError):
        worker._write(0, None, torch.zeros(1, 0), torch.zeros(1, 0))
    assert not job.out.exists() or list(job.out.iterdir()) == []


def test_noise_of_steps_is_refused(tmp_path, made):
    DDRM(10, (16,), sampling_noise=True).save_pretrained(tmp_path / "weights")
    with pytest.raises(ValueError, match=r"must have 'sampling_noise' False"):
        ShardWorker(Job(made.world.folder, tmp_path / "weights", tmp_path / "out"))


def test_a_folder_is_claimed_for_one_job_and_one_writer(tmp_path, made):
    job = Job(made.world.folder, made.weights, tmp_path / "out")
    with pytest.raises(ValueError, match=r"must lie in 0 \.\.\. 1"), job.claimed([2]):
        pass
    assert not job.out.exists()
    with job.claimed() as pending:
        assert pending == [0, 1]
        job.path(0).touch()
        assert job.pending([0, 1]) == [1]
        with pytest.raises(ValueError, match="must have one writer"), job.claimed():
            pass
    with job.claimed():  # given back
        pass
    other = dataclasses.replace(job, k=3)
    with pytest.raises(ValueError, match="must be new or hold these"), other.claimed():
        pass
    (tmp_path / "out" / "lists.json").write_text("[")
    with pytest.raises(ValueError, match=r"lists\.json: not a JSON"), job.claimed():
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    other = dataclasses.replace(job, out=tmp_path / "mine")
    with pytest.raises(ValueError, match="a new folder or an empty"), other.claimed():
        pass


def test_a_folder_made_before_there_were_histories_goes_on(tmp_path, made):
    job = Job(made.world.folder, made.weights, tmp_path / "out")
    with job.claimed():
        job.path(0).touch()
    path = tmp_path / "out" / "lists.json"
    record = json.loads(path.read_text())
    assert record.pop("history") is None
    path.write_text(json.dumps(record))
    with job.claimed() as pending:
        assert pending == [1]
    since = tmp_path / "since.csv"
    since.write_text("user,item\n1,1\n")
    grown = dataclasses.replace(job, history=History((since,)))
    with pytest.raises(ValueError, match="must be new or hold these"), grown.claimed():
        pass


def test_approximate_lists_of_all_groups_are_exact(tmp_path, make_world):
    pytest.importorskip("faiss")
    made = make_world(tmp_path, 200, num_items=400)  # ten groups
    frames = {}
    for probes in (None, 10, 1):
        job = Job(made.world.folder, made.weights, tmp_path / str(probes), k=5)
        job = dataclasses.replace(job, num_probes=probes)
        with job.claimed():
            ShardWorker(job)(0)
        frames[probes] = pd.read_parquet(job.path(0))
    items = {probes: frame["item"].tolist() for probes, frame in frames.items()}
    assert items[10] == items[None]
    scores = [frames[n]["score"].tolist() for n in (10, None)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert items[1] != items[None]
    other = Job(made.world.folder, made.weights, tmp_path / "1", k=5)
    with pytest.raises(ValueError, match="must be new or hold these"), other.claimed():
        pass
