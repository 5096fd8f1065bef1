"""The plain loop makes what is not there yet."""

from __future__ import annotations

from ddrm_pyg.scale import local
from ddrm_pyg.scale.worker import Job


def test_all_shards_then_only_those_that_are_missing(tmp_path, made, assert_same_lists):
    job = Job(made.world.folder, made.weights, tmp_path / "out", k=5)
    assert local.run(job, [1], progress=False) == 1
    assert local.run(job, range(2), progress=False) == 8192
    assert_same_lists(made, job)
    assert local.run(job, range(2), progress=False) == 0
