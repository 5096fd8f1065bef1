"""Lists of a world and what came after it are those of ``Pipeline.append``."""

from __future__ import annotations

import os

import pandas as pd
import pytest
import torch

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.pipeline import Pipeline
from ddrm_pyg.scale import local
from ddrm_pyg.scale.append import History
from ddrm_pyg.scale.worker import Job

# users and items of the world, and new ones; user 9001 has new items alone
SINCE = [
    *((9000, 3), (5, 900), (5, 17), (9000, 901), (8192, 901), (5, 17), (5, 2)),
    *((9001, 900), (9001, 902), (9000, 900), (9000, 4)),
]


def pipeline_of(made, seed=0):
    """The whole, in this process."""
    graph = InteractionGraph.from_data(made.data)
    generator = torch.Generator().manual_seed(seed)
    denoised = made.ddrm(*made.emb, graph, generator=generator)
    return Pipeline.from_data(denoised, made.data, ddrm=made.ddrm)


def histories_of(rows):
    """Users to items, both as they come."""
    histories = {}
    for user, item in rows:
        histories.setdefault(user, []).append(item)
    return histories


def write(path, rows):
    pd.DataFrame(rows, columns=["user", "item"]).to_csv(path, index=False)
    return path


def lists(job):
    local.run(job, progress=False)
    paths = sorted(job.out.glob("user-*.parquet"))
    assert len(paths) == job.grown().num_shards
    return pd.concat(map(pd.read_parquet, paths), ignore_index=True)


def assert_same(frame, expected):
    for column in ("user", "item", "rank"):
        assert frame[column].tolist() == expected[column].tolist()
    assert frame["score"].tolist() == pytest.approx(expected["score"].tolist(), 1e-4)


def job_of(made, tmp_path, rows, **options):
    source = write(tmp_path / "since.csv", rows)
    history = History((source,), **options)
    out = tmp_path / "out"
    return Job(made.world.folder, made.weights, out, k=6, history=history)


def test_lists_are_those_of_a_grown_pipeline(tmp_path, made):
    grown = pipeline_of(made).append(histories_of(SINCE))
    frame = lists(job_of(made, tmp_path, SINCE))
    assert_same(frame, grown.recommend(k=6))
    assert {900, 901} & set(frame["item"])


def test_given_vectors_stand_in_for_the_mean(tmp_path, made):
    item_emb = {900: torch.full((10,), 3.0), 902: torch.arange(10.0)}
    frame = pd.DataFrame(
        {name: vector.numpy() for name, vector in item_emb.items()}
    ).T.rename_axis("id")
    frame.to_csv(tmp_path / "items.csv")
    grown = pipeline_of(made).append(histories_of(SINCE), item_emb=item_emb)
    job = job_of(made, tmp_path, SINCE, item_emb=tmp_path / "items.csv")
    assert_same(lists(job), grown.recommend(k=6))


def test_users_of_whom_nothing_is_new_keep_their_bits(tmp_path, made):
    before = Job(made.world.folder, made.weights, tmp_path / "before", k=6)
    local.run(before, progress=False)
    after = lists(job_of(made, tmp_path, [(5, 2), (9000, 1)]))
    merged = pd.read_parquet(before.path(0)).merge(after, on=["user", "rank"])
    merged = merged[merged["user"] != 5]
    assert len(merged) > 40_000
    assert (merged["item_x"] == merged["item_y"]).all()
    assert (merged["score_x"] == merged["score_y"]).all()


def test_a_table_of_more_shards(tmp_path, made):
    """New users fill shards of their own."""
    rows = [(10_000 + n, n % 40) for n in range(8193)]
    job = job_of(made, tmp_path, rows)
    assert local.run(job, [3], progress=False) == 1
    assert pd.read_parquet(job.path(3))["user"].unique().tolist() == [18_192]
    assert job.grown().num_shards == 4


@pytest.mark.parametrize(
    ("rows", "vectors", "message"),
    [
        ([("kim", 1)], None, r"new users must be integers, .* \(got 'kim'\)"),
        ([(1, "007")], None, r"new items must be integers, .* \(got '007'\)"),
        ([(1, "")], None, r"'item' must hold an id in every row \(1 do not\)"),
        ([(1, 900)], "id,x\n900,1", r"must be finite and 10 wide \(got 1\)"),
        ([(1, 900)], "id,x\n3,1", r"new items of the history alone \(got '3'\)"),
        ([(1, 900)], "id,x\n901,1", r"new items of the history alone \(got '901'\)"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path, made, rows, vectors, message
):
    options = {}
    if vectors:
        options["item_emb"] = tmp_path / "items.csv"
        options["item_emb"].write_text(vectors)
    job = job_of(made, tmp_path, rows, **options)
    with pytest.raises(ValueError, match=message):
        local.run(job)
    assert set(os.listdir(tmp_path)) <= {"since.csv", "items.csv"}


def test_damage_is_named(tmp_path, made):
    job = job_of(made, tmp_path, SINCE)
    with job.claimed():
        pass
    for path in sorted((job.out / "since").iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:30])
        with pytest.raises(ValueError, match=r"a damaged history .*; make the lists"):
            local.run(job, progress=False)
        path.write_bytes(content)
